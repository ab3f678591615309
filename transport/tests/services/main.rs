//! Goal: each service and each option of a message is obeyed, by itself and beside others, over links that lose, repeat and
//! reorder; a message that ends as expired was not delivered [R32, R33, R34].

mod fairness;
mod forgotten;
mod order;
mod terms;
mod waiting;
mod world;

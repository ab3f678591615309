//! Goal: keys come, wear out and go as documented: replaced without loss, never used twice for one number, erased, kept from
//! forgers and replays; a restarted peer is noticed, and round trips are those of the path.

mod forgery;
mod rekey;
mod replay;
mod restart;
mod round_trips;
#[path = "../support/mod.rs"]
mod support;
mod wire;

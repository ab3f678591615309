//! Goal: keys come, wear out and go as documented: replaced without loss, never used twice for one number, erased, kept from
//! forgers and replays; and a restarted peer is noticed.

mod forgery;
mod rekey;
mod replay;
mod restart;
mod wire;

//! What a stack has to be able to do.

use std::error::Error;

use crate::load::{Exchange, Load, Meter};

/// What a stack's calls give; a measurement that fails says why.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Told where the listening side is reached, once it is: one word of text that the other side understands.
pub type Ready<'a> = &'a mut dyn FnMut(&str);

/// Both sides of both workloads, each in a process of its own. All return when the last message has passed.
pub trait Sides {
    /// Listens, and gives the meter every message.
    fn receive(&self, ready: Ready<'_>, meter: &mut Meter) -> Outcome<()>;
    /// Sends all of the load.
    fn send(&self, address: &str, load: &mut Load) -> Outcome<()>;
    /// Listens, and sends each message back.
    fn answer(&self, ready: Ready<'_>) -> Outcome<()>;
    /// Asks all questions in turn.
    fn ask(&self, address: &str, exchange: &mut Exchange) -> Outcome<()>;
}

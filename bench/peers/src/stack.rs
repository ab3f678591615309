//! The stacks that can be measured, in the order of the table, and what each has to be able to do.

use std::error::Error;

use crate::load::{Exchange, Load, Meter};

/// What a stack's calls give; a measurement that fails says why.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Told where the listening side is reached, once it is: one word of text that the other side understands.
pub(crate) type Ready<'a> = &'a mut dyn FnMut(&str);

/// Both sides of both workloads, each in a process of its own. All return when the last message has passed.
pub(crate) trait Sides {
    /// Listens, and gives the meter every message.
    fn receive(&self, ready: Ready<'_>, meter: &mut Meter) -> Outcome<()>;
    /// Sends all of the load.
    fn send(&self, address: &str, load: &mut Load) -> Outcome<()>;
    /// Listens, and sends each message back.
    fn answer(&self, ready: Ready<'_>) -> Outcome<()>;
    /// Asks all questions in turn.
    fn ask(&self, address: &str, exchange: &mut Exchange) -> Outcome<()>;
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Stack {
    /// Its name, for `--only` and the table.
    pub(crate) name: &'static str,
    /// The feature that builds it; "tcp" is always there.
    pub(crate) family: &'static str,
    /// What protects the bytes.
    pub(crate) security: &'static str,
    make: fn() -> Option<Box<dyn Sides>>,
}

impl Stack {
    /// Its sides, unless it was not built.
    pub(crate) fn sides(&self) -> Option<Box<dyn Sides>> {
        (self.make)()
    }

    /// Whether one of the wanted names means it: its own or its family's. None wanted is all.
    pub(crate) fn is_among(&self, wanted: &[String]) -> bool {
        wanted.is_empty() || wanted.iter().any(|name| name == self.name || name == self.family)
    }
}

/// The stack of this name.
pub(crate) fn named(name: &str) -> Option<&'static Stack> {
    STACKS.iter().find(|stack| stack.name == name)
}

/// All stacks.
pub(crate) const STACKS: &[Stack] = &[
    Stack {
        name: "tcp",
        family: "tcp",
        security: "none",
        make: || Some(Box::new(crate::tcp::Tcp { is_packed: false })),
    },
    Stack {
        name: "tcp-packed",
        family: "tcp",
        security: "none",
        make: || Some(Box::new(crate::tcp::Tcp { is_packed: true })),
    },
    Stack { name: "zmq-clear", family: "zmq", security: "none", make: || zmq(false) },
    Stack { name: "zmq-curve", family: "zmq", security: "CURVE", make: || zmq(true) },
    Stack { name: "quinn", family: "quinn", security: "TLS 1.3", make: quinn },
    Stack { name: "omq-tcp", family: "omq", security: "none", make: || omq("tcp") },
    Stack { name: "omq-curve", family: "omq", security: "CURVE", make: || omq("curve") },
    Stack { name: "omq-quic", family: "omq", security: "TLS 1.3", make: || omq("quic") },
    Stack { name: "omq-dart", family: "omq", security: "none", make: || omq("dart") },
];

#[cfg(feature = "zmq")]
#[expect(clippy::unnecessary_wraps, reason = "without the feature there is none")]
fn zmq(is_curve: bool) -> Option<Box<dyn Sides>> {
    Some(Box::new(crate::libzmq::Libzmq { is_curve }))
}

#[cfg(not(feature = "zmq"))]
fn zmq(_: bool) -> Option<Box<dyn Sides>> {
    None
}

#[cfg(feature = "quinn")]
#[expect(clippy::unnecessary_wraps, reason = "without the feature there is none")]
fn quinn() -> Option<Box<dyn Sides>> {
    Some(Box::new(crate::quic::Quic))
}

#[cfg(not(feature = "quinn"))]
fn quinn() -> Option<Box<dyn Sides>> {
    None
}

#[cfg(feature = "omq")]
fn omq(way: &str) -> Option<Box<dyn Sides>> {
    Some(Box::new(crate::omq::Omq::new(way)?))
}

#[cfg(not(feature = "omq"))]
fn omq(_: &str) -> Option<Box<dyn Sides>> {
    None
}

//! The stacks that can be measured, in the order of the table.

use cubed_peers::stack::Sides;

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Stack {
    /// Its name, for `--only` and the table.
    pub(crate) name: &'static str,
    /// The feature that builds it; "tcp" is always there, "zenoh" an executable of its own.
    pub(crate) family: &'static str,
    /// What protects the bytes.
    pub(crate) security: &'static str,
    /// Whether what was sent arrives, however fast; if not, what is missing is a result and no fault.
    pub(crate) is_reliable: bool,
    /// Longest message.
    pub(crate) size_max: usize,
    make: fn() -> Option<Box<dyn Sides>>,
}

/// A reliable stack for messages of any length, in another executable unless `make` is replaced.
const RELIABLE: Stack = Stack {
    name: "",
    family: "",
    security: "none",
    is_reliable: true,
    size_max: usize::MAX,
    make: || None,
};

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
        make: || Some(Box::new(crate::tcp::Tcp { is_packed: false })),
        ..RELIABLE
    },
    Stack {
        name: "tcp-packed",
        family: "tcp",
        make: || Some(Box::new(crate::tcp::Tcp { is_packed: true })),
        ..RELIABLE
    },
    Stack { name: "zmq-clear", family: "zmq", make: || zmq(false), ..RELIABLE },
    Stack { name: "zmq-curve", family: "zmq", security: "CURVE", make: || zmq(true), ..RELIABLE },
    Stack {
        name: "quinn",
        family: "quinn",
        security: "TLS 1.3",
        make: || quinn(false),
        ..RELIABLE
    },
    Stack {
        name: "quinn-datagrams",
        family: "quinn",
        security: "TLS 1.3",
        is_reliable: false,
        // What the shortest path of QUIC carries: 1,200 bytes of UDP without its own heads (RFC 9000, section 14).
        size_max: 1100,
        make: || quinn(true),
    },
    Stack { name: "omq-tcp", family: "omq", make: || omq("tcp"), ..RELIABLE },
    Stack {
        name: "omq-curve",
        family: "omq",
        security: "CURVE",
        make: || omq("curve"),
        ..RELIABLE
    },
    Stack {
        name: "omq-quic",
        family: "omq",
        security: "TLS 1.3",
        make: || omq("quic"),
        ..RELIABLE
    },
    Stack { name: "omq-dart", family: "omq", make: || omq("dart"), ..RELIABLE },
    Stack { name: "zenoh-tcp", family: "zenoh", ..RELIABLE },
    Stack { name: "zenoh-udp", family: "zenoh", is_reliable: false, ..RELIABLE },
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
fn quinn(is_datagrams: bool) -> Option<Box<dyn Sides>> {
    Some(if is_datagrams {
        Box::new(crate::datagrams::Datagrams)
    } else {
        Box::new(crate::quic::Quic)
    })
}

#[cfg(not(feature = "quinn"))]
fn quinn(_: bool) -> Option<Box<dyn Sides>> {
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

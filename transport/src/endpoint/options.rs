//! Owns what may be asked of one message: its service, deadline, repetitions, priority and burst.
//!
//! What always holds: each option is obeyed by itself, whatever the others say; the default asks for nothing but delivery.

use crate::send_log::Terms;
use crate::time::Instant;

/// What is promised for a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Service {
    /// Sent once, kept by nobody.
    BestEffort,
    /// Delivered exactly once within a session, with an outcome.
    #[default]
    Acknowledged,
    /// Acknowledged, and handed over after all ordered messages that were sent on the flow before, within a session.
    Ordered,
    /// Acknowledged, until a newer value of the flow takes its place: at the sender while it is not sent, at the receiver if
    /// it comes late.
    LatestValue,
}

/// What goes first where several messages wait to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord)]
pub enum Priority {
    /// Before all others; finds room where others find none.
    High,
    /// As everything that asks for nothing.
    #[default]
    Normal,
    /// When nothing else waits, but never less than one datagram in 128.
    Low,
}

/// Classes of priority, each with its own queues.
pub(crate) const CLASSES: usize = Priority::Low as usize + 1;

/// What is asked of one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SendOptions {
    /// The service. Best effort takes no other option.
    pub service: Service,
    /// After this it is not sent any more, and ends as expired unless it arrived.
    pub deadline: Option<Instant>,
    /// How often each of its blocks may be sent again after a loss; none: as often as it takes.
    pub retries: Option<u16>,
    /// What goes first. Ordered messages of one flow do not overtake each other: one follows those that wait.
    pub priority: Priority,
    /// At most so many of its blocks unacknowledged at once; 0 for any number.
    pub burst: u16,
}

impl SendOptions {
    /// Only a service.
    pub fn new(service: Service) -> Self {
        Self { service, ..Self::default() }
    }

    /// Whether it asks for nothing but to be delivered.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn class(&self) -> usize {
        self.priority as usize
    }

    pub(crate) fn terms(&self) -> Terms {
        Terms {
            deadline: self.deadline,
            retries: self.retries,
            burst: self.burst,
            only_unsent: false,
            is_value: self.service == Service::LatestValue,
        }
    }
}

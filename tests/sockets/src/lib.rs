//! Parts of the tests between real processes: a relay that impairs UDP, traffic whose every message can be checked, a
//! flood and the measuring of what it does, and the handling of child processes.
//!
//! Always holds: `relay` knows nothing of the protocol; what is decided at random comes from a seed; nothing here is
//! used outside tests.

pub mod random;
pub mod traffic;

pub mod report;

pub mod relay;

pub mod child;

pub mod nodes;

pub mod flood;
pub mod siege;

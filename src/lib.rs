//! Secure, reliable messaging between many hosts, cores and data flows.

pub use cubed_runtime as runtime;

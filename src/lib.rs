//! Secure, reliable messaging between many hosts, cores and data flows, all addressed by public key.

pub use cubed_router::policy::{Policy, PolicyError};
pub use cubed_runtime as runtime;
pub use cubed_transport::identity::{Fingerprint, Identity, IdentityFileError, PublicKey};

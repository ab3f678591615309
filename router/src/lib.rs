//! Pure policy: what is called what, who may do what, and where a message goes.
//!
//! Owns addresses and flow names, authorisation, the placement of names on shards, and the table of
//! peers keyed by public key. It is given text, keys and numbers; it opens no socket, reads no
//! clock and starts no thread. The one file it reads is a policy, when asked to.
//!
//! Modules are listed leaf first: each imports only from those above it.
//!
//! ```
//! use cubed_router::address::Address;
//! use cubed_router::placement::owner_shard;
//!
//! let address: Address = "garden/bob//orders.new".parse()?;
//! assert_eq!(address.flow().as_str(), "orders.new");
//! assert!(address.unit().is_none(), "an empty level is local");
//! assert!(owner_shard(&[7; 32], address.flow().as_str(), 4) < 4);
//! # Ok::<(), cubed_router::address::AddressError>(())
//! ```

pub mod address;
pub mod generation;
pub mod placement;
pub mod policy;

pub mod keep;

pub mod table;

//! What the endpoints of these tests have in common: who they are, where they are, and an application that is open to all.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test binary uses the part that it needs"
)]

use std::net::SocketAddr;

use cubed_transport::identity::Identity;
use cubed_transport::random::SeededEntropy;
use cubed_transport::{Config, Endpoint, Limits};

/// Where the endpoint of one side is.
pub(crate) fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + side as u8], 7530))
}

/// The endpoint of one shard whose key, start, salt and chances this number makes.
pub(crate) fn endpoint(seed: u8, limits: Limits) -> Endpoint {
    let name = format!("node {seed}");
    let config = Config { name, limits, ..Config::new([seed; 16], [seed; 32]) };
    let entropy = Box::new(SeededEntropy::new(seed.into()));
    Endpoint::new(config, &Identity::from_seed(&[seed; 32]), entropy).unwrap()
}

/// The methods of an [`Application`](cubed_transport::Application) by which everybody may use every flow, as one with this window
/// and this longest message, bytes.
macro_rules! open_to_all {
    ($window_bytes:expr, $message_bytes_max:expr) => {
        fn admit(
            &mut self,
            _: cubed_transport::ChannelId,
            _: &cubed_transport::identity::PublicKey,
        ) -> bool {
            true
        }
        fn bind(
            &mut self,
            _: cubed_transport::ChannelId,
            _: cubed_transport::PeerId,
            _: &cubed_transport::identity::PublicKey,
            _: &str,
        ) -> Result<cubed_transport::Binding, cubed_transport::Refusal> {
            let (window_bytes, message_bytes_max) = ($window_bytes, $message_bytes_max);
            Ok(cubed_transport::Binding { flow: 1, window_bytes, message_bytes_max })
        }
    };
}
pub(crate) use open_to_all;

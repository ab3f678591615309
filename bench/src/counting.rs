//! The application of endpoints that are measured without a node.
//!
//! Always holds: everybody may send to every flow, and no flow ever waits for credit.

use cubed_transport::{
    Application, Binding, ChannelId, Disposition, Incoming, PeerId, Refusal, identity::PublicKey,
};

/// Takes and counts what comes.
#[derive(Debug, Default)]
pub struct Counting {
    /// Messages taken.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Application for Counting {
    fn admit(&mut self, _: ChannelId, _: &PublicKey) -> bool {
        true
    }

    fn bind(
        &mut self,
        _: ChannelId,
        _: PeerId,
        _: &PublicKey,
        _: &str,
    ) -> Result<Binding, Refusal> {
        Ok(Binding { flow: 1, window_bytes: 8 << 20, message_bytes_max: 1 << 26 })
    }

    fn deliver(&mut self, message: Incoming<'_>) -> Result<Disposition, Refusal> {
        self.messages += 1;
        self.bytes += message.body.as_slice().len() as u64;
        Ok(Disposition::Consumed)
    }
}

//! A flow of a peer or of this node, as other threads send to it: each call crosses to a shard and back.
//!
//! Always holds: nothing is sent before a future is awaited; one that is dropped is forgotten on the shard.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cubed_router::address::FlowName;
use cubed_transport::identity::PublicKey;
use cubed_transport::{ChannelId, Outcome, PeerInfo};

use crate::error::{ConnectError, RequestError, Stopped, WaitError};
use crate::outgoing::RemoteOutgoing;
use crate::outside::Gate;
use crate::shard::Shard;

/// A flow of a peer, for use from any thread. Cheap to clone.
///
/// Each call crosses to a shard and back (a few microseconds); code that sends much belongs on a shard,
/// with a [`crate::Destination`]. Futures send nothing until awaited, and dropped, what they wait for
/// is forgotten.
#[derive(Clone)]
pub struct Remote {
    pub(crate) gate: Arc<Gate>,
    pub(crate) channel: ChannelId,
    pub(crate) key: PublicKey,
    pub(crate) flow: FlowName,
}

impl Remote {
    /// Sends acknowledged and waits for the outcome.
    ///
    /// # Errors
    ///
    /// [`WaitError`] says why there is no outcome.
    pub async fn send(&self, body: impl Into<Bytes>) -> Result<Outcome, WaitError> {
        let (channel, key, flow) = (self.channel, self.key, self.flow.clone());
        let body = body.into();
        let call = self.gate.call(async move |shard: Shard| {
            let to = shard.resolve_in(channel, key, flow.as_str()).map_err(WaitError::Resolve)?;
            to.send_owned(body).acknowledged().await
        });
        call.await.unwrap_or(Err(WaitError::Stopped))
    }

    /// A message of which more is asked than to be delivered; await it for its outcome.
    pub fn message(&self, body: impl Into<Bytes>) -> RemoteOutgoing {
        let (gate, flow) = (Arc::clone(&self.gate), self.flow.clone());
        RemoteOutgoing::new(gate, (self.channel, self.key), flow, body.into())
    }

    /// Sends best effort, waiting for room but not for an outcome.
    ///
    /// # Errors
    ///
    /// [`WaitError`] says why it was not sent.
    pub async fn send_best_effort(&self, body: impl Into<Bytes>) -> Result<(), WaitError> {
        let (channel, key, flow) = (self.channel, self.key, self.flow.clone());
        let body = body.into();
        let call = self.gate.call(async move |shard: Shard| {
            let to = shard.resolve_in(channel, key, flow.as_str()).map_err(WaitError::Resolve)?;
            to.send_owned(body).await
        });
        call.await.unwrap_or(Err(WaitError::Stopped))
    }

    /// Sends a request and waits for its reply, at most `timeout` from when the shard takes it.
    ///
    /// # Errors
    ///
    /// [`RequestError`] says why there is no reply.
    pub async fn request(
        &self,
        body: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<Bytes, RequestError> {
        let (channel, key, flow) = (self.channel, self.key, self.flow.clone());
        let body = body.into();
        let call = self.gate.call(async move |shard: Shard| {
            let to =
                shard.resolve_in(channel, key, flow.as_str()).map_err(RequestError::Resolve)?;
            to.request_owned(body, timeout).await
        });
        call.await.unwrap_or(Err(RequestError::Stopped))
    }

    /// Dials the peer unless there is a session, and waits for the end of the dial.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] names address, keys and cause.
    pub async fn connect(&self) -> Result<(), ConnectError> {
        let (channel, key, flow) = (self.channel, self.key, self.flow.clone());
        let call = self.gate.call(async move |shard: Shard| {
            let to =
                shard.resolve_in(channel, key, flow.as_str()).map_err(ConnectError::Resolve)?;
            to.connect().await
        });
        call.await.unwrap_or(Err(ConnectError::Stopped))
    }

    /// What the peer proved and told of itself; `None` while there is no session.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn peer_info(&self) -> Result<Option<PeerInfo>, Stopped> {
        let (channel, key, flow) = (self.channel, self.key, self.flow.clone());
        let call = self.gate.call(async move |shard: Shard| {
            shard.resolve_in(channel, key, flow.as_str()).ok().and_then(|to| to.peer_info())
        });
        call.await
    }

    /// The peer's public key.
    pub fn peer_key(&self) -> PublicKey {
        self.key
    }

    /// The flow's name.
    pub fn flow(&self) -> &FlowName {
        &self.flow
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({} of {})", self.flow, self.key.fingerprint())
    }
}

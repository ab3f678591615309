//! The responder's side of one attempt, from an opened hello to the dialler's FINISH. Until that is
//! good nobody is proven, and no lane may be opened.

use std::fmt;
use std::sync::Arc;

use rustls::quic::{Connection, Keys, PacketKey, ServerConnection, Version};

use super::established::Facts;
use super::header::{HEADER_BYTES, Header, Kind};
use super::hello::Hello;
use super::tls;
use super::{ChannelKeys, Credentials, DropReason, Established, HandshakeError, StepError};
use crate::identity::PublicKey;
use crate::keys::Role;

/// An answered hello.
pub struct HalfOpen {
    local_key: PublicKey,
    channel: ChannelKeys,
    local_index: u32,
    remote_index: u32,
    dial_id: [u8; 8],
    hello_hash: [u8; 32],
    reply: Box<[u8]>,
    /// Gone once a FINISH opened.
    waiting: Option<Waiting>,
}

struct Waiting {
    connection: Box<Connection>,
    opening: Box<dyn PacketKey>,
}

impl HalfOpen {
    /// Answers an opened hello. This is where public-key work and state begin: demand a cookie
    /// before when there are too many.
    ///
    /// `local_index` is a random number that no other association of this node uses now;
    /// `local_shard` is where the dialler's FINISH is steered to.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] when TLS refuses the hello. Nothing is answered.
    pub fn accept(
        credentials: &Credentials,
        hello: &Hello,
        local_index: u32,
        local_shard: u8,
    ) -> Result<Self, HandshakeError> {
        let config = Arc::clone(&credentials.server);
        let connection = ServerConnection::new(config, Version::V1, Vec::new())?;
        let mut connection = Connection::from(connection);
        connection.read_hs(hello.client_hello())?;
        let header = hello.answer(Kind::Reply, local_shard);
        let (reply, keys) = write_reply(&mut connection, hello, header, local_index)?;
        Ok(Self {
            local_key: credentials.public_key(),
            channel: hello.channel.clone(),
            local_index,
            remote_index: hello.remote_index(),
            dial_id: hello.dial_id(),
            hello_hash: hello.hash(),
            reply,
            waiting: Some(Waiting {
                connection: Box::new(connection),
                opening: keys.remote.packet,
            }),
        })
    }

    /// Whether this answers `hello`, which then is a repetition that [`HalfOpen::reply`] answers
    /// again.
    pub fn answers(&self, hello: &Hello) -> bool {
        self.hello_hash == hello.hash()
    }

    /// Appends the REPLY datagram, always the same.
    pub fn reply(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.reply);
    }

    /// Reads a FINISH datagram and ends the handshake. Garbles the datagram.
    ///
    /// # Errors
    ///
    /// [`StepError::Drop`] for what the dialler did not seal, which changes nothing;
    /// [`DropReason::Duplicate`] when a FINISH was read already. [`StepError::Failed`] when TLS
    /// refuses what the dialler sealed: this attempt is over.
    pub fn handle_finish(&mut self, datagram: &mut [u8]) -> Result<Established, StepError> {
        let header = Header::expect(datagram, Kind::Finish, self.local_index, self.dial_id)?;
        let waiting = self.waiting.as_ref().ok_or(DropReason::Duplicate)?;
        let flight = tls::open(&*waiting.opening, header, &mut datagram[HEADER_BYTES..])?;
        let Some(Waiting { mut connection, .. }) = self.waiting.take() else {
            return Err(DropReason::Duplicate.into());
        };
        connection.read_hs(flight)?;
        let remote_key = tls::proven_key(&connection)?;
        let facts = Facts {
            dialler: remote_key,
            responder: self.local_key,
            channel: self.channel.name(),
            dialler_index: self.remote_index,
            responder_index: self.local_index,
            dial_id: self.dial_id,
        };
        let (secret, suite) = facts.secret(&connection)?;
        Ok(Established {
            secret,
            suite,
            role: Role::Responder,
            local_index: self.local_index,
            remote_index: self.remote_index,
            remote_shard: header.sender_shard,
            remote_key,
            dial_id: self.dial_id,
        })
    }

    /// The dialler's name for this dial.
    pub const fn dial_id(&self) -> [u8; 8] {
        self.dial_id
    }

    /// The association index that we drew.
    pub const fn local_index(&self) -> u32 {
        self.local_index
    }

    /// The association index that the dialler drew.
    pub const fn remote_index(&self) -> u32 {
        self.remote_index
    }

    /// The dialled channel's name.
    pub fn channel(&self) -> &str {
        self.channel.name()
    }
}

impl fmt::Debug for HalfOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HalfOpen")
            .field("channel", &self.channel.name())
            .field("local_index", &self.local_index)
            .field("remote_index", &self.remote_index)
            .field("dial_id", &self.dial_id)
            .field("waiting", &self.waiting.is_some())
            .finish_non_exhaustive()
    }
}

/// The REPLY datagram, and TLS's handshake keys, one of which opens the FINISH.
fn write_reply(
    connection: &mut Connection,
    hello: &Hello,
    header: Header,
    local_index: u32,
) -> Result<(Box<[u8]>, Keys), HandshakeError> {
    let mut server_hello = Vec::new();
    let keys = tls::write_until_handshake_keys(connection, &mut server_hello)?;
    let mut payload = local_index.to_le_bytes().to_vec();
    // TLS messages that fit into a datagram, as is checked below, have a length of two bytes.
    payload.extend_from_slice(&(server_hello.len() as u16).to_le_bytes());
    payload.extend_from_slice(&server_hello);
    tls::write_sealed(connection, &*keys.local.packet, header, &mut payload)?;

    let header = header.to_bytes();
    let mut reply = header.to_vec();
    hello.channel.seal(Role::Responder, hello.dial_id(), &header, &payload, &mut reply);
    super::check_datagram_length(&reply)?;
    Ok((reply.into(), keys))
}

//! The dialler's side of one attempt: HELLO until a REPLY is good, then FINISH until the
//! responder's first lane packet. Every datagram can be sent again unchanged; when to do so is for
//! the caller's timers.

use std::fmt;
use std::sync::Arc;

use rustls::quic::{ClientConnection, Connection, Keys, Version};

use super::credentials::server_name_of;
use super::established::Facts;
use super::header::{HEADER_BYTES, Header, Kind};
use super::{ChannelKeys, Credentials, DropReason, Established, HandshakeError, StepError};
use super::{hello, tls};
use crate::cookie::COOKIE_BYTES;
use crate::identity::PublicKey;
use crate::keys::Role;

/// One attempt to reach a key. A fresh attempt is a new `Dial` with a new dial id and index.
pub struct Dial {
    local_key: PublicKey,
    remote_key: PublicKey,
    channel: ChannelKeys,
    local_index: u32,
    id: [u8; 8],
    local_shard: u8,
    /// The shard of the peer that is to answer.
    steering: u8,
    client_hello: Box<[u8]>,
    state: State,
}

enum State {
    /// The hello is on its way.
    Waiting(Box<Connection>),
    /// A reply was good; this is the FINISH datagram.
    Answered(Box<[u8]>),
    /// A reply opened, and TLS refused it.
    Over,
}

impl Dial {
    /// Begins to dial `remote` on `channel` (empty: the default channel).
    ///
    /// `local_index` and `dial_id` are random numbers that no other association or dial of this
    /// node uses now; `local_shard` is where answers are steered to.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::ChannelName`] when the name is too long; [`HandshakeError::Tls`] when the
    /// system gives no random numbers.
    pub fn new(
        credentials: &Credentials,
        remote: PublicKey,
        channel: &str,
        local_index: u32,
        dial_id: [u8; 8],
        local_shard: u8,
    ) -> Result<Self, HandshakeError> {
        let channel = ChannelKeys::new(&remote, channel)?;
        let config = Arc::clone(&credentials.client);
        let name = server_name_of(&remote)?;
        let connection = ClientConnection::new(config, Version::V1, name, Vec::new())?;
        let mut connection = Connection::from(connection);
        let mut client_hello = Vec::new();
        if connection.write_hs(&mut client_hello).is_some() {
            return Err(HandshakeError::Incomplete);
        }
        hello::check_length(&client_hello)?;
        Ok(Self {
            local_key: credentials.public_key(),
            remote_key: remote,
            channel,
            local_index,
            id: dial_id,
            local_shard,
            steering: dial_id[0],
            client_hello: client_hello.into(),
            state: State::Waiting(Box::new(connection)),
        })
    }

    /// Asks this shard of the peer to answer. Otherwise it is the one that the dial id's first byte, a random one, falls on: the
    /// peer takes the byte modulo its shards, whoever wrote it.
    pub fn steer(&mut self, shard: u8) {
        self.steering = shard;
    }

    /// Appends the HELLO datagram, with the cookie that the responder demanded if it did.
    pub fn hello(&self, cookie: Option<&[u8; COOKIE_BYTES]>, out: &mut Vec<u8>) {
        let header = Header {
            kind: Kind::Hello,
            steering: self.steering,
            index: self.local_index,
            sender_shard: self.local_shard,
            dial_id: self.id,
        };
        hello::write(&self.channel, header, cookie, &self.client_hello, out);
    }

    /// Reads a COOKIE datagram: the hello is to be sent again with this cookie. Garbles the
    /// datagram.
    ///
    /// # Errors
    ///
    /// A [`DropReason`]; [`DropReason::Duplicate`] when a reply was read already.
    pub fn handle_cookie(&self, datagram: &mut [u8]) -> Result<[u8; COOKIE_BYTES], DropReason> {
        Header::expect(datagram, Kind::Cookie, self.local_index, self.id)?;
        if datagram.len() != hello::COOKIE_DATAGRAM_BYTES {
            return Err(DropReason::Length);
        }
        if !matches!(self.state, State::Waiting(_)) {
            return Err(DropReason::Duplicate);
        }
        let cookie = self.open(datagram)?;
        (&*cookie).try_into().map_err(|_| DropReason::Length)
    }

    /// Reads a REPLY datagram and ends the dialler's part of the handshake: from here on it may
    /// send on lanes, and sends FINISH until the responder does. Garbles the datagram.
    ///
    /// # Errors
    ///
    /// [`StepError::Drop`] for what cannot be the answer to this dial, which stays as it was;
    /// [`DropReason::Duplicate`] when a reply was read already. [`StepError::Failed`] when this
    /// attempt is over, [`HandshakeError::WrongKey`] among its reasons.
    pub fn handle_reply(&mut self, datagram: &mut [u8]) -> Result<Established, StepError> {
        let header = Header::expect(datagram, Kind::Reply, self.local_index, self.id)?;
        if !matches!(self.state, State::Waiting(_)) {
            return Err(DropReason::Duplicate.into());
        }
        let payload = self.open(datagram)?;
        let mut reply = Reply::parse(header, payload).ok_or(DropReason::Malformed)?;
        // All that could be chance or a stranger is behind us. TLS cannot step back, so neither can
        // the dial.
        let State::Waiting(connection) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(DropReason::Duplicate.into());
        };
        let (established, finish) = self.read_reply(*connection, &mut reply)?;
        self.state = State::Answered(finish);
        Ok(established)
    }

    /// Appends the FINISH datagram and returns true, or returns false when no reply was good yet.
    pub fn finish(&self, out: &mut Vec<u8>) -> bool {
        match &self.state {
            State::Answered(finish) => {
                out.extend_from_slice(finish);
                true
            }
            State::Waiting(_) | State::Over => false,
        }
    }

    /// The name of this dial.
    pub const fn dial_id(&self) -> [u8; 8] {
        self.id
    }

    /// The association index that we drew.
    pub const fn local_index(&self) -> u32 {
        self.local_index
    }

    /// The dialled key.
    pub const fn remote_key(&self) -> PublicKey {
        self.remote_key
    }

    /// The dialled channel's name.
    pub fn channel(&self) -> &str {
        self.channel.name()
    }

    fn open<'a>(&self, datagram: &'a mut [u8]) -> Result<&'a mut [u8], DropReason> {
        let (bound, sealed) =
            datagram.split_first_chunk_mut::<HEADER_BYTES>().ok_or(DropReason::Length)?;
        self.channel.open(Role::Responder, self.id, bound, sealed)
    }

    fn read_reply(
        &self,
        mut connection: Connection,
        reply: &mut Reply<'_>,
    ) -> Result<(Established, Box<[u8]>), HandshakeError> {
        connection.read_hs(reply.server_hello)?;
        let keys = tls::write_until_handshake_keys(&mut connection, &mut Vec::new())?;
        let flight = tls::open(&*keys.remote.packet, reply.header, reply.sealed_flight)
            .map_err(|_| rustls::Error::DecryptError)?;
        connection.read_hs(flight)?;
        let remote_key = tls::proven_key(&connection)?;
        if remote_key != self.remote_key {
            let dialled = self.remote_key.fingerprint();
            let answered = remote_key.fingerprint();
            return Err(HandshakeError::WrongKey { dialled, answered });
        }
        let finish = self.write_finish(&mut connection, &keys, reply)?;
        let facts = Facts {
            dialler: self.local_key,
            responder: remote_key,
            channel: self.channel.name(),
            dialler_index: self.local_index,
            responder_index: reply.responder_index,
            dial_id: self.id,
        };
        let (secret, suite) = facts.secret(&connection)?;
        let established = Established {
            secret,
            suite,
            role: Role::Dialler,
            local_index: self.local_index,
            remote_index: reply.responder_index,
            remote_shard: reply.header.sender_shard,
            remote_key,
            dial_id: self.id,
        };
        Ok((established, finish))
    }

    fn write_finish(
        &self,
        connection: &mut Connection,
        keys: &Keys,
        reply: &Reply<'_>,
    ) -> Result<Box<[u8]>, HandshakeError> {
        let header = Header {
            kind: Kind::Finish,
            steering: reply.header.sender_shard,
            index: reply.responder_index,
            sender_shard: self.local_shard,
            dial_id: self.id,
        };
        let mut finish = header.to_bytes().to_vec();
        tls::write_sealed(connection, &*keys.local.packet, header, &mut finish)?;
        super::check_datagram_length(&finish)?;
        Ok(finish.into())
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Waiting(_) => "waiting",
            State::Answered(_) => "answered",
            State::Over => "over",
        };
        f.debug_struct("Dial")
            .field("remote_key", &self.remote_key.fingerprint())
            .field("channel", &self.channel.name())
            .field("local_index", &self.local_index)
            .field("dial_id", &self.id)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

/// An opened REPLY, taken apart.
struct Reply<'a> {
    header: Header,
    responder_index: u32,
    server_hello: &'a [u8],
    sealed_flight: &'a mut [u8],
}

impl<'a> Reply<'a> {
    fn parse(header: Header, payload: &'a mut [u8]) -> Option<Self> {
        let (index, rest) = payload.split_first_chunk_mut()?;
        let (length, rest) = rest.split_first_chunk_mut()?;
        let server_hello_bytes = u16::from_le_bytes(*length) as usize;
        let (server_hello, sealed_flight) = rest.split_at_mut_checked(server_hello_bytes)?;
        let responder_index = u32::from_le_bytes(*index);
        Some(Self { header, responder_index, server_hello, sealed_flight })
    }
}

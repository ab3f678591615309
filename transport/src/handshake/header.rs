//! The 16 bytes that every handshake datagram begins with. They lie where a lane's header has its
//! fields, so that steering and association lookup read the same places for every kind.

/// Bytes of the header.
pub const HEADER_BYTES: usize = 16;

/// Bytes of a HELLO, and the most that any handshake datagram may have: an answer is never longer
/// than what it answers, so that a forged source address wins an attacker nothing.
pub const DATAGRAM_BYTES_MAX: usize = 1200;

/// Version of the handshake's layout, in byte 7. The protocol that follows is named by TLS's ALPN.
pub const VERSION: u8 = 1;

/// Byte 0 of a handshake datagram. A lane's datagrams have 0x40 there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Dialler to responder: the `ClientHello`.
    Hello = 0x01,
    /// Responder to dialler: `ServerHello` to Finished.
    Reply = 0x02,
    /// Dialler to responder: Certificate to Finished.
    Finish = 0x03,
    /// Responder to dialler, instead of a reply: send the hello again with this cookie.
    Cookie = 0x04,
}

/// A handshake datagram's header, read but not yet authenticated: it finds the state that can judge
/// the datagram, nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the datagram is.
    pub kind: Kind,
    /// Receiver's shard, the steering byte. In a HELLO, whose sender may not know how many there are, any byte.
    pub steering: u8,
    /// The association index that the receiver of the datagram drew. In a HELLO, which comes before
    /// that, the sender's.
    pub index: u32,
    /// Sender's shard, the steering byte of answers.
    pub sender_shard: u8,
    /// The dialler's random name for this dial.
    pub dial_id: [u8; 8],
}

impl Header {
    /// Reads the header of a datagram and checks what is known without keys: version and length.
    ///
    /// # Errors
    ///
    /// [`DropReason::Kind`] when it is no handshake datagram, [`DropReason::Version`],
    /// [`DropReason::Length`].
    pub fn peek(datagram: &[u8]) -> Result<Self, DropReason> {
        let kind = match datagram.first() {
            Some(0x01) => Kind::Hello,
            Some(0x02) => Kind::Reply,
            Some(0x03) => Kind::Finish,
            Some(0x04) => Kind::Cookie,
            _ => return Err(DropReason::Kind),
        };
        let header: &[u8; HEADER_BYTES] = datagram.first_chunk().ok_or(DropReason::Length)?;
        let [_, steering, i0, i1, i2, i3, sender_shard, version, dial_id @ ..] = *header;
        if version != VERSION {
            return Err(DropReason::Version);
        }
        let length_allowed = match kind {
            Kind::Hello => datagram.len() == DATAGRAM_BYTES_MAX,
            Kind::Reply | Kind::Finish | Kind::Cookie => datagram.len() <= DATAGRAM_BYTES_MAX,
        };
        if !length_allowed {
            return Err(DropReason::Length);
        }
        let index = u32::from_le_bytes([i0, i1, i2, i3]);
        Ok(Self { kind, steering, index, sender_shard, dial_id })
    }

    /// Reads the header of a datagram that must be of this kind and, unless it is a HELLO, belong
    /// to this dial of ours.
    pub(super) fn expect(
        datagram: &[u8],
        kind: Kind,
        index: u32,
        dial_id: [u8; 8],
    ) -> Result<Self, DropReason> {
        let header = Self::peek(datagram)?;
        if header.kind != kind {
            Err(DropReason::Kind)
        } else if header.index != index || header.dial_id != dial_id {
            Err(DropReason::OtherDial)
        } else {
            Ok(header)
        }
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = self.kind as u8;
        bytes[1] = self.steering;
        bytes[2..6].copy_from_slice(&self.index.to_le_bytes());
        bytes[6] = self.sender_shard;
        bytes[7] = VERSION;
        bytes[8..].copy_from_slice(&self.dial_id);
        bytes
    }
}

/// Why a handshake datagram was dropped in silence. Whatever it was meant to reach is as it was
/// before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Not the kind of datagram that belongs here.
    Kind,
    /// Shorter or longer than its kind can be.
    Length,
    /// Another version of the handshake.
    Version,
    /// The index or the dial id is that of another dial.
    OtherDial,
    /// Does not open: corrupted, forged, for another key or channel, or from a stranger.
    Sealed,
    /// Opens, but its fields do not fit into it.
    Malformed,
    /// The step that it asks for was already taken.
    Duplicate,
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kind => "not the kind of datagram that belongs here",
            Self::Length => "shorter or longer than its kind can be",
            Self::Version => "another version of the handshake",
            Self::OtherDial => "belongs to another dial",
            Self::Sealed => "does not open: corrupted, forged, or for another key or channel",
            Self::Malformed => "opens, but its fields do not fit into it",
            Self::Duplicate => "this step was already taken",
        })
    }
}

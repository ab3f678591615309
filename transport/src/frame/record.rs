//! Owns RECORD, the frame of control records: who a sender is, the names of its flows, the end of a session.
//!
//! What always holds: a record that is read gives the same bytes when it is written; one of an unknown type is skipped or refused
//! by its number.

use serde::{Deserialize, Serialize};

use super::RECORD;
use crate::endpoint::NodeMode;
use crate::limits::{NODE_NAME_BYTES_MAX, ROLE_BYTES_MAX};
use crate::varint::{self, Reader};

/// Record types at or above this are skipped by a receiver that does not know them; below, they are refused.
const RECORD_OPTIONAL_MIN: u64 = 0x20;
/// Longest body of a record.
const RECORD_BYTES_MAX: u64 = 1_024;

/// First record in each direction of an association.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Greeting {
    /// Random per process start of the sender.
    pub(crate) incarnation: [u8; 16],
    /// The sender's node name.
    pub(crate) name: String,
    /// What it is among the nodes of its channel; its name if nothing else was said.
    pub(crate) role: String,
    /// [`NodeMode`] as bits.
    pub(crate) mode: u8,
    /// The application's own number.
    pub(crate) kind: u8,
    /// Shards of the sender's node.
    pub(crate) shards: u8,
    /// Key of the placement of flow names on the sender's shards.
    pub(crate) placement_salt: [u8; 32],
    /// Longest message that the sender accepts.
    pub(crate) message_bytes_max: u64,
}

impl Greeting {
    /// Reads a greeting field by field, so that what is wrong with one can be named.
    fn decode(body: &[u8]) -> Result<Self, &'static str> {
        let rest = &mut &body[..];
        let greeting = Self {
            incarnation: take(rest).ok_or("the greeting lacks its incarnation")?,
            name: take(rest).ok_or("the greeting lacks its name")?,
            role: take(rest).ok_or("the greeting lacks its role")?,
            mode: take(rest).ok_or("the greeting lacks its mode")?,
            kind: take(rest).ok_or("the greeting lacks its kind")?,
            shards: take(rest).ok_or("the greeting lacks its number of shards")?,
            placement_salt: take(rest).ok_or("the greeting lacks its placement salt")?,
            message_bytes_max: take(rest).ok_or("the greeting lacks its longest message")?,
        };
        if !rest.is_empty() {
            return Err("the greeting goes on behind its last field");
        }
        if postcard::to_stdvec(&greeting).ok().as_deref() != Some(body) {
            return Err("the greeting is not in its only form");
        }
        greeting.check()?;
        Ok(greeting)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.name.len() > NODE_NAME_BYTES_MAX {
            return Err("the greeting's name is longer than 64 bytes");
        }
        if self.role.len() > ROLE_BYTES_MAX {
            return Err("the greeting's role is longer than 64 bytes");
        }
        if NodeMode::from_bits(self.mode).is_none() {
            return Err("the greeting's mode has bits that mean nothing");
        }
        if self.shards == 0 {
            return Err("the greeting's number of shards is zero");
        }
        Ok(())
    }
}

/// Takes one postcard value from the front.
fn take<'a, T: Deserialize<'a>>(rest: &mut &'a [u8]) -> Option<T> {
    let (value, behind) = postcard::take_from_bytes(rest).ok()?;
    *rest = behind;
    Some(value)
}

/// Names an alias before any message could, and says how much credit its first message waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bind {
    pub(crate) alias: u32,
    pub(crate) name: String,
    pub(crate) wanted: u64,
}

/// Ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Close {
    /// The sender shuts down.
    Done,
    /// The receiver's proven key is not admitted.
    NotAdmitted,
    /// The receiver broke the protocol.
    Violation,
    /// The receiver's key waits for the sender's operator.
    Pending,
    /// The receiver, or what it says of itself, is not accepted.
    Rejected,
}

/// A decoded record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Greeting(Greeting),
    Close(Close),
    Bind(Bind),
    /// Unknown and optional.
    Skipped,
}

impl Record {
    fn kind(&self) -> u64 {
        match self {
            Self::Greeting(_) => 1,
            Self::Close(_) => 2,
            Self::Bind(_) => 3,
            Self::Skipped => RECORD_OPTIONAL_MIN,
        }
    }

    /// Appends the frame, type byte included.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        // Serialising plain data into a growing vector has no way to fail.
        let body = match self {
            Self::Greeting(greeting) => postcard::to_stdvec(greeting),
            Self::Close(close) => postcard::to_stdvec(close),
            Self::Bind(bind) => postcard::to_stdvec(bind),
            Self::Skipped => Ok(Vec::new()),
        }
        .unwrap_or_default();
        out.push(RECORD);
        varint::write(self.kind(), out);
        varint::write(body.len() as u64, out);
        out.extend_from_slice(&body);
    }

    /// Reads what follows the type byte. Accepted only if writing it again gives the same bytes; else says what is wrong.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, &'static str> {
        const SHORT: &str = "a record ends early";
        let kind = reader.varint().ok_or(SHORT)?;
        let length = reader.varint().ok_or(SHORT)?;
        if length > RECORD_BYTES_MAX {
            return Err("a record is longer than 1,024 bytes");
        }
        let body = reader.bytes(length as usize).ok_or(SHORT)?;
        Ok(match kind {
            1 => Self::Greeting(Greeting::decode(body)?),
            2 => Self::Close(decode(body).ok_or("malformed CLOSE")?),
            3 => Self::Bind(decode(body).ok_or("malformed BIND")?),
            _ if kind >= RECORD_OPTIONAL_MIN => Self::Skipped,
            _ => return Err("a record of unknown type"),
        })
    }
}

fn decode<'a, T: Serialize + Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    let value = postcard::from_bytes(body).ok()?;
    let again = postcard::to_stdvec(&value).ok()?;
    (again == body).then_some(value)
}

#[cfg(test)]
mod tests {
    //! Goal: records come back as written, and a wrong one is named.
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_come_back() {
        let greeting = Greeting {
            incarnation: [7; 16],
            name: "alice".into(),
            role: "sensor".into(),
            mode: 1,
            kind: 255,
            shards: 2,
            placement_salt: [9; 32],
            message_bytes_max: 1 << 26,
        };
        let bind = Bind { alias: 70, name: "orders.new".into(), wanted: 1 << 40 };
        for record in
            [Record::Greeting(greeting), Record::Close(Close::NotAdmitted), Record::Bind(bind)]
        {
            let mut bytes = Vec::new();
            record.write(&mut bytes);
            let mut reader = Reader::new(&bytes[1..]);
            assert_eq!(Record::read(&mut reader), Ok(record));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn unknown_records_are_skipped_or_refused_by_their_bit() {
        assert_eq!(Record::read(&mut Reader::new(&[0x20, 2, 1, 2])), Ok(Record::Skipped));
        assert!(Record::read(&mut Reader::new(&[0x1f, 2, 1, 2])).is_err());
    }

    /// A greeting with these fields, written by hand.
    fn greeting_bytes(name: usize, role: usize, mode: u8, kind: u8, shards: u8) -> Vec<u8> {
        let text = |bytes: usize| [vec![bytes as u8], vec![b'x'; bytes]].concat();
        let fields =
            [vec![7; 16], text(name), text(role), vec![mode, kind, shards], vec![9; 32], vec![100]];
        fields.concat()
    }

    #[test]
    fn a_greeting_that_lacks_or_oversizes_a_field_is_refused_by_name() {
        let whole = greeting_bytes(64, 64, 1, 255, 1);
        assert!(Greeting::decode(&whole).is_ok());
        let wrong = |bytes: &[u8]| Greeting::decode(bytes).unwrap_err();
        // Where each field begins.
        let fields = [
            ("incarnation", 0),
            ("name", 16),
            ("role", 81),
            ("mode", 146),
            ("kind", 147),
            ("shards", 148),
            ("placement salt", 149),
            ("longest message", 181),
        ];
        for (field, begins) in fields {
            let words = wrong(&whole[..begins]);
            assert!(words.contains("lacks") && words.contains(field), "{field}: {words}");
        }
        assert!(wrong(&greeting_bytes(65, 1, 0, 0, 1)).contains("name is longer than 64"));
        assert!(wrong(&greeting_bytes(1, 65, 0, 0, 1)).contains("role is longer than 64"));
        assert!(wrong(&greeting_bytes(1, 1, 2, 0, 1)).contains("mode"));
        assert!(wrong(&greeting_bytes(1, 1, 0, 0, 0)).contains("shards is zero"));
        assert!(wrong(&[&whole[..], &[0]].concat()).contains("last field"));
        // 100 as a number of two bytes.
        let long = [&whole[..181], &[0xe4, 0]].concat();
        assert!(wrong(&long).contains("only form"), "{}", wrong(&long));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_have_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut reader = Reader::new(&bytes);
            match Record::read(&mut reader) {
                Err(_) | Ok(Record::Skipped) => {}
                Ok(record) => {
                    let mut again = Vec::new();
                    record.write(&mut again);
                    prop_assert_eq!(&again[1..], &bytes[..bytes.len() - reader.remaining()]);
                }
            }
        }
    }
}

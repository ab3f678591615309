//! Owns the frames of a lane datagram's payload other than messages: their types and encodings (docs/PROTOCOL.md, "Frames").
//!
//! What always holds: each frame has one encoding, and what does not decode is the peer's fault, since it was authenticated.

use serde::{Deserialize, Serialize};

use crate::endpoint::{NodeMode, Refusal};
use crate::limits::{
    ALIASES_MAX, DATAGRAM_BYTES_FLOOR, NODE_NAME_BYTES_MAX, REFUSALS_PER_BLOCK_MAX, ROLE_BYTES_MAX,
    payload_bytes,
};
use crate::varint::{self, Reader};

/// One byte of padding.
pub(crate) const PADDING: u8 = 0x00;
/// Asks for an acknowledgement, says nothing else.
pub(crate) const PING: u8 = 0x01;
/// Packet numbers received.
pub(crate) const ACK: u8 = 0x02;
/// Blocks settled.
pub(crate) const SETTLED: u8 = 0x03;
/// Grant of credit to one flow.
pub(crate) const CREDIT: u8 = 0x04;
/// A flow waits for credit.
pub(crate) const BLOCKED: u8 = 0x05;
/// Blocks given up: they count as arrived.
pub(crate) const SKIP: u8 = 0x07;
/// A control record: type, length, postcard body.
pub(crate) const RECORD: u8 = 0x06;
/// Messages to the datagram's end, kept by nobody.
pub(crate) const BEST_EFFORT: u8 = 0x09;
/// A piece of a block that is longer than a datagram may be now, to the datagram's end.
pub(crate) const PART: u8 = 0x0a;
/// Asks whoever is at an address to answer from there; 8 random bytes follow.
pub(crate) const PATH_CHALLENGE: u8 = 0x0b;
/// Answers a `PATH_CHALLENGE` with its bytes.
pub(crate) const PATH_RESPONSE: u8 = 0x0c;
pub(crate) use crate::send_log::FRAME_BLOCK as BLOCK;

/// Record types at or above this are skipped by a receiver that does not know them; below, they are refused.
const RECORD_OPTIONAL_MIN: u64 = 0x20;
/// Places of messages that a SETTLED entry may speak of: they are counted in 16 bits.
const PLACES_MAX: usize = 1 << 16;
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

/// A grant: the flow's absolute limit, its longest message, and whether it takes messages at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credit {
    pub(crate) alias: u32,
    pub(crate) limit: u64,
    pub(crate) message_bytes_max: u64,
    pub(crate) refusal: Option<Refusal>,
}

/// Longest CREDIT frame.
pub(crate) const CREDIT_BYTES_MAX: usize = 1 + 4 + 8 + 8 + 1;

impl Credit {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(CREDIT);
        varint::write(self.alias.into(), out);
        varint::write(self.limit, out);
        varint::write(self.message_bytes_max, out);
        out.push(self.refusal.map_or(0, Refusal::code));
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let alias = u32::try_from(reader.varint()?).ok()?;
        let (limit, message_bytes_max) = (reader.varint()?, reader.varint()?);
        let refusal = match reader.u8()? {
            0 => None,
            code => Some(Refusal::from_code(code)?),
        };
        Some(Self { alias, limit, message_bytes_max, refusal })
    }
}

/// Longest BLOCKED frame.
pub(crate) const BLOCKED_BYTES_MAX: usize = 1 + 4 + 8;

/// Appends BLOCKED: `alias` waits for an absolute limit of `wanted`.
pub(crate) fn write_blocked(alias: u32, wanted: u64, out: &mut Vec<u8>) {
    out.push(BLOCKED);
    varint::write(alias.into(), out);
    varint::write(wanted, out);
}

/// Reads alias and wanted limit.
pub(crate) fn read_blocked(reader: &mut Reader<'_>) -> Option<(u32, u64)> {
    Some((u32::try_from(reader.varint()?).ok()?, reader.varint()?))
}

/// What stands in front of a part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) block: u64,
    /// Where its bytes belong in the block's content.
    pub(crate) offset: u64,
    /// Length of the block's content.
    pub(crate) total: u64,
}

/// Longest head of a PART of a block as long as a datagram can be.
pub(crate) const PART_HEAD_BYTES_MAX: usize = 1 + varint::SIZE_MAX + 4 + 4;

impl Part {
    /// Appends the head, type byte included.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(PART);
        varint::write(self.block, out);
        varint::write(self.offset, out);
        varint::write(self.total, out);
    }

    /// Reads what follows the type byte.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self { block: reader.varint()?, offset: reader.varint()?, total: reader.varint()? })
    }
}

/// Sequences of ordered messages that will not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) alias: u32,
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// What a SKIP frame says: `count` blocks from `first` were given up, in a message that began `back` blocks before them; and
/// these sequences with them. Without blocks, only sequences that were never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SkipHead {
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) back: u64,
}

/// Most runs of sequences in one SKIP.
const SKIP_RUNS_MAX: u64 = 64;

/// Appends SKIP.
pub(crate) fn write_skip(first: u64, count: u64, back: u64, runs: &[Run], out: &mut Vec<u8>) {
    out.push(SKIP);
    for field in [first, count, back, runs.len() as u64] {
        varint::write(field, out);
    }
    for run in runs {
        varint::write(run.alias.into(), out);
        varint::write(run.first, out);
        varint::write(run.count, out);
    }
}

/// Reads SKIP, its sequences into `runs` (cleared first).
pub(crate) fn read_skip(reader: &mut Reader<'_>, runs: &mut Vec<Run>) -> Option<SkipHead> {
    runs.clear();
    let (first, count, back) = (reader.varint()?, reader.varint()?, reader.varint()?);
    let length = reader.varint()?;
    let is_empty = count == 0 && (first, back) != (0, 0);
    if length > SKIP_RUNS_MAX || back > first || is_empty || (count == 0 && length == 0) {
        return None;
    }
    for _ in 0..length {
        let alias = u32::try_from(reader.varint()?).ok()?;
        let (first, count) = (reader.varint()?, reader.varint()?);
        if alias as usize >= ALIASES_MAX || count == 0 || first + count > varint::VALUE_MAX {
            return None;
        }
        runs.push(Run { alias, first, count });
    }
    Some(SkipHead { first, count, back })
}

/// Why messages that end in a block are not called delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The receiver did not take one of them.
    Refused(Refusal),
    /// The sender gave the block up before it arrived: none of them was delivered.
    Skipped,
}

impl Reason {
    const SKIPPED: u8 = 8;
    const CODE_MAX: u8 = Self::SKIPPED;

    fn code(self) -> u8 {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Skipped => Self::SKIPPED,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        if code == Self::SKIPPED {
            return Some(Self::Skipped);
        }
        Refusal::from_code(code).map(Self::Refused)
    }
}

/// One refused message: its block, its place among those that end there, the reason. A block skipped stands here once.
pub(crate) type RefusedMessage = (u64, u16, Reason);

/// Room in which at least one block's refusals are always told: what a control datagram of the shortest limit has left beside
/// an acknowledgement, which takes at most half.
pub(crate) const SETTLED_ROOM_MIN: usize = (payload_bytes(DATAGRAM_BYTES_FLOOR) - 1) / 2;
/// SETTLED without its entries, at most.
const SETTLED_HEAD_BYTES_MAX: usize = 1 + 2 * varint::SIZE_MAX;
/// An entry without its bitmap, at most: distance, reason, length.
const ENTRY_HEAD_BYTES_MAX: usize = varint::SIZE_MAX + 3;
/// Most that the entries of one block take; beyond it they are told as one, under one reason.
const ENTRIES_BYTES_MAX: usize = SETTLED_ROOM_MIN - SETTLED_HEAD_BYTES_MAX;
const _: () = {
    let bitmap = REFUSALS_PER_BLOCK_MAX.div_ceil(8);
    assert!(
        ENTRY_HEAD_BYTES_MAX + bitmap <= ENTRIES_BYTES_MAX,
        "all messages of a block can be refused at once"
    );
};

/// Appends SETTLED within `room` bytes: all blocks below `floor` are settled but the given refusals (ascending). Each
/// refusing reason of a block is one entry: the block's distance from the floor, the reason, a bitmap of the messages'
/// places. When not all of them fit, the floor told is the first block left out. Returns how many refusals were told.
pub(crate) fn write_settled(
    floor: u64,
    refusals: &[RefusedMessage],
    room: usize,
    out: &mut Vec<u8>,
) -> usize {
    let below = refusals.partition_point(|refusal| refusal.0 < floor);
    let refusals = &refusals[..below];
    let mut room = room.saturating_sub(SETTLED_HEAD_BYTES_MAX);
    let (mut told, mut entries, mut told_floor) = (0, 0, floor);
    for block in refusals.chunk_by(|a, b| a.0 == b.0) {
        let (count, bytes) = size_of_entries(&block_entries(block));
        if bytes > room {
            told_floor = block[0].0;
            break;
        }
        room -= bytes;
        told += block.len();
        entries += count;
    }
    out.push(SETTLED);
    varint::write(told_floor, out);
    varint::write(entries, out);
    for block in refusals[..told].chunk_by(|a, b| a.0 == b.0) {
        for (reason, bitmap) in block_entries(block) {
            varint::write(told_floor - block[0].0, out);
            out.push(reason);
            varint::write(bitmap.len() as u64, out);
            out.extend_from_slice(&bitmap);
        }
    }
    told
}

/// The entries of one block: each reason that occurs, ascending, with the bitmap of its messages. Should they be too long to be
/// told in any datagram, all messages are refused for the reason of the first.
fn block_entries(block: &[RefusedMessage]) -> Vec<(u8, Vec<u8>)> {
    let codes = (1..=Reason::CODE_MAX).filter_map(|code| {
        let mut places = block.iter().filter(|refusal| refusal.2.code() == code).peekable();
        places.peek()?;
        Some((code, if code == Reason::SKIPPED { Vec::new() } else { bitmap(places) }))
    });
    let entries: Vec<_> = codes.collect();
    if size_of_entries(&entries).1 <= ENTRIES_BYTES_MAX {
        return entries;
    }
    block.first().map(|first| (first.2.code(), bitmap(block.iter()))).into_iter().collect()
}

/// A set bit for the place of each message.
fn bitmap<'a>(refusals: impl Iterator<Item = &'a RefusedMessage>) -> Vec<u8> {
    let mut bitmap = Vec::new();
    for (_, place, _) in refusals {
        let byte = usize::from(place / 8);
        if byte >= bitmap.len() {
            bitmap.resize(byte + 1, 0);
        }
        bitmap[byte] |= 1 << (place % 8);
    }
    bitmap
}

/// How many entries, and the bytes that they take at most.
fn size_of_entries(entries: &[(u8, Vec<u8>)]) -> (u64, usize) {
    let bytes = entries.iter().map(|(_, bitmap)| ENTRY_HEAD_BYTES_MAX + bitmap.len()).sum();
    (entries.len() as u64, bytes)
}

/// Reads SETTLED into `refusals` (cleared first, then ascending); returns the floor.
pub(crate) fn read_settled(
    reader: &mut Reader<'_>,
    refusals: &mut Vec<RefusedMessage>,
) -> Option<u64> {
    refusals.clear();
    let floor = reader.varint()?;
    let entries = reader.varint()?;
    let mut last = None;
    for _ in 0..entries {
        let block = floor.checked_sub(reader.varint()?)?;
        let code = reader.u8()?;
        let reason = Reason::from_code(code)?;
        let length = usize::try_from(reader.varint()?).ok()?;
        if length > PLACES_MAX / 8 {
            return None;
        }
        let bitmap = reader.bytes(length)?;
        let is_skip = reason == Reason::Skipped;
        let is_shortest = bitmap.last().map_or(is_skip, |&byte| byte != 0 && !is_skip);
        // Nothing that ends in a skipped block was delivered: there is no more to say of it. Its reason is the largest.
        let is_said = is_skip && last.is_some_and(|(other, _)| other == block);
        if block == floor || last >= Some((block, code)) || !is_shortest || is_said {
            return None;
        }
        last = Some((block, code));
        let places = (0..length * 8).filter(|place| bitmap[place / 8] & (1 << (place % 8)) != 0);
        refusals.extend(places.map(|place| (block, place as u16, reason)));
        if is_skip {
            refusals.push((block, 0, reason));
        }
    }
    refusals.sort_unstable_by_key(|refusal| (refusal.0, refusal.1));
    let is_once = refusals.windows(2).all(|pair| (pair[0].0, pair[0].1) != (pair[1].0, pair[1].1));
    is_once.then_some(floor)
}

#[cfg(test)]
mod tests {
    //! Goal: frames come back as written, in one encoding, and random bytes never panic.
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
    fn places_beyond_16_bits_are_refused() {
        let settled = |bytes: usize| {
            let mut frame = vec![2, 1, 1, 1];
            varint::write(bytes as u64, &mut frame);
            frame.extend(vec![0; bytes - 1]);
            frame.push(1);
            read_settled(&mut Reader::new(&frame), &mut Vec::new())
        };
        assert_eq!((settled(8_192), settled(8_193)), (Some(2), None));
    }

    #[test]
    fn a_skipped_block_has_one_entry() {
        let settled = |frame: &[u8]| read_settled(&mut Reader::new(frame), &mut Vec::new());
        assert_eq!(settled(&[10, 2, 4, 1, 1, 2, 3, 8, 0]), Some(10), "another block");
        assert_eq!(
            settled(&[10, 2, 3, 1, 1, 1, 3, 8, 0]),
            None,
            "message 0 is refused and skipped"
        );
        assert_eq!(
            settled(&[10, 2, 3, 1, 1, 2, 3, 8, 0]),
            None,
            "message 1 is refused, all are skipped"
        );
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
        fn settled_comes_back(floor in 10u64..50, places in 1u16..REFUSALS_PER_BLOCK_MAX as u16, picks in proptest::collection::btree_map((0u64..50, any::<u16>()), 1u8..8, 0..400), room in 40usize..1400) {
            let picks: std::collections::BTreeMap<_, _> = picks.into_iter().map(|((b, i), code)| ((b, i % places), code)).collect();
            let mut refusals: Vec<_> = picks.into_iter().map(|((b, i), code)| (b, i, Reason::from_code(code).unwrap())).collect();
            let skipped: Vec<u64> = refusals.iter().filter(|r| r.1 % 7 == 0).map(|r| r.0).collect();
            refusals.retain(|r| !skipped.contains(&r.0));
            refusals.extend(skipped.into_iter().map(|block| (block, 0, Reason::Skipped)));
            refusals.sort_by_key(|r| (r.0, r.1));
            refusals.dedup();
            prop_assume!(!refusals.is_empty());
            let mut bytes = Vec::new();
            let told = write_settled(floor, &refusals, room, &mut bytes);
            prop_assert!(bytes.len() <= room);
            let mut again = Vec::new();
            let mut reader = Reader::new(&bytes[1..]);
            let read = read_settled(&mut reader, &mut again).unwrap();
            prop_assert!(read <= floor && reader.is_empty());
            let places = |refusals: &[RefusedMessage]| refusals.iter().map(|r| (r.0, r.1)).collect::<Vec<_>>();
            prop_assert_eq!(places(&again), places(&refusals[..told]));
            for (read, written) in again.chunk_by(|a, b| a.0 == b.0).zip(refusals.chunk_by(|a, b| a.0 == b.0)) {
                let is_one = read.iter().all(|r| r.2 == written[0].2);
                let reasons = written.iter().map(|r| r.2.code()).collect::<std::collections::BTreeSet<_>>().len();
                let last = usize::from(written.iter().map(|r| r.1).max().unwrap());
                let is_short = reasons * (ENTRY_HEAD_BYTES_MAX + last / 8 + 1) <= ENTRIES_BYTES_MAX;
                prop_assert!(read == written || (is_one && !is_short), "reasons are told whenever they fit");
            }
            prop_assert!(refusals[told..].iter().all(|r| r.0 >= read));
            let first = refusals.iter().take_while(|r| r.0 == refusals[0].0).count();
            prop_assert!(told >= first || refusals[0].0 >= floor || room < SETTLED_ROOM_MIN, "a control datagram always tells of one block");
        }

        #[test]
        fn random_bytes_never_panic_and_have_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut reader = Reader::new(&bytes);
            if let Some(credit) = Credit::read(&mut reader) {
                let mut again = Vec::new();
                credit.write(&mut again);
                prop_assert_eq!(&again[1..], &bytes[..again.len() - 1]);
            }
            let _ = read_settled(&mut Reader::new(&bytes), &mut Vec::new());
            let (mut reader, mut runs) = (Reader::new(&bytes), Vec::new());
            if let Some(SkipHead { first, count, back }) = read_skip(&mut reader, &mut runs) {
                let mut again = Vec::new();
                write_skip(first, count, back, &runs, &mut again);
                prop_assert_eq!(&again[1..], &bytes[..bytes.len() - reader.remaining()]);
            }
            let mut reader = Reader::new(&bytes);
            if let Some(part) = Part::read(&mut reader) {
                let mut again = Vec::new();
                part.write(&mut again);
                prop_assert_eq!(&again[1..], &bytes[..bytes.len() - reader.remaining()]);
            }
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

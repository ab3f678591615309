//! Owns the head of a message inside a block or best-effort datagram (docs/PROTOCOL.md, "Messages").
//!
//! What always holds: a head is written in one way only, and [`Head::read`] accepts no other.

mod plain;

use crate::limits::FLOW_NAME_BYTES_MAX;
use crate::varint::{self, Reader};
pub(crate) use plain::PlainStart;

/// A whole message: head, then the body.
pub(crate) const FORM_WHOLE: u8 = 0;
/// The first fragment of a message; the body's beginning fills the rest of the block.
pub(crate) const FORM_FIRST: u8 = 1;
/// A later fragment, alone at the beginning of its block.
pub(crate) const FORM_CONTINUE: u8 = 2;
/// Padding: the rest of the block is zero bytes.
pub(crate) const FORM_PAD: u8 = 3;
const FORM_MASK: u8 = 3;
/// The flow's full name follows its alias.
pub(crate) const NAMED: u8 = 1 << 2;
/// A request number follows: an answer is expected.
pub(crate) const REQUEST: u8 = 1 << 3;
/// An answer: the request's number stands in the alias's place.
pub(crate) const REPLY: u8 = 1 << 4;
/// A sequence follows: the message's place in its flow.
pub(crate) const SEQUENCE: u8 = 1 << 5;
/// The sequence is the stamp of a value, of which the latest counts; else it is a place in an order.
pub(crate) const LATEST: u8 = 1 << 6;
const KNOWN: u8 = FORM_MASK | NAMED | REQUEST | REPLY | SEQUENCE | LATEST;

/// Longest head without its name: flags, alias, name length, request, sequence and length.
pub(crate) const HEAD_BYTES_MAX: usize = 1 + 8 + 2 + 8 + 8 + 8;
/// Longest head that [`Head::write_plain`] appends: flags, alias, length.
pub(crate) const PLAIN_HEAD_BYTES_MAX: usize = 1 + 2 + 2;
/// Room that [`Head::put`] writes in.
pub(crate) const HEAD_PLACE_BYTES: usize = 1 + 3 * varint::SIZE_MAX;
/// Longest head of a later fragment: flags, origin, offset, total.
pub(crate) const CONTINUE_BYTES_MAX: usize = 1 + 8 + 8 + 8;

/// What heads are written to.
pub(crate) trait Output {
    /// Appends one byte.
    fn push(&mut self, byte: u8);

    /// Appends bytes.
    fn extend_from_slice(&mut self, bytes: &[u8]);

    /// Appends a number.
    #[inline]
    fn varint(&mut self, value: u64) {
        let mut bytes = [0; varint::SIZE_MAX];
        let size = varint::put(value, &mut bytes);
        self.extend_from_slice(&bytes[..size]);
    }
}

impl Output for Vec<u8> {
    #[inline]
    fn push(&mut self, byte: u8) {
        self.push(byte);
    }

    #[inline]
    fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Where a message goes, as written in front of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To a flow, by alias.
    Flow(u32),
    /// To the asker, by request number.
    Reply(u64),
}

/// A message's number within its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sequence {
    /// Handed over after all smaller ones.
    Ordered(u64),
    /// Taken only while no larger one was.
    Latest(u64),
}

/// Head of a whole message or of its first fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    /// Flow or request that it goes to.
    pub(crate) target: Target,
    /// The flow's name, while the receiver may not know the alias.
    pub(crate) name: Option<&'a str>,
    /// Number under which an answer is expected.
    pub(crate) request: Option<u64>,
    /// Place in the flow's order, or stamp.
    pub(crate) sequence: Option<Sequence>,
    /// Length of the whole body.
    pub(crate) total: u64,
}

impl<'a> Head<'a> {
    /// Bytes that [`Head::write`] appends.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        let target = match self.target {
            Target::Flow(alias) => varint::size(alias.into()),
            Target::Reply(request) => varint::size(request),
        };
        let name = self.name.map_or(0, |name| varint::size(name.len() as u64) + name.len());
        let sequence = self.sequence.map_or(0, |sequence| varint::size(number_of(sequence)));
        let request = self.request.map_or(0, varint::size);
        1 + target + name + request + sequence + varint::size(self.total)
    }

    /// Appends the head in the given form ([`FORM_WHOLE`] or [`FORM_FIRST`]).
    #[inline]
    pub(crate) fn write(&self, form: u8, out: &mut impl Output) {
        if let (Target::Flow(alias), None, None, None) =
            (self.target, self.name, self.request, self.sequence)
            && Self::write_plain(form, alias, self.total, out)
        {
            return;
        }
        self.write_all(form, out);
    }

    /// Appends the head of a message of which nothing is asked, to a flow that needs no name, in one append of fixed size, which needs
    /// no call; `false` when alias or length are too large for that.
    #[inline]
    fn write_plain(form: u8, alias: u32, total: u64, out: &mut impl Output) -> bool {
        if alias >= 1 << 14 || total >= 1 << 14 {
            return false;
        }
        let [alias_high, alias_low] = (alias as u16 | 0x4000).to_be_bytes();
        let [high, low] = (total as u16 | 0x4000).to_be_bytes();
        match (alias < 64, total < 64) {
            (true, true) => out.extend_from_slice(&[form, alias as u8, total as u8]),
            (true, false) => out.extend_from_slice(&[form, alias as u8, high, low]),
            (false, true) => out.extend_from_slice(&[form, alias_high, alias_low, total as u8]),
            (false, false) => out.extend_from_slice(&[form, alias_high, alias_low, high, low]),
        }
        true
    }

    /// Puts the head made of these flags and at most three numbers at the beginning of a place; returns how many bytes it is. What
    /// it puts behind these means nothing.
    #[inline]
    pub(crate) fn put<const NUMBERS: usize>(
        flags: u8,
        numbers: [u64; NUMBERS],
        place: &mut [u8; HEAD_PLACE_BYTES],
    ) -> usize {
        const { assert!(NUMBERS * varint::SIZE_MAX < HEAD_PLACE_BYTES) };
        place[0] = flags;
        let mut bytes = 1;
        for number in numbers {
            let (varint, size) = varint::word(number);
            place[bytes..bytes + varint::SIZE_MAX].copy_from_slice(&varint.to_le_bytes());
            bytes += size;
        }
        bytes
    }

    fn write_all(&self, form: u8, out: &mut impl Output) {
        let mut flags = form;
        let target = match self.target {
            Target::Flow(alias) => u64::from(alias),
            Target::Reply(request) => {
                flags |= REPLY;
                request
            }
        };
        flags |= if self.name.is_some() { NAMED } else { 0 };
        flags |= if self.request.is_some() { REQUEST } else { 0 };
        flags |= match self.sequence {
            None => 0,
            Some(Sequence::Ordered(_)) => SEQUENCE,
            Some(Sequence::Latest(_)) => SEQUENCE | LATEST,
        };
        out.push(flags);
        out.varint(target);
        if let Some(name) = self.name {
            out.varint(name.len() as u64);
            out.extend_from_slice(name.as_bytes());
        }
        if let Some(request) = self.request {
            out.varint(request);
        }
        if let Some(sequence) = self.sequence {
            out.varint(number_of(sequence));
        }
        out.varint(self.total);
    }

    /// Reads what follows the flags byte; `None` when malformed.
    #[inline]
    pub(crate) fn read(flags: u8, reader: &mut Reader<'a>) -> Option<Self> {
        let target = reader.varint()?;
        if flags & !FORM_MASK == 0 {
            let alias = u32::try_from(target).ok()?;
            let total = reader.varint()?;
            let target = Target::Flow(alias);
            return Some(Self { target, name: None, request: None, sequence: None, total });
        }
        Self::read_all(flags, target, reader)
    }

    fn read_all(flags: u8, target: u64, reader: &mut Reader<'a>) -> Option<Self> {
        let excluded = |flag, others| flags & flag != 0 && flags & others != 0;
        if flags & !KNOWN != 0
            || excluded(REPLY, NAMED | REQUEST | SEQUENCE)
            || excluded(SEQUENCE, REQUEST)
            || flags & (SEQUENCE | LATEST) == LATEST
        {
            return None;
        }
        let name = if flags & NAMED == 0 {
            None
        } else {
            let length = usize::try_from(reader.varint()?).ok()?;
            if length == 0 || length > FLOW_NAME_BYTES_MAX {
                return None;
            }
            Some(std::str::from_utf8(reader.bytes(length)?).ok()?)
        };
        let request = if flags & REQUEST == 0 { None } else { Some(reader.varint()?) };
        let sequence = match flags & (SEQUENCE | LATEST) {
            0 => None,
            SEQUENCE => Some(Sequence::Ordered(reader.varint()?)),
            _ => Some(Sequence::Latest(reader.varint()?)),
        };
        let target = if flags & REPLY == 0 {
            Target::Flow(u32::try_from(target).ok()?)
        } else {
            Target::Reply(target)
        };
        Some(Self { target, name, request, sequence, total: reader.varint()? })
    }
}

/// Head of a later fragment of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Continue {
    /// Blocks: how many blocks ago the message began, at least 1. Best effort: the message's own number.
    pub(crate) origin: u64,
    /// Position of this fragment in the body; above zero.
    pub(crate) offset: u64,
    /// Length of the whole body.
    pub(crate) total: u64,
}

impl Continue {
    /// Appends flags and fields.
    pub(crate) fn write(&self, out: &mut impl Output) {
        Self::write_origin(self.origin, out);
        Self::write_place(self.offset, self.total, out);
    }

    /// Appends flags and origin, which are known only when the block is numbered.
    pub(crate) fn write_origin(origin: u64, out: &mut impl Output) {
        out.push(FORM_CONTINUE);
        out.varint(origin);
    }

    /// Appends the fields behind the origin.
    pub(crate) fn write_place(offset: u64, total: u64, out: &mut impl Output) {
        out.varint(offset);
        out.varint(total);
    }

    /// Reads what follows the flags byte; `None` when malformed or when the fragment lies outside the body.
    pub(crate) fn read(flags: u8, reader: &mut Reader<'_>) -> Option<Self> {
        if flags != FORM_CONTINUE {
            return None;
        }
        let (origin, offset, total) = (reader.varint()?, reader.varint()?, reader.varint()?);
        (offset > 0 && offset < total).then_some(Self { origin, offset, total })
    }

    /// Reads what follows the flags byte in block `number`: the block in which the message began, and the fragment. `None` when
    /// malformed or when it began in no earlier block.
    pub(crate) fn read_in_block(
        number: u64,
        flags: u8,
        reader: &mut Reader<'_>,
    ) -> Option<(u64, Self)> {
        let fragment = Self::read(flags, reader)?;
        let began = number.checked_sub(fragment.origin).filter(|began| *began < number)?;
        Some((began, fragment))
    }
}

fn number_of(sequence: Sequence) -> u64 {
    let (Sequence::Ordered(number) | Sequence::Latest(number)) = sequence;
    number
}

/// The form bits of a flags byte.
#[inline]
pub(crate) fn form(flags: u8) -> u8 {
    flags & FORM_MASK
}

#[cfg(test)]
mod tests {
    //! Goal: one encoding only, and the announced size is the written one.
    use super::*;
    use proptest::prelude::*;

    type Facts = (Target, Option<String>, Option<u64>, Option<Sequence>, u64);

    fn heads() -> impl Strategy<Value = Facts> {
        let sequence = prop_oneof![
            (0u64..1 << 62).prop_map(Sequence::Ordered),
            (0u64..1 << 62).prop_map(Sequence::Latest),
        ];
        let sequenced = (
            any::<u32>().prop_map(Target::Flow),
            proptest::option::of("[a-z.]{1,40}"),
            Just(None),
            sequence.prop_map(Some),
            0u64..1 << 62,
        );
        let flow = (
            any::<u32>().prop_map(Target::Flow),
            proptest::option::of("[a-z.]{1,40}"),
            proptest::option::of(0u64..1 << 62),
            Just(None),
            0u64..1 << 62,
        );
        let reply = (0u64..1 << 62).prop_map(Target::Reply);
        prop_oneof![
            flow,
            sequenced,
            (reply, Just(None), Just(None), Just(None), 0u64..1 << 62),
            (0u32..64).prop_map(|alias| (Target::Flow(alias), None, None, None, 64)),
        ]
    }

    proptest! {
        #[test]
        fn heads_come_back((target, name, request, sequence, total) in heads()) {
            let head = Head { target, name: name.as_deref(), request, sequence, total };
            let mut bytes = Vec::new();
            head.write(FORM_WHOLE, &mut bytes);
            prop_assert_eq!(bytes.len(), head.size());
            let mut reader = Reader::new(&bytes[1..]);
            prop_assert_eq!(Head::read(bytes[0], &mut reader), Some(head));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn a_plain_head_is_the_same_in_a_word(alias in 0u32..1 << 15, total in 0u16..1 << 15, shifts in (0u32..15, 0u32..15)) {
            let (alias, total) = (alias >> shifts.0, total >> shifts.1);
            let mut bytes = Vec::new();
            let is_plain = Head::write_plain(FORM_FIRST, alias, total.into(), &mut bytes);
            let word = PlainStart::new(FORM_FIRST, alias).and_then(|start| start.head(total.into()));
            prop_assert_eq!(is_plain, word.is_some());
            if let Some((word, size)) = word {
                prop_assert_eq!(&bytes[..], &word.to_le_bytes()[..size]);
            }
        }

        #[test]
        fn a_head_of_numbers_is_the_same_put_at_once(alias in 0u32..1 << 15, request in 0u64..1 << 62, total in 0u64..1 << 62, shift in 0u32..62) {
            let (request, total) = (request >> shift, total >> (61 - shift));
            let (target, asked) = (Target::Flow(alias), Some(request));
            let asks = Head { target, name: None, request: asked, sequence: None, total };
            let target = Target::Reply(request);
            let answers = Head { target, name: None, request: None, sequence: None, total };
            let mut places = [[0; HEAD_PLACE_BYTES]; 2];
            let sizes = [
                Head::put(FORM_WHOLE | REQUEST, [alias.into(), request, total], &mut places[0]),
                Head::put(FORM_WHOLE | REPLY, [request, total], &mut places[1]),
            ];
            for ((head, place), size) in [asks, answers].into_iter().zip(places).zip(sizes) {
                let mut bytes = Vec::new();
                head.write(FORM_WHOLE, &mut bytes);
                prop_assert_eq!(&bytes[..], &place[..size]);
            }
        }

        #[test]
        fn what_reads_writes_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
            let mut reader = Reader::new(&bytes[1..]);
            let used = |reader: &Reader<'_>| bytes.len() - reader.remaining();
            let mut again = Vec::new();
            match form(bytes[0]) {
                FORM_WHOLE | FORM_FIRST => if let Some(head) = Head::read(bytes[0], &mut reader) {
                    head.write(form(bytes[0]), &mut again);
                    prop_assert_eq!(&again[..], &bytes[..used(&reader)]);
                },
                FORM_CONTINUE => if let Some(fragment) = Continue::read(bytes[0], &mut reader) {
                    fragment.write(&mut again);
                    prop_assert_eq!(&again[..], &bytes[..used(&reader)]);
                },
                _ => {}
            }
        }
    }
}

//! Owns whether a block may be taken while its peer's room is short.
//!
//! What always holds: a block is taken whole or not at all; the block at the floor is taken when nothing else would free room.

use super::Lane;
use crate::common::Fault;
use crate::message::{Continue, FORM_CONTINUE, FORM_FIRST, FORM_WHOLE, Head, form};
use crate::room::Room;
use crate::varint::Reader;

impl Lane {
    /// Whether there is room for what a block may make us hold, asked only when that is short.
    #[cold]
    pub(super) fn check_room(
        &mut self,
        room: &Room,
        number: u64,
        content: &[u8],
    ) -> Result<(), Fault> {
        let is_at_floor = number == self.window.floor();
        if room.is_short_of_refusals() && (!is_at_floor || self.will_free_refusals()) {
            return Err(Fault::RefusalLimit);
        }
        room.check_refusals(self.orders.unanswered())?;
        if self.fragments_fit(room.fragments, number, content) {
            Ok(())
        } else {
            Err(Fault::AssemblyLimit)
        }
    }

    /// Whether the fragments in a block would find room, asked only when room is short: a block is taken whole or not at all.
    fn fragments_fit(&self, left: usize, number: u64, content: &[u8]) -> bool {
        let mut reader = Reader::new(content);
        while let Some(flags) = reader.u8() {
            let (origin, total) = match form(flags) {
                FORM_WHOLE => {
                    let Some(head) = Head::read(flags, &mut reader) else {
                        return true;
                    };
                    if usize::try_from(head.total).ok().and_then(|n| reader.bytes(n)).is_none() {
                        return true;
                    }
                    continue;
                }
                FORM_FIRST => match Head::read(flags, &mut reader) {
                    Some(head) => (number, head.total),
                    None => return true,
                },
                FORM_CONTINUE => match Continue::read_in_block(number, flags, &mut reader) {
                    Some((origin, fragment)) => {
                        let left =
                            (fragment.total - fragment.offset).min(reader.remaining() as u64);
                        let _ = reader.bytes(left as usize);
                        (origin, fragment.total)
                    }
                    None => return true,
                },
                _ => return true,
            };
            if !self.assembly.fits(left, origin, total) {
                return false;
            }
            if form(flags) == FORM_FIRST {
                return true;
            }
        }
        true
    }
}

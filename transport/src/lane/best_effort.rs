//! Owns the receipt of best-effort messages on a lane.
//!
//! What always holds: messages in fragments are bounded in number; the oldest makes room, and that is counted.

use super::{Lane, MALFORMED, Receiving, meta_of};
use crate::assembly::{FragmentError, FragmentMeta};
use crate::common::Fault;
use crate::endpoint::{Application, Service};
use crate::message::{Continue, FORM_CONTINUE, FORM_FIRST, FORM_WHOLE, Head, Target, form};
use crate::varint::Reader;

impl Lane {
    /// Takes one datagram's worth of best-effort messages.
    pub(crate) fn handle_best_effort<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        content: &[u8],
    ) -> Result<(), Fault> {
        let generation = rx.app.generation();
        let mut reader = Reader::new(content);
        while let Some(flags) = reader.u8() {
            match form(flags) {
                FORM_WHOLE => {
                    let head = Head::read(flags, &mut reader).ok_or(MALFORMED)?;
                    let length = usize::try_from(head.total).map_err(|_| MALFORMED)?;
                    let body = reader.bytes(length).ok_or(MALFORMED)?;
                    self.receive_whole(rx, generation, &head, body, None)?;
                }
                FORM_FIRST => {
                    let head = Head::read(flags, &mut reader).ok_or(MALFORMED)?;
                    let number = reader.varint().ok_or(MALFORMED)?;
                    let (Target::Flow(alias), None) = (head.target, head.sequence) else {
                        return Err(MALFORMED);
                    };
                    self.in_flow(rx, generation, alias, head.name)?;
                    let meta = meta_of(rx, &head, Service::BestEffort);
                    let total = usize::try_from(head.total).map_err(|_| MALFORMED)?;
                    return self.best_effort_fragment(
                        rx,
                        generation,
                        number,
                        total,
                        0,
                        reader.rest(),
                        Some(meta),
                    );
                }
                FORM_CONTINUE => {
                    let fragment = Continue::read(flags, &mut reader).ok_or(MALFORMED)?;
                    let (total, offset) = (fragment.total as usize, fragment.offset as usize);
                    return self.best_effort_fragment(
                        rx,
                        generation,
                        fragment.origin,
                        total,
                        offset,
                        reader.rest(),
                        None,
                    );
                }
                _ => return Err(MALFORMED),
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one fragment")]
    fn best_effort_fragment<A: Application>(
        &mut self,
        rx: &mut Receiving<'_, A>,
        generation: u32,
        number: u64,
        total: usize,
        offset: usize,
        body: &[u8],
        meta: Option<FragmentMeta>,
    ) -> Result<(), Fault> {
        if body.is_empty() {
            return Err(MALFORMED);
        }
        if total as u64 > rx.common.limits.message_bytes_max {
            rx.common.counters.best_effort_refused += u64::from(offset == 0);
            return Ok(());
        }
        let end = (offset + body.len() == total).then_some((0, 0));
        loop {
            match self.best_effort_assembly.insert(
                &mut rx.room.best_effort_fragments,
                number,
                total,
                offset,
                body,
                meta,
                end,
            ) {
                Ok(None) => return Ok(()),
                Ok(Some(assembled)) => return self.deliver_assembled(rx, generation, assembled),
                Err(FragmentError::Contradiction) => return Err(MALFORMED),
                Err(FragmentError::Limit) => {
                    rx.common.counters.best_effort_fragments_dropped += 1;
                    if !self.best_effort_assembly.evict_oldest(&mut rx.room.best_effort_fragments) {
                        return Ok(());
                    }
                }
            }
        }
    }
}

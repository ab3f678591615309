//! Owns what a session does about its path: probes of longer datagrams, addresses that the peer seems to have moved to, the
//! peer's challenges, and what follows when a limit or an address changed.
//!
//! What always holds: data goes to the path's address only; another address gets challenges and answers, no more bytes than
//! three times what came from it; nothing here counts against the congestion window, as it is a datagram now and then.

use std::net::SocketAddr;
use std::time::Duration;

use super::Session;
use crate::common::Common;
use crate::frame::{self, PADDING};
use crate::limits::{DATAGRAM_BYTES_FLOOR, HEADER_BYTES, TAG_BYTES};
use crate::path::{Answer, CHALLENGE_BYTES, Path, PathFrames, Prospect};
use crate::sent::{Cargo, NO_BLOCK};
use crate::time::Instant;

/// Shortest datagram with a challenge or its answer.
const ASKING_BYTES_MIN: usize = HEADER_BYTES + 1 + CHALLENGE_BYTES + TAG_BYTES;
/// Shortest time between two prospects: whoever makes up addresses gets one challenge for each of these.
const PROSPECT_PAUSE_MIN: Duration = Duration::from_millis(100);

/// For so long after a peer was reached where it was known to be no other address is challenged.
const STAY: Duration = Duration::from_secs(1);

/// A datagram that opened, as far as paths are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came {
    pub(crate) from: SocketAddr,
    pub(crate) bytes: usize,
    /// Its packet number is above all before it under its keys.
    pub(crate) is_newest: bool,
}

/// One of the addresses that a path may challenge.
type Asked = fn(&mut Path) -> &mut Option<Box<Prospect>>;

impl Session {
    /// Writes a datagram about the path itself, when one is due; returns where it goes and its length.
    #[cold]
    pub(crate) fn write_path_datagram(
        &mut self,
        common: &mut Common,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Option<(SocketAddr, usize)> {
        if let Some(answer) = self.path.answer.take() {
            let bytes = answer.bytes.min(DATAGRAM_BYTES_FLOOR.into());
            let frame = (frame::PATH_RESPONSE, answer.data);
            let written = self.write_asking(common, now, frame, bytes, out)?;
            return Some((answer.to, written));
        }
        let asked: [Asked; 2] = [|path| &mut path.incumbent, |path| &mut path.prospect];
        for asked in asked {
            let written = self.write_challenge(common, now, asked, out);
            if written.is_some() {
                return written;
            }
        }
        let bytes = self.path.search.due(now)?;
        let written = self.write_size_probe(common, now, bytes, out)?;
        Some((self.path.address, written))
    }

    /// Challenges an address if that is due.
    fn write_challenge(
        &mut self,
        common: &mut Common,
        now: Instant,
        asked: Asked,
        out: &mut Vec<u8>,
    ) -> Option<(SocketAddr, usize)> {
        let prospect = asked(&mut self.path).as_deref()?;
        let (allowed, address) = (prospect.due(now)?, prospect.address);
        let frame = (frame::PATH_CHALLENGE, prospect.data);
        let bytes = allowed.min(DATAGRAM_BYTES_FLOOR.into()) as usize;
        let fits = bytes >= ASKING_BYTES_MIN;
        let written = fits.then(|| self.write_asking(common, now, frame, bytes, out)).flatten();
        if let Some(prospect) = asked(&mut self.path) {
            prospect.on_sent(now, written.unwrap_or(0));
        }
        Some((address, written?))
    }

    /// A challenge or an answer, padded to `bytes`.
    fn write_asking(
        &mut self,
        common: &mut Common,
        now: Instant,
        (kind, data): (u8, [u8; CHALLENGE_BYTES]),
        bytes: usize,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        self.write_apart(common, now, (NO_BLOCK, Cargo::Whole), out, |out, start| {
            out.push(kind);
            out.extend_from_slice(&data);
            out.resize((start + bytes - TAG_BYTES).max(out.len()), PADDING);
        })
    }

    /// A probe of a longer datagram, and a short one to follow it: when that arrives and the probe does not, the probe was too
    /// long.
    fn write_size_probe(
        &mut self,
        common: &mut Common,
        now: Instant,
        bytes: u16,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let cargo = (u64::from(bytes), Cargo::SizeProbe);
        let written = self.write_apart(common, now, cargo, out, |out, start| {
            out.push(frame::PING);
            out.resize(start + usize::from(bytes) - TAG_BYTES, PADDING);
        })?;
        self.path.search.on_probe_sent(bytes);
        common.counters.size_probes_sent += 1;
        self.ping();
        Some(written)
    }

    /// Seals one datagram outside the congestion window.
    fn write_apart(
        &mut self,
        common: &mut Common,
        now: Instant,
        (block, cargo): (u64, Cargo),
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>, usize),
    ) -> Option<usize> {
        let Common { entropy, counters, .. } = common;
        let packet_number = self.current.space.next_number(now, || entropy.next_u64())?;
        let header = self.current.header(packet_number, true);
        let space = &mut self.current.space;
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        write(out, start);
        space.seal(&header, out, start);
        space.sent.on_sent_cargo(now, 0, block, 0, cargo);
        let bytes = out.len() - start;
        self.path.pacer.on_sent(bytes as u64);
        counters.datagrams_sent += 1;
        Some(bytes)
    }

    /// A datagram spoke of paths, or came from another address. Returns the peer's new address when it has moved.
    #[cold]
    pub(crate) fn on_path_news(
        &mut self,
        common: &mut Common,
        now: Instant,
        came: Came,
    ) -> Option<SocketAddr> {
        let PathFrames { challenge, response } = self.path.told.take().unwrap_or_default();
        if let Some(data) = challenge {
            let answer = Answer { to: came.from, data, bytes: came.bytes };
            let replaced = self.path.answer.replace(answer).is_some();
            common.counters.path_answers_replaced += u64::from(replaced);
        }
        if let Some(data) = response {
            if let Some(incumbent) = self.path.incumbent.take_if(|it| it.is_answered_by(data)) {
                return self.stay(common, now, &incumbent);
            }
            match self.path.prospect.take_if(|it| it.is_proven_by(came.from, data)) {
                Some(prospect) => return Some(self.follow(common, now, &prospect)),
                None => common.counters.path_responses_ignored += 1,
            }
        }
        if came.from != self.path.address {
            self.consider(common, now, came);
        }
        None
    }

    /// An authentic datagram came from elsewhere: challenges that address, or counts the bytes that it may be sent.
    fn consider(&mut self, common: &mut Common, now: Instant, came: Came) {
        if let Some(prospect) = &mut self.path.prospect
            && prospect.address == came.from
        {
            prospect.on_received(came.bytes);
            return;
        }
        if !came.is_newest {
            return;
        }
        let is_late = |&(address, until): &(_, Instant)| address == came.from && now < until;
        if now < self.path.prospect_after || self.path.former.as_ref().is_some_and(is_late) {
            common.counters.path_prospects_refused += 1;
            return;
        }
        let mut data = [0; CHALLENGE_BYTES];
        common.entropy.fill(&mut data);
        let probe_timeout = self.path.probe_timeout();
        let here = self.path.address;
        if self.path.incumbent.as_ref().is_none_or(|incumbent| incumbent.address != here) {
            let mut data = [0; CHALLENGE_BYTES];
            common.entropy.fill(&mut data);
            let incumbent = Prospect::incumbent(now, here, data, probe_timeout);
            self.path.incumbent = Some(Box::new(incumbent));
        }
        let prospect = Prospect::new(now, came.from, came.bytes, data, probe_timeout);
        let replaced = self.path.prospect.replace(Box::new(prospect)).is_some();
        self.path.prospect_after = now + probe_timeout.max(PROSPECT_PAUSE_MIN);
        common.counters.path_challenges_failed += u64::from(replaced);
        common.counters.paths_challenged += 1;
    }

    /// The prospect has answered from where it was asked: it is the peer's address from here on, unless the incumbent answers
    /// too.
    fn follow(&mut self, common: &mut Common, now: Instant, prospect: &Prospect) -> SocketAddr {
        common.counters.paths_validated += 1;
        self.go_to(common, now, prospect)
    }

    /// The peer is still reached at the address that it had before another appeared: as far as anybody can tell, somebody passes
    /// its datagrams on, faster than the path does, and might stop (RFC 9000 section 9.3.3). So it stays there, or comes back.
    fn stay(
        &mut self,
        common: &mut Common,
        now: Instant,
        incumbent: &Prospect,
    ) -> Option<SocketAddr> {
        common.counters.paths_kept += 1;
        let is_open = self.path.prospect.take().is_some();
        common.counters.path_challenges_failed += u64::from(is_open);
        let address = incumbent.address;
        let is_elsewhere = self.path.address != address;
        let moved = is_elsewhere.then(|| self.go_to(common, now, incumbent));
        self.path.prospect_after = now + STAY;
        moved
    }

    /// Uses a proven address from here on.
    fn go_to(&mut self, common: &mut Common, now: Instant, prospect: &Prospect) -> SocketAddr {
        let address = prospect.address;
        self.on_address_proven(common, now, address, prospect.round_trip(now, &common.absence));
        // Whatever is in flight went where nobody may be; one round trip from here shows what arrived.
        self.probe_count = 0;
        self.probe();
        address
    }

    /// The peer is at this address from here on: all keys of the session are used towards it.
    pub(super) fn on_address_proven(
        &mut self,
        common: &Common,
        now: Instant,
        address: SocketAddr,
        rtt: Option<Duration>,
    ) {
        self.path.move_to(now, address, &common.limits, rtt);
        self.current.address = address;
        self.previous.iter_mut().for_each(|other| other.address = address);
        self.on_size_changed();
    }

    /// Takes over the limit that the search stands at.
    pub(super) fn on_size_changed(&mut self) {
        let bytes = self.path.search.current();
        if self.path.datagram_bytes != u64::from(bytes) {
            self.path.datagram_bytes = bytes.into();
            self.path.congestion.on_datagram_bytes_changed(bytes.into());
        }
        self.lane.set_datagram_bytes(bytes);
    }

    /// A probe of `bytes` arrived.
    #[cold]
    pub(super) fn on_size_probe_acked(&mut self, common: &mut Common, now: Instant, bytes: u16) {
        if self.path.search.on_probe_acked(now, bytes) {
            common.counters.size_raised += 1;
            self.on_size_changed();
        }
    }

    /// Gives up a prospect that has not answered in time.
    pub(super) fn expire_prospect(&mut self, common: &mut Common, now: Instant) {
        if self.path.prospect.take_if(|prospect| prospect.expires_at <= now).is_some() {
            common.counters.path_challenges_failed += 1;
        }
        self.path.incumbent.take_if(|incumbent| incumbent.expires_at <= now);
    }
}

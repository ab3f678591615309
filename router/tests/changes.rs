//! Goal: what a known peer may change and what it may not, over two endpoints that judge by a keep: seven changes, in
//! mutable and immutable keeps, judged by the dialler and by the answerer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use cubed_router::keep::{Arrival, Cause, Keep, KeyState, Portrait, Ruling, Trust};
use cubed_transport::identity::{Identity, PublicKey};
use cubed_transport::random::SeededEntropy;
use cubed_transport::time::Instant;
use cubed_transport::{
    Application, Binding, ChannelConfig, ChannelId, Config, DialFailure, Disposition, Endpoint,
    Event, Incoming, Limits, Newcomer, NodeMode, PeerId, Refusal, Verdict,
};

const GARDEN: ChannelId = ChannelId(1);
const HARBOUR: ChannelId = ChannelId(2);

/// Judges by its keeps, one for each channel; without any, accepts everybody.
#[derive(Default)]
struct App {
    keeps: Vec<Keep>,
    rulings: Vec<Ruling>,
}

impl Application for App {
    fn admit(&mut self, _: ChannelId, _: &PublicKey) -> bool {
        true
    }
    fn judge(&mut self, newcomer: &Newcomer<'_>) -> Verdict {
        let Some(keep) = self.keeps.get_mut(usize::from(newcomer.channel.0)) else {
            return Verdict::Accepted;
        };
        let Newcomer { name, role, mode, kind, address, is_dialled, .. } = *newcomer;
        let (name, role, mode) = (name.to_owned(), role.to_owned(), mode.bits());
        let portrait = Portrait { name, role, mode, kind };
        // As a node does: whom it dials, its configuration names.
        let arrival = Arrival { key: *newcomer.key, portrait, address, is_vouched: is_dialled };
        let ruling = keep.judge(&arrival, &mut Vec::new());
        self.rulings.push(ruling);
        match ruling {
            Ruling::Accepted => Verdict::Accepted,
            Ruling::Pending => Verdict::Pending,
            Ruling::Rejected(cause) => Verdict::Rejected(cause.as_str()),
        }
    }
    fn bind(
        &mut self,
        _: ChannelId,
        _: PeerId,
        _: &PublicKey,
        _: &str,
    ) -> Result<Binding, Refusal> {
        Err(Refusal::NoSuchFlow)
    }
    fn deliver(&mut self, _: Incoming<'_>) -> Result<Disposition, Refusal> {
        Err(Refusal::NoSuchFlow)
    }
}

/// One node as it starts.
#[derive(Clone)]
struct Setup {
    key: u8,
    name: &'static str,
    role: &'static str,
    mode: NodeMode,
    kind: u8,
    channels: [&'static str; 2],
    address: SocketAddr,
}

impl Setup {
    fn new(key: u8) -> Self {
        Self {
            key,
            name: "some-name",
            role: "some-role",
            mode: NodeMode::PLAIN,
            kind: 7,
            channels: ["garden", "harbour"],
            address: SocketAddr::from(([10, 0, 0, key], 7530)),
        }
    }

    fn identity(&self) -> Identity {
        Identity::from_seed(&[self.key; 32])
    }

    fn start(&self) -> Endpoint {
        let channel = |name: &&str| ChannelConfig { name: (*name).to_owned(), identity: None };
        let config = Config {
            name: self.name.to_owned(),
            role: self.role.to_owned(),
            mode: self.mode,
            kind: self.kind,
            channels: self.channels.iter().map(channel).collect(),
            limits: Limits { dial_timeout: Duration::from_secs(2), ..Limits::default() },
            ..Config::new([self.key; 16], [self.key; 32])
        };
        let entropy = Box::new(SeededEntropy::new(self.key.into()));
        Endpoint::new(config, &self.identity(), entropy).expect("a good configuration")
    }
}

/// What came of a dial.
#[derive(PartialEq, Eq, Debug)]
enum End {
    Connected,
    Failed(DialFailure),
}

/// Starts both, has the first dial the second on this channel, and tells how that ended.
fn dial(setups: &[Setup; 2], channel: ChannelId, apps: &mut [App; 2]) -> End {
    let mut ends = [setups[0].start(), setups[1].start()];
    let mut now = Instant::from_nanos(1_000_000_000);
    let until = now + Duration::from_secs(5);
    let key = setups[1].identity().public_key();
    let peer = ends[0].add_peer_on(channel, key, Some(setups[1].address)).expect("room");
    ends[0].connect(now, peer).expect("an address");
    let mut out = Vec::new();
    let mut failure = None;
    while now < until && failure.is_none() {
        let mut wire = VecDeque::new();
        for (side, end) in ends.iter_mut().enumerate() {
            while let Some(transmit) = end.poll_transmit(now, &mut out) {
                assert_eq!(transmit.to, setups[1 - side].address);
                let datagrams = out.chunks(transmit.segment_bytes);
                wire.extend(datagrams.map(|datagram| (1 - side, datagram.to_vec())));
            }
            while let Some(event) = end.poll_event() {
                match event {
                    Event::DialFailed { error, .. } if side == 0 => failure = Some(error),
                    _ => {}
                }
            }
        }
        let next = ends.iter().filter_map(Endpoint::poll_timeout).min().unwrap_or(until);
        let step = now + Duration::from_micros(50);
        now = if wire.is_empty() { next.clamp(step, until) } else { step };
        for (side, mut datagram) in wire {
            let from = setups[1 - side].address;
            ends[side].handle_datagram(now, from, &mut datagram, &mut apps[side]);
        }
        for (end, app) in ends.iter_mut().zip(apps.iter_mut()) {
            end.handle_timeout(now, app);
        }
    }
    let answering = ends[1].find_peer_on(channel, &setups[0].identity().public_key());
    let is_connected = ends[0].is_connected(peer);
    if let Some(failure) = failure {
        assert!(!is_connected);
        End::Failed(failure)
    } else {
        assert!(is_connected && answering.is_some_and(|peer| ends[1].is_connected(peer)));
        End::Connected
    }
}

/// What is different the second time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Changed {
    Name,
    Role,
    Mode,
    Kind,
    /// Another key has the role.
    Key,
    /// It is on another channel than before.
    Channel,
    /// It has moved.
    Address,
}

const CHANGES: [(Changed, Option<Cause>); 7] = [
    (Changed::Name, Some(Cause::Name)),
    (Changed::Role, Some(Cause::Role)),
    (Changed::Mode, Some(Cause::Mode)),
    (Changed::Kind, Some(Cause::Kind)),
    (Changed::Key, Some(Cause::Key)),
    (Changed::Channel, None),
    (Changed::Address, None),
];

fn change(setup: &mut Setup, changed: Changed) {
    match changed {
        Changed::Name => setup.name = "another-name",
        Changed::Role => setup.role = "another-role",
        Changed::Mode => setup.mode = NodeMode::MAIN,
        Changed::Kind => setup.kind = 8,
        Changed::Key => setup.key = 3,
        // A node that answers has left the garden; one that dials comes by the harbour.
        Changed::Channel => setup.channels = ["elsewhere", "harbour"],
        Changed::Address => setup.address = SocketAddr::from(([192, 0, 2, 99], 1)),
    }
}

/// The second contact, after `changed`, of somebody whom the node `judging` (0 dials, 1 answers) knows in the garden.
fn second_contact(changed: Changed, judging: usize, is_mutable: bool) -> (End, App, PublicKey) {
    let mut setups = [Setup::new(1), Setup::new(2)];
    setups[judging].role = "judge";
    let mut apps = [App::default(), App::default()];
    let never = Keep::new(Trust::Never, is_mutable);
    apps[judging].keeps = vec![never.clone(), Keep::new(Trust::Always, is_mutable), never.clone()];
    assert_eq!(dial(&setups, GARDEN, &mut apps), End::Connected);
    assert_eq!(apps[judging].rulings, [Ruling::Accepted]);
    let key = setups[1 - judging].identity().public_key();
    assert_eq!(apps[judging].keeps[1].state(&key), Some(KeyState::Accepted));
    change(&mut setups[1 - judging], changed);
    let comes_by = if changed == Changed::Channel && judging == 1 { HARBOUR } else { GARDEN };
    let end = dial(&setups, comes_by, &mut apps);
    let [dialler, answerer] = apps;
    (end, if judging == 0 { dialler } else { answerer }, key)
}

#[test]
fn each_change_of_a_known_peer_is_judged_on_both_sides() {
    for is_mutable in [false, true] {
        for judging in [0, 1] {
            for (changed, cause) in CHANGES {
                let what = format!("{changed:?}, judged by {judging}, mutable: {is_mutable}");
                let (end, app, key) = second_contact(changed, judging, is_mutable);
                let ruling = app.rulings.get(1).copied();
                let refused = match cause {
                    Some(cause) if !is_mutable => Some(cause),
                    _ => None,
                };
                match (changed, refused, judging) {
                    // Nobody answers for the garden; the harbour knows nothing of the garden's peers.
                    (Changed::Channel, _, 0) => {
                        assert!(
                            matches!(end, End::Failed(DialFailure::Timeout { .. })),
                            "{what}: {end:?}"
                        );
                        assert_eq!(ruling, None, "{what}");
                    }
                    (Changed::Channel, ..) => {
                        assert!(
                            matches!(end, End::Failed(DialFailure::Pending { .. })),
                            "{what}: {end:?}"
                        );
                        assert_eq!(ruling, Some(Ruling::Pending), "{what}");
                    }
                    (_, Some(cause), 0) => {
                        let told = matches!(&end, End::Failed(DialFailure::NotAccepted { reason, .. })
                            if *reason == cause.as_str());
                        assert!(told, "{what}: {end:?}");
                        assert_eq!(ruling, Some(Ruling::Rejected(cause)), "{what}");
                    }
                    (_, Some(cause), _) => {
                        assert!(
                            matches!(end, End::Failed(DialFailure::Rejected { .. })),
                            "{what}: {end:?}"
                        );
                        assert_eq!(ruling, Some(Ruling::Rejected(cause)), "{what}");
                    }
                    (_, None, _) => {
                        assert_eq!(end, End::Connected, "{what}");
                        assert_eq!(ruling, Some(Ruling::Accepted), "{what}");
                    }
                }
                // The key as it was known stays accepted, unless another has taken its role.
                let is_replaced = changed == Changed::Key && is_mutable;
                let state = (!is_replaced).then_some(KeyState::Accepted);
                assert_eq!(app.keeps[1].state(&key), state, "{what}");
            }
        }
    }
}

//! Goal: the whole matrix of modes, states and keys; changes of each field; limits; and that a copy that hears of the
//! changes, or reads the text, is the same keep.
use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;
use crate::policy::tests::key;

fn address(network: u8, host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, network, host], 7530))
}

fn portrait(role: &str) -> Portrait {
    Portrait { name: "n".into(), role: role.into(), mode: 1, kind: 7 }
}

fn arrival(number: u8, role: &str) -> Arrival {
    let (key, portrait) = (key(number), portrait(role));
    Arrival { key, portrait, address: address(2, number), is_vouched: false }
}

fn judge(keep: &mut Keep, arrival: &Arrival) -> Ruling {
    keep.judge(arrival, &mut Vec::new())
}

/// A keep in which key 1 has the role "r" and this state.
fn keep_with(trust: Trust, is_mutable: bool, state: KeyState) -> Keep {
    let mut keep = Keep::new(Trust::Never, false);
    assert_eq!(judge(&mut keep, &arrival(1, "r")), Ruling::Pending);
    match state {
        KeyState::Pending => {}
        KeyState::Accepted => drop(keep.accept(&key(1), &mut Vec::new()).unwrap()),
        KeyState::Rejected => keep.reject(&key(1), &mut Vec::new()).unwrap(),
    }
    keep.with_rules(trust, is_mutable)
}

#[test]
fn every_mode_state_and_key_has_its_ruling() {
    use KeyState::{Accepted as A, Pending as P, Rejected as R};
    use Trust::{Always, Never, Once};
    let (accepted, pending) = (Ruling::Accepted, Ruling::Pending);
    let operator = Ruling::Rejected(Cause::Operator);
    let another = Ruling::Rejected(Cause::Key);
    // Mode, what was decided before; the ruling on the same key, then on another key for the role.
    let table = [
        (Never, P, pending, another),
        (Never, A, accepted, another),
        (Never, R, operator, another),
        (Once, P, accepted, another),
        (Once, A, accepted, another),
        (Once, R, operator, another),
        (Always, P, accepted, accepted),
        (Always, A, accepted, accepted),
        (Always, R, operator, accepted),
    ];
    for (trust, state, same, other) in table {
        let mut keep = keep_with(trust, true, state);
        assert_eq!(judge(&mut keep, &arrival(1, "r")), same, "{trust:?} {state} same key");
        let mut keep = keep_with(trust, true, state);
        assert_eq!(judge(&mut keep, &arrival(2, "r")), other, "{trust:?} {state} new key");
        let replaced = other == accepted;
        let before = match state {
            R => Some(R),
            state => (!replaced).then_some(state),
        };
        assert_eq!(keep.state(&key(1)), before, "{trust:?} {state}: the old key");
        assert_eq!(keep.state(&key(2)), replaced.then_some(A), "{trust:?} {state}: the new key");
        // An immutable keep replaces nothing.
        let mut keep = keep_with(trust, false, state);
        assert_eq!(judge(&mut keep, &arrival(2, "r")), another, "{trust:?} {state} immutable");
    }
}

#[test]
fn first_contacts_pend_or_are_accepted_by_mode() {
    for (trust, ruling) in [
        (Trust::Never, Ruling::Pending),
        (Trust::Once, Ruling::Accepted),
        (Trust::Always, Ruling::Accepted),
    ] {
        let mut keep = Keep::new(trust, false);
        assert_eq!(judge(&mut keep, &arrival(1, "r")), ruling);
        let mut keep = Keep::new(trust, false);
        let vouched = Arrival { is_vouched: true, ..arrival(1, "r") };
        assert_eq!(judge(&mut keep, &vouched), Ruling::Accepted, "named here: {trust:?}");
    }
}

#[test]
fn a_change_is_rejected_by_name_or_taken_by_a_mutable_keep() {
    let changed = |change: fn(&mut Arrival)| {
        let mut arrival = arrival(1, "r");
        change(&mut arrival);
        arrival
    };
    let table = [
        (changed(|arrival| arrival.portrait.name = "m".into()), Some(Cause::Name)),
        (changed(|arrival| arrival.portrait.role = "s".into()), Some(Cause::Role)),
        (changed(|arrival| arrival.portrait.mode = 0), Some(Cause::Mode)),
        (changed(|arrival| arrival.portrait.kind = 8), Some(Cause::Kind)),
        // Peers move.
        (changed(|arrival| arrival.address = address(9, 9)), None),
        (arrival(2, "r"), Some(Cause::Key)),
    ];
    for vouched in [false, true] {
        for (arrival, cause) in table.clone() {
            let arrival = Arrival { is_vouched: vouched, ..arrival };
            let mut keep = keep_with(Trust::Never, false, KeyState::Accepted);
            let ruling = cause.map_or(Ruling::Accepted, Ruling::Rejected);
            let entry = keep.get(&key(1)).cloned();
            assert_eq!(judge(&mut keep, &arrival), ruling, "{cause:?}, immutable");
            if cause.is_some() {
                assert_eq!(keep.get(&key(1)), entry.as_ref(), "a rejection stores nothing");
            }
            let mut keep = keep_with(Trust::Never, true, KeyState::Accepted);
            let taken = match cause {
                Some(Cause::Key) => Ruling::Rejected(Cause::Key),
                _ => Ruling::Accepted,
            };
            assert_eq!(judge(&mut keep, &arrival), taken, "{cause:?}, mutable");
            if taken == Ruling::Accepted {
                let entry = keep.get(&key(1)).unwrap();
                assert_eq!(entry.portrait.as_ref(), Some(&arrival.portrait));
                assert_eq!(entry.address, Some(arrival.address));
            }
        }
    }
}

#[test]
fn the_operator_decides_before_and_after_a_contact() {
    let mut keep = Keep::new(Trust::Never, false);
    let changes = &mut Vec::new();
    assert_eq!(keep.forget(&key(1), changes), Err(KeepError::Unknown));
    keep.accept(&key(1), changes).unwrap();
    keep.reject(&key(2), changes).unwrap();
    // Somebody else came first and claims the role of the one who is expected.
    assert_eq!(judge(&mut keep, &arrival(3, "r")), Ruling::Pending);
    assert_eq!(judge(&mut keep, &arrival(1, "r")), Ruling::Accepted);
    assert_eq!(keep.state(&key(3)), None);
    assert_eq!(judge(&mut keep, &arrival(2, "s")), Ruling::Rejected(Cause::Operator));
    keep.forget(&key(2), changes).unwrap();
    assert_eq!(judge(&mut keep, &arrival(2, "s")), Ruling::Pending);
    assert_eq!(keep.accept(&key(2), changes), Ok(Some(address(2, 2))));
    assert_eq!(keep.accept(&key(2), changes), Ok(None), "it does not wait any more");
    assert_eq!(judge(&mut keep, &arrival(2, "s")), Ruling::Accepted);
}

#[test]
fn a_full_keep_takes_nobody_and_can_be_read_again() {
    for trust in [Trust::Never, Trust::Once, Trust::Always] {
        let mut keep = Keep::new(trust, true);
        for number in 0..ENTRIES_MAX as u32 {
            let mut bytes = [7; 32];
            bytes[..4].copy_from_slice(&number.to_le_bytes());
            keep.accept(&PublicKey::from_bytes(bytes), &mut Vec::new()).unwrap();
        }
        assert_eq!(judge(&mut keep, &arrival(1, "r")), Ruling::Rejected(Cause::Full), "{trust:?}");
        assert_eq!(keep.entries().count(), ENTRIES_MAX);
    }
}

#[test]
fn a_keep_that_is_full_but_for_one_has_room_for_one_that_waits() {
    let mut keep = Keep::new(Trust::Never, false);
    for number in 0..ENTRIES_MAX as u32 - 1 {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        keep.accept(&PublicKey::from_bytes(bytes), &mut Vec::new()).unwrap();
    }
    assert_eq!(judge(&mut keep, &arrival(1, "r")), Ruling::Pending);
    assert_eq!(judge(&mut keep, &arrival(2, "s")), Ruling::Rejected(Cause::Full));
    assert!(Keep::from_toml(&keep.to_toml(""), None).is_ok(), "what may be kept can be read");
}

#[test]
fn nodes_without_a_role_do_not_compete_for_it() {
    let mut keep = Keep::new(Trust::Once, false);
    for number in 0..9 {
        assert_eq!(judge(&mut keep, &arrival(number, "")), Ruling::Accepted);
    }
}

#[test]
fn those_who_wait_are_bounded_by_network_and_in_all() {
    let mut keep = Keep::new(Trust::Never, false);
    let mut come = |number: u16, address: SocketAddr| {
        let mut bytes = [9; 32];
        bytes[..2].copy_from_slice(&number.to_le_bytes());
        let arrival = Arrival { key: PublicKey::from_bytes(bytes), address, ..arrival(0, "") };
        assert_eq!(judge(&mut keep, &arrival), Ruling::Pending);
        let first = keep.pending().next().unwrap().key.as_bytes()[0];
        (keep.pending().count(), keep.pending_dropped(), first)
    };
    // One network, in both families, pushes out only its own.
    assert_eq!(come(0, address(1, 1)), (1, 0, 0));
    for number in 1..=16 {
        come(number, address(2, number as u8));
    }
    assert_eq!(come(17, address(2, 200)), (17, 1, 0), "number 1 is gone");
    let v6 = |host| SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 7, host, 0, 0, 0, 1), 1));
    for number in 18..34 {
        come(number, v6(number));
    }
    assert_eq!(come(34, v6(99)), (33, 2, 0), "a /48 is one network");
    // Then the oldest of all.
    for number in 35..258 {
        come(number, address(3 + (number / 8) as u8, number as u8));
    }
    assert_eq!(come(258, address(250, 1)), (256, 3, 2), "number 0, the oldest, is gone");
}

#[test]
fn damaged_text_is_refused_at_its_line() {
    let mut keep = keep_with(Trust::Never, false, KeyState::Accepted);
    judge(&mut keep, &arrival(2, "two\nlines \u{1b}[31m"));
    keep.reject(&key(3), &mut Vec::new()).unwrap();
    let text = keep.to_toml("garden");
    let (read, channel) = Keep::from_toml(&text, None).unwrap();
    assert_eq!(channel, "garden");
    assert!(read.entries().eq(keep.entries()));
    // Every text that is shorter by lines or bytes is refused, the empty one too.
    for end in 0..text.len() {
        assert!(Keep::from_toml(&text[..end], Some("garden")).is_err(), "{end} bytes passed");
    }
    let wrong = |text: &str| Keep::from_toml(text, Some("garden")).unwrap_err();
    assert_eq!(Keep::from_toml(&text, Some("")).unwrap_err().line, 3);
    let state = wrong(&text.replacen("rejected", "rejoiced", 1));
    let line = 1 + text[..text.find("rejected").unwrap()].matches('\n').count();
    assert!(state.line == line && state.reason.contains("rejoiced"), "{state}");
    let key_text = key(1).to_string();
    assert!(wrong(&text.replacen(&key_text, &key(2).to_string(), 1)).reason.contains("twice"));
    let other = wrong(&text.replacen("accepted", "pending", 1));
    assert!(other.line == 1 && other.reason.contains("check"), "{other}");
    assert!(wrong(&text.replacen("version = 1", "version = 2", 1)).reason.contains("version"));
}

/// Something that happens to a keep.
#[derive(Clone, Debug)]
enum Step {
    Arrives(Arrival),
    Accept(u8),
    Reject(u8),
    Forget(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let arrives = (0u8..12, 0u8..5, 0u8..3, any::<bool>(), 0u8..4).prop_map(
        |(number, role, name, is_vouched, network)| {
            let role = ["", "a", "b", "c", "d"][usize::from(role)];
            let mut arrival = arrival(number, role);
            arrival.portrait.name = name.to_string();
            arrival.address = address(network, number);
            Step::Arrives(Arrival { is_vouched: is_vouched && name == 0, ..arrival })
        },
    );
    let step = prop_oneof![
        6 => arrives,
        1 => (0u8..12).prop_map(Step::Accept),
        1 => (0u8..12).prop_map(Step::Reject),
        1 => (0u8..12).prop_map(Step::Forget),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn whatever_happens_the_promises_hold(steps in steps(), trust in 0usize..3, is_mutable: bool) {
        let trust = [Trust::Never, Trust::Once, Trust::Always][trust];
        let mut keep = Keep::new(trust, is_mutable);
        let mut copy = Keep::default();
        let mut decided: HashMap<PublicKey, KeyState> = HashMap::new();
        for step in steps {
            let mut changes = Vec::new();
            match step {
                Step::Arrives(arrival) => {
                    let ruling = keep.judge(&arrival, &mut changes);
                    let word = decided.get(&arrival.key).copied();
                    if word == Some(KeyState::Rejected) {
                        prop_assert_eq!(ruling, Ruling::Rejected(Cause::Operator));
                    }
                    if ruling == Ruling::Accepted && trust == Trust::Never && !arrival.is_vouched {
                        prop_assert_eq!(word, Some(KeyState::Accepted), "nobody accepted it");
                    }
                    if ruling == Ruling::Accepted {
                        prop_assert_eq!(keep.state(&arrival.key), Some(KeyState::Accepted));
                        if arrival.is_vouched {
                            decided.insert(arrival.key, KeyState::Accepted);
                        }
                    }
                }
                Step::Accept(number) => {
                    keep.accept(&key(number), &mut changes).unwrap();
                    decided.insert(key(number), KeyState::Accepted);
                }
                Step::Reject(number) => {
                    keep.reject(&key(number), &mut changes).unwrap();
                    decided.insert(key(number), KeyState::Rejected);
                }
                Step::Forget(number) => {
                    let known = keep.state(&key(number)).is_some();
                    prop_assert_eq!(keep.forget(&key(number), &mut changes).is_ok(), known);
                    decided.remove(&key(number));
                }
            }
            for change in changes {
                copy.apply(change);
            }
            let states = |keep: &Keep| {
                keep.entries().map(|e| (e.key, e.state, e.portrait.clone())).collect::<Vec<_>>()
            };
            prop_assert_eq!(states(&copy), states(&keep));
            let mut roles: Vec<_> = keep
                .entries()
                .filter(|entry| entry.state != KeyState::Rejected)
                .filter_map(role_of)
                .collect();
            let count = roles.len();
            roles.sort_unstable();
            roles.dedup();
            prop_assert_eq!(roles.len(), count, "a role with two keys");
        }
        let (read, _) = Keep::from_toml(&keep.to_toml("c"), Some("c")).unwrap();
        prop_assert!(read.entries().eq(keep.entries()));
    }
}

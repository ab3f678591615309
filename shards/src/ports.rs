//! Ports of a shard's own, as part of a peer's address.
//!
//! A path is two addresses, and the protocol engine keeps the peer's only. Where each shard has a port of its own beside the
//! node's, ours is written into the peer's address: into the flow label of an IPv6 address, which nothing here uses; an IPv4
//! address is mapped for it. So what comes to another port of ours comes by another path, and an answer leaves from the port
//! that was asked. Always holds: only this crate sees such addresses, and the protocol engine's state; no kernel and no user does.

use std::net::{SocketAddr, SocketAddrV6};

use cubed_runtime::Port;
use cubed_transport::{DialFailure, Event};

/// `address` as reached from `port`.
#[inline]
pub(crate) fn reached_from(port: Port, address: SocketAddr) -> SocketAddr {
    match port {
        Port::Shared => address,
        Port::Member(shard) => marked(shard, address),
    }
}

fn marked(shard: u8, address: SocketAddr) -> SocketAddr {
    let mark = u32::from(shard) + 1;
    SocketAddr::V6(match address {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), mark, 0),
        SocketAddr::V6(v6) => SocketAddrV6::new(*v6.ip(), v6.port(), mark, v6.scope_id()),
    })
}

/// The port to reach it from, and the peer's address as everybody else knows it.
#[inline]
pub(crate) fn split(address: SocketAddr) -> (Port, SocketAddr) {
    let SocketAddr::V6(v6) = address else { return (Port::Shared, address) };
    let Some(shard) = v6.flowinfo().checked_sub(1) else { return (Port::Shared, address) };
    let plain = match v6.ip().to_ipv4_mapped() {
        Some(ip) => SocketAddr::from((ip, v6.port())),
        None => SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id())),
    };
    (Port::Member(shard as u8), plain)
}

/// The peer's address as everybody else knows it.
#[inline]
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    split(address).1
}

/// An event with the addresses as its reader knows them.
#[inline]
pub(crate) fn plain_event(event: Event) -> Event {
    match event {
        Event::DialFailed { peer, error } => {
            Event::DialFailed { peer, error: plain_failure(error) }
        }
        Event::TurnedAway { channel, key, address, verdict } => {
            Event::TurnedAway { channel, key, address: plain(address), verdict }
        }
        other => other,
    }
}

fn plain_failure(mut failure: DialFailure) -> DialFailure {
    let (DialFailure::Timeout { address, .. }
    | DialFailure::WrongKey { address, .. }
    | DialFailure::NotAdmitted { address, .. }
    | DialFailure::Pending { address, .. }
    | DialFailure::Rejected { address, .. }
    | DialFailure::NotAccepted { address, .. }
    | DialFailure::Handshake { address, .. }) = &mut failure;
    *address = plain(*address);
    failure
}

#[cfg(test)]
mod tests {
    //! Goal: what was written into an address is read out of it again, and no two paths are one.
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn port_and_address_are_found_again() {
        let addresses = ["192.0.2.1:7530", "[2001:db8::1]:7530", "[fe80::1%3]:7530"];
        let ports = (0..=u8::MAX).map(Port::Member).chain([Port::Shared]);
        let mut seen = HashSet::new();
        for port in ports {
            for address in addresses.map(|text| text.parse().unwrap()) {
                let reached = reached_from(port, address);
                assert_eq!(split(reached), (port, address));
                assert!(seen.insert(reached), "{port:?} {address}");
            }
        }
    }
}

//! Goal: datagrams pass both ways between the right sockets, a cut stops them, and a change of port is seen by the node.
use super::*;
use clap::Parser;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    plan: Plan,
}

fn relay(node: &UdpSocket, flags: &str) -> Relay {
    let plan = Cli::parse_from(std::iter::once("relay").chain(flags.split_whitespace())).plan;
    Relay::start(node.local_addr().unwrap(), plan, 1).unwrap()
}

fn socket(patience: Duration) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket
}

const PATIENCE: Duration = Duration::from_secs(10);

fn next(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2_000];
    let (bytes, from) = socket.recv_from(&mut buffer).expect("a datagram");
    (buffer[..bytes].to_vec(), from)
}

#[test]
fn each_client_has_its_own_port_and_gets_its_own_answers() {
    let (node, one, two) = (socket(PATIENCE), socket(PATIENCE), socket(PATIENCE));
    let relay = relay(&node, "--delay-ms 1");
    for (client, word) in [(&one, b"one"), (&two, b"two")] {
        client.send_to(word, relay.local_addr()).unwrap();
    }
    let mut seen = [next(&node), next(&node)];
    seen.sort();
    assert_eq!((&seen[0].0[..], &seen[1].0[..]), (&b"one"[..], &b"two"[..]));
    assert_ne!(seen[0].1, seen[1].1);
    for (word, from) in &seen {
        node.send_to(&[word, &b"!"[..]].concat(), from).unwrap();
    }
    assert_eq!(next(&one), (b"one!".to_vec(), relay.local_addr()));
    assert_eq!(next(&two), (b"two!".to_vec(), relay.local_addr()));
    let counts = relay.counts();
    assert_eq!((counts.received, counts.sent, counts.clients), (4, 4, 2));
}

#[test]
fn a_cut_stops_everything_until_it_is_opened() {
    let (node, client) = (socket(PATIENCE), socket(PATIENCE));
    let relay = relay(&node, "");
    relay.set_cut(true);
    client.send_to(b"lost", relay.local_addr()).unwrap();
    while relay.counts().cut == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    relay.set_cut(false);
    client.send_to(b"found", relay.local_addr()).unwrap();
    assert_eq!(next(&node).0, b"found");
}

#[test]
fn every_copy_is_damaged_by_itself() {
    let (node, client) = (socket(PATIENCE), socket(PATIENCE));
    let relay = relay(&node, "--duplicate 1 --corrupt 1");
    client.send_to(&[0; 100], relay.local_addr()).unwrap();
    let damaged = [next(&node).0, next(&node).0];
    for copy in &damaged {
        let ones: u32 = copy.iter().map(|byte| byte.count_ones()).sum();
        assert_eq!((copy.len(), ones), (100, 1));
    }
    assert_ne!(damaged[0], damaged[1]);
}

#[test]
fn a_change_of_port_is_seen_by_the_node_and_not_by_the_client() {
    let (node, client) = (socket(PATIENCE), socket(PATIENCE));
    let relay = relay(&node, "");
    client.send_to(b"before", relay.local_addr()).unwrap();
    let (_, before) = next(&node);
    relay.rebind().unwrap();
    client.send_to(b"after", relay.local_addr()).unwrap();
    let (word, after) = next(&node);
    assert_eq!(word, b"after");
    assert_ne!(before, after);
    node.send_to(b"answer", after).unwrap();
    assert_eq!(next(&client), (b"answer".to_vec(), relay.local_addr()));
    assert_eq!(relay.counts().rebound, 1);
}

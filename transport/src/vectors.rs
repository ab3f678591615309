//! Goal: docs/PROTOCOL.md and the code say the same bytes. Each vector is made here and must stand on that page; after a change
//! on purpose, `cargo test -p cubed-transport vectors -- --nocapture` prints the lines to put there.

use crate::endpoint::Refusal;
use crate::flows::OutFlow;
use crate::frame::{self, Bind, Close, Credit, Greeting, Part, Reason, Record, Run};
use crate::header::LaneHeader;
use crate::keys::{AssociationSecret, Role, Suite};
use crate::limits::{HEADER_BYTES, Limits};
use crate::message::{FORM_WHOLE, Head, Sequence, Target};
use crate::ranges::{RangeSet, encode_ack};
use crate::restarted::Notice;
use crate::send_log::{Asked, Route, SendLog};
use crate::slots::SlotPool;
use crate::space::{KeyLimits, PacketSpace};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn record(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    record.write(&mut out);
    out
}

fn greeting() -> Vec<u8> {
    record(&Record::Greeting(Greeting {
        incarnation: [0x11; 16],
        name: "alice".into(),
        role: "sensor".into(),
        mode: 1,
        kind: 7,
        shards: 1,
        placement_salt: [0x22; 32],
        message_bytes_max: 64 << 20,
    }))
}

fn ack() -> Vec<u8> {
    let mut ranges = RangeSet::new(32);
    for number in [0, 1, 2, 5, 6, 9] {
        ranges.insert(number);
    }
    let mut out = vec![frame::ACK];
    encode_ack(&ranges, 100, 32, &mut out);
    out
}

fn settled() -> Vec<u8> {
    let refusals =
        [(4, 0, Refusal::NoSuchFlow), (4, 9, Refusal::NoSuchFlow), (7, 1, Refusal::Denied)]
            .map(|(block, place, refusal)| (block, place, Reason::Refused(refusal)));
    let mut out = Vec::new();
    frame::write_settled(10, &refusals, 1_000, &mut out);
    out
}

fn skipped() -> Vec<u8> {
    let mut out = Vec::new();
    frame::write_settled(10, &[(4, 0, Reason::Skipped)], 1_000, &mut out);
    out
}

fn skip() -> Vec<u8> {
    let mut out = Vec::new();
    frame::write_skip(7, 2, 1, &[Run { alias: 3, first: 5, count: 2 }], &mut out);
    out
}

fn sequences() -> Vec<u8> {
    let mut out = Vec::new();
    for sequence in [Sequence::Ordered(5), Sequence::Latest(9)] {
        let (target, sequence) = (Target::Flow(0), Some(sequence));
        let head = Head { target, name: None, request: None, sequence, total: 1 };
        head.write(FORM_WHOLE, &mut out);
        out.push(b'a');
    }
    out
}

fn credit() -> Vec<u8> {
    let mut out = Vec::new();
    Credit { alias: 3, limit: 1 << 22, message_bytes_max: 64 << 20, refusal: None }.write(&mut out);
    out
}

fn blocked() -> Vec<u8> {
    let mut out = Vec::new();
    frame::write_blocked(3, 5_000_000, &mut out);
    out
}

/// Two blocks of at most 400 B: a short message, a request, and one of 400 B that goes on in the second block.
fn blocks() -> Vec<Vec<u8>> {
    let mut pool = SlotPool::new(400);
    let mut log = SendLog::new(400, 1 << 20);
    let mut flow = OutFlow::new("orders.new");
    let mut push = |request, body: &[u8]| {
        let asked = Asked { request, ..Asked::default() };
        assert!(log.push(&mut pool, &mut Route::Flow(&mut flow, 0), asked, body));
    };
    push(None, b"first");
    push(Some(7), b"?");
    push(None, &[0x55; 400]);
    let mut blocks = Vec::new();
    let mut pool = SlotPool::new(400);
    while let Some((pick, _)) = log.peek(&mut pool) {
        let mut out = Vec::new();
        log.write(pick, &mut out);
        blocks.push(out);
    }
    blocks
}

/// Padding of one byte, then 8 bytes of block 5 from its byte 700 on.
fn part() -> Vec<u8> {
    let mut out = vec![frame::PADDING];
    Part { block: 5, offset: 700, total: 1_400 }.write(&mut out);
    out.extend_from_slice(b"piece of");
    out
}

fn path_frame(kind: u8) -> Vec<u8> {
    [&[kind][..], b"who's it"].concat()
}

fn lane_datagram() -> Vec<u8> {
    let secret = AssociationSecret::from_bytes([0x42; 32]);
    let keys = secret.lane_keys(Suite::Aes128Gcm, Role::Dialler, 3, 5);
    let limits = KeyLimits::new(Suite::Aes128Gcm, &Limits::default());
    let space = PacketSpace::new(keys, limits, 1);
    let header = LaneHeader {
        key_phase: false,
        steering: 5,
        association: 0x0102_0304,
        sender_shard: 3,
        ack_now: true,
        packet_number: 258,
    };
    let mut out = vec![0; HEADER_BYTES];
    out.push(frame::PING);
    space.seal(&header, &mut out, 0);
    out
}

/// The answer of a node that knows nothing of index 01020304 to the datagram above.
fn restarted() -> Vec<u8> {
    let datagram = lane_datagram();
    let header = LaneHeader::decode(&datagram).expect("a lane datagram");
    Notice::answering(&header, &datagram).expect("it has a tag").encode().to_vec()
}

#[test]
fn vectors_stand_in_the_protocol_page() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/PROTOCOL.md"))
        .expect("docs/PROTOCOL.md is part of the repository");
    let mut blocks = blocks().into_iter();
    let bind = Bind { alias: 3, name: "orders.new".into(), wanted: 5_000_000 };
    let vectors = [
        ("GREETING", greeting()),
        ("CLOSE", record(&Record::Close(Close::NotAdmitted))),
        ("PENDING", record(&Record::Close(Close::Pending))),
        ("REJECTED", record(&Record::Close(Close::Rejected))),
        ("BIND", record(&Record::Bind(bind))),
        ("ACK", ack()),
        ("SETTLED", settled()),
        ("SKIPPED", skipped()),
        ("SKIP", skip()),
        ("sequences", sequences()),
        ("CREDIT", credit()),
        ("BLOCKED", blocked()),
        ("BLOCK 0", blocks.next().expect("two blocks")),
        ("BLOCK 1", blocks.next().expect("two blocks")),
        ("PART", part()),
        ("CHALLENGE", path_frame(frame::PATH_CHALLENGE)),
        ("RESPONSE", path_frame(frame::PATH_RESPONSE)),
        ("datagram", lane_datagram()),
        ("RESTARTED", restarted()),
    ];
    let lines: Vec<_> =
        vectors.iter().map(|(name, bytes)| format!("{name:<10} {}", hex(bytes))).collect();
    println!("{}", lines.join("\n"));
    for line in lines {
        assert!(page.contains(&line), "not in docs/PROTOCOL.md: {line}");
    }
}

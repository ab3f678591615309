//! Zenoh between two peers without a router: a publisher and a subscriber one way, two of each for the echo.
//!
//! Options are its defaults, but for what its own examples of throughput and round trips set: publishers block when the queue is
//! full, subscribers take messages in a callback, questions and answers are not held back for a batch. Scouting by multicast is
//! off, since the address is told. Each process has Zenoh's threads beside the application's, on the same core.
//!
//! Over UDP nothing is sent again: what the socket's buffer does not hold is lost, and with one fragment its message. The sender
//! repeats the last message until the receiver has it. An answer that stays away for [`PATIENCE`] counts as lost.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use cubed_peers::{
    load::{Exchange, Load, Meter, is_last},
    stack::{Outcome, Ready, Sides},
};
use zenoh::{Config, Session, Wait, pubsub::Publisher, qos::CongestionControl};

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_millis(100);
/// Time between two looks for the other side, and between two copies of the last message.
const PAUSE: Duration = Duration::from_millis(5);
/// The longest wait for the other side to come or to go.
const WAIT: Duration = Duration::from_secs(10);

const LOAD: &str = "cubed/load";
const QUESTIONS: &str = "cubed/questions";
const ANSWERS: &str = "cubed/answers";

/// Zenoh over one of its links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ZenohPeer {
    Tcp,
    Udp,
}

impl ZenohPeer {
    /// The stack of this name.
    pub(crate) fn new(stack: &str) -> Option<Self> {
        match stack {
            "zenoh-tcp" => Some(Self::Tcp),
            "zenoh-udp" => Some(Self::Udp),
            _ => None,
        }
    }
}

impl Sides for ZenohPeer {
    fn receive(&self, ready: Ready<'_>, meter: &mut Meter) -> Outcome<()> {
        let session = self.listen(ready)?;
        let (ended, end) = mpsc::channel();
        let shared = Arc::new(Mutex::new((meter.clone(), false)));
        let taken = Arc::clone(&shared);
        let subscriber = session
            .declare_subscriber(LOAD)
            .callback(move |sample| {
                let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
                let (meter, has_ended) = &mut *taken;
                if !*has_ended && !meter.take(&sample.payload().to_bytes()) {
                    *has_ended = true;
                    let _ = ended.send(());
                }
            })
            .wait()?;
        end.recv()?;
        subscriber.undeclare().wait()?;
        session.close().wait()?;
        meter.clone_from(&shared.lock().unwrap_or_else(PoisonError::into_inner).0);
        Ok(())
    }

    fn send(&self, address: &str, load: &mut Load) -> Outcome<()> {
        let session = connect(address)?;
        let publisher = publisher(&session, LOAD, false)?;
        meet(&publisher)?;
        let mut body = vec![0; load.size()];
        while load.fill(&mut body) {
            publisher.put(&body[..]).wait()?;
        }
        // The receiver closes when it has the last message.
        let begun = Instant::now();
        while publisher.matching_status().wait()?.matching() && begun.elapsed() < WAIT {
            thread::sleep(PAUSE);
            if *self == Self::Udp {
                // Refused only when the receiver has gone.
                let _ = publisher.put(&body[..]).wait();
            }
        }
        Ok(session.close().wait()?)
    }

    fn answer(&self, ready: Ready<'_>) -> Outcome<()> {
        let session = self.listen(ready)?;
        let (ended, end) = mpsc::channel();
        let answers = publisher(&session, ANSWERS, true)?;
        let questions = session
            .declare_subscriber(QUESTIONS)
            .callback(move |sample| {
                let was_last = is_last(&sample.payload().to_bytes());
                if answers.put(sample.payload().clone()).wait().is_err() || was_last {
                    let _ = ended.send(());
                }
            })
            .wait()?;
        end.recv()?;
        // The asker has gone when it has the last answer.
        let begun = Instant::now();
        while session.info().peers_zid().wait().next().is_some() && begun.elapsed() < WAIT {
            thread::sleep(PAUSE);
        }
        questions.undeclare().wait()?;
        Ok(session.close().wait()?)
    }

    fn ask(&self, address: &str, exchange: &mut Exchange) -> Outcome<()> {
        let session = connect(address)?;
        let answers = session.declare_subscriber(ANSWERS).wait()?;
        let questions = publisher(&session, QUESTIONS, true)?;
        meet(&questions)?;
        let mut body = vec![0; exchange.size()];
        while exchange.ask(&mut body) {
            questions.put(&body[..]).wait()?;
            // An answer that is late is not the one to this question.
            while let Some(sample) = answers.recv_timeout(PATIENCE)? {
                let answer = sample.payload().to_bytes();
                if answer.get(..8) == body.get(..8) {
                    exchange.answered(&answer);
                    break;
                }
            }
        }
        Ok(session.close().wait()?)
    }
}

impl ZenohPeer {
    /// A session that listens at a free port of loopback. Zenoh does not tell loopback addresses, so the port is looked for here.
    fn listen(self, ready: Ready<'_>) -> Outcome<Session> {
        let any = (Ipv4Addr::LOCALHOST, 0);
        let (scheme, free) = match self {
            Self::Tcp => ("tcp", TcpListener::bind(any)?.local_addr()?),
            Self::Udp => ("udp", UdpSocket::bind(any)?.local_addr()?),
        };
        let endpoint = format!("{scheme}/{free}");
        let session = open(&[("listen/endpoints", &format!("[\"{endpoint}\"]"))])?;
        ready(&endpoint);
        Ok(session)
    }
}

fn connect(address: &str) -> Outcome<Session> {
    let endpoints = format!("[\"{address}\"]");
    open(&[("listen/endpoints", "[]"), ("connect/endpoints", &endpoints)])
}

fn open(settings: &[(&str, &str)]) -> Outcome<Session> {
    let mut config = Config::default();
    config.insert_json5("scouting/multicast/enabled", "false")?;
    for (key, value) in settings {
        config.insert_json5(key, value)?;
    }
    Ok(zenoh::open(config).wait()?)
}

/// A publisher that waits for room; an express one sends each message at once.
fn publisher(
    session: &Session,
    key: &'static str,
    is_express: bool,
) -> Outcome<Publisher<'static>> {
    let publisher = session.declare_publisher(key);
    Ok(publisher.congestion_control(CongestionControl::Block).express(is_express).wait()?)
}

/// Waits for the subscriber at the other side.
fn meet(publisher: &Publisher<'_>) -> Outcome<()> {
    let begun = Instant::now();
    while !publisher.matching_status().wait()?.matching() {
        if begun.elapsed() > WAIT {
            return Err("no subscriber came".into());
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

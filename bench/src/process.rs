//! The measuring side of a peer process: start it, give it slices, see it gone.
//!
//! The peer is this same executable under a hidden sub-command. It lives no longer than the
//! [`PeerProcess`]: its stdin closes when this process ends, however it ends. It is a process group of its own.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    control::{Answer, Order},
    error::{BenchError, Result},
};

/// How long a peer may take for any answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a peer may take to exit after its stdin closed.
const EXIT_TIME_MAX: Duration = Duration::from_secs(2);

/// A peer process that waits for orders.
#[derive(Debug)]
pub struct PeerProcess {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
    address: SocketAddr,
    key: Option<String>,
}

impl PeerProcess {
    /// Starts this executable with `arguments` and waits until it listens.
    ///
    /// # Errors
    ///
    /// When the process cannot be started, ends, or says nothing for ten seconds.
    pub fn start(arguments: &[String]) -> Result<Self> {
        let executable =
            env::current_exe().map_err(BenchError::system("find the path of this executable"))?;
        let mut child = Command::new(executable)
            .args(arguments)
            // Ctrl-C on a terminal goes to the measuring process alone, which would take a peer that it ends for one that failed.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(BenchError::system("start the peer process"))?;
        let orders = child.stdin.take();
        let answers = child.stdout.take().map(read_lines).transpose()?;
        let (Some(_), Some(answers)) = (&orders, answers) else {
            return Err(BenchError::Peer("started without stdin and stdout".into()));
        };
        let unknown = SocketAddr::from(([0; 4], 0));
        let mut peer = Self { child, orders, answers, address: unknown, key: None };
        match peer.answer::<()>()? {
            Answer::Listening { address, key } => {
                peer.address = address;
                peer.key = key;
                Ok(peer)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Where the peer listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Public key of the peer, if it is a Cubed node.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Starts a slice in the peer.
    ///
    /// # Errors
    ///
    /// When the peer is gone or answers something else.
    pub fn begin(&mut self, order: &impl Serialize) -> Result<()> {
        self.order(&Order::Begin(order))?;
        match self.answer::<()>()? {
            Answer::Begun => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends the slice and returns what the peer counted.
    ///
    /// # Errors
    ///
    /// When the peer is gone, failed, or answers something else.
    pub fn end<R: DeserializeOwned + std::fmt::Debug>(&mut self) -> Result<R> {
        self.order(&Order::<()>::End)?;
        match self.answer()? {
            Answer::Report(report) => Ok(report),
            Answer::Failed(text) => Err(BenchError::Peer(text)),
            other => Err(unexpected(&other)),
        }
    }

    fn order<B: Serialize>(&mut self, order: &Order<B>) -> Result<()> {
        let mut line = serde_json::to_string(order)
            .map_err(|error| BenchError::Peer(format!("order not encodable: {error}")))?;
        line.push('\n');
        let Some(orders) = &mut self.orders else {
            return Err(BenchError::Peer("was told to exit".into()));
        };
        orders
            .write_all(line.as_bytes())
            .and_then(|()| orders.flush())
            .map_err(BenchError::system("write to the peer process (did it crash?)"))
    }

    fn answer<R: DeserializeOwned>(&mut self) -> Result<Answer<R>> {
        let line = self.answers.recv_timeout(ANSWER_TIME_MAX).map_err(|error| match error {
            RecvTimeoutError::Timeout => BenchError::Peer("no answer within 10 s".into()),
            RecvTimeoutError::Disconnected => {
                BenchError::Peer("ended without an answer; its own message is above".into())
            }
        })?;
        serde_json::from_str(&line)
            .map_err(|error| BenchError::Peer(format!("answer {line:?} not understood: {error}")))
    }

    fn wait_for_exit(&mut self) -> bool {
        let deadline = Instant::now() + EXIT_TIME_MAX;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        self.orders = None;
        if !self.wait_for_exit() {
            // Only its own child, by handle; an error means that it is gone already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Hands the lines of `output` over from a thread of its own, so that waiting can end.
fn read_lines(output: ChildStdout) -> Result<Receiver<String>> {
    let (sender, receiver) = channel();
    let read = move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    };
    thread::Builder::new()
        .name("peer-answers".into())
        .spawn(read)
        .map_err(BenchError::system("start a thread"))?;
    Ok(receiver)
}

fn unexpected<R: std::fmt::Debug>(answer: &Answer<R>) -> BenchError {
    match answer {
        Answer::Failed(text) => BenchError::Peer(text.clone()),
        other => BenchError::Peer(format!("unexpected answer {other:?}")),
    }
}

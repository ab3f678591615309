//! The measured side of a peer process: take orders from stdin, run slices on a thread.
//!
//! Between slices the process is blocked in a read of stdin and uses no CPU. When stdin closes or
//! stdout breaks, it ends the slice and exits.

use std::{
    io::{self, BufRead, Write},
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    control::{Answer, Order},
    error::{BenchError, Result},
};

/// What a peer process does in a slice.
pub trait PeerRole: Send {
    /// What it is told at the start of a slice.
    type Begin: DeserializeOwned + Send;
    /// What it reports at the end.
    type Report: Serialize + Send;

    /// Runs one slice until `stop` is true.
    ///
    /// # Errors
    ///
    /// Anything that makes the slice void; it is handed to the measuring process.
    fn run(&mut self, begin: Self::Begin, stop: &AtomicBool) -> Result<Self::Report>;
}

/// Announces `address` and `key`, then serves orders until stdin closes.
///
/// # Errors
///
/// When an order is not understood, or stdin or stdout fail.
pub fn serve<R: PeerRole>(role: &mut R, address: SocketAddr, key: Option<String>) -> Result<()> {
    let mut orders = io::stdin().lock().lines();
    answer(&Answer::<()>::Listening { address, key })?;
    while let Some(order) = next_order(&mut orders)? {
        match order {
            Order::Begin(begin) => serve_slice(role, begin, &mut orders)?,
            Order::End => answer(&Answer::<()>::Failed("no slice is running".into()))?,
        }
    }
    Ok(())
}

/// Announces `address` and `key`, then waits until stdin closes: for a peer that takes its orders by
/// other means.
///
/// # Errors
///
/// When stdin or stdout fail.
pub fn announce(address: SocketAddr, key: Option<String>) -> Result<()> {
    answer(&Answer::<()>::Listening { address, key })?;
    let mut orders = io::stdin().lock().lines();
    match orders.next() {
        None => Ok(()),
        Some(Ok(line)) => Err(BenchError::Peer(format!("takes no orders by stdin: {line:?}"))),
        Some(Err(error)) => Err(BenchError::system("read orders from stdin")(error)),
    }
}

/// Runs a slice on a thread of its own until the next order, which ends it.
///
/// A measuring process that no longer reads or writes ends the slice as well, or the scope would wait
/// for a thread that nobody stops.
fn serve_slice<R: PeerRole>(
    role: &mut R,
    begin: R::Begin,
    orders: &mut impl Iterator<Item = io::Result<String>>,
) -> Result<()> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let slice = scope.spawn(|| role.run(begin, &stop));
        let order = answer(&Answer::<()>::Begun).and_then(|()| next_order::<R::Begin>(orders));
        stop.store(true, Ordering::Relaxed);
        let report = slice.join();
        if order?.is_none() {
            return Ok(());
        }
        match report {
            Ok(Ok(report)) => answer(&Answer::Report(report)),
            Ok(Err(error)) => answer(&Answer::<()>::Failed(error.to_string())),
            Err(_) => answer(&Answer::<()>::Failed("panicked".into())),
        }
    })
}

fn next_order<B: DeserializeOwned>(
    orders: &mut impl Iterator<Item = io::Result<String>>,
) -> Result<Option<Order<B>>> {
    let Some(line) = orders.next() else {
        return Ok(None);
    };
    let line = line.map_err(BenchError::system("read orders from stdin"))?;
    let order = serde_json::from_str(&line);
    order
        .map(Some)
        .map_err(|error| BenchError::Peer(format!("order {line:?} not understood: {error}")))
}

fn answer<R: Serialize>(answer: &Answer<R>) -> Result<()> {
    let line = serde_json::to_string(answer)
        .map_err(|error| BenchError::Peer(format!("answer not encodable: {error}")))?;
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")
        .and_then(|()| output.flush())
        .map_err(BenchError::system("answer on stdout"))
}

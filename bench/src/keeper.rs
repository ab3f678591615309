//! A peer process whose work stays on one thread: endpoints cannot leave the thread that made them, orders come on another.
//!
//! The thread is blocked between slices. A slice begins with an order, goes on until the keeper says that it is over, and ends with
//! what was counted.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{BenchError, Result},
    peer::{self, PeerRole},
};

/// How often it is looked whether the slice is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What is kept on the thread.
pub trait Kept {
    /// What it is told at the start of a slice.
    type Begin: DeserializeOwned + Send + 'static;
    /// What it reports at the end.
    type Report: Serialize + Send + 'static;

    /// Runs one slice until it is over.
    ///
    /// # Errors
    ///
    /// Anything that makes the slice void.
    fn serve(&mut self, order: Self::Begin, is_over: &AtomicBool) -> Result<Self::Report>;
}

/// The way to the thread.
struct Keeper<B, R> {
    /// Name of the thread.
    name: &'static str,
    orders: Sender<B>,
    reports: Receiver<Result<R>>,
    is_over: Arc<AtomicBool>,
}

/// The way to the thread of what is a `K`.
type KeeperOf<K> = Keeper<<K as Kept>::Begin, <K as Kept>::Report>;

/// Has a thread called `name` make what is kept, announces its address and serves orders until stdin closes.
///
/// # Errors
///
/// Those of `make`; when there is no thread; when stdin or stdout fail.
pub fn serve<K: Kept>(
    name: &'static str,
    make: impl FnOnce() -> Result<(K, SocketAddr)> + Send + 'static,
) -> Result<()> {
    let (mut keeper, address) = start(name, make)?;
    peer::serve(&mut keeper, address, None)
}

fn start<K: Kept>(
    name: &'static str,
    make: impl FnOnce() -> Result<(K, SocketAddr)> + Send + 'static,
) -> Result<(KeeperOf<K>, SocketAddr)> {
    let (orders, taken) = channel();
    let (told, reports) = channel();
    let (ready, address) = channel();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let keep = move || match make() {
        Ok((mut kept, address)) => {
            // Whoever no longer listens has ended.
            let _ = ready.send(Ok(address));
            while let Ok(order) = taken.recv() {
                let _ = told.send(kept.serve(order, &over));
            }
        }
        Err(error) => drop(ready.send(Err(error))),
    };
    let thread = thread::Builder::new().name(name.into());
    thread.spawn(keep).map_err(BenchError::system("start a thread"))?;
    let address = address.recv().map_err(|_| gone(name))??;
    Ok((Keeper { name, orders, reports, is_over }, address))
}

fn gone(name: &str) -> BenchError {
    BenchError::Machine(format!("the thread of the {name} panicked"))
}

impl<B: DeserializeOwned + Send, R: Serialize + Send> PeerRole for Keeper<B, R> {
    type Begin = B;
    type Report = R;

    fn run(&mut self, order: B, stop: &AtomicBool) -> Result<R> {
        self.is_over.store(false, Ordering::Relaxed);
        self.orders.send(order).map_err(|_| gone(self.name))?;
        loop {
            match self.reports.recv_timeout(LOOK_INTERVAL) {
                Ok(report) => return report,
                Err(RecvTimeoutError::Timeout) => {
                    self.is_over.store(stop.load(Ordering::Relaxed), Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Disconnected) => return Err(gone(self.name)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: slices follow their orders on the thread that made what is kept, and what goes wrong there is said.
    use std::rc::Rc;

    use super::*;

    const NOWHERE: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    /// Counts slices; stays on its thread, as it is not `Send`.
    struct Slices(Rc<u64>);

    impl Kept for Slices {
        type Begin = u64;
        type Report = u64;

        fn serve(&mut self, order: u64, is_over: &AtomicBool) -> Result<u64> {
            match order {
                0 => Err(BenchError::Corrupt("void".into())),
                1 => panic!("it goes wrong"),
                _ => {
                    while !is_over.load(Ordering::Relaxed) {
                        thread::yield_now();
                    }
                    self.0 = Rc::new(*self.0 + order);
                    Ok(*self.0)
                }
            }
        }
    }

    #[test]
    fn slices_run_until_they_are_over_and_errors_end_one_alone() {
        let (mut keeper, address) = start("slices", || Ok((Slices(Rc::new(5)), NOWHERE))).unwrap();
        assert_eq!(address, NOWHERE);
        let stop = AtomicBool::new(true);
        assert_eq!(keeper.run(10, &stop).unwrap(), 15);
        assert!(matches!(keeper.run(0, &stop), Err(BenchError::Corrupt(_))));
        assert_eq!(keeper.run(10, &stop).unwrap(), 25);
        let error = keeper.run(1, &stop).unwrap_err().to_string();
        assert!(error.contains("the thread of the slices panicked"), "{error}");
    }

    #[test]
    fn what_cannot_be_made_is_said() {
        let made = start::<Slices>("slices", || Err(BenchError::Argument("none".into())));
        assert!(matches!(made, Err(BenchError::Argument(_))));
    }
}

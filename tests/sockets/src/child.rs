//! A child process that says and is told things by lines, and does not outlive its handle.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;

/// How long a child may take for an answer unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running child.
pub struct Process {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Process {
    /// Starts `program` with `words`.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(program: &str, words: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        let answers = read_lines(child.stdout.take().expect("piped"));
        let orders = child.stdin.take();
        Self { child, orders, answers }
    }

    /// The next line it says, as the JSON that it is.
    ///
    /// # Panics
    ///
    /// If it says nothing for [`PATIENCE`], ends, or says something else.
    pub fn answer<T: DeserializeOwned>(&mut self) -> T {
        self.answer_within(PATIENCE)
    }

    /// As [`Process::answer`], with another patience.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn answer_within<T: DeserializeOwned>(&mut self, patience: Duration) -> T {
        let line = self.answers.recv_timeout(patience).expect("an answer in time");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// Tells it a line and takes its answer.
    ///
    /// # Panics
    ///
    /// As [`Process::answer`].
    pub fn ask<T: DeserializeOwned>(&mut self, order: &str) -> T {
        let orders = self.orders.as_mut().expect("not ended");
        writeln!(orders, "{order}").expect("the child lives");
        self.answer()
    }

    /// Ends it in order (its standard input closes) and takes its last line.
    ///
    /// # Panics
    ///
    /// As [`Process::answer`].
    pub fn end<T: DeserializeOwned>(mut self) -> T {
        self.orders = None;
        self.answer()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// If it cannot be waited for.
    pub fn kill(&mut self) {
        self.child.kill().expect("the child lives");
        self.child.wait().expect("the child ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only its own child, by handle; an error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

//! One side of one measurement, in a process of its own, which `run` starts twice.
//!
//! It says `ready ADDRESS` on stdout when it listens, and in the end one line of JSON with what it saw.

use std::{io::Write, time::Duration};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{
    load::{Echoed, Exchange, Load, Meter, Received, SIZE_MIN, Span},
    stack::{Outcome, Sides},
};

/// The word before the address of a side that listens.
pub const READY: &str = "ready ";

/// What a side does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Listens and measures a one-way load.
    Receive,
    /// Sends it.
    Send,
    /// Listens and sends everything back.
    Answer,
    /// Asks and measures the answers' times.
    Ask,
}

/// Flags of a side.
#[derive(Debug, Args)]
pub struct SideArgs {
    /// Which stack
    #[arg(long)]
    pub stack: String,
    /// Which side of which workload
    #[arg(long, value_enum)]
    role: Role,
    /// Bytes of each message
    #[arg(long)]
    size: usize,
    /// Seconds left out
    #[arg(long)]
    warm_up: f64,
    /// Seconds measured
    #[arg(long)]
    seconds: f64,
    /// Where the other side listens
    #[arg(long, default_value = "")]
    address: String,
}

/// What a side saw.
#[derive(Debug, Serialize, Deserialize)]
pub enum Seen {
    /// A receiver.
    Received(Received),
    /// An asker.
    Echoed(Echoed),
    /// The others measure nothing.
    Nothing,
}

/// Plays the side of `args` with `sides`, those of the stack that it names, to its end.
pub fn play(args: &SideArgs, sides: Option<Box<dyn Sides>>) -> Outcome<()> {
    let sides = sides.ok_or("no stack of this name was built in")?;
    if args.size < SIZE_MIN {
        return Err(format!("messages have at least {SIZE_MIN} bytes").into());
    }
    let duration = |seconds: f64| Duration::try_from_secs_f64(seconds);
    let span = Span { warm_up: duration(args.warm_up)?, measured: duration(args.seconds)? };
    let mut ready = |address: &str| say(&format!("{READY}{address}"));
    let seen = match args.role {
        Role::Receive => {
            let mut meter = Meter::new(args.size, span);
            sides.receive(&mut ready, &mut meter)?;
            Seen::Received(meter.report())
        }
        Role::Send => {
            sides.send(&args.address, &mut Load::new(args.size, span))?;
            Seen::Nothing
        }
        Role::Answer => {
            sides.answer(&mut ready)?;
            Seen::Nothing
        }
        Role::Ask => {
            let mut exchange = Exchange::new(args.size, span);
            sides.ask(&args.address, &mut exchange)?;
            Seen::Echoed(exchange.report())
        }
    };
    say(&serde_json::to_string(&seen)?);
    Ok(())
}

/// A line on stdout; when nobody reads it any more, the side is about to be ended anyway.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

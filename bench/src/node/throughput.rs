//! Throughput of Cubed: one task on each shard sends, message by message, through the public API, to a shard of the peer's.

use std::{rc::Rc, time::Duration};

use cubed::SpinPolicy;

use super::{load::Load, loader::Loader};
use crate::{
    error::Result,
    meter::Meter,
    subject::{ThroughputSlice, ThroughputSubject},
};

/// Throughput of Cubed under one load. Several may share the nodes, since slices do not overlap.
#[derive(Debug)]
pub struct CubedThroughput {
    loader: Rc<Loader>,
    load: Load,
    name: &'static str,
    meter: Option<Meter>,
}

impl CubedThroughput {
    /// How both nodes wait in this measurement.
    pub const SPIN: SpinPolicy = SpinPolicy::Adaptive;

    /// Measures `load` under `name`.
    pub fn new(name: &'static str, loader: &Rc<Loader>, load: Load) -> Self {
        Self { loader: Rc::clone(loader), load, name, meter: None }
    }

    /// Tells `meter` of every slice from here on, if there is one.
    pub fn watch(&mut self, meter: Option<Meter>) {
        self.meter = meter;
    }
}

impl ThroughputSubject for CubedThroughput {
    fn name(&self) -> &str {
        self.name
    }

    fn run_slice(&mut self, duration: Duration) -> Result<ThroughputSlice> {
        let slice = self.loader.run(&self.load, duration, self.meter.as_ref())?;
        Ok(slice.throughput)
    }
}

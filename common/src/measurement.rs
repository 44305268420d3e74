//! A measured latency, with everything needed to judge it.

use serde::{Deserialize, Serialize};

use crate::{DeviceClass, EngineName, Target};

/// One timing run of one model on one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The machine.
    pub device: DeviceInfo,
    /// What ran the model, for example `edge-runtime`.
    pub engine: EngineName,
    /// The engine's version.
    pub engine_version: String,
    /// Threads that the engine used.
    pub threads: u32,
    /// Images per run; latencies are those of one run.
    pub batch: u32,
    /// Untimed runs before the timed ones.
    pub warmup_runs: u32,
    /// Timed runs.
    pub samples: u32,
    /// Median over the runs, milliseconds.
    pub p50_ms: f64,
    /// 95th percentile over the runs, milliseconds.
    pub p95_ms: f64,
    /// Fastest run, milliseconds.
    pub min_ms: f64,
}

impl Measurement {
    /// The target that was measured. A network has at most one measurement per target.
    pub fn target(&self) -> Target {
        Target {
            device: self.device.class.clone(),
            engine: self.engine.clone(),
            threads: self.threads,
        }
    }
}

/// The machine that a measurement was made on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// The class that its worker states.
    pub class: DeviceClass,
    /// The machine's own name.
    pub name: String,
    /// The processor's model as the operating system reports it.
    pub cpu: String,
    /// The instruction sets that matter to the engine, for example `avx2 fma`.
    pub cpu_flags: Vec<String>,
    /// Logical cores.
    pub cores: u32,
}

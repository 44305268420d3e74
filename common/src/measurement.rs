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
    /// How quiet the machine was. `None` if it is not known: workers of earlier versions did not
    /// say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
}

impl Measurement {
    /// Whether it is known that other work on the machine disturbed it.
    pub fn is_noisy(&self) -> bool {
        self.noise.is_some_and(|noise| noise.noisy)
    }

    /// The target that was measured. A network has at most one measurement per target.
    pub fn target(&self) -> Target {
        Target {
            device: self.device.class.clone(),
            engine: self.engine.clone(),
            threads: self.threads,
        }
    }
}

/// How much other work on the machine disturbed a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Whether the machine was busy with other work in every timing. Then the latency may be too
    /// high.
    pub noisy: bool,
    /// The runs in five equal parts, one after the other: by how much the greatest median of a part
    /// is above the smallest, as a share of the smallest. 0 if all are equal.
    pub spread: f64,
    /// How the measuring thread waited for a processor. `None` if the operating system does not
    /// count it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// How often the model was timed, at least 1. The quietest timing is the one that is kept.
    pub timings: u32,
}

/// How a thread waited for a processor, because other work ran on it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// Share of the time of the runs, 0 to 1.
    pub share: f64,
    /// How often it waited per run, on average.
    pub per_run: f64,
}

impl Noise {
    /// Checks that its figures are possible.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        let Self { noisy: _, spread, waiting, timings } = *self;
        if !(spread.is_finite() && spread >= 0.0) {
            return Err(format!("a spread of {spread}, which must be at least 0"));
        }
        if let Some(Waiting { share, per_run }) = waiting {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("a waiting share of {share}, which must be 0 to 1"));
            }
            if !(per_run.is_finite() && per_run >= 0.0) {
                return Err(format!("{per_run} waits per run, which must be at least 0"));
            }
        }
        if timings == 0 { Err("0 timings, but there is at least 1".to_owned()) } else { Ok(()) }
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

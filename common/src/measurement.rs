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
    /// Energy that the machine's processors, or its board, used per run, millijoules, by its own
    /// sensors. Idle power is not subtracted. `None` where the machine exposes no such sensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_mj: Option<f64>,
    /// In a study on a user's network: the same of that network as it came, in fp32. `None` if it
    /// was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Fp32Timing>,
    /// If the network takes longer than the user's network as it came: its layers that take longer
    /// than the same layers there, the greatest difference first. Empty if they are not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slower_layers: Vec<LayerTimes>,
    /// If any layers of it compute in integers: the same of the same network in fp32, as it was
    /// before it was quantized. `None` if that was not measured, or if the user's network as it
    /// came has the same layers of the same sizes, so that `original` is its timing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unquantized: Option<Fp32Timing>,
    /// If it takes longer than `unquantized`: its layers that take longer than there, the greatest
    /// difference first. Empty if they are not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slower_in_integers: Vec<LayerTimes>,
}

/// A layer of a trial that takes longer than the same layer of another network, or conversions
/// that the other network does not need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerTimes {
    /// Its name in the user's network; else as `inspect` shows it of the trial.
    pub layer: String,
    /// Whether it is not the layer that takes longer, but the conversions between bytes and fp32
    /// that it makes necessary.
    #[serde(default, skip_serializing_if = "is_false")]
    pub conversions: bool,
    /// Median in the trial's network, milliseconds.
    pub shipped_ms: f64,
    /// Median in the network that it is compared with, milliseconds; 0 for conversions.
    pub original_ms: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The timing of a network in fp32 that a trial is compared with, by the same engine on the same
/// machine: the user's network as it came, or the trial's own before it was quantized.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fp32Timing {
    /// Median over the runs, milliseconds.
    pub p50_ms: f64,
    /// 95th percentile over the runs, milliseconds.
    pub p95_ms: f64,
    /// Fastest run, milliseconds.
    pub min_ms: f64,
    /// Whether other work on the machine disturbed it.
    pub noisy: bool,
    /// As [`Measurement::energy_mj`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_mj: Option<f64>,
}

impl Measurement {
    /// By how much a latency is above another one, as a share, before it is called slower: timings
    /// of the same network may differ by this much.
    pub const SLOWER: f64 = 0.05;

    /// How many times as long it takes as the user's network as it came; `None` if that was not
    /// measured.
    pub fn times_original(&self) -> Option<f64> {
        self.original.map(|original| self.p50_ms / original.p50_ms)
    }

    /// Whether it takes longer than the user's network as it came.
    pub fn is_slower_than_original(&self) -> bool {
        self.original.is_some_and(|original| self.is_slower_than(&original))
    }

    /// Whether it takes longer in integers than the same network in fp32, if that was measured by
    /// itself.
    pub fn is_slower_in_integers(&self) -> bool {
        self.unquantized.is_some_and(|unquantized| self.is_slower_than(&unquantized))
    }

    fn is_slower_than(&self, other: &Fp32Timing) -> bool {
        self.p50_ms > (1.0 + Self::SLOWER) * other.p50_ms
    }

    /// It as a timing that others are compared with.
    pub fn timing(&self) -> Fp32Timing {
        Fp32Timing {
            p50_ms: self.p50_ms,
            p95_ms: self.p95_ms,
            min_ms: self.min_ms,
            noisy: self.is_noisy(),
            energy_mj: self.energy_mj,
        }
    }

    /// Checks that energies and times of layers can be right. Latencies are checked as figures are.
    ///
    /// # Errors
    /// Says what is wrong, worded to follow "reported".
    pub fn check(&self) -> Result<(), String> {
        let can_be = |ms: f64| (0.0..=1e9).contains(&ms);
        let wrong = |of: &&LayerTimes| !can_be(of.shipped_ms) || !can_be(of.original_ms);
        let mut layers = self.slower_layers.iter().chain(&self.slower_in_integers);
        if let Some(LayerTimes { layer, .. }) = layers.find(wrong) {
            return Err(format!("an invalid time of layer {layer}"));
        }
        let of = |timing: Option<Fp32Timing>| timing.and_then(|timing| timing.energy_mj);
        let all = [self.energy_mj, of(self.original), of(self.unquantized)];
        match all.into_iter().flatten().find(|mj| !(0.0..=1e12).contains(mj)) {
            Some(mj) => Err(format!("an invalid energy: {mj} mJ")),
            None => Ok(()),
        }
    }

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

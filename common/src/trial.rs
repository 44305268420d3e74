//! The state of a trial, and its results.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    ArtifactHash, FigureNames, Figures, Measurement, Metric, ScopedMetric, StageReport, Target,
};

/// The state of a trial. A finished trial never changes, except for a failed one that is retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TrialState {
    /// At least one of its tasks waits for a worker, and none is running.
    Waiting,
    /// A worker holds one of its tasks.
    Running,
    /// Trained and measured on every device that the study asks for.
    Complete,
    /// Stopped early at a rung.
    Pruned,
    /// The candidate itself cannot work, or breaks a constraint known before training.
    Infeasible {
        /// Which of these, and why.
        reason: String,
    },
    /// All attempts failed, or the trial was cancelled.
    Failed {
        /// The reason that the last attempt gave.
        reason: String,
    },
}

impl TrialState {
    /// The reason for which trials fail that were cut off when their study was cancelled. Records
    /// hold it, so it never changes.
    pub const CANCELLED: &'static str = "the study was cancelled";

    /// Whether it will never change again.
    pub fn is_finished(&self) -> bool {
        !matches!(self, TrialState::Waiting | TrialState::Running)
    }

    /// The state's name in JSON and on the terminal.
    pub fn name(&self) -> &'static str {
        match self {
            TrialState::Waiting => "waiting",
            TrialState::Running => "running",
            TrialState::Complete => "complete",
            TrialState::Pruned => "pruned",
            TrialState::Infeasible { .. } => "infeasible",
            TrialState::Failed { .. } => "failed",
        }
    }
}

/// The result of a trial at a rung below its last: figures of the network as trained so far, run in
/// the edge runtime before any pruning and quantization, or figures from a table.
#[derive(Debug, Clone, PartialEq)]
pub struct RungReport {
    /// Passes over the training images so far. They identify the rung.
    pub epochs: u32,
    /// Evaluated on validation images. Times and counts cover the whole training up to here.
    pub figures: Figures,
    /// The checkpoint to continue from; `None` if the figures come from a table, because there is
    /// nothing to continue then.
    pub checkpoint: Option<ArtifactHash>,
}

/// What training and compressing a trial, or training a teacher, produced.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainedTrial {
    /// Figures of the compressed network that ships, from running its model file in the edge
    /// runtime. They include the cost of its training, without attempts that were lost.
    pub compressed: Figures,
    /// The same network as trained, before pruning and quantization.
    pub uncompressed: Figures,
    /// The edge-runtime file of the compressed network.
    pub model: ArtifactHash,
    /// Its float weights as safetensors. Batch normalisation is not folded, unless the recipe has
    /// clusters or trains the quantized network, which work on the folded one.
    pub weights: ArtifactHash,
    /// The network before the first pass of its recipe and after each that changed it, in order.
    /// Empty for a teacher, and if the worker is of a version that does not report them.
    pub stages: Vec<StageReport>,
}

/// What is known about a trial.
#[derive(Debug, Clone, PartialEq)]
pub enum TrialValues {
    /// Trained here, and measured on some devices.
    Trained {
        /// Result of the training. The figures of the compressed network include the measured
        /// medians. Shared, because answers hold copies.
        trained: Arc<TrainedTrial>,
        /// One per target.
        measurements: Vec<Measurement>,
    },
    /// Known without training: looked up in a table, or imported from an earlier study. There is no
    /// model file to export.
    Known(Box<Figures>),
}

impl TrialValues {
    /// Values of a network that is trained but not measured yet.
    pub fn unmeasured(trained: TrainedTrial) -> Self {
        TrialValues::Trained { trained: Arc::new(trained), measurements: Vec::new() }
    }

    /// Values of a trained network with its measurements.
    pub fn measured(trained: TrainedTrial, measurements: Vec<Measurement>) -> Self {
        let mut values = Self::unmeasured(trained);
        measurements.into_iter().for_each(|measurement| values.add_measurement(measurement));
        values
    }

    /// Figures of the network that ships.
    pub fn figures(&self) -> &Figures {
        match self {
            TrialValues::Trained { trained, .. } => &trained.compressed,
            TrialValues::Known(figures) => figures,
        }
    }

    /// One figure of the network that ships; `None` if it is not known.
    pub fn get(&self, of: &ScopedMetric) -> Option<f64> {
        self.figures().get(of)
    }

    /// Adds a measurement and replaces an earlier one on the same target. Does nothing if the trial
    /// was not trained here.
    pub fn add_measurement(&mut self, measurement: Measurement) {
        if let TrialValues::Trained { trained, measurements } = self {
            let target = measurement.target();
            measurements.retain(|known| known.target() != target);
            let trained = Arc::make_mut(trained);
            trained.compressed.set(Metric::LATENCY_MS.at(target), measurement.p50_ms);
            measurements.push(measurement);
        }
    }

    /// Shares the names of its figures with other trials: the first list is for the network that
    /// ships, the second for the uncompressed one, the third for stages.
    pub fn share_names(&mut self, [shipped, uncompressed, stages]: &mut [FigureNames; 3]) {
        match self {
            TrialValues::Trained { trained, .. } => {
                let trained = Arc::make_mut(trained);
                trained.compressed.share_names(shipped);
                trained.uncompressed.share_names(uncompressed);
                trained.stages.iter_mut().for_each(|stage| stage.figures.share_names(stages));
            }
            TrialValues::Known(figures) => figures.share_names(shipped),
        }
    }

    /// Median latencies by target, milliseconds.
    pub fn latencies(&self) -> impl Iterator<Item = (&Target, f64)> {
        self.figures().latencies()
    }

    /// Result of the training, if the trial was trained here.
    pub fn trained(&self) -> Option<&TrainedTrial> {
        match self {
            TrialValues::Trained { trained, .. } => Some(trained),
            TrialValues::Known(_) => None,
        }
    }

    /// Measurements made here.
    pub fn measurements(&self) -> &[Measurement] {
        match self {
            TrialValues::Trained { measurements, .. } => measurements,
            TrialValues::Known(_) => &[],
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::DeviceInfo;

    /// A measurement on this device class, by this engine on this many threads.
    fn measurement(class: &str, engine: &str, threads: u32, ms: f64) -> Measurement {
        Measurement {
            device: DeviceInfo {
                class: class.parse().unwrap(),
                name: "test".to_owned(),
                cpu: String::new(),
                cpu_flags: Vec::new(),
                cores: 1,
            },
            engine: engine.parse().unwrap(),
            engine_version: "0".to_owned(),
            threads,
            batch: 1,
            warmup_runs: 0,
            samples: 50,
            p50_ms: ms,
            p95_ms: ms,
            min_ms: ms,
            noise: None,
            energy_mj: None,
            original: None,
            slower_layers: Vec::new(),
            unquantized: None,
            slower_in_integers: Vec::new(),
        }
    }

    /// A trained trial with these figures, measured on these devices.
    pub fn values(accuracy: f64, model_bytes: u64, latency: &[(&str, f64)]) -> TrialValues {
        let figures: Figures = [
            (ScopedMetric::VALIDATION_ACCURACY, accuracy),
            (ScopedMetric::TEST_ACCURACY, accuracy),
            (Metric::MODEL_BYTES.whole(), model_bytes as f64),
            (Metric::MACS.whole(), 10.0),
            (Metric::TRAINING_SECONDS.whole(), 1.0),
            (Metric::IMAGES_SEEN.whole(), 1.0),
        ]
        .into_iter()
        .collect();
        let trained = TrainedTrial {
            compressed: figures.clone(),
            uncompressed: figures,
            model: ArtifactHash::of(b"model"),
            weights: ArtifactHash::of(b"weights"),
            stages: Vec::new(),
        };
        let measurements =
            latency.iter().map(|(class, ms)| measurement(class, "edge-runtime", 1, *ms));
        TrialValues::measured(trained, measurements.collect())
    }

    #[test]
    fn engines_and_threads_of_one_device_do_not_overwrite_each_other() {
        let mut values = values(0.5, 7, &[("rpi4", 3.0)]);
        values.add_measurement(measurement("rpi4", "onnxruntime", 1, 2.0));
        values.add_measurement(measurement("rpi4", "edge-runtime", 4, 1.0));
        values.add_measurement(measurement("rpi4", "edge-runtime", 1, 4.0));
        let ms = |of: &str| values.get(&of.parse().unwrap());
        assert_eq!(ms("latency_ms@rpi4"), Some(4.0), "the later one of two on the same target");
        assert_eq!(ms("latency_ms@rpi4/onnxruntime/1"), Some(2.0));
        assert_eq!(ms("latency_ms@rpi4/edge-runtime/4"), Some(1.0));
        assert_eq!(ms("latency_ms@phone"), None);
        assert_eq!(values.measurements().len(), 3);
        assert_eq!(values.get(&Metric::MODEL_BYTES.whole()), Some(7.0));
    }
}

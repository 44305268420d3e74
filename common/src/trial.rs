//! What a trial is at, and what it yielded.

use edgesmith_search_space::Cost;
use serde::{Deserialize, Serialize};

use crate::{ArtifactHash, DeviceClass, Measurement, Metric};

/// Where a trial stands. A finished one never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TrialState {
    /// Something of it waits for a worker, and nothing of it runs.
    Waiting,
    /// A worker holds one of its tasks.
    Running,
    /// Trained and measured on every device that the study asks for.
    Complete,
    /// Stopped early at a rung.
    Pruned,
    /// The candidate itself cannot work, or breaks a constraint known before training.
    Infeasible {
        /// Which and how.
        reason: String,
    },
    /// Attempts used up, or cancelled.
    Failed {
        /// What the last attempt said.
        reason: String,
    },
}

impl TrialState {
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

/// Figures of one network as it was run in the edge runtime from its model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkReport {
    /// On validation images, `0..=1`.
    pub validation_accuracy: f64,
    /// On held-out test images, `0..=1`; the search never sees it.
    pub test_accuracy: f64,
    /// Size of the model file.
    pub model_bytes: u64,
    /// Analytic cost.
    pub cost: Cost,
}

/// What a trial has come to when it reaches a rung below its last: the network as trained so far, run
/// in the edge runtime, or what a table says of it. Counts and times are of its whole training up to
/// here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RungReport {
    /// Passes over the training images so far: the rung.
    pub epochs: u32,
    /// On validation images, `0..=1`, before any pruning and quantization.
    pub validation_accuracy: f64,
    /// All that going on from here needs; `None` where it was looked up, and there is nothing to go on
    /// from.
    #[serde(with = "checkpoint")]
    pub checkpoint: Option<ArtifactHash>,
    /// Training images seen so far; 0 where it was looked up, which tells of none.
    pub images_seen: u64,
    /// Wall time so far, seconds; attempts that were lost are left out. Where it was looked up:
    /// seconds of training as the table tells them.
    pub seconds: f64,
}

/// The store's records hold a hash here whether there is a checkpoint or not, as they did when there
/// always was one. Zeros stand for none; they are the hash of nothing that anybody knows.
mod checkpoint {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::ArtifactHash;

    fn none() -> ArtifactHash {
        ArtifactHash::from_bytes([0; 32])
    }

    pub fn serialize<S: Serializer>(hash: &Option<ArtifactHash>, to: S) -> Result<S::Ok, S::Error> {
        hash.unwrap_or_else(none).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<ArtifactHash>, D::Error> {
        ArtifactHash::deserialize(from).map(|hash| (hash != none()).then_some(hash))
    }
}

/// What training and compressing a trial, or training a teacher, yielded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainedTrial {
    /// The compressed network: what ships.
    pub compressed: NetworkReport,
    /// The same network as trained, before pruning and quantization.
    pub uncompressed: NetworkReport,
    /// The edge-runtime file of the compressed network.
    pub model: ArtifactHash,
    /// Its float weights, batch normalisation unfolded, as safetensors.
    pub weights: ArtifactHash,
    /// Training images seen, fine-tuning included.
    pub images_seen: u64,
    /// Wall time of training and compression, seconds; attempts that were lost are left out.
    pub seconds: f64,
}

/// Figures of a network that nobody ran here: looked up in a table, or brought along from an earlier
/// study. There is no model file to export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// On validation images, `0..=1`.
    pub validation_accuracy: f64,
    /// On held-out test images, `0..=1`, by name; the search never sees them. The first is the
    /// study's own.
    pub test_accuracies: Vec<(String, f64)>,
    /// Size of the model file.
    pub model_bytes: Option<u64>,
    /// Multiply-accumulates.
    pub macs: Option<u64>,
    /// Weights and biases.
    pub parameters: Option<u64>,
    /// Peak of the feature maps alive together, bytes.
    pub peak_memory_bytes: Option<u64>,
    /// Median latency by device class, milliseconds.
    pub latencies: Vec<(DeviceClass, f64)>,
    /// Seconds of training that went into them, as their source says.
    pub seconds: f64,
}

/// What is known of a trial.
#[derive(Debug, Clone, PartialEq)]
pub enum TrialValues {
    /// Trained here, and measured on some devices.
    Trained {
        /// Training's yield.
        trained: Box<TrainedTrial>,
        /// One measurement a device class.
        measurements: Vec<Measurement>,
    },
    /// Known without training.
    Figures(Figures),
}

impl TrialValues {
    /// Value of a metric; `None` where it is not known (on that device).
    pub fn value(&self, metric: Metric, device: Option<&DeviceClass>) -> Option<f64> {
        if metric == Metric::LatencyMs {
            return self.latencies().find(|(class, _)| Some(*class) == device).map(|(_, ms)| ms);
        }
        match self {
            TrialValues::Trained { trained, .. } => {
                let network = &trained.compressed;
                Some(match metric {
                    Metric::ValidationAccuracy => network.validation_accuracy,
                    Metric::ModelBytes => network.model_bytes as f64,
                    Metric::Macs => network.cost.macs as f64,
                    Metric::Parameters => network.cost.parameters as f64,
                    Metric::PeakMemoryBytes => network.cost.peak_memory_bytes as f64,
                    Metric::LatencyMs => return None,
                })
            }
            TrialValues::Figures(figures) => {
                let count = match metric {
                    Metric::ValidationAccuracy => return Some(figures.validation_accuracy),
                    Metric::ModelBytes => figures.model_bytes,
                    Metric::Macs => figures.macs,
                    Metric::Parameters => figures.parameters,
                    Metric::PeakMemoryBytes => figures.peak_memory_bytes,
                    Metric::LatencyMs => None,
                };
                count.map(|count| count as f64)
            }
        }
    }

    /// Accuracy on validation images, `0..=1`.
    pub fn validation_accuracy(&self) -> f64 {
        match self {
            TrialValues::Trained { trained, .. } => trained.compressed.validation_accuracy,
            TrialValues::Figures(figures) => figures.validation_accuracy,
        }
    }

    /// Accuracy on the study's held-out images, `0..=1`, where it is known.
    pub fn test_accuracy(&self) -> Option<f64> {
        match self {
            TrialValues::Trained { trained, .. } => Some(trained.compressed.test_accuracy),
            TrialValues::Figures(figures) => figures.test_accuracies.first().map(|(_, a)| *a),
        }
    }

    /// Median latency by device class, milliseconds.
    pub fn latencies(&self) -> impl Iterator<Item = (&DeviceClass, f64)> {
        let (measured, known) = match self {
            TrialValues::Trained { measurements, .. } => (measurements.as_slice(), &[][..]),
            TrialValues::Figures(figures) => (&[][..], figures.latencies.as_slice()),
        };
        let measured = measured.iter().map(|m| (&m.device.class, m.p50_ms));
        measured.chain(known.iter().map(|(class, ms)| (class, *ms)))
    }

    /// What is known, without where it comes from: a trial as another study may take it over. The name of
    /// the test accuracy of a trial that was trained here is `test`.
    pub fn figures(&self) -> Figures {
        match self {
            TrialValues::Figures(figures) => figures.clone(),
            TrialValues::Trained { trained, .. } => Figures {
                validation_accuracy: trained.compressed.validation_accuracy,
                test_accuracies: vec![("test".to_owned(), trained.compressed.test_accuracy)],
                model_bytes: Some(trained.compressed.model_bytes),
                macs: Some(trained.compressed.cost.macs),
                parameters: Some(trained.compressed.cost.parameters),
                peak_memory_bytes: Some(trained.compressed.cost.peak_memory_bytes),
                latencies: self.latencies().map(|(class, ms)| (class.clone(), ms)).collect(),
                seconds: trained.seconds,
            },
        }
    }

    /// Training's yield, where it was trained here.
    pub fn trained(&self) -> Option<&TrainedTrial> {
        match self {
            TrialValues::Trained { trained, .. } => Some(trained),
            TrialValues::Figures(_) => None,
        }
    }

    /// What was measured here.
    pub fn measurements(&self) -> &[Measurement] {
        match self {
            TrialValues::Trained { measurements, .. } => measurements,
            TrialValues::Figures(_) => &[],
        }
    }

    /// Seconds that training took, or took elsewhere.
    pub fn seconds(&self) -> f64 {
        match self {
            TrialValues::Trained { trained, .. } => trained.seconds,
            TrialValues::Figures(figures) => figures.seconds,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::DeviceInfo;

    /// A trained trial with these figures, measured on these devices.
    pub fn values(accuracy: f64, model_bytes: u64, latency: &[(&str, f64)]) -> TrialValues {
        let cost = Cost { macs: 10, parameters: 20, peak_memory_bytes: 30 };
        let report = NetworkReport {
            validation_accuracy: accuracy,
            test_accuracy: accuracy,
            model_bytes,
            cost,
        };
        let measurement = |(class, ms): &(&str, f64)| Measurement {
            device: DeviceInfo {
                class: class.parse().unwrap(),
                name: "test".to_owned(),
                cpu: String::new(),
                cpu_flags: Vec::new(),
                cores: 1,
            },
            engine: "none".to_owned(),
            engine_version: "0".to_owned(),
            threads: 1,
            batch: 1,
            warmup_runs: 0,
            samples: 50,
            p50_ms: *ms,
            p95_ms: *ms,
            min_ms: *ms,
        };
        let trained = TrainedTrial {
            compressed: report.clone(),
            uncompressed: report,
            model: ArtifactHash::of(b"model"),
            weights: ArtifactHash::of(b"weights"),
            images_seen: 1,
            seconds: 1.0,
        };
        let measurements = latency.iter().map(measurement).collect();
        TrialValues::Trained { trained: Box::new(trained), measurements }
    }

    #[test]
    fn latency_is_looked_up_by_device() {
        let values = values(0.5, 7, &[("rpi4", 3.0)]);
        let rpi4 = "rpi4".parse().unwrap();
        assert_eq!(values.value(Metric::LatencyMs, Some(&rpi4)), Some(3.0));
        assert_eq!(values.value(Metric::LatencyMs, None), None);
        assert_eq!(values.value(Metric::ModelBytes, None), Some(7.0));
    }

    #[test]
    fn figures_answer_for_what_they_hold_and_nothing_else() {
        let rpi4: DeviceClass = "rpi4".parse().unwrap();
        let figures = TrialValues::Figures(Figures {
            validation_accuracy: 0.5,
            test_accuracies: vec![("own".to_owned(), 0.4), ("other".to_owned(), 0.1)],
            model_bytes: None,
            macs: Some(7),
            parameters: None,
            peak_memory_bytes: None,
            latencies: vec![(rpi4.clone(), 3.0)],
            seconds: 12.0,
        });
        assert_eq!(figures.value(Metric::ValidationAccuracy, None), Some(0.5));
        assert_eq!(figures.value(Metric::Macs, None), Some(7.0));
        assert_eq!(figures.value(Metric::LatencyMs, Some(&rpi4)), Some(3.0));
        assert_eq!(figures.value(Metric::LatencyMs, None), None);
        assert_eq!(figures.value(Metric::ModelBytes, None), None);
        assert_eq!(figures.test_accuracy(), Some(0.4));
        assert_eq!((figures.trained(), figures.measurements()), (None, &[][..]));
    }
}

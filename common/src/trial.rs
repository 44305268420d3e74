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
    /// Wall time of training and compression, seconds.
    pub seconds: f64,
}

/// What is known of a trial: trained, and measured on some devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialValues {
    /// Training's yield.
    pub trained: TrainedTrial,
    /// One measurement a device class.
    pub measurements: Vec<Measurement>,
}

impl TrialValues {
    /// Value of a metric; `None` where it was not measured (on that device).
    pub fn value(&self, metric: Metric, device: Option<&DeviceClass>) -> Option<f64> {
        let network = &self.trained.compressed;
        Some(match metric {
            Metric::ValidationAccuracy => network.validation_accuracy,
            Metric::LatencyMs => {
                let on = |m: &&Measurement| Some(&m.device.class) == device;
                self.measurements.iter().find(on)?.p50_ms
            }
            Metric::ModelBytes => network.model_bytes as f64,
            Metric::Macs => network.cost.macs as f64,
            Metric::Parameters => network.cost.parameters as f64,
            Metric::PeakMemoryBytes => network.cost.peak_memory_bytes as f64,
        })
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
        TrialValues {
            trained: TrainedTrial {
                compressed: report.clone(),
                uncompressed: report,
                model: ArtifactHash::of(b"model"),
                weights: ArtifactHash::of(b"weights"),
                images_seen: 1,
                seconds: 1.0,
            },
            measurements: latency.iter().map(measurement).collect(),
        }
    }

    #[test]
    fn latency_is_looked_up_by_device() {
        let values = values(0.5, 7, &[("rpi4", 3.0)]);
        let rpi4 = "rpi4".parse().unwrap();
        assert_eq!(values.value(Metric::LatencyMs, Some(&rpi4)), Some(3.0));
        assert_eq!(values.value(Metric::LatencyMs, None), None);
        assert_eq!(values.value(Metric::ModelBytes, None), Some(7.0));
    }
}

//! Conversions between the wire's messages and the domain's types, both ways.
//!
//! What comes in is checked: a message without a part that the protos say is always there, a hash of
//! the wrong length or a name that is none is a [`ConvertError`] that names the field.

use edgesmith_common::{
    ArtifactHash, DeviceClass, DeviceInfo, Figures, Measurement, NetworkReport, RungReport,
    TrainedTrial, TrialState,
};
use edgesmith_search_space::Cost;

use crate::v1;

/// A message that does not say what it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field} of a message {problem}")]
pub struct ConvertError {
    /// Name of the field in the proto.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

fn missing(field: &'static str) -> ConvertError {
    ConvertError { field, problem: "is missing".to_owned() }
}

fn wrong(field: &'static str, problem: impl std::fmt::Display) -> ConvertError {
    ConvertError { field, problem: format!("is wrong: {problem}") }
}

/// A hash from its 32 bytes.
///
/// # Errors
/// When there are not 32.
pub fn hash(bytes: &[u8], field: &'static str) -> Result<ArtifactHash, ConvertError> {
    let bytes: [u8; 32] = bytes
        .try_into()
        .map_err(|_| wrong(field, format!("{} bytes where a hash has 32", bytes.len())))?;
    Ok(ArtifactHash::from_bytes(bytes))
}

/// A hash, or none from no bytes.
///
/// # Errors
/// When there are neither 0 nor 32 bytes.
pub fn optional_hash(
    bytes: &[u8],
    field: &'static str,
) -> Result<Option<ArtifactHash>, ConvertError> {
    if bytes.is_empty() { Ok(None) } else { hash(bytes, field).map(Some) }
}

/// The bytes of a hash, or no bytes.
pub fn optional_hash_bytes(hash: Option<ArtifactHash>) -> Vec<u8> {
    hash.map(|h| h.as_bytes().to_vec()).unwrap_or_default()
}

impl From<Cost> for v1::Cost {
    fn from(cost: Cost) -> Self {
        let Cost { macs, parameters, peak_memory_bytes } = cost;
        Self { macs, parameters, peak_memory_bytes }
    }
}

impl From<v1::Cost> for Cost {
    fn from(cost: v1::Cost) -> Self {
        let v1::Cost { macs, parameters, peak_memory_bytes } = cost;
        Self { macs, parameters, peak_memory_bytes }
    }
}

impl From<&NetworkReport> for v1::NetworkReport {
    fn from(report: &NetworkReport) -> Self {
        Self {
            validation_accuracy: report.validation_accuracy,
            test_accuracy: report.test_accuracy,
            model_bytes: report.model_bytes,
            cost: Some(report.cost.into()),
        }
    }
}

impl TryFrom<v1::NetworkReport> for NetworkReport {
    type Error = ConvertError;

    fn try_from(report: v1::NetworkReport) -> Result<Self, Self::Error> {
        Ok(Self {
            validation_accuracy: share(report.validation_accuracy, "validation_accuracy")?,
            test_accuracy: share(report.test_accuracy, "test_accuracy")?,
            model_bytes: report.model_bytes,
            cost: report.cost.ok_or_else(|| missing("cost"))?.into(),
        })
    }
}

impl From<&TrainedTrial> for v1::TrainedTrial {
    fn from(trained: &TrainedTrial) -> Self {
        Self {
            compressed: Some((&trained.compressed).into()),
            uncompressed: Some((&trained.uncompressed).into()),
            model: trained.model.as_bytes().to_vec(),
            weights: trained.weights.as_bytes().to_vec(),
            images_seen: trained.images_seen,
            seconds: trained.seconds,
        }
    }
}

impl TryFrom<v1::TrainedTrial> for TrainedTrial {
    type Error = ConvertError;

    fn try_from(trained: v1::TrainedTrial) -> Result<Self, Self::Error> {
        Ok(Self {
            compressed: trained.compressed.ok_or_else(|| missing("compressed"))?.try_into()?,
            uncompressed: trained
                .uncompressed
                .ok_or_else(|| missing("uncompressed"))?
                .try_into()?,
            model: hash(&trained.model, "model")?,
            weights: hash(&trained.weights, "weights")?,
            images_seen: trained.images_seen,
            seconds: trained.seconds,
        })
    }
}

impl From<&RungReport> for v1::RungReport {
    fn from(report: &RungReport) -> Self {
        Self {
            epochs: report.epochs,
            validation_accuracy: report.validation_accuracy,
            checkpoint: optional_hash_bytes(report.checkpoint),
            images_seen: report.images_seen,
            seconds: report.seconds,
        }
    }
}

impl TryFrom<v1::RungReport> for RungReport {
    type Error = ConvertError;

    fn try_from(report: v1::RungReport) -> Result<Self, Self::Error> {
        Ok(Self {
            epochs: report.epochs,
            validation_accuracy: share(report.validation_accuracy, "validation_accuracy")?,
            checkpoint: optional_hash(&report.checkpoint, "checkpoint")?,
            images_seen: report.images_seen,
            seconds: time(report.seconds, "seconds")?,
        })
    }
}

impl From<&DeviceInfo> for v1::DeviceInfo {
    fn from(info: &DeviceInfo) -> Self {
        Self {
            class: info.class.to_string(),
            name: info.name.clone(),
            cpu: info.cpu.clone(),
            cpu_flags: info.cpu_flags.clone(),
            cores: info.cores,
        }
    }
}

impl TryFrom<v1::DeviceInfo> for DeviceInfo {
    type Error = ConvertError;

    fn try_from(info: v1::DeviceInfo) -> Result<Self, Self::Error> {
        let v1::DeviceInfo { class, name, cpu, cpu_flags, cores } = info;
        let class: DeviceClass = class.parse().map_err(|e| wrong("class", e))?;
        Ok(Self { class, name, cpu, cpu_flags, cores })
    }
}

impl From<&Measurement> for v1::Measurement {
    fn from(m: &Measurement) -> Self {
        Self {
            device: Some((&m.device).into()),
            engine: m.engine.clone(),
            engine_version: m.engine_version.clone(),
            threads: m.threads,
            batch: m.batch,
            warmup_runs: m.warmup_runs,
            samples: m.samples,
            p50_ms: m.p50_ms,
            p95_ms: m.p95_ms,
            min_ms: m.min_ms,
        }
    }
}

impl TryFrom<v1::Measurement> for Measurement {
    type Error = ConvertError;

    fn try_from(m: v1::Measurement) -> Result<Self, Self::Error> {
        Ok(Self {
            device: m.device.ok_or_else(|| missing("device"))?.try_into()?,
            engine: m.engine,
            engine_version: m.engine_version,
            threads: m.threads,
            batch: m.batch,
            warmup_runs: m.warmup_runs,
            samples: m.samples,
            p50_ms: time(m.p50_ms, "p50_ms")?,
            p95_ms: time(m.p95_ms, "p95_ms")?,
            min_ms: time(m.min_ms, "min_ms")?,
        })
    }
}

impl From<&Figures> for v1::Figures {
    fn from(figures: &Figures) -> Self {
        let accuracies = figures.test_accuracies.iter();
        let latencies = figures.latencies.iter();
        Self {
            validation_accuracy: figures.validation_accuracy,
            test_accuracies: accuracies
                .map(|(name, accuracy)| v1::NamedAccuracy {
                    name: name.clone(),
                    accuracy: *accuracy,
                })
                .collect(),
            model_bytes: figures.model_bytes,
            macs: figures.macs,
            parameters: figures.parameters,
            peak_memory_bytes: figures.peak_memory_bytes,
            latencies: latencies
                .map(|(class, ms)| v1::ClassLatency {
                    device_class: class.to_string(),
                    p50_ms: *ms,
                })
                .collect(),
            seconds: figures.seconds,
        }
    }
}

impl TryFrom<v1::Figures> for Figures {
    type Error = ConvertError;

    fn try_from(figures: v1::Figures) -> Result<Self, Self::Error> {
        let accuracy =
            |a: v1::NamedAccuracy| Ok((a.name, share(a.accuracy, "test_accuracies.accuracy")?));
        let latency = |l: v1::ClassLatency| {
            let class = l.device_class.parse().map_err(|e| wrong("device_class", e))?;
            Ok((class, time(l.p50_ms, "latencies.p50_ms")?))
        };
        Ok(Self {
            validation_accuracy: share(figures.validation_accuracy, "validation_accuracy")?,
            test_accuracies: figures
                .test_accuracies
                .into_iter()
                .map(accuracy)
                .collect::<Result<_, _>>()?,
            model_bytes: figures.model_bytes,
            macs: figures.macs,
            parameters: figures.parameters,
            peak_memory_bytes: figures.peak_memory_bytes,
            latencies: figures.latencies.into_iter().map(latency).collect::<Result<_, _>>()?,
            seconds: time(figures.seconds, "seconds")?,
        })
    }
}

fn share(value: f64, field: &'static str) -> Result<f64, ConvertError> {
    let is_share = (0.0..=1.0).contains(&value);
    is_share.then_some(value).ok_or_else(|| wrong(field, format!("{value} is no share")))
}

fn time(value: f64, field: &'static str) -> Result<f64, ConvertError> {
    let is_time = value.is_finite() && value >= 0.0;
    is_time.then_some(value).ok_or_else(|| wrong(field, format!("{value} is no time")))
}

/// A trial's state and reason on the wire.
pub fn trial_state_parts(state: &TrialState) -> (v1::TrialState, String) {
    match state {
        TrialState::Waiting => (v1::TrialState::Waiting, String::new()),
        TrialState::Running => (v1::TrialState::Running, String::new()),
        TrialState::Complete => (v1::TrialState::Complete, String::new()),
        TrialState::Pruned => (v1::TrialState::Pruned, String::new()),
        TrialState::Infeasible { reason } => (v1::TrialState::Infeasible, reason.clone()),
        TrialState::Failed { reason } => (v1::TrialState::Failed, reason.clone()),
    }
}

/// The state of a trial on the wire.
///
/// # Errors
/// When it is none that this version knows.
pub fn trial_state(trial: &v1::Trial) -> Result<TrialState, ConvertError> {
    let reason = || trial.reason.clone();
    Ok(match trial.state() {
        v1::TrialState::Waiting => TrialState::Waiting,
        v1::TrialState::Running => TrialState::Running,
        v1::TrialState::Complete => TrialState::Complete,
        v1::TrialState::Pruned => TrialState::Pruned,
        v1::TrialState::Infeasible => TrialState::Infeasible { reason: reason() },
        v1::TrialState::Failed => TrialState::Failed { reason: reason() },
        v1::TrialState::Unspecified => return Err(wrong("state", trial.state)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report() -> impl Strategy<Value = NetworkReport> {
        (0.0..=1.0, 0.0..=1.0, any::<u64>(), any::<[u64; 3]>()).prop_map(
            |(validation_accuracy, test_accuracy, model_bytes, [macs, parameters, peak])| {
                let cost = Cost { macs, parameters, peak_memory_bytes: peak };
                NetworkReport { validation_accuracy, test_accuracy, model_bytes, cost }
            },
        )
    }

    fn measurement() -> impl Strategy<Value = Measurement> {
        let text = "[a-zA-Z0-9 .]{0,12}";
        let device = ("[a-z][a-z0-9-]{0,10}", text, text, prop::collection::vec(text, 0..3));
        let device = (device, any::<u32>()).prop_map(|((class, name, cpu, cpu_flags), cores)| {
            DeviceInfo { class: class.parse().unwrap(), name, cpu, cpu_flags, cores }
        });
        (device, text, text, any::<[u32; 4]>(), prop::array::uniform3(0.0..1e6)).prop_map(
            |(device, engine, engine_version, counts, times)| Measurement {
                device,
                engine,
                engine_version,
                threads: counts[0],
                batch: counts[1],
                warmup_runs: counts[2],
                samples: counts[3],
                p50_ms: times[0],
                p95_ms: times[1],
                min_ms: times[2],
            },
        )
    }

    fn figures() -> impl Strategy<Value = Figures> {
        let count = || prop::option::of(any::<u64>());
        let counts = [count(), count(), count(), count()];
        let accuracies = prop::collection::vec(("[a-z0-9_]{1,12}", 0.0..=1.0), 0..4);
        let latencies = prop::collection::vec(("[a-z][a-z0-9-]{0,10}", 0.0..1e6), 0..4);
        (0.0..=1.0, accuracies, counts, latencies, 0.0..1e9).prop_map(
            |(validation_accuracy, test_accuracies, counts, latencies, seconds)| Figures {
                validation_accuracy,
                test_accuracies,
                model_bytes: counts[0],
                macs: counts[1],
                parameters: counts[2],
                peak_memory_bytes: counts[3],
                latencies: latencies.into_iter().map(|(c, ms)| (c.parse().unwrap(), ms)).collect(),
                seconds,
            },
        )
    }

    proptest! {
        #[test]
        fn figures_come_back(figures in figures()) {
            prop_assert_eq!(Figures::try_from(v1::Figures::from(&figures)).unwrap(), figures);
        }

        #[test]
        fn rungs_come_back(
            epochs: u32, validation_accuracy in 0.0..=1.0, checkpoint: Option<[u8; 32]>,
            images_seen: u64, seconds in 0.0..1e9,
        ) {
            let checkpoint = checkpoint.map(ArtifactHash::from_bytes);
            let report =
                RungReport { epochs, validation_accuracy, checkpoint, images_seen, seconds };
            let back = RungReport::try_from(v1::RungReport::from(&report)).unwrap();
            prop_assert_eq!(back, report);
        }

        #[test]
        fn what_goes_over_the_wire_comes_back(
            compressed in report(), uncompressed in report(), m in measurement(),
            hashes in any::<[[u8; 32]; 2]>(), images_seen in any::<u64>(), seconds in 0.0..1e9,
        ) {
            let [model, weights] = hashes.map(ArtifactHash::from_bytes);
            let trained =
                TrainedTrial { compressed, uncompressed, model, weights, images_seen, seconds };
            let back = TrainedTrial::try_from(v1::TrainedTrial::from(&trained)).unwrap();
            prop_assert_eq!(back, trained);
            prop_assert_eq!(Measurement::try_from(v1::Measurement::from(&m)).unwrap(), m);
        }
    }

    #[test]
    fn every_state_comes_back() {
        let reason = "why".to_owned();
        let states = [
            TrialState::Waiting,
            TrialState::Running,
            TrialState::Complete,
            TrialState::Pruned,
            TrialState::Infeasible { reason: reason.clone() },
            TrialState::Failed { reason },
        ];
        for state in states {
            let (wire, reason) = trial_state_parts(&state);
            let trial = v1::Trial { state: wire.into(), reason, ..Default::default() };
            assert_eq!(trial_state(&trial).unwrap(), state);
        }
        assert!(trial_state(&v1::Trial::default()).is_err());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let field = |m: v1::Measurement| Measurement::try_from(m).unwrap_err().field;
        assert_eq!(field(v1::Measurement::default()), "device");
        let device = Some(v1::DeviceInfo { class: "rpi4".to_owned(), ..Default::default() });
        let m = v1::Measurement { device, p50_ms: f64::NAN, ..Default::default() };
        assert_eq!(field(m), "p50_ms");
        assert_eq!(hash(&[1, 2], "model").unwrap_err().field, "model");
        assert_eq!(optional_hash(&[], "model").unwrap(), None);
        let report = v1::NetworkReport { test_accuracy: 2.0, ..Default::default() };
        assert_eq!(NetworkReport::try_from(report).unwrap_err().field, "test_accuracy");
    }
}

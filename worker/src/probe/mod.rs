//! Times a model on this machine, and describes the machine. It does not keep other work away; the
//! caller must make the machine quiet first.

mod device;
mod timing;

use std::hint::black_box;
use std::time::Instant;

use edgesmith_common::spec::MeasurementSpec;
use edgesmith_common::{DeviceInfo, EngineName, Measurement};
use edgesmith_edge_runtime::{ENGINE_VERSION, Model, ModelError, Session};

pub use device::device_info;

use self::timing::{Limits, Summary, summarize, time_runs};

/// Why a model was not timed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The study asks for more than one thread, but the engine computes on one.
    #[error("failed to measure: the engine runs on 1 thread, but the study asks for {asked}")]
    Threads {
        /// The threads that the study asks for.
        asked: u32,
    },
    /// The caller stopped it.
    #[error("failed to measure: it was stopped")]
    Stopped,
    /// The engine rejects the model.
    #[error("failed to measure: {0}")]
    Model(#[from] ModelError),
}

/// Times single images (batch 1, one thread) on the calling thread, on the machine that `device`
/// describes.
///
/// After `warmup_runs` untimed runs, every run is timed on its own with the monotonic clock, until
/// there are `min_runs` of them and they add up to `min_seconds`. A time includes normalisation of
/// the input, the network, and two readings of the clock (about 20 to 50 ns each, not subtracted).
/// Percentiles are nearest-rank. The image is fixed noise, because the engine's work does not
/// depend on it.
///
/// # Errors
/// When the study asks for more than one thread, the engine rejects the model, or `stopped`, which
/// is called between runs, returns true.
pub fn measure(
    model: &Model,
    spec: &MeasurementSpec,
    threads: u32,
    device: &DeviceInfo,
    stopped: impl Fn() -> bool,
) -> Result<Measurement, ProbeError> {
    if threads != 1 {
        return Err(ProbeError::Threads { asked: threads });
    }
    let mut session = Session::new(model)?;
    let image = noise(model.input.bytes());
    let limits = Limits {
        warmup_runs: spec.warmup_runs,
        min_runs: spec.min_runs,
        min_seconds: spec.min_seconds,
    };
    let started = Instant::now();
    let times = time_runs(
        limits,
        || started.elapsed(),
        || {
            // The image has the model's size, so this cannot fail.
            let _ = black_box(session.run(black_box(&image)));
        },
        stopped,
    )
    .ok_or(ProbeError::Stopped)?;
    let Summary { p50_ms, p95_ms, min_ms } = summarize(&times);
    Ok(Measurement {
        device: device.clone(),
        engine: EngineName::edge_runtime(),
        engine_version: ENGINE_VERSION.to_owned(),
        threads,
        batch: 1,
        warmup_runs: spec.warmup_runs,
        samples: u32::try_from(times.len()).unwrap_or(u32::MAX),
        p50_ms,
        p95_ms,
        min_ms,
    })
}

/// Pseudo-random bytes of all values.
fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

#[cfg(test)]
mod tests {
    use edgesmith_common::DeviceClass;
    use edgesmith_edge_runtime::ENGINE_NAME;

    use super::*;
    use crate::compress::testing::{normalization, random_weights};
    use crate::export::float_model;
    use crate::network::testing::residual_plan;

    fn spec() -> MeasurementSpec {
        MeasurementSpec {
            warmup_runs: 2,
            min_runs: 60,
            min_seconds: 0.0,
            threads: 1,
            predict: true,
        }
    }

    fn model() -> Model {
        let plan = residual_plan();
        float_model(&plan, &random_weights(&plan, 1), &normalization(&plan))
    }

    #[test]
    fn a_measurement_names_the_engine_and_the_device() {
        let device = device_info(DeviceClass::local());
        let m = measure(&model(), &spec(), 1, &device, || false).unwrap();
        assert_eq!(m.device, device);
        assert_eq!((m.engine.as_str(), m.engine_version.as_str()), (ENGINE_NAME, ENGINE_VERSION));
        assert_eq!((m.threads, m.batch, m.warmup_runs, m.samples), (1, 1, 2, 60));
        assert!(m.min_ms > 0.0 && m.min_ms <= m.p50_ms && m.p50_ms <= m.p95_ms);
    }

    #[test]
    fn threads_and_models_that_the_engine_rejects_are_reported() {
        let device = device_info(DeviceClass::local());
        let error = measure(&model(), &spec(), 4, &device, || false);
        assert_eq!(
            error.unwrap_err().to_string(),
            "failed to measure: the engine runs on 1 thread, but the study asks for 4"
        );
        let mut broken = model();
        broken.input.std.clear();
        let error = measure(&broken, &spec(), 1, &device, || false).unwrap_err().to_string();
        assert!(error.starts_with("failed to measure: the model's input is invalid"), "{error}");
    }
}

//! Times a model on this machine, and describes the machine. It does not keep other work away; the
//! caller must make the machine quiet first.

mod device;
mod energy;
mod noise;
mod timing;
mod waits;

use std::hint::black_box;
use std::time::{Duration, Instant};

use edgesmith_common::spec::MeasurementSpec;
use edgesmith_common::{DeviceInfo, EngineName, Measurement};
use edgesmith_edge_runtime::{
    Array, ENGINE_VERSION, Input, InputError, Model, ModelError, Numbers, Session, Tensor,
};

pub use device::device_info;
pub use noise::MOST_WAITS_PER_RUN;

use self::energy::{EnergySource, Sensors};
use self::noise::quietest;
use self::timing::{Limits, Meters, Summary, summarize, time_runs};
use self::waits::Waits;

/// Runs in which nodes are timed.
const NODE_RUNS: usize = 100;
/// Pause before a disturbed timing is repeated, for short pieces of other work to end.
const PAUSE: Duration = Duration::from_secs(1);
/// Time between two checks during a pause whether the measurement is stopped.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why a model was not timed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// More than one thread is asked for, but the engine computes on one.
    #[error("failed to measure: the engine runs on 1 thread, but {asked} are asked for")]
    Threads {
        /// The threads that are asked for.
        asked: u32,
    },
    /// The caller stopped it.
    #[error("failed to measure: it was stopped")]
    Stopped,
    /// The engine rejects the model.
    #[error("failed to measure: {0}")]
    Model(#[from] ModelError),
    /// The engine rejects the noise that it is timed on.
    #[error("failed to measure: {0}")]
    Input(#[from] InputError),
}

/// Times single images (batch 1, one thread) on the calling thread, on the machine that `device`
/// describes.
///
/// After `warmup_runs` untimed runs, every run is timed on its own with the monotonic clock, until
/// there are `min_runs` of them and they add up to `min_seconds`. A time includes normalisation of
/// the input, the network, and two readings of the clock (about 20 to 50 ns each, not subtracted).
/// It does not include reading, decoding or resizing an image: the input already has the model's
/// size. Percentiles are nearest-rank. Each input is fixed noise, because the engine's work does
/// not depend on it.
///
/// If other work on the machine disturbed the timing, it is repeated after a pause of one second,
/// up to two times, and the quietest is kept. [`Measurement::noise`] says how quiet that was.
/// `quiet` is called before each timing. It keeps other work of this process away until its guard
/// is dropped, and returns `None` if the caller stops.
///
/// The energy is that of whole processors, or of the board, over all runs of the timing that is
/// kept, by the machine's own sensors, divided by the number of runs. What the machine uses when
/// idle is not subtracted. A thread of its own reads a sensor that only shows power; what that
/// takes of the processors is little (see `energy/power.rs`).
///
/// # Errors
/// When more than one thread is asked for, the engine rejects the model, or `stopped`, which
/// is called between runs and during pauses, returns true.
pub fn measure<Q>(
    model: &Model,
    spec: &MeasurementSpec,
    threads: u32,
    device: &DeviceInfo,
    quiet: impl Fn() -> Option<Q>,
    stopped: impl Fn() -> bool,
) -> Result<Measurement, ProbeError> {
    let energy = &Sensors::of_this_machine();
    measure_with(energy, model, spec, threads, device, quiet, stopped)
}

/// Like [`measure`], with what counts energy passed in.
fn measure_with<Q>(
    energy: &dyn EnergySource,
    model: &Model,
    spec: &MeasurementSpec,
    threads: u32,
    device: &DeviceInfo,
    quiet: impl Fn() -> Option<Q>,
    stopped: impl Fn() -> bool,
) -> Result<Measurement, ProbeError> {
    if threads != 1 {
        return Err(ProbeError::Threads { asked: threads });
    }
    let mut session = Session::new(model)?;
    let arrays: Vec<Numbers> = model.inputs.iter().map(noise_for).collect();
    let tensors: Vec<Tensor> = arrays.iter().map(Tensor::from).collect();
    // Whether it fits is seen here, so the timed runs cannot fail.
    session.run_on(&tensors)?;
    let limits = Limits {
        warmup_runs: spec.warmup_runs,
        min_runs: spec.min_runs,
        min_seconds: spec.min_seconds,
    };
    let started = Instant::now();
    let time = || {
        let _quiet = quiet().ok_or(ProbeError::Stopped)?;
        let run = || {
            let _ = black_box(session.run_on(black_box(&tensors)));
        };
        let meters = Meters { waits: Waits::so_far, energy };
        time_runs(limits, || started.elapsed(), meters, run, &stopped).ok_or(ProbeError::Stopped)
    };
    let (timing, noise) = quietest(time, || pause(&stopped))?;
    let Summary { p50_ms, p95_ms, min_ms } = summarize(&timing.times);
    Ok(Measurement {
        device: device.clone(),
        engine: EngineName::edge_runtime(),
        engine_version: ENGINE_VERSION.to_owned(),
        threads,
        batch: 1,
        warmup_runs: spec.warmup_runs,
        samples: u32::try_from(timing.times.len()).unwrap_or(u32::MAX),
        p50_ms,
        p95_ms,
        min_ms,
        noise: Some(noise),
        energy_mj: timing.energy_uj.map(|uj| uj as f64 / 1e3 / timing.times.len() as f64),
        original: None,
        slower_layers: Vec::new(),
        unquantized: None,
        slower_in_integers: Vec::new(),
    })
}

/// The median time of each node of a model over `NODE_RUNS` runs, milliseconds. It includes a
/// reading of the clock, so it is for comparing nodes. See [`measure`] for the others.
///
/// # Errors
/// See [`measure`].
pub fn node_times<Q>(
    model: &Model,
    quiet: impl FnOnce() -> Option<Q>,
    stopped: impl Fn() -> bool,
) -> Result<Vec<f64>, ProbeError> {
    let mut session = Session::new(model)?;
    let arrays: Vec<Numbers> = model.inputs.iter().map(noise_for).collect();
    let tensors: Vec<Tensor> = arrays.iter().map(Tensor::from).collect();
    session.run_on(&tensors)?;
    let mut times = vec![Vec::with_capacity(NODE_RUNS); model.nodes.len()];
    let _quiet = quiet().ok_or(ProbeError::Stopped)?;
    for _ in 0..NODE_RUNS {
        if stopped() {
            return Err(ProbeError::Stopped);
        }
        let mut before = Instant::now();
        session.run_watched(&tensors, |node| {
            let now = Instant::now();
            times[node].push(now - before);
            before = Instant::now();
        })?;
    }
    Ok(times.iter().map(|times| summarize(times).p50_ms).collect())
}

/// Sleeps for [`PAUSE`], unless it is stopped.
fn pause(stopped: impl Fn() -> bool) -> Result<(), ProbeError> {
    let began = Instant::now();
    while began.elapsed() < PAUSE {
        if stopped() {
            return Err(ProbeError::Stopped);
        }
        std::thread::sleep(LOOK_EVERY.min(PAUSE.saturating_sub(began.elapsed())));
    }
    Ok(())
}

/// Pseudo-random numbers for an input: bytes of all values, or numbers from -1 to 1.
fn noise_for(input: &Input) -> Numbers {
    let elements = input.shape.elements() as u64;
    let bytes = (0..elements).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8);
    match input.array {
        Array::Bytes(_) => Numbers::Bytes(bytes.collect()),
        Array::Fp32 => Numbers::Fp32(bytes.map(|byte| f32::from(byte) / 127.5 - 1.0).collect()),
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_common::DeviceClass;
    use edgesmith_edge_runtime::ENGINE_NAME;

    use super::energy::{Counting, NoEnergy};
    use super::*;
    use crate::export::float_model;
    use edgesmith_testing::residual_graph;
    use edgesmith_testing::{normalization, random_weights};

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
        let graph = residual_graph();
        float_model(&graph, &random_weights(&graph, 1), &normalization(&graph)).unwrap()
    }

    #[test]
    fn a_measurement_names_the_engine_and_the_device() {
        let device = device_info(DeviceClass::local());
        let m = measure(&model(), &spec(), 1, &device, || Some(()), || false).unwrap();
        assert_eq!(m.device, device);
        assert_eq!((m.engine.as_str(), m.engine_version.as_str()), (ENGINE_NAME, ENGINE_VERSION));
        assert_eq!((m.threads, m.batch, m.warmup_runs, m.samples), (1, 1, 2, 60));
        assert!(m.min_ms > 0.0 && m.min_ms <= m.p50_ms && m.p50_ms <= m.p95_ms);
        let said = m.noise.unwrap();
        assert_eq!(said.check(), Ok(()));
        assert!((1..=noise::MOST_TIMINGS).contains(&said.timings), "{said:?}");
    }

    /// A machine that uses so many microjoules in all runs, or does not know.
    #[derive(Clone)]
    struct Uses(Result<u64, NoEnergy>);

    impl EnergySource for Uses {
        fn begin(&self) -> Result<Box<dyn Counting>, NoEnergy> {
            Ok(Box::new(self.clone()))
        }
    }

    impl Counting for Uses {
        fn used(self: Box<Self>) -> Result<u64, NoEnergy> {
            self.0
        }
    }

    #[test]
    fn the_energy_of_a_run_is_its_share_of_that_of_all() {
        let device = device_info(DeviceClass::local());
        let uses = |used| {
            let (uses, quiet, stopped) = (Uses(used), || Some(()), || false);
            measure_with(&uses, &model(), &spec(), 1, &device, quiet, stopped).unwrap()
        };
        // 120 mJ over 60 runs.
        let m = uses(Ok(120_000));
        assert_eq!((m.samples, m.energy_mj), (60, Some(2.0)));
        assert_eq!(uses(Err(NoEnergy::Changed)).energy_mj, None);
    }

    #[test]
    fn every_node_has_a_time() {
        let times = node_times(&model(), || Some(()), || false).unwrap();
        assert_eq!(times.len(), model().nodes.len());
        assert!(
            times.iter().all(|ms| ms.is_finite() && *ms >= 0.0) && times.iter().sum::<f64>() > 0.0
        );
        assert!(matches!(node_times(&model(), || None::<()>, || false), Err(ProbeError::Stopped)));
        assert!(matches!(node_times(&model(), || Some(()), || true), Err(ProbeError::Stopped)));
    }

    #[test]
    fn models_of_real_numbers_are_timed_too() {
        let mut model = model();
        let input = &mut model.inputs[0];
        input.array = Array::Fp32;
        let Numbers::Fp32(numbers) = noise_for(input) else { panic!("real numbers") };
        assert_eq!(numbers.len(), input.shape.elements());
        assert!(numbers.iter().all(|number| (-1.0..=1.0).contains(number)));
        let device = device_info(DeviceClass::local());
        assert!(measure(&model, &spec(), 1, &device, || Some(()), || false).is_ok());
        // The noise is run, and not refused.
        let mut session = Session::new(&model).unwrap();
        session.run_on(&[Tensor::Fp32(&numbers)]).unwrap();
        assert!(session.output(0).iter().any(|logit| *logit != 0.0));
    }

    #[test]
    fn a_measurement_that_cannot_be_quiet_or_is_stopped_ends() {
        let device = device_info(DeviceClass::local());
        let never = || None::<()>;
        let error = measure(&model(), &spec(), 1, &device, never, || false).unwrap_err();
        assert!(matches!(error, ProbeError::Stopped));
        let error = measure(&model(), &spec(), 1, &device, || Some(()), || true).unwrap_err();
        assert!(matches!(error, ProbeError::Stopped));
        assert!(matches!(pause(|| true), Err(ProbeError::Stopped)));
    }

    #[test]
    fn threads_and_models_that_the_engine_rejects_are_reported() {
        let device = device_info(DeviceClass::local());
        let error = measure(&model(), &spec(), 4, &device, || Some(()), || false);
        assert_eq!(
            error.unwrap_err().to_string(),
            "failed to measure: the engine runs on 1 thread, but 4 are asked for"
        );
        let mut broken = model();
        broken.inputs[0].order.clear();
        let error =
            measure(&broken, &spec(), 1, &device, || Some(()), || false).unwrap_err().to_string();
        assert!(error.starts_with("failed to measure: the model's input "), "{error}");
    }
}

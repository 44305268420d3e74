//! Decides how many tasks a worker runs at once: the given number, or the number that is measured
//! to be fastest.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use edgesmith_search_space::{
    Activation, Architecture, ArchitectureError, DataShape, Operation, Skip, Stage,
};
use edgesmith_train::{Cores, CoresError, Throughput, TrainDevice, TrainError};

/// How long each of the two ways is timed: long enough to see a clear difference, and short
/// enough to wait for.
const MEASURED_FOR: Duration = Duration::from_millis(700);
/// Number of images in a timed training step.
const BATCH_SIZE: u32 = 64;

/// How many tasks the user wants a worker to run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slots {
    /// Measured when the worker starts.
    Auto,
    /// This many, 1 to 1024.
    Count(u32),
}

/// The text is not `auto` and not a number from 1 to 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use a number from 1 to 1024, or auto")]
pub struct ParseSlotsError;

/// Why the fastest number of trainings at once could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum SlotsError {
    /// A bug: the timed network cannot be built.
    #[error("failed to build the timed network: {0}")]
    Network(#[from] ArchitectureError),
    /// Its training failed.
    #[error("failed to time a training: {0}")]
    Training(#[from] TrainError),
    /// The system cannot start more threads.
    #[error(transparent)]
    Cores(#[from] CoresError),
    /// A bug: the training panicked.
    #[error("failed to time a training: it panicked")]
    Panicked,
}

/// The number of tasks at once, and the reason.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// Tasks at once, at least 1.
    pub slots: u32,
    /// The measurement that it follows from, if there was one.
    pub measured: Option<Measured>,
}

/// Returns the given number of tasks, the measured one, or one per core. `device` is `None` if
/// nothing is trained. Blocks for some seconds if it measures.
///
/// # Errors
/// If a timed training fails.
pub fn decide(given: Option<Slots>, device: Option<TrainDevice>) -> Result<Decision, SlotsError> {
    match (given, device) {
        (Some(Slots::Count(slots)), _) => Ok(Decision { slots, measured: None }),
        (Some(Slots::Auto), Some(device)) => {
            let measured = measure(device, cores())?;
            Ok(Decision { slots: measured.slots(), measured: Some(measured) })
        }
        (None | Some(Slots::Auto), _) => {
            Ok(Decision { slots: cores().get() as u32, measured: None })
        }
    }
}

/// Logical cores of this machine.
pub fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// The network that is timed, of medium size, for images like those of Fashion-MNIST.
pub fn timed_network() -> (Architecture, DataShape) {
    let stage = |kernel, width| Stage {
        depth: 2,
        width,
        kernel,
        operation: Operation::InvertedResidual { expansion: 4 },
        stride: 2,
        activation: Activation::Relu,
        squeeze: 0,
        skip: Skip::Add,
    };
    let stages = vec![stage(3, 24), stage(5, 48)];
    let architecture = Architecture { resolution: 28, stem_width: 16, stages };
    (architecture, DataShape { channels: 1, classes: 10 })
}

impl FromStr for Slots {
    type Err = ParseSlotsError;

    fn from_str(text: &str) -> Result<Self, ParseSlotsError> {
        match text.parse() {
            Ok(count @ 1..=1024) => Ok(Slots::Count(count)),
            _ if text == "auto" => Ok(Slots::Auto),
            _ => Err(ParseSlotsError),
        }
    }
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slots::Auto => f.write_str("auto"),
            Slots::Count(count) => count.fmt(f),
        }
    }
}

/// The measured speed of both ways: images per second of all trainings together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Cores of the machine.
    cores: u32,
    /// One training per core.
    apart: f64,
    /// One training on all cores.
    together: f64,
}

impl Measured {
    /// The number of trainings at once that is fastest.
    fn slots(self) -> u32 {
        if self.apart >= self.together { self.cores } else { 1 }
    }
}

/// The choice, with both figures.
impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { cores, apart, together } = *self;
        if apart >= together {
            write!(
                f,
                "{cores} trials at once: {apart:.0} images/s; one trial on all cores: {together:.0}"
            )
        } else {
            write!(
                f,
                "one trial at once, on all cores: {together:.0} images/s; one trial per core: \
                 {apart:.0}"
            )
        }
    }
}

fn measure(device: TrainDevice, cores: NonZeroUsize) -> Result<Measured, SlotsError> {
    let (architecture, data) = timed_network();
    let (graph, spec) = (architecture.graph(data)?, Throughput::usual_training(BATCH_SIZE));
    let rate = |cores: &Cores, enough| -> Result<f64, SlotsError> {
        Ok(Throughput::measure((&graph, None), &spec, device, cores, enough)?.images_per_second())
    };
    // Run one training first, so that one-time work, such as choosing the fastest kernels of a GPU,
    // is not timed.
    rate(&Cores::one(), Duration::ZERO)?;
    let alone: Vec<Cores> = (0..cores.get()).map(|_| Cores::one()).collect();
    let apart = thread::scope(|scope| {
        let rate = &rate;
        let start = |one| scope.spawn(move || rate(one, MEASURED_FOR));
        let running: Vec<_> = alone.iter().map(start).collect();
        let ended = running.into_iter().map(|one| one.join());
        ended.map(|rate| rate.unwrap_or(Err(SlotsError::Panicked))).sum::<Result<f64, _>>()
    })?;
    let together = rate(&Cores::new(cores)?, MEASURED_FOR)?;
    Ok(Measured { cores: cores.get() as u32, apart, together })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_way_is_named_with_both_figures() {
        let measured = Measured { cores: 4, apart: 200.0, together: 150.4 };
        let text = "4 trials at once: 200 images/s; one trial on all cores: 150";
        assert_eq!((measured.slots(), measured.to_string().as_str()), (4, text));
        let measured = Measured { apart: 100.0, ..measured };
        let text = "one trial at once, on all cores: 150 images/s; one trial per core: 100";
        assert_eq!((measured.slots(), measured.to_string().as_str()), (1, text));
    }

    #[test]
    fn auto_is_one_of_the_two_ways() {
        let flex = Some(TrainDevice::Flex);
        let all = cores().get() as u32;
        let auto = decide(Some(Slots::Auto), flex).unwrap();
        assert!(auto.slots == 1 || auto.slots == all, "{auto:?}");
        assert!(auto.measured.is_some());
        let unmeasured = |slots| Decision { slots, measured: None };
        assert_eq!(decide(Some(Slots::Count(3)), flex).unwrap(), unmeasured(3));
        assert_eq!(decide(None, None).unwrap(), unmeasured(all));
        assert_eq!(decide(Some(Slots::Auto), None).unwrap(), unmeasured(all));
    }

    #[test]
    fn slots_are_a_number_or_auto() {
        assert_eq!("auto".parse(), Ok(Slots::Auto));
        assert_eq!("1024".parse(), Ok(Slots::Count(1024)));
        for wrong in ["0", "1025", "-1", "", "Auto"] {
            assert_eq!(wrong.parse::<Slots>(), Err(ParseSlotsError), "{wrong}");
        }
        assert_eq!(Slots::Count(3).to_string(), "3");
    }
}

//! Energy from a sensor that shows only the power of the moment: a thread reads it again and again,
//! and the energy is the area under straight lines between the samples.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Counting, NoEnergy, number};

/// Time between two samples, unless the chip needs longer for one. At least ten of them fit into
/// the shortest runs that a study may ask for (0.2 s), and reading a chip for a fraction of a
/// millisecond takes under 2 % of a machine's only processor.
pub(super) const INTERVAL: Duration = Duration::from_millis(20);
/// Fewest samples that make a figure, with the first and the last one. With fewer, most of the time
/// is between a sample that says how it was before the runs and one that was taken at their end.
const LEAST_SAMPLES: usize = 5;

/// A monotonic clock that threads share.
pub(super) type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Where the power of the moment is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Power {
    /// In microwatts.
    Microwatts(PathBuf),
    /// As millivolts and milliamperes.
    Product(PathBuf, PathBuf),
}

impl Power {
    /// Now, microwatts. A sensor without power is not at what feeds this machine, and one with less
    /// than none is the other way around.
    fn now(&self) -> Result<u64, NoEnergy> {
        let positive = |file: &PathBuf| match u64::try_from(number::<i64>(file)?) {
            Ok(value) if value > 0 => Ok(value),
            _ => Err(NoEnergy::NoPower(file.clone())),
        };
        match self {
            Self::Microwatts(power) => positive(power),
            Self::Product(millivolts, milliamperes) => {
                let product = positive(millivolts)?.checked_mul(positive(milliamperes)?);
                product.ok_or_else(|| NoEnergy::Unreadable(milliamperes.clone()))
            }
        }
    }
}

/// Samples so far, and the area below them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Samples {
    number: usize,
    /// When it was, and microwatts.
    last: Option<(Duration, u64)>,
    /// Twice the energy, microwatts times nanoseconds.
    twice: u128,
}

impl Samples {
    fn add(&mut self, at: Duration, microwatts: u64) {
        if let Some((before, power)) = self.last {
            let sum = u128::from(power) + u128::from(microwatts);
            self.twice += sum * at.saturating_sub(before).as_nanos();
        }
        self.last = Some((at, microwatts));
        self.number += 1;
    }

    /// Microjoules from the first sample to the last.
    fn energy(&self) -> Result<u64, NoEnergy> {
        if self.number < LEAST_SAMPLES {
            return Err(NoEnergy::TooFew { samples: self.number });
        }
        Ok(u64::try_from(self.twice / 2 / 1_000_000_000).unwrap_or(u64::MAX))
    }
}

/// A thread that samples until `stop` is dropped, and once more then.
struct Sampling {
    stop: Sender<()>,
    thread: JoinHandle<Result<Samples, NoEnergy>>,
}

/// Samples `power` now and then every `interval`.
pub(super) fn sample(
    power: Power,
    interval: Duration,
    clock: Clock,
) -> Result<Box<dyn Counting>, NoEnergy> {
    let mut samples = Samples::default();
    let microwatts = power.now()?;
    samples.add(clock(), microwatts);
    let (stop, stopped) = mpsc::channel();
    let sampling = move || {
        loop {
            let ends = match stopped.recv_timeout(interval) {
                Err(RecvTimeoutError::Timeout) => false,
                Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
            };
            let microwatts = power.now()?;
            samples.add(clock(), microwatts);
            if ends {
                return Ok(samples);
            }
        }
    };
    let thread = thread::Builder::new().name("power".to_owned()).spawn(sampling);
    Ok(Box::new(Sampling { stop, thread: thread.map_err(|_| NoEnergy::NoThread)? }))
}

impl Counting for Sampling {
    fn used(self: Box<Self>) -> Result<u64, NoEnergy> {
        let Self { stop, thread } = *self;
        drop(stop);
        thread.join().map_err(|_| NoEnergy::NoThread)??.energy()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::tests::{forbid, write};
    use super::*;

    fn energy(samples: &[(u64, u64)]) -> Result<u64, NoEnergy> {
        let mut all = Samples::default();
        for (millis, microwatts) in samples {
            all.add(Duration::from_millis(*millis), *microwatts);
        }
        all.energy()
    }

    #[test]
    fn the_energy_is_the_area_under_the_samples() {
        // 2 W for 4 s, whatever the time between samples, and wherever the clock begins.
        let steady = [(500, 2_000_000), (600, 2_000_000), (1500, 2_000_000), (4000, 2_000_000)];
        assert_eq!(energy(&[&steady[..], &[(4500, 2_000_000)]].concat()), Ok(8_000_000));
        // From 1 W to 3 W in 1 s, there for 1 s, at once down to 1 W for 2 s.
        let moves = [(0, 1_000_000), (1000, 3_000_000), (2000, 3_000_000), (2000, 1_000_000)];
        assert_eq!(energy(&[&moves[..], &[(4000, 1_000_000)]].concat()), Ok(7_000_000));
    }

    #[test]
    fn few_samples_are_no_figure() {
        for number in 0..LEAST_SAMPLES {
            let samples: Vec<(u64, u64)> = (0..number as u64).map(|i| (i * 1000, 1000)).collect();
            assert_eq!(energy(&samples), Err(NoEnergy::TooFew { samples: number }));
        }
    }

    /// A clock that moves by a tenth of a second each time it is read.
    fn steps() -> (Arc<AtomicU64>, Clock) {
        let read = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&read);
        let clock = move || Duration::from_millis(100 * clock.fetch_add(1, Ordering::SeqCst));
        (read, Arc::new(clock))
    }

    #[test]
    fn a_thread_samples_until_it_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        write(at, &[("in1_input", "5000"), ("curr1_input", "400")]);
        let power = Power::Product(at.join("in1_input"), at.join("curr1_input"));
        let (read, clock) = steps();
        let begun = sample(power.clone(), Duration::from_millis(1), clock).unwrap();
        while read.load(Ordering::SeqCst) < 9 {
            thread::yield_now();
        }
        let used = begun.used().unwrap();
        // 2 W, a tenth of a second between samples.
        assert_eq!(used, (read.load(Ordering::SeqCst) - 1) * 200_000);
        // The first and the last sample are taken in any case, and are too few.
        let (_, clock) = steps();
        let begun = sample(power.clone(), Duration::from_secs(3600), Arc::clone(&clock)).unwrap();
        assert_eq!(begun.used(), Err(NoEnergy::TooFew { samples: 2 }));
        // A sensor that goes away meanwhile leaves no figure.
        let begun = sample(power, Duration::from_secs(3600), clock).unwrap();
        fs::remove_file(at.join("curr1_input")).unwrap();
        assert_eq!(begun.used(), Err(NoEnergy::Unreadable(at.join("curr1_input"))));
    }

    #[test]
    fn a_sensor_without_power_or_that_cannot_be_read_is_no_figure() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("power1_input");
        let power = Power::Microwatts(file.clone());
        assert_eq!(power.now(), Err(NoEnergy::Unreadable(file.clone())));
        write(directory.path(), &[("power1_input", "1500")]);
        assert_eq!(power.now(), Ok(1500));
        for none in ["0", "-1500"] {
            write(directory.path(), &[("power1_input", none)]);
            assert_eq!(power.now(), Err(NoEnergy::NoPower(file.clone())));
        }
        forbid(&file);
        let error = sample(power, INTERVAL, steps().1).err();
        assert_eq!(error, Some(NoEnergy::Unreadable(file)));
    }
}

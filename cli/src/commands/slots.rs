//! How many tasks a worker takes at once.

use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use edgesmith_worker::train::{Cores, TrainDevice};

use crate::args::{Backend, Slots};
use crate::bench;
use crate::failure::invalid;

/// Long enough to tell a factor, short enough to wait for.
const MEASURED_FOR: Duration = Duration::from_millis(700);

/// What was given, measured, or one task a core. `backend` is `None` where nothing is trained.
pub async fn decide(given: Option<Slots>, backend: Option<Backend>) -> anyhow::Result<u32> {
    let cores = cores();
    let all = cores.get() as u32;
    match (given, backend) {
        (Some(Slots::Count(count)), _) => Ok(count),
        (Some(Slots::Auto), Some(backend)) => {
            let device = TrainDevice::parse(backend.name()).map_err(|e| invalid(e.to_string()))?;
            let measured = tokio::task::spawn_blocking(move || measure(device, cores)).await??;
            eprintln!("{}", measured.explained(all));
            Ok(if measured.apart >= measured.together { all } else { 1 })
        }
        (None | Some(Slots::Auto), _) => Ok(all),
    }
}

/// Logical cores of this machine.
pub fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Images per second of all trainings together.
#[derive(Debug, Clone, Copy)]
struct Measured {
    /// One training a core.
    apart: f64,
    /// One training on all cores.
    together: f64,
}

fn measure(device: TrainDevice, cores: NonZeroUsize) -> anyhow::Result<Measured> {
    let rate = |cores: &Cores| bench::training_rate(device, cores, MEASURED_FOR);
    // Whatever a first training has to find out, such as the fastest kernels of a GPU, is no part of either.
    bench::training_rate(device, &Cores::one(), Duration::ZERO)?;
    let alone: Vec<Cores> = (0..cores.get()).map(|_| Cores::one()).collect();
    let apart = thread::scope(|scope| {
        let running: Vec<_> = alone.iter().map(|one| scope.spawn(move || rate(one))).collect();
        running
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a training panicked"))))
            .sum::<anyhow::Result<f64>>()
    })?;
    Ok(Measured { apart, together: rate(&Cores::new(cores)?)? })
}

impl Measured {
    fn explained(self, cores: u32) -> String {
        let Measured { apart, together } = self;
        let (chosen, other) = match apart >= together {
            true => (format!("{cores} trials at once"), "one on all cores"),
            false => ("one trial at once, on all cores".to_owned(), "one a core"),
        };
        let (most, least) = (apart.max(together), apart.min(together));
        format!("slots: {chosen}; measured {most:.0} images/s, {other} {least:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_way_is_named_with_both_figures() {
        let text = Measured { apart: 200.0, together: 150.4 }.explained(4);
        assert_eq!(text, "slots: 4 trials at once; measured 200 images/s, one on all cores 150");
        let text = Measured { apart: 100.0, together: 150.0 }.explained(4);
        assert_eq!(
            text,
            "slots: one trial at once, on all cores; measured 150 images/s, one a core 100"
        );
    }

    #[tokio::test]
    async fn auto_is_one_of_the_two_ways() {
        let slots = decide(Some(Slots::Auto), Some(Backend::Flex)).await.unwrap();
        assert!(slots == 1 || slots == cores().get() as u32, "{slots}");
        assert_eq!(decide(Some(Slots::Count(3)), Some(Backend::Flex)).await.unwrap(), 3);
        assert_eq!(decide(None, None).await.unwrap(), cores().get() as u32);
    }
}

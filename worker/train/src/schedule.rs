//! Learning rates: a linear warm-up, then half a cosine down to almost zero (Loshchilov & Hutter
//! 2017, without restarts).

use std::f64::consts::PI;

/// The learning rate of every step of one training.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    peak: f64,
    warmup: u64,
    steps: u64,
}

impl Schedule {
    /// `peak` is reached after `warmup_fraction` of the `steps`.
    pub(super) fn new(peak: f64, warmup_fraction: f64, steps: u64) -> Self {
        let warmup = (steps as f64 * warmup_fraction).round() as u64;
        Self { peak, warmup: warmup.min(steps.saturating_sub(1)), steps }
    }

    /// Learning rate of step `step`, counted from 0.
    pub(super) fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / (self.warmup + 1) as f64;
        }
        let progress = (step - self.warmup) as f64 / (self.steps - self.warmup).max(1) as f64;
        self.peak * 0.5 * (1.0 + (PI * progress.min(1.0)).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_linearly_and_falls_as_a_cosine() {
        let schedule = Schedule::new(1.0, 0.2, 20);
        let rates: Vec<f64> = (0..20).map(|step| schedule.rate(step)).collect();
        for (step, expected) in [(0, 0.2), (1, 0.4), (3, 0.8), (4, 1.0), (12, 0.5)] {
            assert!((rates[step] - expected).abs() < 1e-12, "{step}: {}", rates[step]);
        }
        assert!(rates[4..].windows(2).all(|pair| pair[1] < pair[0]));
        assert!(rates[19] > 0.0 && rates[19] < 0.01);
    }

    #[test]
    fn short_trainings_have_a_positive_rate() {
        for (fraction, steps) in [(0.0, 1), (0.9, 1), (0.99, 3), (0.0, 2)] {
            let schedule = Schedule::new(0.1, fraction, steps);
            for step in 0..steps {
                let rate = schedule.rate(step);
                assert!(rate > 0.0 && rate <= 0.1, "{fraction} {steps} {step}: {rate}");
            }
        }
    }
}

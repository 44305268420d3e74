//! Which candidates are worth training, as their zero-cost scores tell: the best of each batch that was
//! scored together. [`Screening`] counts who waits and ranks them; [`super::batches`] acts on it.
//!
//! A batch is the next few candidates that were scored, in whatever order they came back, so nobody waits
//! for a worker that was lost. With several objectives scores stand in for accuracy, and candidates are
//! ranked by fronts as on a rung: a proxy that favours large networks does not rule the small ones out.

use edgesmith_common::TrialNumber;
use edgesmith_common::spec::ScreeningSpec;

use super::rungs::by_fronts;

/// The candidates of a study that are scored and neither trained nor left.
#[derive(Debug, PartialEq)]
pub(super) struct Screening {
    spec: ScreeningSpec,
    waiting: Vec<Scored>,
}

#[derive(Debug, PartialEq)]
struct Scored {
    number: TrialNumber,
    /// What it is ranked by; less is better.
    point: Vec<f64>,
}

impl Screening {
    /// Of a study in which nothing is scored.
    pub(super) fn new(spec: ScreeningSpec) -> Self {
        Self { spec, waiting: Vec::new() }
    }

    /// A candidate is scored, and waits.
    pub(super) fn add(&mut self, number: TrialNumber, point: Vec<f64>) {
        self.waiting.push(Scored { number, point });
    }

    /// A candidate waits no more, whatever becomes of it.
    pub(super) fn leave(&mut self, number: TrialNumber) {
        self.waiting.retain(|scored| scored.number != number);
    }

    /// Whether a candidate waits.
    pub(super) fn waits(&self, number: TrialNumber) -> bool {
        self.waiting.iter().any(|scored| scored.number == number)
    }

    /// The candidates of a batch, best first, and how many of them are to be trained; `None` while it
    /// fills up. `more` says whether others may still come.
    pub(super) fn batch(&self, more: bool) -> Option<(Vec<TrialNumber>, usize)> {
        let full = self.spec.batch as usize;
        let count = if more || self.waiting.len() > full { full } else { self.waiting.len() };
        if count == 0 || self.waiting.len() < count {
            return None;
        }
        let batch = &self.waiting[..count];
        let points: Vec<Vec<f64>> = batch.iter().map(|scored| scored.point.clone()).collect();
        let ranked = by_fronts(&points).into_iter().map(|place| batch[place].number);
        Some((ranked.collect(), self.spec.kept_of(count)))
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_common::spec::Proxy;

    use super::*;

    fn screening(scores: &[f64]) -> Screening {
        let mut screening =
            Screening::new(ScreeningSpec { proxy: Proxy::Macs, batch: 4, keep: 0.5 });
        (0..).zip(scores).for_each(|(n, score)| screening.add(TrialNumber(n), vec![-score]));
        screening
    }

    fn numbers(numbers: &[u32]) -> Vec<TrialNumber> {
        numbers.iter().map(|n| TrialNumber(*n)).collect()
    }

    #[test]
    fn a_batch_is_the_first_few_and_its_best_are_kept() {
        let mut five = screening(&[1.0, 4.0, 2.0, 3.0, 9.0]);
        assert_eq!(five.batch(true), Some((numbers(&[1, 3, 2, 0]), 2)));
        assert_eq!(five.batch(false), five.batch(true));
        five.leave(TrialNumber(1));
        five.leave(TrialNumber(3));
        assert!(five.waits(TrialNumber(2)) && !five.waits(TrialNumber(3)));
        assert_eq!(five.batch(true), None);
        // Nobody else comes.
        assert_eq!(five.batch(false), Some((numbers(&[4, 2, 0]), 2)));
        assert_eq!(screening(&[]).batch(false), None);
    }

    #[test]
    fn of_equal_ones_the_first_are_kept() {
        assert_eq!(screening(&[1.0; 4]).batch(true), Some((numbers(&[0, 1, 2, 3]), 2)));
    }
}

//! Chooses by zero-cost scores which candidates are trained: the best of each batch. [`Screening`]
//! holds the waiting candidates and ranks them.
//!
//! A batch consists of the next few candidates in the order in which their scores came in, so a
//! lost worker holds no batch up. With several objectives, scores take the place of accuracy and
//! candidates are ranked by fronts, as at a rung. So a proxy that favours large networks does not
//! rule out small ones.

use edgesmith_common::TrialNumber;
use edgesmith_common::spec::ScreeningSpec;

use super::rungs::by_fronts;

/// The scored candidates of a study that are still waiting for a decision.
#[derive(Debug, PartialEq)]
pub struct Screening {
    spec: ScreeningSpec,
    waiting: Vec<Scored>,
}

#[derive(Debug, PartialEq)]
struct Scored {
    number: TrialNumber,
    /// The values by which it is ranked; less is better.
    point: Vec<f64>,
}

impl Screening {
    /// For a study in which nothing has been scored.
    pub(super) fn new(spec: ScreeningSpec) -> Self {
        Self { spec, waiting: Vec::new() }
    }

    /// Adds a scored candidate, which waits for its batch.
    pub(super) fn add(&mut self, number: TrialNumber, point: Vec<f64>) {
        self.waiting.push(Scored { number, point });
    }

    /// Removes a candidate that no longer waits, whether it is trained or not.
    pub(super) fn leave(&mut self, number: TrialNumber) {
        self.waiting.retain(|scored| scored.number != number);
    }

    /// Whether a candidate is waiting.
    pub(super) fn waits(&self, number: TrialNumber) -> bool {
        self.waiting.iter().any(|scored| scored.number == number)
    }

    /// The candidates of the next batch, best first, and how many of them to train; `None` until
    /// the batch is full. `more` says whether more candidates may still be scored; if not, the last
    /// batch may be smaller.
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
    fn the_first_scored_candidates_form_a_batch_and_its_best_are_kept() {
        let mut five = screening(&[1.0, 4.0, 2.0, 3.0, 9.0]);
        assert_eq!(five.batch(true), Some((numbers(&[1, 3, 2, 0]), 2)));
        assert_eq!(five.batch(false), five.batch(true));
        five.leave(TrialNumber(1));
        five.leave(TrialNumber(3));
        assert!(five.waits(TrialNumber(2)) && !five.waits(TrialNumber(3)));
        assert_eq!(five.batch(true), None);
        // No more candidates come, so the rest is a batch.
        assert_eq!(five.batch(false), Some((numbers(&[4, 2, 0]), 2)));
        assert_eq!(screening(&[]).batch(false), None);
    }

    #[test]
    fn among_equal_scores_the_first_candidates_are_kept() {
        assert_eq!(screening(&[1.0; 4]).batch(true), Some((numbers(&[0, 1, 2, 3]), 2)));
    }
}

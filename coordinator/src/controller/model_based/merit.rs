//! The merit of a candidate: its expected gain, or a bound where no gain is expected, together with
//! the prediction for its constraints.

use std::cmp::Ordering;

use super::constraint::Verdict;

/// The merit of a candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Merit {
    /// The expected gain, above 0; more is better. Any gain is better than any hope.
    Gain(f64),
    /// A value that ranks candidates without an expected gain; less is better.
    Hope(f64),
}

impl Merit {
    /// `Less` if `self` is the better one, so that sorting puts it first.
    pub fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Merit::Gain(own), Merit::Gain(other)) => other.total_cmp(&own),
            (Merit::Hope(own), Merit::Hope(other)) => own.total_cmp(&other),
            (Merit::Gain(_), Merit::Hope(_)) => Ordering::Less,
            (Merit::Hope(_), Merit::Gain(_)) => Ordering::Greater,
        }
    }

    /// The merit of a candidate that may break constraints.
    #[must_use]
    pub fn under(self, verdict: Option<Verdict>) -> Self {
        match (verdict, self) {
            (None, merit) => merit,
            (Some(Verdict::Probability(p)), Merit::Gain(gain)) => Merit::Gain(gain * p),
            (Some(Verdict::Probability(p)), Merit::Hope(hope)) => {
                Merit::Hope(if hope < 0.0 { hope * p } else { hope / p })
            }
            (Some(Verdict::Distance(distance)), _) => Merit::Hope(distance),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_gains_are_distinguished_and_come_before_hopes() {
        let mut merits = [
            Merit::Hope(-1e12),
            Merit::Gain(1e-13),
            Merit::Hope(0.5),
            Merit::Gain(2e-13),
            Merit::Gain(1.0),
        ];
        merits.sort_by(|a, b| a.order(*b));
        let expected = [
            Merit::Gain(1.0),
            Merit::Gain(2e-13),
            Merit::Gain(1e-13),
            Merit::Hope(-1e12),
            Merit::Hope(0.5),
        ];
        assert_eq!(merits, expected);
        // A large gain that may break a constraint is better than a tiny one that does not.
        let risky = Merit::Gain(1.0).under(Some(Verdict::Probability(0.5)));
        let safe = Merit::Gain(1e-6).under(Some(Verdict::Probability(1.0)));
        assert_eq!(risky.order(safe), Ordering::Less);
    }
}

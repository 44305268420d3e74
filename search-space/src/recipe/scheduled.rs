//! Numbers that may change over a training.

use std::f64::consts::PI;
use std::fmt;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::Course;

/// A number of a training: one for all of its steps, or one for each.
#[derive(Clone, Copy, PartialEq)]
pub enum Scheduled {
    /// The same in every step.
    Constant(f64),
    /// Another in every step.
    Changing {
        /// In the first step.
        from: f64,
        /// In the last step.
        to: f64,
        /// How it gets from the one to the other.
        course: Course,
    },
}

impl Scheduled {
    /// The number in this step, counted from 0, of a training of so many.
    pub fn at(self, step: u64, steps: u64) -> f64 {
        match self {
            Scheduled::Constant(number) => number,
            Scheduled::Changing { from, to, course } => {
                let last = steps.saturating_sub(1).max(1);
                let done = step.min(last) as f64 / last as f64;
                let part = match course {
                    Course::Linear => done,
                    Course::Cosine => (1.0 - (PI * done).cos()) / 2.0,
                };
                from + (to - from) * part
            }
        }
    }

    /// The numbers of the first step and of the last one. All others are between them.
    pub fn ends(self) -> [f64; 2] {
        match self {
            Scheduled::Constant(number) => [number, number],
            Scheduled::Changing { from, to, course: _ } => [from, to],
        }
    }

    /// Whether it is above 0 in any step.
    pub fn is_ever_positive(self) -> bool {
        self.ends().into_iter().any(|end| end > 0.0)
    }

    /// What is wrong with it in a new study, in a sentence. Its numbers have to be in a range, such
    /// as "from 0 to 1". Ends that are equal would make another candidate of the same training.
    pub(super) fn fault(self, within: impl Fn(&f64) -> bool, range: &str) -> Option<String> {
        let all_within = self.ends().iter().all(within);
        match self {
            Scheduled::Constant(_) if !all_within => {
                Some(format!("{self:?} is not allowed; use a number {range}"))
            }
            Scheduled::Changing { .. } if !all_within => {
                Some(format!("{self:?} is not allowed; both ends have to be {range}"))
            }
            Scheduled::Changing { from, to, course: _ } if from == to => {
                Some(format!("{self:?} does not change; write {from:?}"))
            }
            Scheduled::Constant(_) | Scheduled::Changing { .. } => None,
        }
    }
}

impl From<f64> for Scheduled {
    fn from(number: f64) -> Self {
        Scheduled::Constant(number)
    }
}

/// A constant is shown as its number.
impl fmt::Display for Scheduled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scheduled::Constant(number) => write!(f, "{number}"),
            Scheduled::Changing { from, to, course } => write!(f, "{from}-to-{to}-{course}"),
        }
    }
}

/// As in study files.
impl fmt::Debug for Scheduled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scheduled::Constant(number) => write!(f, "{number:?}"),
            Scheduled::Changing { from, to, course } => {
                write!(f, "{{ from = {from:?}, to = {to:?}, schedule = \"{course}\" }}")
            }
        }
    }
}

/// As in study files: a number, or a table.
impl Serialize for Scheduled {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Scheduled::Constant(number) => number.serialize(serializer),
            Scheduled::Changing { from, to, course } => {
                let mut map = serializer.serialize_map(Some(3))?;
                map.serialize_entry("from", from)?;
                map.serialize_entry("to", to)?;
                map.serialize_entry("schedule", course)?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changing(course: Course) -> Scheduled {
        Scheduled::Changing { from: 0.9, to: 0.1, course }
    }

    #[test]
    fn a_number_changes_from_the_first_step_to_the_last() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        let linear = |step| changing(Course::Linear).at(step, 5);
        let expected = [0.9, 0.7, 0.5, 0.3, 0.1];
        expected.into_iter().zip(0..).for_each(|(number, step)| close(linear(step), number));
        // Half a cosine: slow at both ends.
        let cosine = |step| changing(Course::Cosine).at(step, 5);
        let root = 0.5f64.sqrt();
        let expected = [0.9, 0.5 + 0.4 * root, 0.5, 0.5 - 0.4 * root, 0.1];
        expected.into_iter().zip(0..).for_each(|(number, step)| close(cosine(step), number));
        // A training of one step has the first number, and there is none after the last.
        close(changing(Course::Linear).at(0, 1), 0.9);
        close(changing(Course::Linear).at(9, 5), 0.1);
        close(Scheduled::Constant(0.3).at(3, 5), 0.3);
    }

    #[test]
    fn a_constant_is_written_as_a_number() {
        assert_eq!(changing(Course::Cosine).to_string(), "0.9-to-0.1-cosine");
        let said = "{ from = 0.9, to = 0.1, schedule = \"linear\" }";
        assert_eq!(format!("{:?}", changing(Course::Linear)), said);
        assert_eq!(format!("{:?} {}", Scheduled::Constant(1.0), Scheduled::Constant(1.0)), "1.0 1");
    }
}

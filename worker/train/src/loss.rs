//! The loss of one batch and its gradient with respect to the logits, in f64 on plain numbers.
//!
//! `(1 - α) · CE(smoothed labels) + α · T² · KL(teacher_T ‖ student_T)` (Hinton et al.
//! 2015), averaged over the batch. Without a teacher only the cross entropy. If the answers are
//! values, the second term is `α · mean((teacher - student)²) / 2` over the logits (Ba & Caruana
//! 2014), which is what that of Hinton et al. tends to at high temperatures if the logits of each
//! image have the mean 0.

use edgesmith_search_space::{Answers, Distillation, Scheduled};

/// The settings of the teacher's term in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Soft {
    /// Weight of the term.
    pub alpha: f64,
    /// Divides the logits, if they become probabilities.
    pub temperature: f64,
    /// What is compared.
    pub answers: Answers,
}

impl Soft {
    /// Those of this step, counted from 0, of a training of so many.
    pub(super) fn at(distillation: &Distillation, step: u64, steps: u64) -> Self {
        let at = |number: Scheduled| number.at(step, steps);
        let (alpha, temperature) = (at(distillation.alpha), at(distillation.temperature));
        Self { alpha, temperature, answers: distillation.answers }
    }
}

/// The targets of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Targets<'a> {
    /// The class of each image.
    pub labels: &'a [u16],
    /// Probability that label smoothing spreads over all classes.
    pub label_smoothing: f64,
    /// The settings of this step and the teacher's logits `[batch][classes]` of the same images.
    pub teacher: Option<(Soft, &'a [f32])>,
}

/// The loss of a batch as a function of its logits: `constant - Σ_terms Σ probabilities ·
/// log_softmax(logits / temperature) + factor · Σ (logits - values)²`. The probabilities include
/// the factors of the terms and of the mean over the batch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    /// The part that does not depend on the logits.
    pub constant: f64,
    /// The cross entropies.
    pub terms: Vec<Term>,
    /// The factor of squares and the values `[batch][classes]`, if there are squares.
    pub squares: Option<(f64, Vec<f32>)>,
}

/// One cross entropy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Term {
    /// Target probabilities `[batch][classes]`, times the term's factor.
    pub probabilities: Vec<f32>,
    /// Divides the logits.
    pub temperature: f64,
}

/// The data for computing [`loss`] on a device that has the logits.
pub(super) fn wanted(targets: &Targets, classes: usize) -> Wanted {
    let batch = targets.labels.len() as f64;
    let hard_share = 1.0 - targets.teacher.map_or(0.0, |(soft, _)| soft.alpha);
    let spread = targets.label_smoothing / classes as f64;
    let mut hard = vec![(hard_share * spread / batch) as f32; targets.labels.len() * classes];
    for (row, &label) in hard.chunks_exact_mut(classes).zip(targets.labels) {
        let own = spread + 1.0 - targets.label_smoothing;
        row[usize::from(label)] = (hard_share * own / batch) as f32;
    }
    let terms = vec![Term { probabilities: hard, temperature: 1.0 }];
    let mut wanted = Wanted { constant: 0.0, terms, squares: None };
    let Some((Soft { alpha, temperature, answers }, logits)) = targets.teacher else {
        return wanted;
    };
    match answers {
        Answers::Classes => {
            let factor = alpha * temperature * temperature / batch;
            let mut soft = Vec::with_capacity(logits.len());
            for row in logits.chunks_exact(classes) {
                for log_probability in log_softmax(row, temperature) {
                    let probability = log_probability.exp();
                    wanted.constant += factor * probability * log_probability;
                    soft.push((factor * probability) as f32);
                }
            }
            wanted.terms.push(Term { probabilities: soft, temperature });
        }
        Answers::Values => {
            wanted.squares = Some((alpha / (2.0 * classes as f64 * batch), logits.to_vec()));
        }
    }
    wanted
}

/// Mean loss of a batch with logits `[batch][classes]`, and its gradient with the same shape.
pub(super) fn loss(logits: &[f32], targets: &Targets) -> (f64, Vec<f32>) {
    let batch = targets.labels.len();
    let classes = logits.len() / batch;
    let (mut total, mut gradient) = (0.0, Vec::with_capacity(logits.len()));
    for (image, (row, &label)) in logits.chunks_exact(classes).zip(targets.labels).enumerate() {
        let log_probabilities = log_softmax(row, 1.0);
        let hard_share = 1.0 - targets.teacher.map_or(0.0, |(soft, _)| soft.alpha);
        let spread = targets.label_smoothing / classes as f64;
        let start = gradient.len();
        for (class, log_probability) in log_probabilities.iter().enumerate() {
            let own = if class == usize::from(label) { 1.0 - targets.label_smoothing } else { 0.0 };
            let target = spread + own;
            total -= hard_share * target * log_probability;
            gradient.push(hard_share * (log_probability.exp() - target));
        }
        let Some((Soft { alpha, temperature, answers }, teacher)) = targets.teacher else {
            continue;
        };
        let teacher = &teacher[image * classes..][..classes];
        match answers {
            Answers::Classes => {
                let student = log_softmax(row, temperature);
                let teacher = log_softmax(teacher, temperature);
                for (class, (t, s)) in teacher.iter().zip(&student).enumerate() {
                    total += alpha * temperature * temperature * t.exp() * (t - s);
                    // Dividing the logits by T cancels one factor of T.
                    gradient[start + class] += alpha * temperature * (s.exp() - t.exp());
                }
            }
            Answers::Values => {
                for (class, (t, s)) in teacher.iter().zip(row).enumerate() {
                    let off = (f64::from(*s) - f64::from(*t)) / classes as f64;
                    total += alpha * off * (f64::from(*s) - f64::from(*t)) / 2.0;
                    gradient[start + class] += alpha * off;
                }
            }
        }
    }
    let gradient = gradient.iter().map(|g| (g / batch as f64) as f32).collect();
    (total / batch as f64, gradient)
}

/// The logarithm of `softmax(logits / temperature)`.
fn log_softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|l| f64::from(*l) / temperature).collect();
    // Not `f64::max`, which ignores NaN.
    let highest =
        scaled.iter().fold(f64::NEG_INFINITY, |a, &b| if b > a || b.is_nan() { b } else { a });
    let sum: f64 = scaled.iter().map(|s| (s - highest).exp()).sum();
    scaled.iter().map(|s| s - highest - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) -> bool {
        (a - b).abs() < tolerance
    }

    #[test]
    fn cross_entropy_matches_a_calculation_by_hand() {
        // Probabilities 1/4 and 3/4.
        let logits = [0.0, 3.0f32.ln()];
        let plain = Targets { labels: &[1], label_smoothing: 0.0, teacher: None };
        let (value, gradient) = loss(&logits, &plain);
        assert!(close(value, (4.0f64 / 3.0).ln(), 1e-6));
        assert!(close(f64::from(gradient[0]), 0.25, 1e-6));
        assert!(close(f64::from(gradient[1]), -0.25, 1e-6));
        // With smoothing 0.2 the targets are 0.1 and 0.9.
        let smoothed = Targets { label_smoothing: 0.2, ..plain };
        let (value, gradient) = loss(&logits, &smoothed);
        assert!(close(value, 0.1 * 4.0f64.ln() + 0.9 * (4.0f64 / 3.0).ln(), 1e-6));
        assert!(close(f64::from(gradient[0]), 0.15, 1e-6));
    }

    #[test]
    fn the_loss_is_the_mean_over_the_batch() {
        let (one, _) =
            loss(&[0.0, 1.0, 0.5], &Targets { labels: &[2], label_smoothing: 0.1, teacher: None });
        let (both, gradient) = loss(
            &[0.0, 1.0, 0.5, 0.0, 1.0, 0.5],
            &Targets { labels: &[2, 2], label_smoothing: 0.1, teacher: None },
        );
        assert!(close(one, both, 1e-12));
        assert_eq!(gradient[..3], gradient[3..]);
    }

    #[test]
    fn distillation_matches_a_calculation_by_hand() {
        // At temperature 2 the student's probabilities are 1:1, the teacher's 1:3.
        let teacher = [0.0, 2.0 * 3.0f32.ln()];
        let soft = Soft { alpha: 0.5, temperature: 2.0, answers: Answers::Classes };
        let targets =
            Targets { labels: &[0], label_smoothing: 0.0, teacher: Some((soft, &teacher)) };
        let (value, gradient) = loss(&[0.0, 0.0], &targets);
        let divergence = 0.25 * (0.25f64 / 0.5).ln() + 0.75 * (0.75f64 / 0.5).ln();
        assert!(close(value, 0.5 * 2.0f64.ln() + 0.5 * 4.0 * divergence, 1e-6));
        // Half of (0.5 - 1) and half of T * (0.5 - 0.25).
        assert!(close(f64::from(gradient[0]), 0.5 * -0.5 + 0.5 * 2.0 * 0.25, 1e-6));
    }

    #[test]
    fn a_student_that_agrees_with_its_teacher_has_no_divergence() {
        let logits = [0.3, -1.0, 2.0];
        for answers in [Answers::Classes, Answers::Values] {
            let all = Soft { alpha: 1.0, temperature: 4.0, answers };
            let teacher = Some((all, &logits[..]));
            let (value, gradient) =
                loss(&logits, &Targets { labels: &[0], label_smoothing: 0.1, teacher });
            assert!(close(value, 0.0, 1e-12));
            assert!(gradient.iter().all(|g| g.abs() < 1e-12));
        }
    }

    #[test]
    fn matching_values_is_what_classes_tend_to_at_high_temperatures() {
        // The logits of each image have the mean 0.
        let (student, teacher) =
            ([0.5f32, 1.0, -1.5, 2.0, -1.0, -1.0], [1.0f32, 0.0, -1.0, -0.5, 0.25, 0.25]);
        let of = |answers, temperature| {
            let soft = Soft { alpha: 0.75, temperature, answers };
            let teacher = Some((soft, &teacher[..]));
            loss(&student, &Targets { labels: &[0, 2], label_smoothing: 0.0, teacher })
        };
        let (values, slopes) = of(Answers::Values, 1.0);
        let (classes, limits) = of(Answers::Classes, 1e4);
        assert!(close(values, classes, 1e-3), "{values} {classes}");
        for (a, b) in slopes.iter().zip(&limits) {
            assert!((a - b).abs() < 1e-3, "{slopes:?} {limits:?}");
        }
        // By hand: half the mean square is (0.25 + 1 + 0.25 + 6.25 + 1.5625 + 1.5625) / 12.
        let hard = {
            let targets = Targets { labels: &[0, 2], label_smoothing: 0.0, teacher: None };
            loss(&student, &targets).0
        };
        assert!(close(values, 0.25 * hard + 0.75 * 10.875 / 12.0, 1e-6));
    }

    #[test]
    fn the_loss_of_infinite_or_nan_logits_is_not_finite() {
        let targets = Targets { labels: &[0], label_smoothing: 0.1, teacher: None };
        assert!(!loss(&[f32::NAN, 0.0], &targets).0.is_finite());
        assert!(!loss(&[0.0, f32::INFINITY], &targets).0.is_finite());
        // The loss of large but finite logits is finite.
        assert!(loss(&[1e30, -1e30], &targets).0.is_finite());
    }

    proptest! {
        #[test]
        fn the_gradient_is_the_slope_of_the_loss(
            logits in prop::collection::vec(-4.0f32..4.0, 6),
            teacher in prop::collection::vec(-4.0f32..4.0, 6),
            labels in prop::collection::vec(0u16..3, 2),
            alpha in 0.0..1.0f64,
            temperature in 0.5..8.0f64,
            label_smoothing in 0.0..0.5f64,
            answers in prop::sample::select(Answers::ALL),
        ) {
            let soft = Soft { alpha, temperature, answers };
            let teacher = Some((soft, teacher.as_slice()));
            let targets = Targets { labels: &labels, label_smoothing, teacher };
            let (_, gradient) = loss(&logits, &targets);
            for i in 0..logits.len() {
                let at = |offset: f32| {
                    let mut moved = logits.clone();
                    moved[i] += offset;
                    (loss(&moved, &targets).0, f64::from(moved[i]))
                };
                let ((low, from), (high, to)) = (at(-1e-2), at(1e-2));
                let slope = (high - low) / (to - from);
                prop_assert!(close(slope, f64::from(gradient[i]), 1e-3), "{slope} {}", gradient[i]);
            }
        }
    }
}

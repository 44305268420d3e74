//! Weights of the first training that later trainings go back to: the training is stopped where
//! they are, and continued, which does not change a bit of its result.

use std::collections::BTreeMap;

use edgesmith_common::AttemptError;
use edgesmith_train::{Checkpoint, Trained};

use super::super::hopeless;
use super::super::run::{Phase, Run};
use super::First;

impl Run<'_> {
    /// The result of a training, and the weights that the network had so many epochs before its end
    /// as each of `points`; at the beginning if it was shorter.
    pub fn train_with_early(
        &self,
        mut phase: Phase<'_>,
        points: &[u32],
    ) -> Result<(Trained, First), AttemptError> {
        let (begun, epochs) = (phase.start.epochs, phase.epochs);
        let (from, to) = phase.span;
        let mut early = BTreeMap::new();
        let mut stops: Vec<(u32, u32)> =
            points.iter().map(|&point| (epochs.saturating_sub(point), point)).collect();
        stops.sort_unstable();
        for (stop, point) in stops {
            if stop < begun {
                return Err(hopeless(format!(
                    "rewind = \"weights\" goes back to the weights after epoch {stop}, but the \
                     training continued from epoch {begun}; leave [fidelity] out, or use \"rate\""
                )));
            }
            if stop > phase.start.epochs {
                let share = f64::from(stop - begun) / f64::from((epochs - begun).max(1));
                let span = (phase.span.0, from + (to - from) * share);
                let trained = self.train(Phase { until: stop, span, ..phase.clone() })?;
                let Trained { weights, moments, images_seen, .. } = trained;
                phase.start =
                    Checkpoint { weights, moments, epochs: stop, images_seen, seconds: 0.0 };
                phase.span = (span.1, to);
            }
            early.insert(point, phase.start.weights.clone());
        }
        Ok((self.train(phase)?, First { epochs, early }))
    }
}

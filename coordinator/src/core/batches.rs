//! Decides the batches of scored candidates: when a batch is full, its best candidates go on to
//! training and the others end. [`Screening`](super::screening::Screening) ranks them.

use edgesmith_common::TrialNumber;

use super::study::Study;
use super::task::TaskKind;
use super::{TrialEnding, Turn};

impl Study {
    /// See [`Screening::batch`].
    fn next_batch(&self) -> Option<(Vec<TrialNumber>, usize)> {
        let scores = |kind: &TaskKind| matches!(kind, TaskKind::Score(_));
        let screening = self.screening.as_ref()?;
        let more = self.may_propose() || self.tasks.iter().any(|(_, task)| scores(&task.kind));
        screening.batch(more)
    }

    /// Whether a batch can be decided.
    pub(super) fn has_batch(&self) -> bool {
        self.next_batch().is_some()
    }
}

impl Turn<'_> {
    /// Decides all batches that are full or will not get fuller. Returns false if there were none.
    pub(super) fn screen(&mut self) -> bool {
        let mut any = false;
        loop {
            let mut studies = self.core.studies.iter();
            let batch = studies.find_map(|(name, study)| Some((name.clone(), study.next_batch()?)));
            let Some((name, (ranked, kept))) = batch else { return any };
            let (trained, left) = ranked.split_at(kept);
            trained.iter().for_each(|number| self.promote(&name, *number));
            left.iter().for_each(|n| self.finish_trial(&name, *n, TrialEnding::ScreenedOut));
            any = true;
        }
    }
}

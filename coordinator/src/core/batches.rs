//! Batches of scored candidates in their study: when one is full, who of it is trained.
//! Who that is, [`Screening`](super::screening::Screening) says.

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

    /// Whether a batch is to be decided.
    pub(super) fn has_batch(&self) -> bool {
        self.next_batch().is_some()
    }
}

impl Turn<'_> {
    /// Decides the batches that are full or will not be. False where there are none.
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

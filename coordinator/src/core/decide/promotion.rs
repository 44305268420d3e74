//! Trials that wait at a rung or in a batch: which ones go on, and which ones end there. The study
//! says which; at rungs, trials go on only when a worker asks.

use super::turn::Turn;
use crate::core::record::TrialEnding;

impl Turn<'_> {
    /// Ends the trials that wait at a rung and will never go on. Returns false if there were none.
    pub(super) fn stop_at_rungs(&mut self) -> bool {
        let mut any = false;
        loop {
            let mut studies = self.core.by_name();
            let stopped =
                studies.find_map(|(name, study)| Some((name.clone(), study.next_stopped()?)));
            drop(studies);
            let Some((name, number)) = stopped else { return any };
            self.finish_trial(&name, number, TrialEnding::Pruned);
            any = true;
        }
    }

    /// Decides all batches that are full or will not get fuller: the best candidates go on to
    /// training and the others end. Returns false if there were none.
    pub(super) fn screen(&mut self) -> bool {
        let mut any = false;
        loop {
            let mut studies = self.core.by_name();
            let batch = studies.find_map(|(name, study)| Some((name.clone(), study.next_batch()?)));
            drop(studies);
            let Some((name, (ranked, kept))) = batch else { return any };
            let (trained, left) = ranked.split_at(kept);
            trained.iter().for_each(|number| self.promote(&name, *number));
            left.iter().for_each(|n| self.finish_trial(&name, *n, TrialEnding::ScreenedOut));
            any = true;
        }
    }
}

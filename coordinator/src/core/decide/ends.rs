//! Ends studies that are done, and the proposals of those whose hours are used up.

use edgesmith_common::{StudyName, TrialNumber};

use super::turn::Turn;
use crate::core::record::{Record, StudyState};
use crate::core::study::{Stage, Trial};

impl Turn<'_> {
    /// Stops the proposals of studies whose hours are used up.
    pub(super) fn end_hours(&mut self) {
        let now = self.now;
        let over = self.core.by_name().filter(|(_, study)| study.is_out_of_hours(now));
        let over: Vec<(StudyName, Option<f64>)> =
            over.map(|(name, study)| (name.clone(), study.spec().budget.hours)).collect();
        for (study, hours) in over {
            let hours = hours.unwrap_or_default();
            let reason = format!("its budget of {hours} hours is used up");
            self.record(Record::ProposalsEnded { study, reason });
        }
    }

    /// Ends every study that has nothing left to do. This includes paused studies, as no work of
    /// theirs is held back.
    pub(super) fn complete_studies(&mut self) {
        let done = self.core.by_name().filter(|(_, study)| study.is_done());
        let done: Vec<StudyName> = done.map(|(name, _)| name.clone()).collect();
        for name in done {
            let state = self.final_state(&name);
            self.change_state(&name, state);
        }
    }

    fn final_state(&self, name: &StudyName) -> StudyState {
        let study = self.core.known(name);
        let ended = study.proposals_ended().map(str::to_owned);
        let own = |(_, trial): (TrialNumber, &Trial)| {
            matches!(trial.stage(), Stage::Complete(_)) && !trial.is_imported()
        };
        if study.trials().iter().any(own) {
            return StudyState::Complete { reason: ended };
        }
        let of_trial = |(number, trial): (TrialNumber, &Trial)| match trial.stage() {
            Stage::Failed { reason, .. } => Some(format!("trial {number} failed: {reason}")),
            _ => None,
        };
        let failure = study.trials().iter().rev().find_map(of_trial);
        let why = failure.or(ended).unwrap_or_default();
        StudyState::Failed { reason: format!("no trial was completed; {why}") }
    }
}

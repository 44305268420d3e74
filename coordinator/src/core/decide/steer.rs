//! What users do to a study that is there: pause, resume, cancel, delete and rename it.

use edgesmith_common::{StudyName, TrialState};

use super::turn::Turn;
use crate::core::command::{Answer, Refusal};
use crate::core::event::Action;
use crate::core::record::{Record, StudyState};

impl Turn<'_> {
    pub(super) fn steer(&mut self, name: &StudyName, action: Action) -> Result<Answer, Refusal> {
        let study = self.core.study(name)?;
        let ended = || Refusal::Ended { study: name.clone(), state: study.state().name() };
        match (action, study.state()) {
            (Action::Delete, _) => self.record(Record::StudyDeleted { study: name.clone() }),
            (Action::Pause, StudyState::Paused)
            | (Action::Resume, StudyState::Running)
            | (Action::Cancel, StudyState::Cancelled) => {}
            (_, state) if state.is_ended() => return Err(ended()),
            (Action::Pause, _) => self.change_state(name, StudyState::Paused),
            (Action::Resume, _) => self.change_state(name, StudyState::Running),
            (Action::Cancel, _) => {
                self.end_study(name, StudyState::Cancelled, TrialState::CANCELLED);
            }
        }
        Ok(Answer::Steered)
    }

    /// Gives a study another name.
    ///
    /// # Errors
    /// If the study is unknown, or another one has the name.
    pub(super) fn rename(&mut self, old: &StudyName, new: StudyName) -> Result<Answer, Refusal> {
        self.core.study(old)?;
        if *old != new {
            if self.core.find(&new).is_some() {
                return Err(Refusal::NameTaken(new));
            }
            self.record(Record::StudyRenamed { study: old.clone(), name: new });
        }
        Ok(Answer::Renamed)
    }
}

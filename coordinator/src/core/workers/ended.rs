//! The attempts that have ended. They are kept so that a repeated report gets the same
//! answer: there are several for each trial, so they are kept in little room.

use edgesmith_common::{AttemptId, StudyName, TaskId};

/// The attempts that ended, by study and id.
#[derive(Debug, Default, PartialEq)]
pub struct Ended(Vec<OfStudy>);

/// Those of one study, in ascending order of their ids.
#[derive(Debug, PartialEq)]
struct OfStudy {
    study: StudyName,
    attempts: Vec<EndedAttempt>,
}

/// An attempt that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EndedAttempt {
    id: AttemptId,
    /// Its task, times two, and 1 more if its report was accepted.
    task: u64,
}

impl Ended {
    /// Adds an attempt. `accepted` says whether its report was accepted.
    pub(super) fn add(&mut self, study: &StudyName, id: AttemptId, task: TaskId, accepted: bool) {
        // Mostly, the last one to end is of the study of the one before.
        let found = self.0.iter().rposition(|of| of.study == *study);
        let place = found.unwrap_or_else(|| {
            self.0.push(OfStudy { study: study.clone(), attempts: Vec::new() });
            self.0.len() - 1
        });
        let attempts = &mut self.0[place].attempts;
        // Attempts end almost in the order in which they began.
        let later = attempts.iter().rev().take_while(|of| of.id > id).count();
        let task = task.0 << 1 | u64::from(accepted);
        attempts.insert(attempts.len() - later, EndedAttempt { id, task });
    }

    /// Whether this attempt of this task ended with a report that was accepted.
    pub(super) fn was_accepted(&self, id: AttemptId, task: TaskId) -> bool {
        let found = self.0.iter().find_map(|of| of.find(id));
        found.is_some_and(|of| of.task == task.0 << 1 | 1)
    }

    /// Whether this attempt ended.
    pub(super) fn has(&self, id: AttemptId) -> bool {
        self.0.iter().any(|of| of.find(id).is_some())
    }

    /// Forgets the attempts of a study that was deleted.
    pub(super) fn forget(&mut self, study: &StudyName) {
        self.0.retain(|of| of.study != *study);
    }

    /// A study has another name.
    pub(super) fn rename(&mut self, old: &StudyName, new: &StudyName) {
        for of in self.0.iter_mut().filter(|of| of.study == *old) {
            of.study = new.clone();
        }
    }

    /// The studies that have ended attempts.
    pub(super) fn studies(&self) -> impl Iterator<Item = &StudyName> {
        self.0.iter().map(|of| &of.study)
    }

    /// The highest id.
    pub(super) fn highest(&self) -> Option<AttemptId> {
        self.0.iter().filter_map(|of| of.attempts.last()).map(|of| of.id).max()
    }
}

impl OfStudy {
    fn find(&self, id: AttemptId) -> Option<&EndedAttempt> {
        let place = self.attempts.binary_search_by_key(&id, |of| of.id).ok()?;
        self.attempts.get(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_found_whatever_the_order_in_which_they_ended() {
        let [a, b, c] = ["a", "b", "c"].map(|name| name.parse::<StudyName>().unwrap());
        let mut ended = Ended::default();
        for (study, id, task, accepted) in
            [(&a, 3, 7, true), (&b, 9, 8, true), (&a, 1, 7, false), (&a, 2, 6, true)]
        {
            ended.add(study, AttemptId(id), TaskId(task), accepted);
        }
        let accepted = |ended: &Ended, id, task| ended.was_accepted(AttemptId(id), TaskId(task));
        assert!(accepted(&ended, 3, 7) && accepted(&ended, 2, 6) && accepted(&ended, 9, 8));
        assert!(!accepted(&ended, 1, 7), "its report was not accepted");
        assert!(!accepted(&ended, 3, 6), "it was of another task");
        assert!(ended.has(AttemptId(1)) && !ended.has(AttemptId(4)));
        assert_eq!(ended.highest(), Some(AttemptId(9)));
        ended.rename(&b, &c);
        ended.forget(&b);
        assert!(accepted(&ended, 9, 8));
        ended.forget(&c);
        assert!(!ended.has(AttemptId(9)) && ended.studies().eq([&a]));
    }
}

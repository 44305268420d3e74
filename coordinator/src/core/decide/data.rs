//! When workers read the data of a study before anything else.

use edgesmith_common::StudyName;

use super::turn::Turn;
use crate::core::record::Record;

impl Turn<'_> {
    /// If the study's data are damaged, or their check was given up, lets workers read them again.
    pub(super) fn mend_data(&mut self, name: &StudyName) {
        let study = self.core.known(name);
        if !study.needs_data_again() {
            return;
        }
        let (in_files, study) = (study.has_data_files(), name.clone());
        self.record(if in_files {
            Record::DataCheckWanted { study, task: self.core.next_task() }
        } else {
            Record::DataTrusted { study }
        });
    }

    /// Lets workers read the data of studies that go on after a coordinator of an earlier version,
    /// which did not ask for their hash.
    pub(super) fn ask_for_data_hashes(&mut self) {
        for study in self.core.take_up_data_hashes() {
            let task = self.core.next_task();
            self.record(Record::DataCheckWanted { study, task });
        }
    }
}

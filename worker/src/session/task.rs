//! Decodes leased tasks for the executor. A task that cannot be decoded is a failed attempt with a
//! reason and does not break the session. Another worker may repeat it: the coordinator could read
//! it, so this worker is probably of another version.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use edgesmith_common::{AttemptError, StudyName, StudySpec};
use edgesmith_proto::v1;

use super::TaskWork;
use super::attempts::lock;

/// Number of studies whose specs are kept. A coordinator rarely runs more at once.
const KEPT_SPECS: usize = 16;

/// Parsed studies with their texts; the least recently used comes first.
#[derive(Debug, Default)]
pub struct Specs(Mutex<VecDeque<(String, Arc<StudySpec>)>>);

impl Specs {
    /// The study in the `text` of a lease. Each text is parsed once.
    ///
    /// # Errors
    /// When the text is not a resolved study.
    pub fn read(&self, text: &str) -> Result<Arc<StudySpec>, AttemptError> {
        let mut specs = lock(&self.0);
        let known = specs.iter().position(|(known, _)| known == text);
        let (text, spec) = match known.and_then(|at| specs.remove(at)) {
            Some(kept) => kept,
            None => {
                let spec = StudySpec::from_resolved(text).map_err(|error| {
                    AttemptError::retryable(format!("this worker cannot read the study: {error}"))
                })?;
                (text.to_owned(), Arc::new(spec))
            }
        };
        specs.push_back((text, Arc::clone(&spec)));
        if specs.len() > KEPT_SPECS {
            specs.pop_front();
        }
        Ok(spec)
    }
}

/// Reads a leased task.
///
/// # Errors
/// When the task does not fit its study, or this worker does not know its kind.
pub fn read(task: &v1::Task, specs: &Specs) -> Result<TaskWork, AttemptError> {
    let study: StudyName = task.study.parse().map_err(AttemptError::retryable)?;
    let spec = specs.read(&task.resolved_study)?;
    let message = task.work.as_ref();
    let message = message
        .ok_or_else(|| AttemptError::retryable("this worker does not know this kind of task"))?;
    let work = edgesmith_proto::work(message, &spec.space).map_err(AttemptError::retryable)?;
    let data = edgesmith_proto::optional_hash(&task.data_hash, "data_hash")
        .map_err(AttemptError::retryable)?;
    Ok(TaskWork { study, spec, work, data })
}

#[cfg(test)]
mod tests {
    use edgesmith_common::ArtifactHash;
    use edgesmith_proto::v1::task::Work;

    use super::super::fake;
    use super::*;

    #[test]
    fn a_task_says_which_data_the_study_began_with() {
        let mut task = fake::task(1, Work::CheckData(v1::CheckData {}));
        assert_eq!(read(&task, &Specs::default()).unwrap().data, None);
        let hash = ArtifactHash::of(b"images");
        task.data_hash = hash.as_bytes().to_vec();
        assert_eq!(read(&task, &Specs::default()).unwrap().data, Some(hash));
        task.data_hash = vec![1];
        let error = read(&task, &Specs::default()).unwrap_err();
        assert!(error.reason.contains("data_hash"), "{error}");
    }
}

//! Submits a study file to a coordinator, with the weights of its teacher.

use std::path::Path;

use edgesmith_common::StudySpec;
use edgesmith_common::spec::TeacherSource;
use edgesmith_console::invalid;
use edgesmith_proto::v1;
use edgesmith_worker::session::artifacts;

use crate::{Coordinator, from_status};

/// Reads and checks a study file.
pub fn read_study(file: &Path) -> anyhow::Result<StudySpec> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| invalid(format!("failed to read study file {}: {e}", file.display())))?;
    StudySpec::parse(&text).map_err(|errors| {
        let mut lines: Vec<String> = errors.listed.iter().map(|e| format!("\n  {e}")).collect();
        if errors.more > 0 {
            lines.push(format!("\n  and {} more", errors.more));
        }
        let (count, s) = (errors.count(), if errors.count() == 1 { "" } else { "s" });
        invalid(format!("{} has {count} mistake{s}:{}", file.display(), lines.concat()))
    })
}

/// A study and everything that is sent with it, read and checked. All files are read first, so that
/// a missing one cannot fail the submission after the coordinator has changed anything.
pub struct Submission {
    /// The study.
    pub spec: StudySpec,
    /// The teacher's weights, if the study names a file.
    teacher_weights: Option<Vec<u8>>,
}

impl Submission {
    /// Reads a study file, and the teacher's weights that it names.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let spec = read_study(file)?;
        let teacher = spec.training().and_then(|work| work.teacher.as_ref());
        let teacher_weights = match teacher.map(|teacher| &teacher.source) {
            Some(TeacherSource::File { path }) => {
                let path = file.parent().unwrap_or(Path::new("")).join(path);
                Some(std::fs::read(&path).map_err(|e| {
                    invalid(format!("failed to read the teacher's weights {}: {e}", path.display()))
                })?)
            }
            _ => None,
        };
        Ok(Self { spec, teacher_weights })
    }

    /// Sends it to the coordinator.
    pub async fn submit(
        self,
        coordinator: &Coordinator,
    ) -> anyhow::Result<v1::SubmitStudyResponse> {
        let teacher_weights = match self.teacher_weights {
            Some(bytes) => {
                let hash = artifacts::upload(&mut coordinator.artifacts(), bytes).await;
                hash.map_err(from_status)?.as_bytes().to_vec()
            }
            None => Vec::new(),
        };
        let spec_toml = self.spec.source().to_owned();
        let request = v1::SubmitStudyRequest { spec_toml, teacher_weights };
        Ok(coordinator.studies().submit_study(request).await.map_err(from_status)?.into_inner())
    }
}

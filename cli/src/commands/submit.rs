//! `edgesmith submit`, and what `search` shares with it: a study file and its teacher's weights.

use std::path::Path;
use std::process::ExitCode;

use edgesmith_common::StudySpec;
use edgesmith_common::spec::TeacherSource;
use edgesmith_proto::v1;
use edgesmith_worker::session::artifacts;

use crate::args::SubmitArgs;
use crate::commands::{front, studies};
use crate::connect::Coordinator;
use crate::failure::{from_status, invalid};

/// Submits, and with `--wait` follows to the front.
pub async fn run(args: SubmitArgs) -> anyhow::Result<ExitCode> {
    let spec = read_study(&args.study)?;
    let coordinator = Coordinator::connect(&args.connection).await?;
    let submitted = submit(&coordinator, &spec, &args.study).await?;
    crate::output::print(&format!("{}\n", submitted.name))?;
    if !submitted.created {
        eprintln!("the coordinator has this study already; it goes on");
    }
    if !args.wait {
        return Ok(ExitCode::SUCCESS);
    }
    let code = studies::follow(&coordinator, &submitted.name).await?;
    front::print_summary(&coordinator, &submitted.name).await?;
    Ok(code)
}

/// Reads and checks a study file.
pub fn read_study(file: &Path) -> anyhow::Result<StudySpec> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| invalid(format!("failed to read study file {}: {e}", file.display())))?;
    StudySpec::parse(&text).map_err(|errors| {
        let lines: Vec<String> = errors.0.iter().map(|e| format!("\n  {e}")).collect();
        let s = if lines.len() == 1 { "" } else { "s" };
        invalid(format!("{} has {} mistake{s}:{}", file.display(), lines.len(), lines.concat()))
    })
}

/// Hands a study to the coordinator, its teacher's weights first where a file is named.
pub async fn submit(
    coordinator: &Coordinator,
    spec: &StudySpec,
    file: &Path,
) -> anyhow::Result<v1::SubmitStudyResponse> {
    let teacher_weights =
        match spec.training().and_then(|work| work.teacher.as_ref()).map(|t| &t.source) {
            Some(TeacherSource::File { path }) => {
                let path = file.parent().unwrap_or(Path::new("")).join(path);
                let bytes = std::fs::read(&path).map_err(|e| {
                    invalid(format!("failed to read the teacher's weights {}: {e}", path.display()))
                })?;
                let hash = artifacts::upload(&mut coordinator.artifacts(), bytes)
                    .await
                    .map_err(from_status)?;
                hash.as_bytes().to_vec()
            }
            _ => Vec::new(),
        };
    let request = v1::SubmitStudyRequest { spec_toml: spec.source().to_owned(), teacher_weights };
    Ok(coordinator.studies().submit_study(request).await.map_err(from_status)?.into_inner())
}

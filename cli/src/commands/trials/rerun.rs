//! `edgesmith trial --rerun`: trains a trial again on this machine and compares it bit for bit.
//! Files of the trial that were damaged or lost are stored again, if the same bytes come out.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use edgesmith_client::Coordinator;
use edgesmith_common::{
    ArtifactHash, Donor, Metric, Outcome, ScopedMetric, StudySpec, TrialNumber, TrialValues, Work,
};
use edgesmith_console::table::{self, Align};
use edgesmith_console::{invalid, print_text};
use edgesmith_edge_runtime::{Model, Notes};
use edgesmith_proto::v1;
use edgesmith_worker::session::{AttemptContext, TaskExecutor as _, TaskWork, artifacts};
use tonic::Code;

use super::{TrialArgs, fetch};
use crate::output::TrialRow;

/// Trains and compresses the trial again, on its own, and compares the results bit for bit.
pub async fn rerun(
    coordinator: &Coordinator,
    status: &v1::StudyStatus,
    spec: Arc<StudySpec>,
    row: &TrialRow,
    args: &TrialArgs,
) -> anyhow::Result<ExitCode> {
    let Some(before) = row.values.as_ref().and_then(TrialValues::trained) else {
        return Err(invalid(format!(
            "trial {} is {} and has no training result to compare with",
            row.number,
            row.state.name()
        )));
    };
    // A study may have a teacher from whom this trial has not learned.
    let learns = row.candidate.as_ref().is_none_or(|c| c.recipe.learns());
    let soft_targets = if learns { soft_targets(status)? } else { None };
    let (backend, root) = (Some(args.backend), args.data_root.clone());
    let executor = edgesmith_client::pipeline(backend, "local", root, args.memory)?;
    let name = &status.name;
    let made_again =
        format!("the soft targets of its teacher, which `edgesmith retry {name} --teacher`");
    let mut wanted: Vec<(ArtifactHash, String)> =
        soft_targets.into_iter().map(|hash| (hash, format!("{made_again} makes again"))).collect();
    let own = spec.model().map(|model| model.file.weights);
    wanted.extend(own.map(|hash| (hash, "the study's own network".to_owned())));
    let donor = match row.inherits_from {
        Some(number) => {
            let donor = fetch(coordinator, &status.name, number, &spec).await?;
            let trained = donor.values.as_ref().and_then(TrialValues::trained);
            let Some(weights) = trained.map(|trained| trained.weights) else {
                anyhow::bail!(
                    "trial {} started from the weights of trial {number}, which has none",
                    row.number
                );
            };
            let again = format!("which `edgesmith trial {name} {number} --rerun` makes again");
            wanted.push((weights, format!("the weights of trial {number}, {again}")));
            Some(Donor { genotype: spec.space.genotype(donor.genotype)?, weights })
        }
        None => None,
    };
    let task = TaskWork {
        study: spec.name.clone(),
        spec: Arc::clone(&spec),
        work: Work::TrainTrial {
            number: TrialNumber(row.number),
            genotype: spec.space.genotype(row.genotype.clone())?,
            soft_targets,
            // Train without stopping: rungs do not change a bit of the result.
            rung: None,
            checkpoint: None,
            donor,
        },
        // Other data would give another result.
        data: match &status.data {
            Some(data) => edgesmith_proto::optional_hash(&data.hash, "hash")?,
            None => None,
        },
    };
    let mut fetched = Vec::new();
    for (hash, what) in wanted {
        let client = &mut coordinator.artifacts();
        let artifact = artifacts::download(client, hash).await;
        let needs = || format!("trial {} starts from {what}", row.number);
        fetched.push(artifact.map_err(|status| coordinator.failed(status)).with_context(needs)?);
    }
    let context = AttemptContext::offline(fetched);
    eprintln!("running trial {} of {} again on {}", row.number, status.name, args.backend.name());
    let run = move || (executor.execute(task, &context), context);
    let (outcome, context) = tokio::task::spawn_blocking(run).await?;
    let Outcome::TrialTrained(again) = outcome.map_err(|e| anyhow::anyhow!("{}", e.reason))? else {
        anyhow::bail!("the rerun did not return a trained trial");
    };
    // A figure that the study's own version did not measure has nothing to compare with.
    let (then, now) = (before.compressed.repeatable(), again.compressed);
    let mut lost = Vec::new();
    for (hash, made, what) in
        [(before.model, again.model, "model file"), (before.weights, again.weights, "weights")]
    {
        lost.extend(put_back(coordinator, &context, hash, made, what).await?);
    }
    let client = &mut coordinator.artifacts();
    // If it is lost, its hash is all that is left of it.
    let then_model = match artifacts::download(client, before.model).await {
        Ok(model) => without_notes(model),
        Err(_) => before.model,
    };
    let models = [then_model, without_notes(bytes(&context, again.model)?)];
    let hash = |h: ArtifactHash| h.to_string()[..16].to_owned();
    let same_model = models[0] == models[1];
    let line = |(of, value): (&ScopedMetric, f64)| {
        let again = now.get(of);
        let text = again.map_or_else(|| "–".to_owned(), |again| again.to_string());
        let said = compared(of, value, again, same_model).to_owned();
        vec![of.to_string(), value.to_string(), text, said]
    };
    let mut lines: Vec<Vec<String>> = then.iter().map(line).collect();
    lines.push(vec![
        "model file".to_owned(),
        hash(models[0]),
        hash(models[1]),
        same(same_model).to_owned(),
    ]);
    let columns =
        [("", Align::Left), ("then", Align::Right), ("now", Align::Right), ("", Align::Left)];
    print_text(&table::render(&columns, &lines))?;
    let repeats = |(of, value): (&ScopedMetric, f64)| {
        compared(of, value, now.get(of), same_model) != DIFFERENT
    };
    let repeated = then.iter().all(repeats);
    if !lost.is_empty() {
        anyhow::bail!("{}", lost.join("\n"));
    }
    let identical = same_model && repeated;
    Ok(if identical { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Stores an artifact of the trial again, if the coordinator does not have it whole and the rerun
/// has made the same bytes. If it has made others, says what is still lost.
async fn put_back(
    coordinator: &Coordinator,
    context: &AttemptContext,
    hash: ArtifactHash,
    made: ArtifactHash,
    what: &str,
) -> anyhow::Result<Option<String>> {
    let client = &mut coordinator.artifacts();
    let Err(lost) = artifacts::download(client, hash).await else { return Ok(None) };
    if !matches!(lost.code(), Code::NotFound | Code::DataLoss) {
        return Err(coordinator.failed(lost));
    }
    if made != hash {
        return Ok(Some(format!(
            "{what}: damaged or missing, and the rerun made other bytes, so they are not stored; \
             copy the file from a backup, or run this with the version and the backend of then"
        )));
    }
    let put = artifacts::upload(client, bytes(context, made)?).await;
    put.map_err(|status| coordinator.failed(status))?;
    eprintln!("{what}: damaged or missing; the rerun made the same bytes, which are stored again");
    Ok(None)
}

/// An artifact that the rerun made.
fn bytes(context: &AttemptContext, hash: ArtifactHash) -> anyhow::Result<Vec<u8>> {
    Ok(context.fetch(hash).map_err(|e| anyhow::anyhow!("{}", e.reason))?.to_vec())
}

/// The hash of a model file without what it says besides the network, such as the version of the
/// program that wrote it; of any other file, its own.
fn without_notes(file: Vec<u8>) -> ArtifactHash {
    match Model::from_bytes(&file) {
        Ok(model) => ArtifactHash::of(&Model { notes: Notes::default(), ..model }.to_bytes()),
        Err(_) => ArtifactHash::of(&file),
    }
}

const SAME: &str = "same";
const DIFFERENT: &str = "DIFFERENT";

fn same(equal: bool) -> &'static str {
    if equal { SAME } else { DIFFERENT }
}

/// What is said of a figure. Versions store equal models in files of different sizes, so a
/// different size alone does not make a trial different.
fn compared(of: &ScopedMetric, then: f64, now: Option<f64>, same_model: bool) -> &'static str {
    let is_size = of.metric == Metric::MODEL_BYTES;
    if now != Some(then) && now.is_some() && is_size && same_model {
        "stored differently"
    } else {
        same(now == Some(then))
    }
}

/// The teacher's soft targets, if the study has them.
fn soft_targets(status: &v1::StudyStatus) -> anyhow::Result<Option<ArtifactHash>> {
    let Some(teacher) = &status.teacher else { return Ok(None) };
    if teacher.soft_targets.is_empty() {
        return Ok(None);
    }
    let bytes: [u8; 32] = teacher
        .soft_targets
        .as_slice()
        .try_into()
        .context("failed to read the hash of the teacher's soft targets")?;
    Ok(Some(ArtifactHash::from_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_size_of_an_equal_model_is_no_difference() {
        let (size, macs) = (Metric::MODEL_BYTES.whole(), Metric::MACS.whole());
        assert_eq!(compared(&size, 9.0, Some(9.0), true), SAME);
        assert_eq!(compared(&size, 9.0, Some(5.0), true), "stored differently");
        assert_eq!(compared(&size, 9.0, Some(5.0), false), DIFFERENT);
        assert_eq!(compared(&size, 9.0, None, true), DIFFERENT);
        assert_eq!(compared(&macs, 9.0, Some(5.0), true), DIFFERENT);
    }
}

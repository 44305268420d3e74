//! Reads and imports any number of trials, in several calls, because the size of a message is
//! limited.

use anyhow::Context as _;
use edgesmith_proto::{MAX_PAGE, v1};
use prost::Message as _;

use crate::Coordinator;

/// Most trials in one call that imports some, and most bytes of them. The coordinator takes 1000
/// trials and 4 MiB.
const IMPORT: (usize, usize) = (1000, 2 << 20);

impl Coordinator {
    /// All trials of a study, sorted by number. Trials that are proposed meanwhile may be missing,
    /// and those that come later in the list may be newer.
    pub async fn trials(&self, study: &str) -> anyhow::Result<Vec<v1::Trial>> {
        let mut studies = self.studies();
        let (mut trials, mut next) = (Vec::new(), Some(0));
        while let Some(first) = next {
            let study = study.to_owned();
            let request = v1::ListTrialsRequest { study, first, ..Default::default() };
            let page = self.query(studies.list_trials(request)).await?;
            trials.extend(page.trials);
            // A coordinator that does not go on must not keep this asking for ever.
            next = page.next.filter(|next| *next > first);
        }
        Ok(trials)
    }

    /// All trials of a front, sorted by the first objective, best first.
    pub async fn front(
        &self,
        request: v1::GetParetoFrontRequest,
    ) -> anyhow::Result<Vec<v1::Trial>> {
        let mut studies = self.studies();
        let study = request.study.clone();
        let request = v1::GetParetoFrontRequest { paged: true, ..request };
        let answer = self.query(studies.get_pareto_front(request)).await?;
        let (mut trials, mut more) = (answer.trials, &answer.more[..]);
        while !more.is_empty() {
            let numbers = more[..more.len().min(MAX_PAGE as usize)].to_vec();
            let asked =
                v1::ListTrialsRequest { study: study.clone(), numbers, ..Default::default() };
            let page = self.query(studies.list_trials(asked)).await?;
            // A coordinator that sends something else must not keep this asking for ever.
            more = match more.split_at_checked(page.trials.len()) {
                Some((sent, rest)) if !sent.is_empty() => rest,
                _ => anyhow::bail!("the coordinator did not send the whole front; ask again"),
            };
            trials.extend(page.trials);
        }
        Ok(trials)
    }

    /// Imports trials into a study, and returns how many were imported and how many were known.
    /// Each call is durable once it is answered. If one fails, the same import can be repeated:
    /// candidates that are known are skipped.
    pub async fn import(
        &self,
        study: &str,
        trials: Vec<v1::KnownTrial>,
    ) -> anyhow::Result<v1::ImportTrialsResponse> {
        let mut studies = self.studies();
        let mut total = v1::ImportTrialsResponse::default();
        for trials in parts(trials, IMPORT) {
            let request = v1::ImportTrialsRequest { study: study.to_owned(), trials };
            let answer = self.change(studies.import_trials(request)).await;
            let v1::ImportTrialsResponse { imported, known } = if total.imported > 0 {
                let done = total.imported;
                let answer = answer.with_context(|| {
                    let trials = if done == 1 { "trial was" } else { "trials were" };
                    format!("{done} {trials} imported, and then the import failed")
                });
                answer?
            } else {
                answer?
            };
            total.imported += imported;
            total.known += known;
        }
        Ok(total)
    }
}

/// The trials in order, in parts of at most `most.0` trials and `most.1` bytes, but at least one
/// trial.
fn parts(trials: Vec<v1::KnownTrial>, most: (usize, usize)) -> Vec<Vec<v1::KnownTrial>> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for trial in trials {
        let size = trial.encoded_len();
        if !part.is_empty() && (part.len() == most.0 || bytes + size > most.1) {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += size;
        part.push(trial);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use edgesmith_common::{Figures, ScopedMetric, StudySpec};
    use edgesmith_coordinator::service::{LocalCoordinator, Visibility};

    use super::*;

    const STUDY: &str = r#"
[study]
name = "wide"
[data]
source = "digits"
[space]
resolution = [8]
stem_width = [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]
[[space.stages]]
width = [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]
kernel = [1, 3, 5, 7]
activation = ["relu", "relu6"]
[[objectives]]
metric = "validation_accuracy"
[budget]
trials = 3
"#;

    #[tokio::test]
    async fn a_front_that_does_not_fit_into_one_answer_is_read_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalCoordinator::start(directory.path(), Visibility::Private).await.unwrap();
        let coordinator = Coordinator::connect_to_local(&local).await.unwrap();
        let submit = v1::SubmitStudyRequest { spec_toml: STUDY.to_owned(), ..Default::default() };
        coordinator.studies().submit_study(submit).await.unwrap();
        let spec = StudySpec::parse(STUDY).unwrap();
        let options: Vec<u32> =
            spec.space.choices().iter().map(|c| c.options.len() as u32).collect();
        let figures: Figures = [(ScopedMetric::VALIDATION_ACCURACY, 0.5)].into_iter().collect();
        let known = |mut index: u32| {
            let pick = |&options: &u32| {
                let picked = index % options;
                index /= options;
                picked
            };
            let genotype = options.iter().map(pick).collect();
            v1::KnownTrial { genotype, figures: Some((&figures).into()) }
        };
        coordinator.import("wide", (0..700).map(known).collect()).await.unwrap();
        let request = v1::GetParetoFrontRequest { study: "wide".to_owned(), ..Default::default() };
        let front = coordinator.front(request).await.unwrap();
        assert!(front.iter().map(|trial| trial.number).eq(0..700));
        local.shut_down().await.unwrap();
    }

    #[test]
    fn parts_are_bounded_in_number_and_bytes_and_keep_the_order() {
        let trial = |n: u32| v1::KnownTrial { genotype: vec![n; 10], figures: None };
        let lengths = |n: u32, most| -> Vec<usize> {
            let trials: Vec<_> = (0..n).map(trial).collect();
            let parts = parts(trials.clone(), most);
            assert_eq!(parts.concat(), trials);
            parts.iter().map(Vec::len).collect()
        };
        assert_eq!(lengths(0, (3, 1000)), Vec::<usize>::new());
        assert_eq!(lengths(7, (3, 1000)), [3, 3, 1]);
        assert_eq!(lengths(3, (9, 24)), [2, 1]);
        assert_eq!(lengths(2, (9, 1)), [1, 1]);
    }
}

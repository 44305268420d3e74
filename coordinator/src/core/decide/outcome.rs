//! Checks of reported outcomes: that they are what the task asked for, that no figure is missing
//! and that none is impossible. Does not record anything.

use edgesmith_common::{
    AttemptError, DataReport, Figures, Measurement, Metric, Outcome, RungReport, ScopedMetric,
    Split, StudySpec, Target, TrainedTrial,
};

use crate::core::study::{Study, TaskKind, Trial};

/// Returns the outcome, or a failure if it is not what the task asked for or contains invalid
/// values.
pub fn checked(kind: &TaskKind, outcome: Outcome, study: &Study) -> Result<Outcome, AttemptError> {
    let wrong = match (kind, &outcome) {
        (TaskKind::Data, Outcome::DataChecked(report)) => {
            if let Some(what) = wrong_in_data(report) {
                return Err(AttemptError::of_data(format!("a worker {what}")));
            }
            // Workers compare the hashes themselves, and say more about it.
            let expected = study.expected_data(kind);
            if report.hash.is_some() && expected.is_some() && report.hash != expected {
                let text = "its data are not those that the study began with";
                return Err(AttemptError::of_worker(text));
            }
            None
        }
        (TaskKind::Teacher, Outcome::TeacherTrained { trained, .. }) => {
            wrong_in_trained(trained, study.spec())
        }
        (TaskKind::Score(_), Outcome::Scored(score)) => (!score.is_finite())
            .then(|| format!("reported a score of {score}, which is not finite")),
        (TaskKind::Train(number), Outcome::TrialTrained(trained)) => {
            match study.next_rung(*number) {
                None => wrong_in_trained(trained, study.spec())
                    .or_else(|| takes_time_back(&trained.compressed, study.trials().get(*number))),
                Some(epochs) => Some(format!(
                    "trained past the rung at {epochs} epochs instead of stopping there"
                )),
            }
        }
        (TaskKind::Train(_), Outcome::RungReached(RungReport { checkpoint: None, .. })) => {
            Some("stopped at a rung without a checkpoint to continue from".to_owned())
        }
        (TaskKind::Train(number) | TaskKind::LookUp(number), Outcome::RungReached(report)) => {
            wrong_in_rung(report, study.next_rung(*number), study.spec())
                .or_else(|| takes_time_back(&report.figures, study.trials().get(*number)))
        }
        (TaskKind::LookUp(number), Outcome::LookedUp(figures)) => match study.next_rung(*number) {
            None => wrong_in_looked_up(figures, study.spec())
                .or_else(|| takes_time_back(figures, study.trials().get(*number))),
            Some(epochs) => {
                Some(format!("looked up the final figures instead of those at {epochs} epochs"))
            }
        },
        (TaskKind::Measure(_, target), Outcome::Measured(measurement)) => {
            wrong_in_measured(measurement, target)
        }
        (
            TaskKind::Data
            | TaskKind::Teacher
            | TaskKind::Score(_)
            | TaskKind::Train(_)
            | TaskKind::LookUp(_)
            | TaskKind::Measure(..),
            _,
        ) => Some("reported the result of another kind of task".to_owned()),
    };
    match wrong {
        None => Ok(outcome),
        Some(what) => Err(AttemptError::retryable(format!("the worker {what}"))),
    }
}

/// The first figure of `needed` that is missing.
pub fn missing_in<'a>(
    figures: &Figures,
    needed: impl IntoIterator<Item = &'a ScopedMetric>,
) -> Option<&'a ScopedMetric> {
    needed.into_iter().find(|of| figures.get(of).is_none())
}

/// A figure that is impossible, missing, or not `expected`, in words to follow `the worker`.
fn wrong_in<'a>(
    figures: &Figures,
    needed: impl IntoIterator<Item = &'a ScopedMetric>,
    expected: impl Fn(&ScopedMetric) -> bool,
) -> Option<String> {
    if let Err(error) = figures.check() {
        return Some(format!("reported an invalid figure: {error}"));
    }
    if let Some(missing) = missing_in(figures, needed) {
        return Some(format!("reported no {missing}"));
    }
    let (foreign, _) = figures.iter().find(|(of, _)| !expected(of))?;
    Some(format!("reported {foreign}, which such a task does not yield"))
}

fn wrong_in_data(report: &DataReport) -> Option<String> {
    let DataReport { train, validation, test: _, hash: _ } = report;
    let parts = [("training", train), ("validation", validation)];
    let (empty, _) = parts.into_iter().find(|(_, count)| **count == 0)?;
    Some(format!("found no {empty} images"))
}

fn wrong_in_trained(trained: &TrainedTrial, spec: &StudySpec) -> Option<String> {
    let metric = spec.training_metric().metric;
    let of_network = Metric::ALL.iter().filter(|metric| metric.is_analytic());
    let mut needed: Vec<ScopedMetric> = of_network.map(|metric| metric.whole()).collect();
    needed.extend([Split::Validation, Split::Test].map(|split| metric.on(split)));
    needed.push(Metric::MODEL_BYTES.whole());
    needed.extend(spec.metrics().into_iter().filter(|of| of.target().is_none()).cloned());
    let spent = [Metric::TRAINING_SECONDS, Metric::IMAGES_SEEN].map(Metric::whole);
    let TrainedTrial { compressed, uncompressed, stages, .. } = trained;
    let of_stages = || stages.iter().find_map(|stage| stage.check().err());
    wrong_in(compressed, needed.iter().chain(&spent), is_of_training)
        .or_else(|| wrong_in(uncompressed, &needed, is_of_training))
        .or_else(|| of_stages().map(|problem| format!("reported {problem}")))
}

fn wrong_in_rung(report: &RungReport, expected: Option<u32>, spec: &StudySpec) -> Option<String> {
    let RungReport { epochs, figures, .. } = report;
    if Some(*epochs) != expected {
        return Some(format!("stopped at {epochs} epochs, which is not a rung that was asked for"));
    }
    let needed = [spec.training_metric(), Metric::TRAINING_SECONDS.whole()];
    let is_of_rung = |of: &ScopedMetric| is_of_training(of) && !of.is_held_out();
    wrong_in(figures, &needed, is_of_rung)
}

fn wrong_in_looked_up(figures: &Figures, spec: &StudySpec) -> Option<String> {
    let objectives = spec.objectives.iter().map(|objective| &objective.of);
    let seconds = Metric::TRAINING_SECONDS.whole();
    wrong_in(figures, objectives.chain([&seconds]), |_| true)
}

/// Whether training yields such a figure: it times nothing, and a study's own data have one
/// held-out set.
fn is_of_training(of: &ScopedMetric) -> bool {
    of.target().is_none() && !matches!(of.split(), Some(Split::HeldOut(_)))
}

/// Seconds add up over a trial's rungs, so they never become fewer.
fn takes_time_back(figures: &Figures, trial: Option<&Trial>) -> Option<String> {
    let (seconds, before) = (figures.training_seconds(), trial?.seconds());
    (seconds < before).then(|| {
        format!("reported {seconds} training_seconds, but the last rung already had {before}")
    })
}

fn wrong_in_measured(measurement: &Measurement, target: &Target) -> Option<String> {
    let measured = measurement.target();
    if measured != *target {
        return Some(format!("measured on {measured} instead of {target}"));
    }
    let Measurement { p50_ms, p95_ms, min_ms, noise, original, unquantized, .. } = measurement;
    let beside = [original, unquantized].into_iter().flatten();
    let beside = beside.flat_map(|of| [of.p50_ms, of.p95_ms, of.min_ms]);
    let mut latencies = [*p50_ms, *p95_ms, *min_ms].into_iter().chain(beside);
    let wrong = latencies.find_map(|ms| Metric::LATENCY_MS.check(ms).err());
    let wrong = wrong.map(|problem| format!("reported an invalid latency: {problem}"));
    let of_noise = || noise.as_ref().and_then(|noise| noise.check().err());
    let more = || of_noise().or_else(|| measurement.check().err());
    wrong.or_else(|| more().map(|problem| format!("reported {problem}")))
}

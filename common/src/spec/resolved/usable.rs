//! Refuses values that the program divides by, or that leave a range empty, when they are 0. Such a
//! study would stop the program later. The rules of the study file are stricter; none of them is
//! applied here.

use super::ResolvedError;
use crate::spec::{
    AlgorithmSpec, Budget, DataSource, FidelitySpec, OtherSource, Pixels, RewardSpec, StudySpec,
    TableSpec, TeacherSource, TrainWork, Workload,
};

/// Whether the program can work with the values of `spec`.
///
/// # Errors
/// [`ResolvedError::Unusable`] with the first value that it cannot work with.
pub(in crate::spec) fn check(spec: &StudySpec) -> Result<(), ResolvedError> {
    if spec.objectives.is_empty() {
        return unusable("objectives", "there are none");
    }
    for scale in spec.constraints.iter().filter_map(|constraint| constraint.scale) {
        above_zero("constraints.scale", scale)?;
    }
    algorithm(&spec.algorithm)?;
    let Budget { trials, simulated_seconds: _, max_attempts, hours: _ } = spec.budget;
    not_zero("budget.trials", u64::from(trials))?;
    not_zero("budget.max_attempts", u64::from(max_attempts))?;
    if let Some(FidelitySpec { rule: _, rungs, reduction }) = &spec.fidelity {
        ascending("fidelity.rungs", rungs)?;
        not_zero("fidelity.reduction", u64::from(*reduction))?;
    }
    match &spec.work {
        Workload::Train(work) => train(work),
        Workload::Table(work) => table(work, spec.fidelity.is_some()),
    }
}

fn algorithm(spec: &AlgorithmSpec) -> Result<(), ResolvedError> {
    match *spec {
        AlgorithmSpec::Random | AlgorithmSpec::Auto | AlgorithmSpec::LocalSearch => Ok(()),
        AlgorithmSpec::RegularizedEvolution { population, sample, mutations } => {
            not_zero("algorithm.population", population as u64)?;
            not_zero("algorithm.sample", sample as u64)?;
            not_zero("algorithm.mutations", mutations as u64)
        }
        AlgorithmSpec::ModelBased { initial } => not_zero("algorithm.initial", initial as u64),
        AlgorithmSpec::Nsga2 { population, crossover: _, mutations }
        | AlgorithmSpec::Nsga3 { population, crossover: _, mutations } => {
            not_zero("algorithm.population", population as u64)?;
            not_zero("algorithm.mutations", mutations as u64)
        }
        AlgorithmSpec::Reinforce { reward: earned, .. } => reward(earned),
        AlgorithmSpec::Ppo { batch, epochs, reward: earned, .. } => {
            not_zero("algorithm.batch", batch as u64)?;
            not_zero("algorithm.epochs", epochs as u64)?;
            reward(earned)
        }
    }
}

fn reward(spec: RewardSpec) -> Result<(), ResolvedError> {
    match spec {
        RewardSpec::Rank => Ok(()),
        RewardSpec::Target { target, within: _, beyond: _ } => {
            above_zero("algorithm.reward.target", target)
        }
    }
}

fn train(work: &TrainWork) -> Result<(), ResolvedError> {
    match work.data.source {
        DataSource::Digits | DataSource::Idx { .. } | DataSource::Cifar10 { .. } => {}
        DataSource::ImageFolder { side, .. } => not_zero("data.source.side", u64::from(side))?,
    }
    let fraction = work.data.validation_fraction;
    above_zero("data.validation_fraction", fraction)?;
    if fraction >= 1.0 {
        let reason = format!("{fraction} leaves no images to train on");
        return unusable("data.validation_fraction", reason);
    }
    if let Some(model) = &work.model {
        pixels(&model.pixels, work.space.data().channels, ["space.mean", "space.std"])?;
        let scale = model.file.input_scale;
        above_zero("space.model.input_scale", f64::from(scale))?;
    }
    not_zero("training.epochs", u64::from(work.training.epochs))?;
    not_zero("training.batch_size", u64::from(work.training.batch_size))?;
    not_zero("training.views", u64::from(work.training.augmentation.views))?;
    match work.teacher.as_ref().map(|teacher| &teacher.source) {
        Some(TeacherSource::Train { epochs }) => {
            not_zero("teacher.source.epochs", u64::from(*epochs))?;
        }
        Some(TeacherSource::Network(model)) => {
            pixels(&model.pixels, work.space.data().channels, ["teacher.mean", "teacher.std"])?;
            let scale = model.file.input_scale;
            above_zero("teacher.model.input_scale", f64::from(scale))?;
        }
        Some(TeacherSource::Itself | TeacherSource::File { .. }) | None => {}
    }
    for other in work.teacher.iter().flat_map(|teacher| &teacher.others) {
        match &other.source {
            OtherSource::Train { architecture: _, epochs } => {
                not_zero("teacher.others.epochs", u64::from(*epochs))?;
            }
            OtherSource::Network { architecture: _, model } => {
                let parts = ["teacher.others.mean", "teacher.others.std"];
                pixels(&model.pixels, work.space.data().channels, parts)?;
                let scale = f64::from(model.file.input_scale);
                above_zero("teacher.others.model.input_scale", scale)?;
            }
            OtherSource::Logits(_) => {}
        }
        above_zero("teacher.others.weight", other.weight)?;
    }
    for beside in &work.logits_beside {
        above_zero("teacher.others.weight", beside.weight)?;
    }
    for assistant in work.teacher.iter().flat_map(|teacher| &teacher.assistants) {
        not_zero("teacher.assistants.epochs", u64::from(assistant.epochs))?;
        above_zero("teacher.assistants.alpha", assistant.alpha)?;
        above_zero("teacher.assistants.temperature", assistant.temperature)?;
    }
    not_zero("measurement.min_runs", u64::from(work.measurement.min_runs))?;
    not_zero("measurement.threads", u64::from(work.measurement.threads))?;
    if let Some(screening) = work.screening {
        not_zero("screening.batch", u64::from(screening.batch))?;
        above_zero("screening.keep", screening.keep)?;
    }
    Ok(())
}

/// `parts` are the names of the mean and of the deviation.
fn pixels(pixels: &Pixels, channels: u32, parts: [&'static str; 2]) -> Result<(), ResolvedError> {
    let Pixels { mean, std } = pixels;
    for (part, numbers) in parts.into_iter().zip([mean, std]) {
        if numbers.len() != channels as usize {
            return unusable(part, "it needs a number for each channel");
        }
    }
    std.iter().try_for_each(|std| above_zero(parts[1], *std))
}

fn table(work: &TableSpec, has_fidelity: bool) -> Result<(), ResolvedError> {
    match work.epochs {
        Some(epochs) => not_zero("table.epochs", u64::from(epochs))?,
        None if has_fidelity || !work.rungs.is_empty() => {
            return unusable("table.epochs", "they are missing, but the study has rungs");
        }
        None => {}
    }
    let rungs: Vec<u32> = work.rungs.iter().map(|rung| rung.epochs).collect();
    ascending("table.rungs", &rungs)?;
    above_zero("table.seconds_share", work.seconds_share)
}

fn unusable(part: &'static str, reason: impl Into<String>) -> Result<(), ResolvedError> {
    Err(ResolvedError::Unusable { part, reason: reason.into() })
}

fn not_zero(part: &'static str, value: u64) -> Result<(), ResolvedError> {
    if value == 0 { unusable(part, "it is 0, but must be 1 or more") } else { Ok(()) }
}

fn above_zero(part: &'static str, value: f64) -> Result<(), ResolvedError> {
    if value > 0.0 { Ok(()) } else { unusable(part, format!("it is {value}, but must be above 0")) }
}

/// Whether these epochs are above 0 and each above the one before.
fn ascending(part: &'static str, rungs: &[u32]) -> Result<(), ResolvedError> {
    let mut last = 0;
    for rung in rungs {
        if *rung <= last {
            let reason = format!("{rung} is not above {last}; each rung must be above the last");
            return unusable(part, reason);
        }
        last = *rung;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Good documents, as JSON, by the name of their line in `golden.txt`.
    fn good(name: &str) -> Value {
        let line =
            include_str!("golden.txt").lines().rfind(|line| line.split(' ').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("golden.txt has {name}"));
        serde_json::from_str(&line[name.len() + 1..]).unwrap()
    }

    #[test]
    fn zeros_on_which_the_program_would_stop_are_refused_by_name() {
        for (name, pointer, part) in [
            ("regularized-evolution", "algorithm/population", "algorithm.population"),
            ("regularized-evolution", "algorithm/sample", "algorithm.sample"),
            ("regularized-evolution", "algorithm/mutations", "algorithm.mutations"),
            ("model-based", "algorithm/initial", "algorithm.initial"),
            ("nsga2", "algorithm/population", "algorithm.population"),
            ("nsga2", "algorithm/mutations", "algorithm.mutations"),
            ("nsga3", "algorithm/population", "algorithm.population"),
            ("nsga3", "algorithm/mutations", "algorithm.mutations"),
            ("ppo", "algorithm/batch", "algorithm.batch"),
            ("ppo", "algorithm/epochs", "algorithm.epochs"),
            ("ppo", "algorithm/reward/target/target", "algorithm.reward.target"),
            ("reinforce-target", "algorithm/reward/target/target", "algorithm.reward.target"),
            ("auto", "budget/trials", "budget.trials"),
            ("auto", "budget/max_attempts", "budget.max_attempts"),
            ("asha", "fidelity/reduction", "fidelity.reduction"),
            ("asha", "fidelity/rungs/0", "fidelity.rungs"),
            ("asha", "fidelity/rungs/1", "fidelity.rungs"),
            ("image-folder", "work/train/data/source/image-folder/side", "data.source.side"),
            ("auto", "work/train/data/validation_fraction", "data.validation_fraction"),
            ("auto", "work/train/training/epochs", "training.epochs"),
            ("auto", "work/train/training/batch_size", "training.batch_size"),
            ("auto", "work/train/training/views", "training.views"),
            ("auto", "work/train/measurement/min_runs", "measurement.min_runs"),
            ("auto", "work/train/measurement/threads", "measurement.threads"),
            ("teacher-trained", "work/train/teacher/source/train/epochs", "teacher.source.epochs"),
            ("naswot", "work/train/screening/batch", "screening.batch"),
            ("naswot", "work/train/screening/keep", "screening.keep"),
            ("table-rungs", "work/table/epochs", "table.epochs"),
            ("table-rungs", "work/table/rungs/0/epochs", "table.rungs"),
            ("table-rungs", "work/table/seconds_share", "table.seconds_share"),
        ] {
            refused(name, pointer, Value::from(0), part);
        }
    }

    #[test]
    fn other_values_on_which_the_program_would_stop_are_refused_by_name() {
        refused("auto", "objectives", Value::Array(Vec::new()), "objectives");
        let fraction = "data.validation_fraction";
        refused("auto", "work/train/data/validation_fraction", Value::from(1), fraction);
        refused("table-rungs", "work/table/epochs", Value::Null, "table.epochs");
        refused("asha", "fidelity/rungs", Value::from(vec![4, 2]), "fidelity.rungs");
    }

    fn refused(name: &str, pointer: &str, value: Value, part: &str) {
        let mut document = good(name);
        assert!(StudySpec::from_resolved(&document.to_string()).is_ok(), "{name}");
        let field = document.pointer_mut(&format!("/{pointer}"));
        *field.unwrap_or_else(|| panic!("{name} has no {pointer}")) = value;
        match StudySpec::from_resolved(&document.to_string()) {
            Err(ResolvedError::Unusable { part: named, .. }) => assert_eq!(named, part, "{name}"),
            other => panic!("{name} {pointer}: {other:?}"),
        }
    }
}

//! `edgesmith validate`.

use std::path::PathBuf;

use edgesmith_client::read_study;
use edgesmith_common::spec::{
    Budget, FidelityRule, FidelitySpec, ScreeningSpec, TeacherSource, TrainWork, TrainingSpec,
    Workload,
};
use edgesmith_console::{print_text, table};
use edgesmith_search_space::{Architecture, Cost, Plan, Precision, StagedSpace};

/// Arguments: the study file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study file
    pub study: PathBuf,
}

/// Checks a study file and prints what would run.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let spec = read_study(&args.study)?;
    let space = &spec.space;
    let choices: Vec<&edgesmith_search_space::Choice> =
        space.choices().iter().filter(|c| c.options.len() > 1).collect();
    let mut lines = vec![format!("{} is valid", args.study.display())];
    let mut say = |name: &str, text: String| lines.push(format!("{name:<12}{text}"));
    say("study", format!("{} (seed {})", spec.name, spec.seed.0));
    match &spec.work {
        Workload::Train(work) => say("data", work.data.source.to_string()),
        Workload::Table(table) => {
            say("table", format!("{}: trials are looked up, nothing is trained", table.path));
        }
    }
    say(
        "space",
        format!(
            "{} genotypes from {} choices with more than one option; distinct networks are fewer",
            space.size(),
            choices.len()
        ),
    );
    if let Some((architecture, cost)) = spec.training().and_then(|work| largest(&work.space)) {
        say(
            "largest",
            format!(
                "{architecture} ({} parameters, {} MACs)",
                table::count(cost.parameters),
                table::count(cost.macs)
            ),
        );
    }
    let objectives: Vec<String> = spec
        .objectives
        .iter()
        .map(|o| format!("{} {o}", format!("{:?}", o.goal).to_lowercase()))
        .collect();
    say("objectives", objectives.join(", "));
    if !spec.constraints.is_empty() {
        let constraints: Vec<String> = spec.constraints.iter().map(ToString::to_string).collect();
        say("subject to", constraints.join(", "));
    }
    let limits: Vec<String> =
        spec.predicted_limits().iter().map(|(class, ms)| format!("{ms} ms on {class}")).collect();
    if !limits.is_empty() {
        say(
            "predicts",
            format!(
                "latency from earlier measurements; candidates surely above {} are not trained",
                limits.join(" or ")
            ),
        );
    }
    if !spec.start_from.is_empty() {
        let names: Vec<&str> = spec.start_from.iter().map(|name| name.as_str()).collect();
        say("starts from", names.join(", "));
    }
    say("algorithm", spec.algorithm.name().to_owned());
    match &spec.work {
        Workload::Train(work) => {
            say_budget(&work.training, spec.budget.trials, &mut say);
            if let Some(ScreeningSpec { proxy, batch, keep }) = work.screening {
                // A batch is never larger than the rest of the budget.
                let batch = batch.min(spec.budget.trials);
                let kept = format!("{:.0} %", 100.0 * keep);
                let of = format!("of each batch of {batch} (the last ones may be smaller),");
                say("screening", format!("{of} the best {kept} by {proxy} are trained"));
            }
            say_fidelity(spec.fidelity.as_ref(), work.training.epochs, &mut say);
            say_teacher(work, &mut say);
        }
        Workload::Table(table) => {
            say("budget", lookups(&spec.budget));
            let epochs = table.epochs.unwrap_or_default();
            say_fidelity(spec.fidelity.as_ref(), epochs, &mut say);
        }
    }
    let devices: Vec<String> = spec.devices().iter().map(ToString::to_string).collect();
    let devices = if devices.is_empty() { "none".to_owned() } else { devices.join(", ") };
    say("devices", devices);
    lines.push(String::new());
    print_text(&lines.join("\n"))
}

fn say_budget(training: &TrainingSpec, trials: u32, say: &mut impl FnMut(&str, String)) {
    let TrainingSpec { epochs, fine_tune_epochs, inherit_epochs, .. } = training;
    let heirs = match inherit_epochs {
        0 => String::new(),
        epochs => format!(", {epochs} where weights are inherited"),
    };
    say(
        "budget",
        format!(
            "{trials} trials of {epochs} epochs{heirs} (+{fine_tune_epochs} of fine-tuning where \
             channels are pruned)"
        ),
    );
}

/// The rungs of trials with `epochs` epochs, if the study has rungs.
fn say_fidelity(fidelity: Option<&FidelitySpec>, epochs: u32, say: &mut impl FnMut(&str, String)) {
    if let Some(fidelity) = fidelity {
        let rungs = fidelity.rungs.iter().chain([&epochs]);
        let rungs: Vec<String> = rungs.map(u32::to_string).collect();
        let who = match fidelity.rule {
            FidelityRule::Asha => format!("about one in {} goes on", fidelity.reduction),
            FidelityRule::Median => "trials below the median stop".to_owned(),
            FidelityRule::Curve { confidence } => {
                format!("trials that cannot reach the front, at {:.0} %, stop", 100.0 * confidence)
            }
        };
        let (rule, rungs) = (fidelity.rule.name(), rungs.join(", "));
        say("fidelity", format!("{rule}: rungs at {rungs} epochs; {who} at each"));
    }
}

fn say_teacher(work: &TrainWork, say: &mut impl FnMut(&str, String)) {
    let teacher = match &work.teacher {
        Some(teacher) => match &teacher.source {
            TeacherSource::Train { epochs } => {
                format!("{}, trained for {epochs} epochs", teacher.architecture)
            }
            TeacherSource::File { path } => format!("{}, from {path}", teacher.architecture),
        },
        None => "none".to_owned(),
    };
    say("teacher", teacher);
}

fn lookups(budget: &Budget) -> String {
    match budget.simulated_seconds {
        Some(seconds) => format!("{seconds} seconds of training according to the table"),
        None => format!("{} trials", budget.trials),
    }
}

/// The space's largest network and its cost before compression.
fn largest(space: &StagedSpace) -> Option<(Architecture, Cost)> {
    let architecture = space.decode(&space.largest().ok()?).architecture;
    let plan = Plan::lower(&architecture, space.data()).ok()?;
    Some((architecture, plan.cost(Precision::Fp32)))
}

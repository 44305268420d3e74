//! `edgesmith validate`.

use edgesmith_common::spec::TeacherSource;
use edgesmith_search_space::Precision;

use crate::args::ValidateArgs;
use crate::commands::submit;
use crate::output::table;

/// Checks a study file and says what would run.
pub fn run(args: &ValidateArgs) -> anyhow::Result<()> {
    let spec = submit::read_study(&args.study)?;
    let space = &spec.space;
    let choices: Vec<&edgesmith_search_space::Choice> =
        space.choices().iter().filter(|c| c.options.len() > 1).collect();
    let mut lines = vec![format!("{} is valid", args.study.display())];
    let mut say = |name: &str, text: String| lines.push(format!("{name:<12}{text}"));
    say("study", format!("{} (seed {})", spec.name, spec.seed.0));
    say("data", spec.data.source.to_string());
    say(
        "space",
        format!(
            "{} genotypes from {} choices with more than one option; distinct networks are fewer",
            space.size(),
            choices.len()
        ),
    );
    if let Ok(largest) = space.largest() {
        let candidate = space.decode(&largest);
        if let Ok(plan) = candidate.plan(space.data()) {
            let cost = plan.cost(Precision::Fp32);
            say(
                "largest",
                format!(
                    "{} ({} parameters, {} MACs)",
                    candidate.architecture,
                    table::count(cost.parameters),
                    table::count(cost.macs)
                ),
            );
        }
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
    say("algorithm", spec.algorithm.name().to_owned());
    say(
        "budget",
        format!(
            "{} trials of {} epochs (+{} of fine-tuning where channels are pruned)",
            spec.budget.trials, spec.training.epochs, spec.training.fine_tune_epochs
        ),
    );
    match &spec.teacher {
        Some(teacher) => say(
            "teacher",
            match &teacher.source {
                TeacherSource::Train { epochs } => {
                    format!("{}, trained for {epochs} epochs", teacher.architecture)
                }
                TeacherSource::File { path } => format!("{}, from {path}", teacher.architecture),
            },
        ),
        None => say("teacher", "none".to_owned()),
    }
    let devices: Vec<String> = spec.devices().iter().map(ToString::to_string).collect();
    let devices = if devices.is_empty() { "none".to_owned() } else { devices.join(", ") };
    say("devices", devices);
    lines.push(String::new());
    crate::output::print(&lines.join("\n"))
}

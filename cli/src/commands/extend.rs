//! `edgesmith extend`: gives a study a larger budget.

use edgesmith_client::{Connection, Coordinator};
use edgesmith_console::{number, print_text};
use edgesmith_proto::v1;

use crate::commands::status::{now, warn_if_stopped};
use crate::output::counted;

/// Arguments: the study and its new limits.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study name
    pub study: String,
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub connection: Connection,
}

/// The new limits.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub struct Limits {
    /// The new budget.trials, with all earlier trials included
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = number::whole(1..=u32::MAX))]
    pub trials: Option<u32>,
    /// The new budget.hours, from the beginning of the study
    #[arg(long, value_name = "H", allow_negative_numbers = true,
          value_parser = number::above_zero)]
    pub hours: Option<f64>,
}

/// Extends the study, and says what its budget is now.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { study, limits: Limits { trials, hours }, connection } = args;
    let coordinator = Coordinator::connect(&connection).await?;
    let request = v1::ExtendStudyRequest { study, trials, hours };
    let status = coordinator.change(coordinator.studies().extend_study(request)).await?;
    print_text(&format!("{}\n", describe(&status, !coordinator.is_private())))?;
    warn_if_stopped(&status, &coordinator);
    Ok(())
}

/// A study with its budget in words.
pub fn describe(status: &v1::StudyStatus, coordinator_runs: bool) -> String {
    let hours = status.budget_hours.map(|hours| format!(" and {}", counted(hours, "hour")));
    let (name, state) = (&status.name, now(status, coordinator_runs));
    let (trials, hours) = (counted(status.budget_trials, "trial"), hours.unwrap_or_default());
    format!("{name} is {state} with a budget of {trials}{hours}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_names_the_limits() {
        let mut status = v1::StudyStatus {
            name: "s".to_owned(),
            state: v1::StudyState::Running.into(),
            budget_trials: 40,
            ..Default::default()
        };
        assert_eq!(describe(&status, true), "s is running with a budget of 40 trials");
        assert_eq!(describe(&status, false), "s is stopped with a budget of 40 trials");
        status.budget_hours = Some(1.5);
        let text = "s is running with a budget of 40 trials and 1.5 hours";
        assert_eq!(describe(&status, true), text);
    }
}

//! `edgesmith gc`: removes artifacts that no study needs.

use edgesmith_client::{Connection, Coordinator};
use edgesmith_console::{number, print_text, table};
use edgesmith_proto::v1;

/// Arguments: how old an artifact must be.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove what was stored at least this many hours ago, and a minute. Workers may still report
    /// younger artifacts that they have uploaded; use 0 if none is running
    #[arg(long, value_name = "HOURS", default_value_t = 24, allow_negative_numbers = true,
          value_parser = number::whole(0..=1_000_000_u64))]
    pub older_than: u64,
    #[command(flatten)]
    pub connection: Connection,
}

/// Removes them, and says how many.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let request = v1::CollectArtifactsRequest { min_age_seconds: args.older_than * 3600 };
    let answer = coordinator.change(coordinator.studies().collect_artifacts(request)).await?;
    print_text(&describe(&answer, args.older_than))
}

fn describe(answer: &v1::CollectArtifactsResponse, hours: u64) -> String {
    let v1::CollectArtifactsResponse { removed, removed_bytes, young, kept } = *answer;
    let mut text =
        format!("removed {removed} artifacts ({}); {kept} are needed", table::bytes(removed_bytes));
    if young > 0 {
        let age = if hours == 0 { "a minute".to_owned() } else { format!("{hours} hours") };
        text += &format!("; {young} are not needed, but younger than {age}");
        if hours > 0 {
            text += " (`--older-than 0` removes those, too, if no worker is running)";
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_said() {
        let mut answer =
            v1::CollectArtifactsResponse { removed: 3, removed_bytes: 2048, young: 0, kept: 7 };
        let said = "removed 3 artifacts (2.0 KiB); 7 are needed";
        assert_eq!(describe(&answer, 24), format!("{said}\n"));
        answer.young = 2;
        let young = "; 2 are not needed, but younger than 24 hours (`--older-than 0` removes \
                     those, too, if no worker is running)\n";
        assert_eq!(describe(&answer, 24), format!("{said}{young}"));
    }
}

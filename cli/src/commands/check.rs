//! `edgesmith check`, `edgesmith backup` and `edgesmith restore`: work on a data directory itself.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use edgesmith_client::DEFAULT_DATA_DIR;
use edgesmith_console::{print_text, table};
use edgesmith_coordinator::maintenance::{self, BackedUp, Checked};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
    /// Cut a damaged journal at the damage: what comes after it is lost, and its bytes are kept in
    /// a file beside it. The coordinator must be stopped
    #[arg(long)]
    pub repair: bool,
}

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// New directory for the backup
    pub to: PathBuf,
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
}

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// The backup
    pub from: PathBuf,
    /// New data directory
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
}

/// Reads everything in a data directory and says what is whole.
pub fn check(args: &CheckArgs) -> anyhow::Result<()> {
    let directory = &args.data_dir;
    if args.repair {
        print_text(&repaired(directory)?)?;
    }
    let Checked {
        records,
        artifacts,
        artifact_bytes,
        unneeded,
        tokens,
        problems,
        artifact_problems,
    } = maintenance::check(directory)?;
    let records = match records {
        Some((records, studies)) => {
            format!("{records} records of {}, and ", counted(studies as u64, "study", "studies"))
        }
        None => String::new(),
    };
    let artifacts = counted(artifacts, "artifact", "artifacts");
    let mut text = format!("{records}{artifacts} ({}) are whole\n", table::bytes(artifact_bytes));
    if unneeded > 0 {
        text += &format!("{unneeded} of the artifacts are not needed by any study\n");
    }
    match tokens {
        Some(0) => text += "there are no tokens, so a coordinator on it asks for none\n",
        Some(tokens) => {
            let are = if tokens == 1 { "is" } else { "are" };
            text += &format!("there {are} {}\n", counted(tokens as u64, "token", "tokens"))
        }
        None => {}
    }
    print_text(&text)?;
    fail_for(directory, &[problems, artifact_problems].concat())
}

/// Fails if there are problems.
fn fail_for(directory: &Path, problems: &[String]) -> anyhow::Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let count = counted(problems.len() as u64, "problem", "problems");
    anyhow::bail!("{count} in {}:\n{}", directory.display(), problems.join("\n"))
}

/// Repairs a directory and says what was done.
fn repaired(directory: &Path) -> anyhow::Result<String> {
    let Some(journal) = maintenance::repair(directory, SystemTime::now())?.journal else {
        return Ok("the journal is whole; there is nothing to cut\n".to_owned());
    };
    let mut text = match journal.cut {
        Some(_) => format!("the journal now has the {} records before the damage", journal.kept),
        None => format!("the journal was mended and has {} records", journal.kept),
    };
    text += &match journal.lost {
        Some(0) => "; none that was acknowledged is lost".to_owned(),
        Some(lost) => format!("; {lost} that were acknowledged are lost"),
        None => "; how many were acknowledged is not known".to_owned(),
    };
    if journal.lost != Some(0) {
        text += "; what was deleted after the last record that was kept is there again";
    }
    text += "; the repair adds records that keep the ids of lost ones from being used again";
    if let Some((place, bytes)) = journal.cut {
        text += &format!("; the {bytes} bytes that were cut off are in {}", place.display());
    }
    if journal.lost != Some(0) {
        text += "\nmodel files of what is lost stay until `edgesmith gc` removes them, which a \
                 coordinator does with files that are a day old; copy artifacts/ before, if you \
                 want them";
    }
    Ok(text + "\n")
}

/// Copies a data directory, also that of a running coordinator.
pub fn backup(args: &BackupArgs) -> anyhow::Result<()> {
    let copied = maintenance::backup(&args.data_dir, &args.to)?;
    print_text(&format!("backed up {} to {}\n", contents(&copied), args.to.display()))?;
    eprintln!("it has the keys of the coordinator; keep it as safe as those");
    fail_for(&args.data_dir, &copied.problems)
}

/// Makes a data directory of a backup.
pub fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let copied = maintenance::restore(&args.from, &args.data_dir, SystemTime::now())?;
    print_text(&format!("restored {} to {}\n", contents(&copied), args.data_dir.display()))?;
    fail_for(&args.from, &copied.problems)
}

fn contents(copied: &BackedUp) -> String {
    let BackedUp { records, artifacts, bytes, problems: _ } = copied;
    let artifacts = counted(*artifacts, "artifact", "artifacts");
    format!("{records} records and {artifacts} ({})", table::bytes(*bytes))
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

//! Prints the answer of a command in the requested format.

use std::io::Write as _;

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::invalid;
use crate::printable::{printable, printable_json};

/// The answer of a command, in every format that it supports.
pub trait Output {
    /// For people: lines that end with a line break.
    fn table(&self) -> String;

    /// For programs: a document of the stable interface.
    fn json(&self) -> impl Serialize;

    /// Rows with a heading; `None` if the answer is not a list of trials.
    fn csv(&self) -> Option<String> {
        None
    }
}

/// Output format of commands that support CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// The stable interface; see docs/json.md.
    Json,
    /// One row per trial.
    Csv,
}

/// Output format of commands without CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For people.
    Table,
    /// The stable interface; see docs/json.md.
    Json,
}

impl From<ListFormat> for Format {
    fn from(format: ListFormat) -> Self {
        match format {
            ListFormat::Table => Format::Table,
            ListFormat::Json => Format::Json,
        }
    }
}

/// Writes an answer to standard output.
///
/// # Errors
/// When standard output is closed, or CSV is requested and the answer does not support it.
pub fn print(output: &impl Output, format: impl Into<Format>) -> anyhow::Result<()> {
    write(&render(output, format.into())?)
}

/// Writes to standard output, with visible characters in place of those that a terminal acts on. A
/// closed pipe is returned as an error and does not panic.
///
/// # Errors
/// When standard output is closed.
pub fn print_text(text: &str) -> anyhow::Result<()> {
    write(&printable(text))
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn render(output: &impl Output, format: Format) -> anyhow::Result<String> {
    match format {
        Format::Table => Ok(printable(&output.table())),
        Format::Json => Ok(printable_json(&serde_json::to_string_pretty(&output.json())?) + "\n"),
        Format::Csv => {
            let csv = output.csv();
            let csv = csv.ok_or_else(|| invalid("this command has no CSV; use table or json"))?;
            Ok(printable(&csv))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(u32);

    impl Output for Count {
        fn table(&self) -> String {
            format!("count  {}\n", self.0)
        }

        fn json(&self) -> impl Serialize {
            [self.0]
        }
    }

    struct Name(&'static str);

    impl Output for Name {
        fn table(&self) -> String {
            format!("{}\n", self.0)
        }

        fn json(&self) -> impl Serialize {
            self.0
        }

        fn csv(&self) -> Option<String> {
            Some(format!("name\n{}\n", self.0))
        }
    }

    #[test]
    fn no_format_prints_what_a_terminal_acts_on() {
        let name = Name("a\u{1b}[2J\u{202e}b");
        let text = |format| render(&name, format).unwrap();
        assert_eq!(text(Format::Table), "a�[2J�b\n");
        assert_eq!(text(Format::Csv), "name\na�[2J�b\n");
        assert_eq!(text(Format::Json), "\"a\\u001b[2J\\u202eb\"\n");
    }

    #[test]
    fn each_format_has_its_own_text() {
        let text = |format| render(&Count(3), format).map_err(|error| error.to_string());
        assert_eq!(text(Format::Table).unwrap(), "count  3\n");
        assert_eq!(text(ListFormat::Json.into()).unwrap(), "[\n  3\n]\n");
        assert!(text(Format::Csv).unwrap_err().contains("no CSV"));
    }
}

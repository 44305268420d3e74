//! How answers look: tables and plots for people, JSON and CSV for programs.

pub mod json;
pub mod marks;
pub mod progress;
pub mod scatter;
pub mod table;
pub mod trial_row;

pub use trial_row::TrialRow;

/// Writes to standard output; a closed pipe is an error to be passed on, not a panic.
pub fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes a document of the stable JSON interface.
pub fn print_json(document: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    print(&text)
}

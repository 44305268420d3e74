//! How a command fails: one clear message on standard error and the right exit code.

use std::fmt;
use std::io::{ErrorKind, IsTerminal as _};
use std::process::ExitCode;

use crate::printable::printable;

/// Input that the user can correct: exit code 2.
#[derive(Debug)]
pub struct Invalid(pub String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

/// An [`Invalid`] as an error to return.
pub fn invalid(text: impl Into<String>) -> anyhow::Error {
    Invalid(text.into()).into()
}

/// Prints the error and returns its exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    // A closed pipe (`edgesmith trials S | head`) is not a failure.
    let broken_pipe = error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
    });
    if broken_pipe {
        return ExitCode::SUCCESS;
    }
    let (bold, plain) =
        if std::io::stderr().is_terminal() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    eprintln!("{bold}error:{plain} {}", printable(&sentence(error)));
    if error.downcast_ref::<Invalid>().is_some() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// The error and its causes, without causes that the text already contains.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_not_repeated() {
        let cause = std::io::Error::other("the disk is full");
        let error = anyhow::Error::new(cause).context("failed to write: the disk is full");
        let text = sentence(&error.context("failed to submit"));
        assert_eq!(text, "failed to submit: failed to write: the disk is full");
    }
}

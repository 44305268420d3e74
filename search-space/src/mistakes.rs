//! Mistakes in the definition of a space, collected so that the user sees all of them at once.

use std::fmt;

/// Most options of a choice in new studies. More are certainly a mistake.
pub const MAX_OPTIONS: usize = 256;
/// Most options of a choice that is read from disk or from the network. Genotypes hold them as 16
/// bits; this is less, to bound the memory.
pub const MAX_RECORDED_OPTIONS: usize = 4096;

/// One mistake in a definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SpaceError {
    /// Path in the study file, for example `space.stages[1].kernel`.
    pub field: String,
    /// What is wrong and how to fix it.
    pub message: String,
}

/// Collects all mistakes, so that the user sees them at once.
#[derive(Default)]
pub struct Errors(Vec<SpaceError>);

impl Errors {
    pub fn into_result(self) -> Result<(), Vec<SpaceError>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }

    pub fn push(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(SpaceError { field: field.to_owned(), message: message.into() });
    }

    pub fn check_recorded<T: fmt::Debug>(
        &mut self,
        field: &str,
        values: &[T],
        valid: impl Fn(&T) -> bool,
    ) {
        if values.is_empty() {
            self.push(field, "the list is empty");
        }
        if values.len() > MAX_RECORDED_OPTIONS {
            self.push(field, format!("{} values are too many", values.len()));
        }
        if let Some(value) = values.iter().find(|value| !valid(value)) {
            self.push(field, format!("{value:?} is not a value that this program can work with"));
        }
    }

    pub fn check<T: PartialEq + fmt::Debug>(
        &mut self,
        field: &str,
        values: &[T],
        valid: impl Fn(&T) -> bool,
        range: &str,
    ) {
        let fault = |value: &T| format!("{value:?} is not allowed; use {range}");
        self.check_each(field, values, |value| (!valid(value)).then(|| fault(value)));
    }

    /// [`Errors::check`] with a sentence for each value that is not allowed.
    pub fn check_each<T: PartialEq + fmt::Debug>(
        &mut self,
        field: &str,
        values: &[T],
        fault: impl Fn(&T) -> Option<String>,
    ) {
        if values.is_empty() {
            self.push(field, "the list is empty; give at least one value");
        }
        if values.len() > MAX_OPTIONS {
            let text =
                format!("{} values are too many; at most {MAX_OPTIONS} are allowed", values.len());
            // They are not looked at, because each is compared with those before it.
            return self.push(field, text);
        }
        for (i, value) in values.iter().enumerate() {
            if let Some(text) = fault(value) {
                self.push(field, text);
            } else if values[..i].contains(value) {
                self.push(field, format!("{value:?} is listed twice; keep one"));
            }
        }
    }
}

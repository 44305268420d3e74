//! Mistakes in a study file.

use std::fmt;

/// One mistake, its place, and how to correct it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    /// Line in the file, from 1; 0 if the mistake concerns the whole file.
    pub line: usize,
    /// Path of the field, for example `space.stages[1].kernel`; empty for a syntax error.
    pub field: String,
    /// What is wrong, and the correction.
    pub message: String,
}

/// Every mistake in one study file, sorted by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecErrors(pub Vec<SpecError>);

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// One mistake per line.
impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecErrors {}

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

/// The mistakes in one study file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecErrors {
    /// The first 100 that were found, sorted by line.
    pub listed: Vec<SpecError>,
    /// Number of further ones.
    pub more: usize,
}

impl SpecErrors {
    /// Number of all mistakes, listed or not.
    pub fn count(&self) -> usize {
        self.listed.len() + self.more
    }
}

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

/// One mistake per line, and the number of those that are not listed.
impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.listed.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecErrors {}

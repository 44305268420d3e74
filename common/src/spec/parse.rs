//! From text to a valid spec, or to everything that is wrong with it.

use super::{SpecErrors, StudySpec};

impl StudySpec {
    /// Parses and checks a study file.
    ///
    /// # Errors
    /// Every mistake of the file at once.
    pub fn parse(_text: &str) -> Result<Self, SpecErrors> {
        todo!()
    }
}

//! What the indices of stored genotypes mean: the choices that each study's record names.

use std::collections::HashMap;

use edgesmith_search_space::{Choice, Space, Translation};

/// By study, how its stored genotypes read today.
#[derive(Debug, Default)]
pub struct RecordedChoices(HashMap<String, Reading>);

#[derive(Debug)]
enum Reading {
    /// The choices are what they were.
    Same,
    /// They changed.
    Translated(Translation),
}

impl RecordedChoices {
    /// Notes the choices of a study's record; `space` is what the study searches today.
    pub fn note(&mut self, study: &str, recorded: &[Choice], space: &Space) -> Result<(), String> {
        let reading = if recorded == space.choices() {
            Reading::Same
        } else {
            Reading::Translated(space.translation(recorded).map_err(|e| e.to_string())?)
        };
        self.0.insert(study.to_owned(), reading);
        Ok(())
    }

    /// A stored genotype's option indices as of today.
    pub fn read(&self, study: &str, genotype: Vec<u16>) -> Result<Vec<u16>, String> {
        match self.0.get(study) {
            Some(Reading::Translated(translation)) => {
                translation.translate(&genotype).map_err(|e| e.to_string())
            }
            // Of a study that nobody knows the core says so.
            Some(Reading::Same) | None => Ok(genotype),
        }
    }
}

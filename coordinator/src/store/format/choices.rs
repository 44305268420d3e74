//! The meaning of the indices in stored genotypes: the choices that each study's record names.

use std::collections::HashMap;

use edgesmith_search_space::{Choice, Space, Translation};

/// By study: how its stored genotypes are translated to today's choices.
#[derive(Debug, Default)]
pub struct RecordedChoices(HashMap<String, Reading>);

#[derive(Debug)]
enum Reading {
    /// The choices have not changed.
    Same,
    /// The choices have changed.
    Translated(Translation),
}

impl RecordedChoices {
    /// Remembers the choices in a study's record. `space` is the study's space today.
    pub fn note(&mut self, study: &str, recorded: &[Choice], space: &Space) -> Result<(), String> {
        let reading = if recorded == space.choices() {
            Reading::Same
        } else {
            Reading::Translated(space.translation(recorded).map_err(|e| e.to_string())?)
        };
        self.0.insert(study.to_owned(), reading);
        Ok(())
    }

    /// A study has another name from here on.
    pub fn rename(&mut self, study: &str, new: &str) {
        if let Some(reading) = self.0.remove(study) {
            self.0.insert(new.to_owned(), reading);
        }
    }

    /// Translates a stored genotype's option indices to today's.
    pub fn read(&self, study: &str, genotype: Vec<u16>) -> Result<Vec<u16>, String> {
        match self.0.get(study) {
            Some(Reading::Translated(translation)) => {
                translation.translate(&genotype).map_err(|e| e.to_string())
            }
            // If the study is unknown, the core reports it.
            Some(Reading::Same) | None => Ok(genotype),
        }
    }
}

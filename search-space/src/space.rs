//! The space as search algorithms see it: a list of categorical choices, and genotypes that pick one
//! option of each. What a genotype means is for the kind of space to say.

use serde::{Deserialize, Serialize};

use crate::{CellSpace, StagedSpace};

/// One categorical decision, for example `stage2.kernel` with three options.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Choice {
    /// Unique within the space.
    pub name: String,
    /// What each option is, as text.
    pub options: Vec<String>,
}

/// One option index per choice of one [`Space`]. Only a space makes valid ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Genotype(pub(crate) Vec<u16>);

impl Genotype {
    /// The option indices, one per choice.
    pub fn indices(&self) -> &[u16] {
        &self.0
    }
}

/// What can be searched: at least one option everywhere.
#[derive(Debug, Clone, PartialEq)]
pub enum Space {
    /// Staged convolutional networks with the recipe that compresses them.
    Staged(StagedSpace),
    /// Cells of a tabular benchmark.
    Cell(CellSpace),
}

/// Why indices are not a genotype of this space.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenotypeError {
    /// Not one index per choice.
    #[error("genotype has {given} indices where the space has {expected} choices")]
    Length {
        /// How many came.
        given: usize,
        /// How many there are.
        expected: usize,
    },
    /// An index past the last option.
    #[error("genotype picks option {given} of {choice}, which has {options}")]
    OutOfRange {
        /// The choice's name.
        choice: String,
        /// The index.
        given: u16,
        /// Number of options.
        options: usize,
    },
}

/// Why names are not a genotype of this space.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A choice of the space is not named.
    #[error("{choice} is missing")]
    Missing {
        /// Which.
        choice: String,
    },
    /// The space has no such choice.
    #[error("this study's space has no choice {choice}")]
    NoChoice {
        /// As named.
        choice: String,
    },
    /// The choice has no such option.
    #[error("{choice} is {option}, which this study's space does not offer")]
    NoOption {
        /// Which choice.
        choice: String,
        /// As named.
        option: String,
    },
}

impl Space {
    /// The decisions, in genotype order.
    pub fn choices(&self) -> &[Choice] {
        match self {
            Space::Staged(space) => space.choices(),
            Space::Cell(space) => space.choices(),
        }
    }

    /// Number of genotypes; distinct networks are fewer. Saturates at `u128::MAX`.
    pub fn size(&self) -> u128 {
        self.choices().iter().fold(1, |n, c| n.saturating_mul(c.options.len() as u128))
    }

    /// Takes indices that came from outside.
    ///
    /// # Errors
    /// When they do not fit this space.
    pub fn genotype(&self, indices: Vec<u16>) -> Result<Genotype, GenotypeError> {
        let choices = self.choices();
        if indices.len() != choices.len() {
            return Err(GenotypeError::Length { given: indices.len(), expected: choices.len() });
        }
        for (choice, &given) in choices.iter().zip(&indices) {
            if usize::from(given) >= choice.options.len() {
                let (choice, options) = (choice.name.clone(), choice.options.len());
                return Err(GenotypeError::OutOfRange { choice, given, options });
            }
        }
        Ok(Genotype(indices))
    }

    /// What a genotype of this space picks, choice by choice, by name.
    ///
    /// # Panics
    /// When the genotype is another space's.
    pub fn named(&self, genotype: &Genotype) -> Vec<(String, String)> {
        let choices = self.choices();
        assert_eq!(genotype.0.len(), choices.len(), "a genotype of another space");
        let pick = |(choice, &index): (&Choice, &u16)| {
            (choice.name.clone(), choice.options[usize::from(index)].clone())
        };
        choices.iter().zip(&genotype.0).map(pick).collect()
    }

    /// The genotype that picks these options, in whatever order; of this space or of another one with the
    /// same choices.
    ///
    /// # Errors
    /// When a choice is missing, is none of this space's, or does not have the option.
    pub fn genotype_of_names(&self, named: &[(String, String)]) -> Result<Genotype, NameError> {
        let choices = self.choices();
        let unknown = |(name, _): &&(String, String)| choices.iter().all(|c| c.name != *name);
        if let Some((choice, _)) = named.iter().find(unknown) {
            return Err(NameError::NoChoice { choice: choice.clone() });
        }
        let index = |choice: &Choice| {
            let given = named.iter().find(|(name, _)| *name == choice.name);
            let name = || choice.name.clone();
            let (_, option) = given.ok_or_else(|| NameError::Missing { choice: name() })?;
            let place = choice.options.iter().position(|other| other == option);
            place
                .map(|place| place as u16)
                .ok_or_else(|| NameError::NoOption { choice: name(), option: option.clone() })
        };
        choices.iter().map(index).collect::<Result<_, _>>().map(Genotype)
    }

    /// The network that a genotype of this space means, in words.
    ///
    /// # Panics
    /// When the genotype is another space's.
    pub fn describe(&self, genotype: &Genotype) -> String {
        match self {
            Space::Staged(space) => space.decode(genotype).architecture.to_string(),
            Space::Cell(space) => space.decode(genotype).to_string(),
        }
    }
}

impl From<StagedSpace> for Space {
    fn from(space: StagedSpace) -> Self {
        Space::Staged(space)
    }
}

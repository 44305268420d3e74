//! The search space as used by search algorithms: a list of categorical choices, and genotypes that
//! pick one option of each. The kind of space defines which candidate a genotype describes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{CellSpace, ModelSpace, StagedSpace};

/// One categorical decision, for example `stage2.kernel` with three options.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Choice {
    /// Unique within the space.
    pub name: String,
    /// The text of each option.
    pub options: Vec<String>,
}

/// A choice between values, by their texts.
pub(crate) fn choice<T: fmt::Display>(name: &str, values: &[T]) -> Choice {
    Choice { name: name.to_owned(), options: values.iter().map(T::to_string).collect() }
}

/// One option index per choice of one [`Space`]. Only a space creates valid genotypes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Genotype(pub(crate) Vec<u16>);

impl Genotype {
    /// The option indices, one per choice.
    pub fn indices(&self) -> &[u16] {
        &self.0
    }
}

/// What can be searched. Every choice has at least one option.
#[derive(Debug, Clone, PartialEq)]
pub enum Space {
    /// Staged convolutional networks with the recipe that compresses them.
    Staged(StagedSpace),
    /// Variants of a user's network with the recipe that compresses them.
    Model(ModelSpace),
    /// Cells of a tabular benchmark.
    Cell(CellSpace),
}

/// Why indices are not a genotype of this space.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenotypeError {
    /// The number of indices differs from the number of choices.
    #[error("genotype has {given} indices, but the space has {expected} choices")]
    Length {
        /// Number of indices.
        given: usize,
        /// Number of choices.
        expected: usize,
    },
    /// An index is past the last option.
    #[error("genotype picks option {given} of {choice}, which has {options} options")]
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
    /// A choice of the space is missing.
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
        /// The choice.
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
            Space::Model(space) => space.choices(),
            Space::Cell(space) => space.choices(),
        }
    }

    /// The genotype with the first option of every choice, if only the recipe for one network is
    /// chosen. Who writes such lists puts first what they would try first.
    pub fn first_recipe(&self) -> Option<Genotype> {
        match self {
            Space::Model(space) if space.searches_recipes_only() => {
                Some(Genotype(vec![0; space.choices().len()]))
            }
            Space::Staged(_) | Space::Model(_) | Space::Cell(_) => None,
        }
    }

    /// Number of genotypes; there are fewer distinct networks. Saturates at `u128::MAX`.
    pub fn size(&self) -> u128 {
        self.choices().iter().fold(1, |n, c| n.saturating_mul(c.options.len() as u128))
    }

    /// Checks indices that came from outside.
    ///
    /// # Errors
    /// If they do not fit this space.
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

    /// The choices of this space, each with the option that the genotype picks, both by name.
    ///
    /// # Panics
    /// If the genotype belongs to another space.
    pub fn named(&self, genotype: &Genotype) -> Vec<(String, String)> {
        let choices = self.choices();
        assert_eq!(genotype.0.len(), choices.len(), "a genotype of another space");
        let pick = |(choice, &index): (&Choice, &u16)| {
            (choice.name.clone(), choice.options[usize::from(index)].clone())
        };
        choices.iter().zip(&genotype.0).map(pick).collect()
    }

    /// The genotype that picks these options. They may come in any order, and from another space
    /// with the same choices.
    ///
    /// # Errors
    /// If a choice is missing or unknown, or does not have the option.
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

    /// A short text that describes the network of a genotype of this space.
    ///
    /// # Panics
    /// If the genotype belongs to another space.
    pub fn describe(&self, genotype: &Genotype) -> String {
        match self {
            Space::Staged(space) => space.decode(genotype).architecture.to_string(),
            Space::Model(space) => space.decode(genotype).architecture.to_string(),
            Space::Cell(space) => space.decode(genotype).to_string(),
        }
    }
}

impl From<StagedSpace> for Space {
    fn from(space: StagedSpace) -> Self {
        Space::Staged(space)
    }
}

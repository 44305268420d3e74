//! Translates genotypes that were recorded with an earlier list of choices to the present list.
//!
//! Choices and options are matched by name, so their order may change. A choice that was added
//! later takes its first option. So this option must be what was fixed before the choice existed.

use crate::{Choice, GenotypeError, NameError, Space};

/// Translates genotypes of an earlier list of choices to genotypes of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// Number of options of each earlier choice.
    options: Vec<usize>,
    /// One source for each present choice.
    choices: Vec<Origin>,
}

/// The source of the option of a present choice.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// The choice was added later and takes its first option.
    Added,
    /// The earlier choice at this place, with the present indices of its options.
    Kept(usize, Vec<u16>),
}

impl Space {
    /// The translation to this space of genotypes that were recorded with the `earlier` choices.
    ///
    /// # Errors
    /// If an earlier choice or option no longer exists.
    pub fn translation(&self, earlier: &[Choice]) -> Result<Translation, NameError> {
        let present = self.choices();
        let is_present = |choice: &&Choice| present.iter().any(|p| p.name == choice.name);
        if let Some(gone) = earlier.iter().find(|choice| !is_present(choice)) {
            return Err(NameError::NoChoice { choice: gone.name.clone() });
        }
        let origin = |choice: &Choice| {
            let Some(place) = earlier.iter().position(|e| e.name == choice.name) else {
                return Ok(Origin::Added);
            };
            let index = |option: &String| {
                let found = choice.options.iter().position(|present| present == option);
                found.map(|index| index as u16).ok_or_else(|| NameError::NoOption {
                    choice: choice.name.clone(),
                    option: option.clone(),
                })
            };
            let options = earlier[place].options.iter().map(index).collect::<Result<_, _>>()?;
            Ok(Origin::Kept(place, options))
        };
        Ok(Translation {
            options: earlier.iter().map(|choice| choice.options.len()).collect(),
            choices: present.iter().map(origin).collect::<Result<_, _>>()?,
        })
    }
}

impl Translation {
    /// The present option indices of an earlier genotype.
    ///
    /// # Errors
    /// If it is not a genotype of the earlier choices.
    pub fn translate(&self, earlier: &[u16]) -> Result<Vec<u16>, GenotypeError> {
        if earlier.len() != self.options.len() {
            let (given, expected) = (earlier.len(), self.options.len());
            return Err(GenotypeError::Length { given, expected });
        }
        let index = |origin: &Origin| match origin {
            Origin::Added => Ok(0),
            Origin::Kept(place, options) => {
                let given = earlier[*place];
                options.get(usize::from(given)).copied().ok_or_else(|| GenotypeError::OutOfRange {
                    choice: format!("choice {place}"),
                    given,
                    options: options.len(),
                })
            }
        };
        self.choices.iter().map(index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CellIdentity, CellSpace};

    fn space() -> Space {
        Space::Cell(CellSpace::nas_bench_201(CellIdentity::Network))
    }

    #[test]
    fn genotypes_of_the_same_choices_are_unchanged() {
        let space = space();
        let same = space.translation(space.choices()).unwrap();
        assert_eq!(same.translate(&[4, 3, 2, 1, 0, 4]).unwrap(), [4, 3, 2, 1, 0, 4]);
        assert!(matches!(same.translate(&[0; 5]), Err(GenotypeError::Length { .. })));
        assert!(matches!(same.translate(&[9; 6]), Err(GenotypeError::OutOfRange { .. })));
    }

    #[test]
    fn choices_are_matched_by_name_and_added_ones_take_their_first_option() {
        let space = space();
        let mut earlier = space.choices().to_vec();
        earlier.reverse();
        let added = earlier.remove(1);
        earlier[0].options.reverse();
        let read = space.translation(&earlier).unwrap();
        // The recorded order: the last edge, then from the fourth to the first.
        assert_eq!(read.translate(&[0, 1, 2, 3, 4]).unwrap(), [4, 3, 2, 1, 0, 4]);
        assert_eq!(added.name, space.choices()[4].name);

        earlier[0].name = "colour".to_owned();
        assert_eq!(
            space.translation(&earlier),
            Err(NameError::NoChoice { choice: "colour".to_owned() })
        );
    }
}

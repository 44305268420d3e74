//! Which choices of a genotype have an effect. A choice without one is the temperature of a
//! distillation that is off, or the width of a stage that is absent: no option of it changes the
//! candidate.
//!
//! The code that decodes a genotype also decides this: where it reads an option, it says whether
//! the option matters. It builds no network. So what only the network shows (two shares that round
//! to the same number of channels) is left to [`Space::canonical_hash`].

use crate::{Genotype, Space};

impl Space {
    /// For each choice, whether the candidate depends on it, given the options of the choices
    /// before it. Where it does not, any option describes the same candidate, also if several such
    /// choices change at once. A choice that counts as active may be without effect in this
    /// network.
    ///
    /// # Panics
    /// If the genotype belongs to another space.
    pub fn active(&self, genotype: &Genotype) -> Vec<bool> {
        let choices = self.choices().len();
        match self {
            Space::Staged(space) => Reader::marks(genotype, choices, |reader| space.read(reader)),
            Space::Model(space) => Reader::marks(genotype, choices, |reader| space.read(reader)),
            Space::Cell(_) => vec![true; choices],
        }
    }
}

/// Reads the options that a genotype picks, one choice after the other.
pub(crate) struct Reader<'a> {
    rest: std::slice::Iter<'a, u16>,
    /// For each choice so far, whether it has an effect; `None` if this is not asked for.
    marks: Option<Vec<bool>>,
}

impl<'a> Reader<'a> {
    /// Reads a genotype of so many choices for what `read` makes of it.
    ///
    /// # Panics
    /// If the genotype has another number of choices.
    pub(crate) fn read<T>(
        genotype: &'a Genotype,
        choices: usize,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        Self::over(genotype, choices, None, read).0
    }

    fn marks<T>(
        genotype: &'a Genotype,
        choices: usize,
        read: impl FnOnce(&mut Self) -> T,
    ) -> Vec<bool> {
        let marks = Vec::with_capacity(choices);
        Self::over(genotype, choices, Some(marks), read).1.unwrap_or_default()
    }

    fn over<T>(
        genotype: &'a Genotype,
        choices: usize,
        marks: Option<Vec<bool>>,
        read: impl FnOnce(&mut Self) -> T,
    ) -> (T, Option<Vec<bool>>) {
        assert_eq!(genotype.0.len(), choices, "a genotype of another space");
        let mut reader = Self { rest: genotype.0.iter(), marks };
        let result = read(&mut reader);
        debug_assert!(reader.rest.next().is_none(), "every choice is read");
        (result, reader.marks)
    }

    /// The option of the next choice. `active` says whether the candidate depends on it.
    pub(crate) fn pick(&mut self, active: bool) -> usize {
        if let Some(marks) = &mut self.marks {
            marks.push(active);
        }
        usize::from(*self.rest.next().expect("one index per choice"))
    }

    /// Whether only the marks are wanted, and not what the options describe.
    pub(crate) fn only_marks(&self) -> bool {
        self.marks.is_some()
    }
}

/// The network that a recipe is for, as far as it is known without being built. The answer to what
/// is not known is yes.
pub(crate) trait Outline {
    /// Whether it is trained before the recipe.
    fn is_trained(&self) -> bool;

    /// Whether any layer stands in this stage, counted from 0.
    fn has_stage(&self, stage: usize) -> bool;

    /// Whether it has a layer of this name.
    fn has_layer(&self, name: &str) -> bool;
}

/// Nothing is known.
pub(crate) struct Anything;

impl Outline for Anything {
    fn is_trained(&self) -> bool {
        true
    }

    fn has_stage(&self, _: usize) -> bool {
        true
    }

    fn has_layer(&self, _: &str) -> bool {
        true
    }
}

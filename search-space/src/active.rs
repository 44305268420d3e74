//! Which choices of a genotype have an effect. A choice without one is the temperature of a
//! distillation that is off, or the width of a stage that is absent: no option of it changes the
//! candidate.
//!
//! The code that decodes a genotype also decides this: where it reads an option, it says whether
//! the option matters, and for some again when the options after it are known: for a distillation,
//! and where bits of layers decide whether rounding is learned. It builds no network. So what only
//! the network shows (two shares that round to the same number of channels) is left to
//! [`Space::canonical_hash`].

use std::ops::Range;

use crate::{Genotype, Space};

impl Space {
    /// For each choice, whether the candidate depends on it, given the options of the others. Where
    /// it does not, any option describes the same candidate, also if several such choices change at
    /// once. A choice that counts as active may be without effect in this network.
    ///
    /// # Panics
    /// If the genotype belongs to another space.
    pub fn active(&self, genotype: &Genotype) -> Vec<bool> {
        self.marks(genotype, Marks::Whole(Vec::new()))
    }

    /// The same, given only the options of the choices before each. That is all that a policy knows
    /// which draws one choice after the other.
    ///
    /// # Panics
    /// If the genotype belongs to another space.
    pub fn active_in_order(&self, genotype: &Genotype) -> Vec<bool> {
        self.marks(genotype, Marks::InOrder(Vec::new()))
    }

    fn marks(&self, genotype: &Genotype, marks: Marks) -> Vec<bool> {
        let choices = self.choices().len();
        match self {
            Space::Staged(space) => Reader::mark(genotype, choices, marks, |r| space.read(r)),
            Space::Model(space) => Reader::mark(genotype, choices, marks, |r| space.read(r)),
            Space::Cell(_) => vec![true; choices],
        }
    }
}

/// For each choice so far, whether it has an effect.
enum Marks {
    /// This is not asked for.
    None,
    /// Given the choices before it.
    InOrder(Vec<bool>),
    /// Given all choices.
    Whole(Vec<bool>),
}

/// Reads the options that a genotype picks, one choice after the other.
pub(crate) struct Reader<'a> {
    /// How many choices there are.
    of: usize,
    rest: std::slice::Iter<'a, u16>,
    marks: Marks,
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
        Self::over(genotype, choices, Marks::None, read).0
    }

    fn mark<T>(
        genotype: &'a Genotype,
        choices: usize,
        marks: Marks,
        read: impl FnOnce(&mut Self) -> T,
    ) -> Vec<bool> {
        match Self::over(genotype, choices, marks, read).1 {
            Marks::None => Vec::new(),
            Marks::InOrder(marks) | Marks::Whole(marks) => marks,
        }
    }

    fn over<T>(
        genotype: &'a Genotype,
        choices: usize,
        marks: Marks,
        read: impl FnOnce(&mut Self) -> T,
    ) -> (T, Marks) {
        assert_eq!(genotype.0.len(), choices, "a genotype of another space");
        let mut reader = Self { of: choices, rest: genotype.0.iter(), marks };
        let result = read(&mut reader);
        debug_assert!(reader.rest.next().is_none(), "every choice is read");
        (result, reader.marks)
    }

    /// The option of the next choice. `active` says whether the candidate depends on it.
    pub(crate) fn pick(&mut self, active: bool) -> usize {
        match &mut self.marks {
            Marks::None => {}
            Marks::InOrder(marks) | Marks::Whole(marks) => marks.push(active),
        }
        usize::from(*self.rest.next().expect("one index per choice"))
    }

    /// How many choices were read.
    pub(crate) fn picked(&self) -> usize {
        self.of - self.rest.len()
    }

    /// Says of choices that were read that the candidate does not depend on them after all.
    pub(crate) fn unmark(&mut self, choices: Range<usize>) {
        match &mut self.marks {
            Marks::None | Marks::InOrder(_) => {}
            Marks::Whole(marks) => marks[choices].fill(false),
        }
    }

    /// Whether only the marks are wanted, and not what the options describe.
    pub(crate) fn only_marks(&self) -> bool {
        !matches!(self.marks, Marks::None)
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

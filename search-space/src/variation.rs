//! Sampling, mutation and crossover of genotypes. All are uniform over options and ignore which
//! candidates were tried before.

use rand::{Rng, RngExt};

use crate::{Genotype, Space};

impl Space {
    /// A random genotype; all options of a choice are equally likely.
    pub fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> Genotype {
        let pick = |c: &crate::Choice| rng_index(rng, c.options.len());
        Genotype(self.choices().iter().map(pick).collect())
    }

    /// A genotype that differs from `parent` in exactly `changes` choices, or in all choices that
    /// have an effect and more than one option if those are fewer. A choice without effect in the
    /// parent stays as it is; so a part that a change brings back is as it was when it was last
    /// there. The network may still be the same: compare canonical hashes.
    pub fn mutate<R: Rng + ?Sized>(
        &self,
        parent: &Genotype,
        changes: usize,
        rng: &mut R,
    ) -> Genotype {
        let active = self.active(parent);
        let is_open = |&i: &usize| active[i] && self.choices()[i].options.len() > 1;
        let mut open: Vec<usize> = (0..active.len()).filter(is_open).collect();
        let mut child = parent.clone();
        for _ in 0..changes.min(open.len()) {
            let place = open.swap_remove(rng.random_range(0..open.len()));
            let others = self.choices()[place].options.len() - 1;
            let step = rng_index(rng, others) + 1;
            let options = self.choices()[place].options.len() as u16;
            child.0[place] = (child.0[place] + step) % options;
        }
        child
    }

    /// Uniform crossover: each option comes from either parent with equal probability.
    pub fn crossover<R: Rng + ?Sized>(&self, a: &Genotype, b: &Genotype, rng: &mut R) -> Genotype {
        let pick = |(x, y): (&u16, &u16)| if rng.random_bool(0.5) { *x } else { *y };
        Genotype(a.0.iter().zip(&b.0).map(pick).collect())
    }
}

fn rng_index<R: Rng + ?Sized>(rng: &mut R, options: usize) -> u16 {
    rng.random_range(0..options as u16)
}

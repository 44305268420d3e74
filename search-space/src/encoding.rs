//! Genotypes as vectors for learned models: the one-hot encodings of all choices, concatenated. A
//! choice without effect (see [`Space::active`]) is all zeros, so that nothing is learned from it.

use crate::{Genotype, Space};

impl Space {
    /// Length of every encoding of this space: the sum of option counts.
    pub fn encoding_len(&self) -> usize {
        self.choices().iter().map(|c| c.options.len()).sum()
    }

    /// One-hot encoding, length [`Space::encoding_len`], values 0 and 1; only zeros for a choice
    /// without effect.
    pub fn encode(&self, genotype: &Genotype) -> Vec<f32> {
        let mut vector = Vec::with_capacity(self.encoding_len());
        let picks = self.choices().iter().zip(genotype.indices());
        for ((choice, &index), active) in picks.zip(self.active(genotype)) {
            let is_picked = |i: usize| active && i == usize::from(index);
            vector.extend((0..choice.options.len()).map(|i| f32::from(is_picked(i))));
        }
        vector
    }

    /// The genotype that picks, for each choice, the option with the largest value in `vector`, the
    /// first of equals. `decode_vector(encode(g))` describes the same candidate as `g`, and differs
    /// from it at most in choices without effect. `None` if the length is wrong.
    pub fn decode_vector(&self, vector: &[f32]) -> Option<Genotype> {
        if vector.len() != self.encoding_len() {
            return None;
        }
        let mut rest = vector;
        let pick = |choice: &crate::Choice| {
            let (mine, others) = rest.split_at(choice.options.len());
            rest = others;
            let best = (0..mine.len()).max_by(|&a, &b| mine[a].total_cmp(&mine[b]).then(b.cmp(&a)));
            best.unwrap_or(0) as u16
        };
        Some(Genotype(self.choices().iter().map(pick).collect()))
    }
}

//! Chosen indices of an axis in a chosen order: a slice, one part of a split, a shuffle or a
//! reversal.

use smallvec::smallvec;

use super::axes::{self, Along};
use super::{
    Effect, InferError, Memory, Multiplications, Operands, Operation, Slot, channel_by_channel,
};
use crate::ties::{Port, Relation, Tie, Ties};
use crate::{Scalar, Shape};

/// Index `j` of the output along an axis is index `indices[j]` of the input. Indices may repeat.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gather {
    /// Which axis; the channels are axis 0.
    pub axis: u32,
    /// Counted from 0.
    pub indices: Vec<u32>,
}

impl Gather {
    /// These channels.
    pub fn channels(indices: impl Into<Vec<u32>>) -> Self {
        Self { axis: 0, indices: indices.into() }
    }

    /// The shuffle of ShuffleNet (Zhang et al. 2018): `channels` in `groups` equal parts, dealt
    /// out one from each part in turn.
    ///
    /// # Panics
    /// If `groups` is 0 or does not divide `channels`.
    pub fn shuffle(channels: u32, groups: u32) -> Self {
        assert_eq!(channels % groups, 0, "groups of equal size");
        let size = channels / groups;
        let indices = (0..size).flat_map(|i| (0..groups).map(move |group| group * size + i));
        Self::channels(indices.collect::<Vec<u32>>())
    }

    /// The indices from `range.start` to `range.end - 1` of an axis.
    pub fn slice(axis: u32, range: std::ops::Range<u32>) -> Self {
        Self { axis, indices: range.collect() }
    }
}

impl Operation for Gather {
    fn kind(&self) -> &'static str {
        "gather"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let input = operands.one()?;
        let at = axes::axis(self.axis, input)?;
        let mut sizes = input.sizes();
        let (axis, size) = (self.axis, sizes[at]);
        if let Some(&index) = self.indices.iter().find(|&&index| index >= size) {
            return Err(InferError::Index { index, axis, size });
        }
        sizes[at] = u32::try_from(self.indices.len()).unwrap_or(u32::MAX);
        Ok(Shape::of(&sizes)?)
    }

    fn macs(&self, _: &Operands, _: &Shape) -> u64 {
        0
    }

    fn multiplications(&self, _: &Operands) -> Option<Multiplications> {
        None
    }

    fn absorbs_factors(&self) -> bool {
        false
    }

    fn effect(&self) -> Effect {
        Effect::Combines
    }

    fn is_alike(&self, _: &Self) -> bool {
        true
    }

    fn memory(&self) -> Memory {
        Memory::Separate
    }

    fn ties(&self, _: &Operands, _: &Shape) -> Ties {
        if self.axis > 0 {
            return channel_by_channel();
        }
        smallvec![Tie::new(Port::Input(0), Port::Output, Relation::Gather(self.indices.clone()))]
    }

    fn cut(&mut self, inputs: &[&[u32]], output: &[u32]) {
        if self.axis > 0 {
            return;
        }
        let place = |&kept: &u32| {
            let index = self.indices[kept as usize];
            let place = inputs[0].binary_search(&index);
            place.expect("a channel and its source are kept together") as u32
        };
        self.indices = output.iter().map(place).collect();
    }

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        _: &[&[S]],
        _: &Shape,
    ) -> Vec<S> {
        let along = Along::of(self.axis as usize, &operands.inputs[0].sizes());
        let blocks = inputs[0].chunks_exact(along.block());
        let chosen = blocks.flat_map(|block| {
            let run = |&index: &u32| &block[index as usize * along.inner..][..along.inner];
            self.indices.iter().flat_map(run)
        });
        chosen.copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_takes_one_channel_of_each_group_in_turn() {
        assert_eq!(Gather::shuffle(6, 2).indices, [0, 3, 1, 4, 2, 5]);
        assert_eq!(Gather::shuffle(6, 3).indices, [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn a_cut_renumbers_what_is_kept() {
        let mut shuffle = Gather::shuffle(6, 2);
        // Channels 1 and 3 of the input are removed: they are outputs 2 and 1.
        shuffle.cut(&[&[0, 2, 4, 5]], &[0, 3, 4, 5]);
        assert_eq!(shuffle.indices, [0, 2, 1, 3]);
        let mut positions = Gather::slice(1, 2..4);
        positions.cut(&[&[0, 2]], &[0, 2]);
        assert_eq!(positions, Gather::slice(1, 2..4));
    }
}

//! Chosen channels of a value in a chosen order: a slice, one part of a split, or a shuffle.

use smallvec::smallvec;

use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Slot};
use crate::ties::{Port, Relation, Tie, Ties};
use crate::{Scalar, Shape};

/// Channel `j` of the output is channel `indices[j]` of the input. Channels may repeat.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatherChannels {
    /// Counted from 0.
    pub indices: Vec<u32>,
}

impl GatherChannels {
    /// The shuffle of ShuffleNet (Zhang et al. 2018): `channels` in `groups` equal parts, dealt
    /// out one from each part in turn.
    ///
    /// # Panics
    /// If `groups` is 0 or does not divide `channels`.
    pub fn shuffle(channels: u32, groups: u32) -> Self {
        assert_eq!(channels % groups, 0, "groups of equal size");
        let size = channels / groups;
        let indices = (0..size).flat_map(|i| (0..groups).map(move |group| group * size + i));
        Self { indices: indices.collect() }
    }

    /// The channels from `range.start` to `range.end - 1`.
    pub fn slice(range: std::ops::Range<u32>) -> Self {
        Self { indices: range.collect() }
    }
}

impl Operation for GatherChannels {
    fn kind(&self) -> &'static str {
        "gather_channels"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let input = operands.one()?;
        let channels = input.channels();
        if let Some(&index) = self.indices.iter().find(|&&index| index >= channels) {
            return Err(InferError::Channel { index, channels });
        }
        Ok(input.with_channels(u32::try_from(self.indices.len()).unwrap_or(u32::MAX))?)
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
        smallvec![Tie::new(Port::Input(0), Port::Output, Relation::Gather(self.indices.clone()))]
    }

    fn cut(&mut self, inputs: &[&[u32]], output: &[u32]) {
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
        let positions = operands.inputs[0].positions() as usize;
        let channel = |&index: &u32| &inputs[0][index as usize * positions..][..positions];
        self.indices.iter().flat_map(channel).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_takes_one_channel_of_each_group_in_turn() {
        assert_eq!(GatherChannels::shuffle(6, 2).indices, [0, 3, 1, 4, 2, 5]);
        assert_eq!(GatherChannels::shuffle(6, 3).indices, [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn a_cut_renumbers_what_is_kept() {
        let mut shuffle = GatherChannels::shuffle(6, 2);
        // Channels 1 and 3 of the input are removed: they are outputs 2 and 1.
        shuffle.cut(&[&[0, 2, 4, 5]], &[0, 3, 4, 5]);
        assert_eq!(shuffle.indices, [0, 2, 1, 3]);
    }
}

//! What the channels of a convolution read at some positions of its output: a row of numbers for
//! each, in the order of the weights.

use edgesmith_graph::{Conv, Shape, WindowAxis};

/// Most numbers of all rows.
const NUMBERS: usize = 1 << 22;
/// Most rows.
const ROWS: usize = 1 << 13;
/// The golden ratio, of 2^32: multiples of it are spread evenly.
const GOLDEN: u64 = 2_654_435_769;

/// The rows of all groups.
pub(super) struct Rows {
    /// The example and the position of each row.
    pub places: Vec<(usize, usize)>,
    /// Group by group, row by row.
    numbers: Vec<f32>,
    /// Numbers of a group.
    size: usize,
}

impl Rows {
    /// Rows of a convolution from an input to an output of these shapes, whose inputs are
    /// `examples`: as many of each example, at equal distances that begin at another place in each.
    /// Rows that follow each other are of other examples.
    pub fn sample(conv: &Conv, kernel: &[u32], shapes: [&Shape; 2], examples: &[&[f32]]) -> Self {
        let [input, output] = shapes;
        let (channels, groups) = (input.channels() as usize, conv.parts(input.channels()) as usize);
        let taps = kernel.iter().product::<u32>() as usize;
        let positions = output.positions() as usize;
        let most = (NUMBERS / (channels * taps)).clamp(1, ROWS);
        let of_each = (most / examples.len().max(1)).clamp(1, positions);
        let step = positions / of_each;
        let place = |turn: usize, example: usize| {
            let share = example as u64 * GOLDEN % (1 << 32);
            let start = ((share * positions as u64) >> 32) as usize;
            (example, (start + turn * step) % positions)
        };
        let count = examples.len().min(most);
        let chosen: Vec<usize> = (0..count).map(|i| i * examples.len() / count).collect();
        let places = (0..of_each).flat_map(|turn| chosen.iter().map(move |&e| place(turn, e)));
        let places: Vec<(usize, usize)> = places.collect();
        let axes = Axes::of(conv, kernel, shapes);
        let reads = channels / groups;
        let mut numbers = Vec::with_capacity(places.len() * channels * taps);
        for group in 0..groups {
            for &(example, position) in &places {
                let read: Vec<Option<usize>> = (0..taps).map(|t| axes.read(position, t)).collect();
                let planes = examples[example].chunks_exact(input.positions() as usize);
                for plane in planes.skip(group * reads).take(reads) {
                    numbers.extend(read.iter().map(|at| at.map_or(0.0, |at| plane[at])));
                }
            }
        }
        Self { size: places.len() * reads * taps, places, numbers }
    }

    /// The rows that the channels of a group read.
    pub fn of_group(&self, group: usize) -> &[f32] {
        &self.numbers[group * self.size..][..self.size]
    }
}

/// The axes of positions, outermost first.
struct Axes<'a> {
    axes: &'a [WindowAxis],
    kernel: Vec<usize>,
    input: &'a [u32],
    output: &'a [u32],
}

impl<'a> Axes<'a> {
    fn of(conv: &'a Conv, kernel: &[u32], [input, output]: [&'a Shape; 2]) -> Self {
        let axes = &conv.axes;
        // A linear layer has no kernel.
        let kernel = (0..axes.len()).map(|axis| kernel.get(axis).map_or(1, |&size| size as usize));
        Self { axes, kernel: kernel.collect(), input: input.space(), output: output.space() }
    }

    /// The position of the input that a tap of a window reads; `None` if that is padding.
    fn read(&self, mut window: usize, mut tap: usize) -> Option<usize> {
        let (mut at, mut stride) = (0, 1);
        for (axis, settings) in self.axes.iter().enumerate().rev() {
            let (outputs, taps) = (self.output[axis] as usize, self.kernel[axis]);
            let (start, offset) = (window % outputs, tap % taps);
            (window, tap) = (window / outputs, tap / taps);
            let place = start * settings.stride as usize + offset * settings.dilation as usize;
            let place = place.checked_sub(settings.before as usize)?;
            let size = self.input[axis] as usize;
            if place >= size {
                return None;
            }
            at += place * stride;
            stride *= size;
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{Groups, Operands, Operation};
    use edgesmith_testing::noise;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_times_the_weights_is_the_convolution(
            axes in prop::collection::vec((1u32..3, 1u32..3, 0u32..2, 0u32..2), 1..3),
            kernel in [1u32..4, 1u32..4],
            space in [1u32..6, 1u32..6],
            (groups, reads, writes) in (1u32..4, 1u32..3, 1u32..3),
        ) {
            let kernel = &kernel[..axes.len()];
            let input = Shape::new(groups * reads, &space[..axes.len()]).unwrap();
            let axes = axes.iter().map(|&(stride, dilation, before, after)| {
                WindowAxis { stride, dilation, before, after }
            });
            let groups = Groups::of(groups, input.channels());
            let conv = Conv { axes: axes.collect(), groups };
            let parts = conv.parts(input.channels());
            let mut shape = vec![parts * writes, input.channels() / parts];
            shape.extend_from_slice(kernel);
            let operands = Operands { inputs: &[&input], parameters: &[&shape] };
            if let Ok(output) = conv.infer(&operands) {
                let examples = [1, 2, 3].map(|seed| noise(input.elements() as usize, seed));
                let weight = noise(shape.iter().product::<u32>() as usize, 7);
                let all: Vec<&[f32]> = examples.iter().map(Vec::as_slice).collect();
                let rows = Rows::sample(&conv, kernel, [&input, &output], &all);
                // There are so few positions that all are taken, each once.
                let mut places = rows.places.clone();
                places.sort_unstable();
                places.dedup();
                prop_assert_eq!(places.len() as u64, 3 * output.positions());
                let found = examples.map(|example| {
                    conv.evaluate(&operands, &[&example], &[&weight], &output)
                });
                let filters = weight.chunks_exact(weight.len() / shape[0] as usize).enumerate();
                for (channel, filter) in filters {
                    let rows_of = rows.of_group(channel / writes as usize);
                    let rows_of = rows_of.chunks_exact(filter.len());
                    for (row, &(example, position)) in rows_of.zip(&rows.places) {
                        let sum: f32 = row.iter().zip(filter).map(|(x, w)| x * w).sum();
                        let at = channel * output.positions() as usize + position;
                        prop_assert!((sum - found[example][at]).abs() < 1e-4);
                    }
                }
            }
        }
    }

    #[test]
    fn rows_are_few_and_spread() {
        let shape = Shape::new(2, &[100, 100]).unwrap();
        let example = vec![0.5; 20_000];
        let examples: Vec<&[f32]> = (0..64).map(|_| example.as_slice()).collect();
        let rows = Rows::sample(&Conv::dense(1, 1), &[1, 1], [&shape, &shape], &examples);
        assert_eq!(rows.places.len(), ROWS);
        let first = rows.places.iter().filter(|(_, position)| *position < 5000).count();
        assert!((ROWS * 4 / 10..ROWS * 6 / 10).contains(&first), "{first}");
        assert_ne!(rows.places[0].0, rows.places[1].0);
    }
}

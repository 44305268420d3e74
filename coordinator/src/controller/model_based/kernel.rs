//! The similarity of two genotypes, by matching choices and by how often they pick each option.
//!
//! Networks often differ little in quality when the same operations are in other places (all edges
//! of a cell, all stages of a network). So besides the matching choices the kernel counts options,
//! over all choices that share one list of options. A choice without effect counts as one more
//! option of its own, whatever it picks: equal candidates have equal features.

use edgesmith_search_space::{Genotype, Space};

/// A genotype prepared for comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// The option of each choice that has several, or [`NONE`].
    indices: Vec<u16>,
    /// How often each option is picked, one group of choices with the same option list after the
    /// other, and at last in each how many choices have no effect; at most [`MOST`].
    counts: Vec<i16>,
}

/// The option of a choice without effect.
const NONE: u16 = u16::MAX;
/// The largest count.
const MOST: i16 = 255;

/// Which choices share an option list.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    space: Space,
    /// For each choice, where the counts of its group begin; `None` if it has only one option.
    offsets: Vec<Option<usize>>,
    /// Number of all counts.
    length: usize,
    /// Choices with more than one option.
    open: usize,
    /// The largest sum of squared differences of counts, halved.
    farthest: usize,
    /// For each choice with more than one option, where its counts begin, and how many places it
    /// has there: one for each option, and one for no effect.
    spans: Vec<(usize, usize)>,
    /// Whether a group has so many choices that its counts are capped.
    capped: bool,
}

/// Free parameters of the kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Decay over differing choices, for a space that has six choices.
    pub choices: f64,
    /// Weight of the counts, `0..=1`.
    pub mix: f64,
    /// Decay over differing counts, for a space that has six choices.
    pub counts: f64,
}

/// Values of the kernel by matching choices and distance of counts; 1 for equal genotypes.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    values: Vec<f64>,
    width: usize,
}

impl Groups {
    /// The groups of a space's choices.
    pub fn new(space: &Space) -> Self {
        let mut lists: Vec<(&[String], usize, usize)> = Vec::new();
        let (mut offsets, mut length, mut open) = (Vec::new(), 0, 0);
        for choice in space.choices() {
            if choice.options.len() < 2 {
                offsets.push(None);
                continue;
            }
            open += 1;
            if let Some(list) = lists.iter_mut().find(|list| list.0 == choice.options) {
                list.2 += 1;
                offsets.push(Some(list.1));
            } else {
                offsets.push(Some(length));
                lists.push((&choice.options, length, 1));
                length += choice.options.len() + 1;
            }
        }
        let farthest = lists.iter().map(|(_, _, choices)| choices * choices).sum();
        let capped = lists.iter().any(|(_, _, choices)| *choices > MOST as usize);
        let spans = space.choices().iter().zip(&offsets);
        let spans =
            spans.filter_map(|(choice, offset)| Some(((*offset)?, choice.options.len() + 1)));
        let spans = spans.collect();
        Self { space: space.clone(), offsets, length, open, farthest, spans, capped }
    }

    /// A genotype's features.
    pub fn features(&self, genotype: &Genotype) -> Features {
        let mut counts = vec![0_i16; self.length];
        let mut indices = Vec::with_capacity(self.open);
        let picks = self.space.choices().iter().zip(genotype.indices());
        let picks = picks.zip(self.space.active(genotype)).zip(&self.offsets);
        for (((choice, &index), active), offset) in picks {
            let Some(offset) = offset else { continue };
            let place = if active { usize::from(index) } else { choice.options.len() };
            let count = &mut counts[offset + place];
            *count = (*count + 1).min(MOST);
            indices.push(if active { index } else { NONE });
        }
        Features { indices, counts }
    }

    /// Index of [`Kernel`]'s value for two genotypes, made of the number of differing choices and
    /// the distance of counts.
    pub fn code(&self, a: &Features, b: &Features) -> u32 {
        // With sums of few bits, processors handle more numbers at once.
        let indices = a.indices.iter().zip(&b.indices);
        let differing: u16 = indices.map(|(x, y)| u16::from(x != y)).sum();
        let square = |(x, y): (&i16, &i16)| {
            let difference = x - y;
            i32::from(difference) * i32::from(difference)
        };
        let squares: i32 = a.counts.iter().zip(&b.counts).map(square).sum();
        let distance = (squares as u32 / 2).min(self.farthest as u32);
        u32::from(differing) * (self.farthest as u32 + 1) + distance
    }
}

/// A code is a sum. The distance of counts is half of `|a|² + |b|² - 2·a·b`, where `a·b` is the
/// sum, over the choices of `a`, of how often `b` picks the same. So a code is a part of the point
/// and a part of the candidate, less a common part for each choice. This holds unless counts are
/// capped.
impl Groups {
    /// Whether counts may be capped.
    pub fn counts_are_capped(&self) -> bool {
        self.capped
    }

    /// Number of codes; all are below it.
    pub fn codes(&self) -> usize {
        (self.open + 1) * (self.farthest + 1)
    }

    /// What each option of each choice is, in the order of [`Groups::places`]: the choice, among
    /// those with several options, and the option, or their number for no effect.
    pub fn picks(&self) -> impl Iterator<Item = (usize, usize)> {
        let spans = self.spans.iter().enumerate();
        spans.flat_map(|(choice, (_, length))| (0..*length).map(move |option| (choice, option)))
    }

    /// The place in [`Groups::picks`] of what each choice picks.
    pub fn places(&self, features: &Features) -> impl Iterator<Item = usize> {
        let mut start = 0;
        self.spans.iter().zip(&features.indices).map(move |((_, length), index)| {
            let place = start + if *index == NONE { length - 1 } else { usize::from(*index) };
            start += length;
            place
        })
    }

    /// A point's own part of its codes.
    pub fn point_part(&self, point: &Features) -> u32 {
        (self.open * (self.farthest + 1)) as u32 + half_square(point)
    }

    /// A candidate's own part of its codes.
    pub fn candidate_part(&self, candidate: &Features) -> u32 {
        // The squares of both are odd if their sum is, which is the number of choices.
        half_square(candidate) + (self.open % 2) as u32
    }

    /// How much less a point's code is with a candidate that picks this option of this choice.
    pub fn common_part(&self, point: &Features, choice: usize, option: usize) -> u32 {
        let (start, length) = self.spans[choice];
        let own = match point.indices[choice] {
            NONE => length - 1,
            index => usize::from(index),
        };
        let alike = if own == option { self.farthest as u32 + 1 } else { 0 };
        alike + point.counts[start + option] as u32
    }
}

/// Half of the sum of squared counts, rounded down.
fn half_square(features: &Features) -> u32 {
    features.counts.iter().map(|count| i32::from(*count).pow(2)).sum::<i32>() as u32 / 2
}

impl Kernel {
    /// Tabulates `(1-mix)·exp(-differing/choices) + mix·Matérn52(√(2·distance)/counts)`, with
    /// both decays scaled to the size of the space.
    pub fn new(groups: &Groups, shape: Shape) -> Self {
        let stretch = (groups.open.max(1) as f64 / 6.0).max(1.0 / 6.0);
        let (choices, counts) = (shape.choices * stretch, shape.counts * stretch.sqrt());
        let width = groups.farthest + 1;
        let alike: Vec<f64> =
            (0..width).map(|distance| matern52((2.0 * distance as f64).sqrt() / counts)).collect();
        let mut values = Vec::with_capacity((groups.open + 1) * width);
        for differing in 0..=groups.open {
            let near = (-(differing as f64) / choices).exp();
            values.extend(alike.iter().map(|alike| (1.0 - shape.mix) * near + shape.mix * alike));
        }
        Self { values, width }
    }

    /// The value at a code of [`Groups::code`].
    pub fn at(&self, code: u32) -> f64 {
        debug_assert!((code as usize) < self.values.len() && self.width > 0);
        self.values[code as usize]
    }
}

fn matern52(r: f64) -> f64 {
    let s = 5.0_f64.sqrt() * r;
    (1.0 + s + s * s / 3.0) * (-s).exp()
}

#[cfg(test)]
mod tests {
    use edgesmith_search_space::{CellIdentity, CellSpace};
    use rand::SeedableRng as _;

    use super::super::super::conformance::medium_space;
    use super::*;

    const SHAPE: Shape = Shape { choices: 2.0, mix: 0.6, counts: 3.0 };

    fn cells() -> (Space, Groups) {
        let space = Space::Cell(CellSpace::nas_bench_201(CellIdentity::Network));
        let groups = Groups::new(&space);
        (space, groups)
    }

    fn value(a: &[u16], b: &[u16]) -> f64 {
        let (space, groups) = cells();
        let [a, b] = [a, b].map(|g| groups.features(&space.genotype(g.to_vec()).unwrap()));
        Kernel::new(&groups, SHAPE).at(groups.code(&a, &b))
    }

    #[test]
    fn equal_genotypes_are_most_similar_and_swapped_options_almost_as_similar() {
        let base = [0, 1, 2, 3, 4, 0];
        assert_eq!(value(&base, &base), 1.0);
        let moved = value(&base, &[1, 0, 2, 3, 4, 0]);
        let changed = value(&base, &[3, 4, 2, 3, 4, 0]);
        assert!(changed < moved && moved < 1.0, "{changed}, {moved}");
        assert_eq!(value(&base, &[3, 4, 2, 3, 4, 0]), value(&[3, 4, 2, 3, 4, 0], &base));
    }

    #[test]
    fn choices_without_effect_make_no_difference() {
        let space = medium_space();
        let groups = Groups::new(&space);
        let place = |name: &str| space.choices().iter().position(|c| c.name == name).unwrap();
        let features = |picks: &[(&str, u16)]| {
            let mut indices = vec![0; space.choices().len()];
            picks.iter().for_each(|(name, option)| indices[place(name)] = *option);
            groups.features(&space.genotype(indices).unwrap())
        };
        let plain = features(&[]);
        assert_eq!(features(&[("temperature", 1), ("stage1.expansion", 1)]), plain);
        let distilled = features(&[("alpha", 1)]);
        assert_ne!(features(&[("alpha", 1), ("temperature", 1)]), distilled);
        // The temperature is there, and it was not.
        assert_eq!(groups.code(&plain, &distilled) as usize / (groups.farthest + 1), 2);
        // As many options are picked in each, so that distances are whole.
        let sum = |features: &Features| features.counts.iter().sum::<i16>();
        assert_eq!(sum(&plain), sum(&distilled));
    }

    #[test]
    fn the_kernel_is_positive_definite_on_distinct_genotypes() {
        let (space, groups) = cells();
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let features: Vec<Features> =
            (0..60).map(|_| groups.features(&space.sample(&mut rng))).collect();
        let kernel = Kernel::new(&groups, SHAPE);
        let mut matrix = Vec::new();
        for (i, a) in features.iter().enumerate() {
            for (j, b) in features.iter().enumerate() {
                let jitter = if i == j { 1e-9 } else { 0.0 };
                matrix.push(kernel.at(groups.code(a, b)) + jitter);
            }
        }
        assert!(crate::linear_algebra::cholesky(&mut matrix, features.len()));
    }
}

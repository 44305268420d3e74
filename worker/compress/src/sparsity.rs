//! Pruning of single weights (Han et al. 2015, "Learning both weights and connections for efficient
//! neural networks"): how important each one is, and which ones stay, as a mask that later training
//! keeps. The network has the same size and the same multiplications; its file is stored smaller.
//! It does not fine-tune.
//!
//! Only the weights of convolutions and linear layers are masked. Magnitudes are those after
//! folding batch normalisation, so that layers and filters can be compared; the mask is the same
//! for the network before and after folding.

use std::collections::{BTreeMap, BTreeSet};

use edgesmith_graph::{Array, Cut, Graph, Node, NodeId, Role, Weights};

use crate::fold::Folded;

/// Which single weights stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masks {
    /// By the parameter's name, for each of its numbers whether it stays.
    pub kept: BTreeMap<String, Vec<bool>>,
}

/// How important each single weight is: a larger number means more important. Those of two criteria
/// cannot be compared with each other.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightScores {
    layers: Vec<Layer>,
}

/// A weight of a convolution or linear layer.
#[derive(Debug, Clone, PartialEq)]
struct Layer {
    name: String,
    /// `[out, in, kernel…]`
    shape: Vec<usize>,
    /// By number.
    scores: Vec<f64>,
}

impl WeightScores {
    /// The magnitudes (Han et al. 2015).
    ///
    /// # Panics
    /// If `weights` do not fit `graph`.
    pub fn magnitudes(graph: &Graph, weights: &Weights) -> Self {
        let normalizations = graph.absorbed_normalizations();
        let layer = |(name, id): (&str, NodeId)| {
            let normalization = normalizations[id.index()].map(|id| graph.node(id));
            let folded = Folded::of(graph, weights, graph.node(id), normalization).weight;
            let scores = folded.iter().map(|weight| f64::from(weight.abs())).collect();
            Layer { name: name.to_owned(), shape: weights.arrays[name].shape.clone(), scores }
        };
        Self { layers: names(graph).into_iter().map(layer).collect() }
    }

    /// The square of each weight as a share of the sum of its own and those of the larger ones of
    /// its layer (Lee et al. 2021, "Layer-adaptive sparsity for the magnitude-based pruning").
    /// Within a layer the order is that of magnitudes. The largest weight of each layer has the
    /// score 1, so no layer loses all of them before the others do, however small they are.
    ///
    /// # Panics
    /// If `weights` do not fit `graph`.
    pub fn lamp(graph: &Graph, weights: &Weights) -> Self {
        let mut scores = Self::magnitudes(graph, weights);
        for Layer { scores, .. } in &mut scores.layers {
            let mut places: Vec<usize> = (0..scores.len()).collect();
            places.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            let mut sum = 0.0;
            for place in places {
                let square = scores[place] * scores[place];
                sum += square;
                scores[place] = if square > 0.0 { square / sum } else { 0.0 };
            }
        }
        scores
    }

    /// What another criterion says of each number, by the parameter's name. Weights that are 0 go
    /// first, whatever it says of others that do nothing.
    ///
    /// # Panics
    /// If `weights` do not fit `graph`, or `scores` lack one of the weights that are masked.
    pub fn of(graph: &Graph, weights: &Weights, scores: &BTreeMap<String, Vec<f64>>) -> Self {
        let layer = |(name, _): (&str, NodeId)| {
            let (Array { shape, data }, scores) = (&weights.arrays[name], &scores[name]);
            assert_eq!(scores.len(), data.len(), "{name} has a score for each number");
            let score = |(weight, score): (&f32, &f64)| zeros_first(*weight != 0.0, *score);
            let scores = data.iter().zip(scores).map(score).collect();
            Layer { name: name.to_owned(), shape: shape.clone(), scores }
        };
        Self { layers: names(graph).into_iter().map(layer).collect() }
    }

    /// What `draw` says, one number after the other, as the control. Weights that are 0 go first.
    ///
    /// # Panics
    /// If `weights` do not fit `graph`.
    pub fn random(graph: &Graph, weights: &Weights, mut draw: impl FnMut() -> f64) -> Self {
        let mut scores = Self::magnitudes(graph, weights);
        for score in scores.layers.iter_mut().flat_map(|layer| &mut layer.scores) {
            *score = zeros_first(*score > 0.0, draw());
        }
        scores
    }
}

impl Masks {
    /// Removes the least important weights of the whole network, so that the share `removed`,
    /// `0..=1`, of them goes. On ties the later one goes first.
    pub fn least_globally(scores: &WeightScores, removed: f64) -> Self {
        let all: Vec<f64> = scores.layers.iter().flat_map(|layer| layer.scores.clone()).collect();
        let mut kept = without_least(&all, removed).into_iter();
        Self::of(scores, |layer| kept.by_ref().take(layer.scores.len()).collect())
    }

    /// Removes the least important weights of each layer, so that the share `removed`, `0..=1`, of
    /// them goes. On ties the later one goes first.
    pub fn least_per_layer(scores: &WeightScores, removed: f64) -> Self {
        Self::of(scores, |layer| without_least(&layer.scores, removed))
    }

    /// Keeps the two most important of each four weights that follow each other along the input
    /// channels, at the same output channel and place of the kernel (the pattern 2:4). At most two
    /// of what is left over stay. Weights with one or two inputs, as those of depthwise
    /// convolutions, all stay.
    pub fn two_of_four(scores: &WeightScores) -> Self {
        Self::of(scores, |Layer { shape, scores, .. }| {
            let (outputs, inputs) = (shape[0], shape[1]);
            let taps: usize = shape[2..].iter().product();
            let mut kept = vec![false; scores.len()];
            for (output, tap) in (0..outputs).flat_map(|o| (0..taps).map(move |tap| (o, tap))) {
                for start in (0..inputs).step_by(4) {
                    let mut places: Vec<usize> = (start..inputs.min(start + 4))
                        .map(|input| (output * inputs + input) * taps + tap)
                        .collect();
                    // The sort is stable.
                    places.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
                    places.iter().take(2).for_each(|&place| kept[place] = true);
                }
            }
            kept
        })
    }

    /// What both keep.
    ///
    /// # Panics
    /// If `other` is of another network.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for (name, kept) in &mut self.kept {
            let other = &other.kept[name];
            assert_eq!(kept.len(), other.len(), "{name} has one size");
            kept.iter_mut().zip(other).for_each(|(kept, other)| *kept &= other);
        }
        self
    }

    /// The masks of a network that lost channels: what is left of it has the mask that it had.
    ///
    /// # Panics
    /// If the masks are not of `graph`, which was cut.
    pub fn cut(&self, graph: &Graph, cut: &Cut) -> Self {
        let array = |name: &str, shape: &[u32]| {
            let shape: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
            let data = match self.kept.get(name) {
                Some(kept) => kept.iter().map(|&kept| f32::from(u8::from(kept))).collect(),
                None => vec![1.0; shape.iter().product()],
            };
            Array { shape, data }
        };
        let parameters = graph.parameters();
        let arrays = parameters.map(|(_, p)| (p.name.to_string(), array(&p.name, &p.shape)));
        let left = cut.weights(&Weights { arrays: arrays.collect() });
        let kept = |name: &String| left.arrays[name].data.iter().map(|&one| one == 1.0).collect();
        let names = self.kept.keys().filter(|name| left.arrays.contains_key(*name));
        Self { kept: names.map(|name| (name.clone(), kept(name))).collect() }
    }

    /// How many weights do not stay.
    pub fn gone(&self) -> usize {
        self.kept.values().flatten().filter(|kept| !**kept).count()
    }

    /// Sets the weights that do not stay to zero.
    ///
    /// # Panics
    /// If `weights` lack a parameter of the mask, or it has another size.
    pub fn apply(&self, weights: &mut Weights) {
        for (name, kept) in &self.kept {
            let array = weights.arrays.get_mut(name);
            let numbers = &mut array.unwrap_or_else(|| panic!("no weights named {name}")).data;
            assert_eq!(numbers.len(), kept.len(), "{name} has the size of its mask");
            let removed = numbers.iter_mut().zip(kept).filter(|(_, kept)| !**kept);
            removed.for_each(|(number, _)| *number = 0.0);
        }
    }

    fn of(scores: &WeightScores, mut kept: impl FnMut(&Layer) -> Vec<bool>) -> Self {
        let kept = scores.layers.iter().map(|layer| (layer.name.clone(), kept(layer)));
        Self { kept: kept.collect() }
    }
}

/// The weights that are masked, each once, with the first node that has it.
fn names(graph: &Graph) -> Vec<(&str, NodeId)> {
    let mut seen = BTreeSet::new();
    let weight = |(id, node): (_, &Node)| {
        let weight = *node.parameters.first()?;
        let parameter = graph.parameter(weight);
        let is_new = parameter.role == Role::Weight && seen.insert(weight);
        is_new.then_some((&*parameter.name, id))
    };
    graph.nodes().filter_map(weight).collect()
}

/// A score that is above that of weights which are 0, also if it is 0 itself.
fn zeros_first(is_other: bool, score: f64) -> f64 {
    if is_other { f64::MIN_POSITIVE + score.abs() } else { 0.0 }
}

/// For each score whether its weight stays if this share of all goes: `round(count * removed)`, the
/// least important ones.
fn without_least(scores: &[f64], removed: f64) -> Vec<bool> {
    let count = scores.len();
    let gone = ((count as f64 * removed).round() as usize).min(count);
    let mut places: Vec<usize> = (0..count).collect();
    places.sort_unstable_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)));
    let mut kept = vec![true; count];
    places[..gone].iter().for_each(|&place| kept[place] = false);
    kept
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::ChannelGroup;
    use edgesmith_testing::{arbitrary_graph, conv_graph, random_weights};
    use proptest::prelude::*;

    use super::*;
    use crate::fold;

    /// How many weights go.
    fn zeros_of(masks: &Masks) -> u64 {
        masks.kept.values().flatten().filter(|kept| !**kept).count() as u64
    }

    /// Without the smallest weights of the whole network.
    fn smallest(graph: &Graph, weights: &Weights, removed: f64) -> Masks {
        Masks::least_globally(&WeightScores::magnitudes(graph, weights), removed)
    }

    /// Its magnitude, the name of its parameter, and its place in it.
    type Weight = (f32, String, usize);

    /// All weights of the folded network.
    fn folded(graph: &Graph, weights: &Weights) -> Vec<Weight> {
        let (graph, weights) = fold(graph, weights);
        let parameters = graph.parameters().filter(|(_, p)| p.role == Role::Weight);
        let numbers = parameters.flat_map(|(_, p)| {
            let data = weights.arrays[&*p.name].data.clone().into_iter().enumerate();
            data.map(move |(place, number)| (number.abs(), p.name.to_string(), place))
        });
        numbers.collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn no_weight_that_goes_is_larger_than_one_that_stays(
            graph in arbitrary_graph(),
            seed: u64,
            removed in 0.0..=1.0f64,
        ) {
            let weights = random_weights(&graph, seed);
            let all = folded(&graph, &weights);
            let scores = WeightScores::magnitudes(&graph, &weights);
            for one_by_one in [false, true] {
                let masks = if one_by_one {
                    Masks::least_per_layer(&scores, removed)
                } else {
                    Masks::least_globally(&scores, removed)
                };
                let mut masked = weights.clone();
                masks.apply(&mut masked);
                for (name, array) in &weights.arrays {
                    let Some(kept) = masks.kept.get(name) else {
                        // Nothing but weights changes.
                        prop_assert_eq!(array, &masked.arrays[name]);
                        continue;
                    };
                    let numbers = array.data.iter().zip(&masked.arrays[name].data);
                    for ((&was, &is), &kept) in numbers.zip(kept) {
                        prop_assert_eq!(is, if kept { was } else { 0.0 });
                    }
                }
                let names: BTreeSet<&String> = all.iter().map(|(_, name, _)| name).collect();
                let mut parts: Vec<Vec<&Weight>> = Vec::new();
                if one_by_one {
                    for of_part in &names {
                        parts.push(all.iter().filter(|(_, name, _)| name == *of_part).collect());
                    }
                } else {
                    parts.push(all.iter().collect());
                }
                let mut zeros = 0;
                for part in parts {
                    let count = part.len();
                    let stays = |(_, name, place): &Weight| masks.kept[name][*place];
                    let (left, gone): (Vec<&Weight>, Vec<&Weight>) =
                        part.into_iter().partition(|n| stays(n));
                    let least = left.iter().map(|n| n.0).fold(f32::MAX, f32::min);
                    let gone: Vec<f32> = gone.iter().map(|n| n.0).collect();
                    prop_assert!(gone.iter().all(|magnitude| *magnitude <= least));
                    prop_assert_eq!(gone.len(), (count as f64 * removed).round() as usize);
                    zeros += gone.len() as u64;
                }
                prop_assert_eq!(zeros_of(&masks), zeros);
                // The same of the folded network.
                let (folded, mut numbers) = fold(&graph, &weights);
                masks.apply(&mut numbers);
                prop_assert_eq!(numbers.check(&folded), Ok(()));
                prop_assert_eq!(numbers, fold(&graph, &masked).1);
            }
        }

        #[test]
        fn at_most_two_of_four_inputs_stay_and_they_are_the_largest(
            graph in arbitrary_graph(),
            seed: u64,
        ) {
            let (graph, weights) = fold(&graph, &random_weights(&graph, seed));
            let masks = Masks::two_of_four(&WeightScores::magnitudes(&graph, &weights));
            for (name, kept) in &masks.kept {
                let array = &weights.arrays[name];
                let taps: usize = array.shape[2..].iter().product();
                for (place, &kept_here) in kept.iter().enumerate() {
                    let (output, input, tap) = (
                        place / taps / array.shape[1],
                        place / taps % array.shape[1],
                        place % taps,
                    );
                    let size = |place: usize| array.data[place].abs();
                    let larger = (input / 4 * 4..array.shape[1].min(input / 4 * 4 + 4))
                        .map(|other| (output * array.shape[1] + other) * taps + tap)
                        .filter(|&other| size(other) > size(place))
                        .count();
                    prop_assert_eq!(kept_here, larger < 2, "{}", name);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// The scores of a plain loop over all pairs, on the folded network.
        #[test]
        fn lamp_is_the_share_among_weights_that_are_not_smaller(
            graph in arbitrary_graph(),
            seed: u64,
        ) {
            let (graph, weights) = fold(&graph, &random_weights(&graph, seed));
            for Layer { name, scores, .. } in WeightScores::lamp(&graph, &weights).layers {
                let numbers: Vec<f64> =
                    weights.arrays[&name].data.iter().map(|w| f64::from(*w)).collect();
                let mut greatest = 0.0f64;
                for (number, score) in numbers.iter().zip(&scores) {
                    // No two of these random weights have one magnitude.
                    let larger = numbers.iter().filter(|other| other.abs() >= number.abs());
                    let sum: f64 = larger.map(|other| other * other).sum();
                    prop_assert!((score - number * number / sum).abs() < 1e-9, "{name}: {score}");
                    greatest = greatest.max(*score);
                }
                prop_assert_eq!(greatest, 1.0);
            }
        }
    }

    #[test]
    fn zeros_are_least_important_and_chance_ranks_the_rest() {
        let graph = conv_graph();
        let mut weights = random_weights(&graph, 1);
        let half = smallest(&graph, &weights, 0.5);
        half.apply(&mut weights);
        let mut state = 1u64;
        let draw = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let random = WeightScores::random(&graph, &weights, draw);
        assert_eq!(Masks::least_globally(&random, 0.5), half);
        let more = Masks::least_globally(&random, 0.8);
        assert_eq!(more.clone().and(&half), more);
        assert_ne!(more, smallest(&graph, &weights, 0.8));
        assert_eq!(Masks::least_globally(&WeightScores::lamp(&graph, &weights), 0.5), half);
        // Scores by name.
        let by_name: BTreeMap<String, Vec<f64>> =
            random.layers.iter().map(|layer| (layer.name.clone(), layer.scores.clone())).collect();
        let same = WeightScores::of(&graph, &weights, &by_name);
        assert_eq!(Masks::least_globally(&same, 0.8), more);
        // What goes already goes first, also if another criterion sees no use in others.
        let none: BTreeMap<String, Vec<f64>> =
            by_name.into_iter().map(|(name, scores)| (name, vec![0.0; scores.len()])).collect();
        let useless = WeightScores::of(&graph, &weights, &none);
        assert_eq!(Masks::least_globally(&useless, 0.5), half);
    }

    #[test]
    fn half_of_every_layer_with_a_multiple_of_four_inputs_goes() {
        let graph = conv_graph();
        let mut weights = random_weights(&graph, 1);
        Masks::two_of_four(&WeightScores::magnitudes(&graph, &weights)).apply(&mut weights);
        let zeros = |name: &str| weights.arrays[name].data.iter().filter(|w| **w == 0.0).count();
        // One input channel.
        assert_eq!(zeros("stem.weight"), 0);
        assert_eq!(zeros("stage1.block1.conv.weight"), 16 * 16 * 9 / 2);
        let half = smallest(&graph, &weights, 0.5);
        half.apply(&mut weights);
        let all: usize = half.kept.values().map(Vec::len).sum();
        assert_eq!(zeros_of(&half), (all as f64 / 2.0).round() as u64);
    }

    #[test]
    fn masks_follow_the_channels_that_are_left() {
        let graph = conv_graph();
        let weights = random_weights(&graph, 3);
        let masks = smallest(&graph, &weights, 0.5);
        let mut masked = weights.clone();
        masks.apply(&mut masked);
        let channels = graph.channels();
        let half =
            |group: &ChannelGroup| group.channels.len().div_ceil(2 - usize::from(group.fixed));
        let kept: Vec<usize> = channels.groups().iter().map(half).collect();
        let importance: Vec<f64> = (0..channels.count()).map(|i| (i * 7 % 5) as f64).collect();
        let cut = crate::cut_to(&graph, &channels, &importance, &kept);
        let left = masks.cut(&graph, &cut);
        // The zeros of the masked network, which has no others.
        let slim = cut.weights(&masked);
        assert!(!left.kept.is_empty());
        for (name, kept) in &left.kept {
            let zeros: Vec<bool> = slim.arrays[name].data.iter().map(|w| *w != 0.0).collect();
            assert_eq!(kept, &zeros, "{name}");
        }
        let fewer = smallest(&graph, &weights, 0.2);
        assert_eq!(fewer.and(&masks), masks);
    }

    #[test]
    fn on_ties_the_later_weight_goes_first() {
        assert_eq!(without_least(&[1.0, 2.0, 1.0, 1.0], 0.5), [true, true, false, false]);
        assert_eq!(without_least(&[], 0.5), [true; 0]);
    }
}

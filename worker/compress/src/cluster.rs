//! Clustering of weights (Han et al. 2016, "Deep compression"): each weight of a layer becomes one
//! of a few numbers, so that the file can store their places in a codebook. K-means finds the
//! numbers, tensor by tensor, from centroids at equal distances between the smallest and the
//! largest weight. It neither trains nor writes files.

use edgesmith_graph::{Graph, Role, Weights};

use crate::sparsity::Masks;

/// Most rounds of k-means. It ends much earlier when no weight changes its cluster.
const MOST_ROUNDS: usize = 1000;

/// The weights of a network with at most `clusters` different numbers in each tensor. Weights that
/// `masks` removed stay 0, which is then one of the numbers. A tensor that has no more different
/// numbers stays as it is. Biases do not change.
///
/// The network is one whose batch normalisation is folded ([`crate::fold()`]): folding afterwards
/// would scale the clusters of each channel by another factor.
///
/// # Panics
/// If `clusters` is less than 2, or `weights` or `masks` do not fit `graph`.
pub fn cluster(
    graph: &Graph,
    weights: &Weights,
    masks: Option<&Masks>,
    clusters: usize,
) -> Weights {
    assert!(clusters >= 2, "fewer than two clusters say nothing");
    let mut clustered = weights.clone();
    for (_, parameter) in graph.parameters().filter(|(_, p)| p.role == Role::Weight) {
        let name = &*parameter.name;
        let numbers = &mut clustered.arrays.get_mut(name).expect("they fit").data;
        let kept = masks.and_then(|masks| masks.kept.get(name));
        match kept.filter(|kept| kept.contains(&false)) {
            Some(kept) => {
                assert_eq!(kept.len(), numbers.len(), "{name} has the size of its mask");
                let places: Vec<usize> = (0..kept.len()).filter(|&place| kept[place]).collect();
                let mut left: Vec<f32> = places.iter().map(|&place| numbers[place]).collect();
                to_centroids(&mut left, clusters - 1);
                places.iter().zip(left).for_each(|(&place, number)| numbers[place] = number);
            }
            None => to_centroids(numbers, clusters),
        }
    }
    clustered
}

/// Replaces each number by the mean of its cluster.
fn to_centroids(numbers: &mut [f32], clusters: usize) {
    let mut sorted: Vec<f32> = numbers.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let mut different = sorted.clone();
    different.dedup();
    if different.len() <= clusters {
        return;
    }
    let centroids = centroids(&sorted, clusters);
    for number in numbers {
        let cluster = centroids.partition_point(|&centroid| centroid < f64::from(*number));
        // The nearest one is below or above; on ties it is the one below.
        let nearest = match cluster {
            0 => 0,
            end if end == centroids.len() => end - 1,
            above => {
                let to_above = centroids[above] - f64::from(*number);
                let is_below = f64::from(*number) - centroids[above - 1] <= to_above;
                above - usize::from(is_below)
            }
        };
        // A mean of weights is not the negative zero.
        *number = centroids[nearest] as f32 + 0.0;
    }
}

/// The centroids of k-means, ascending, of numbers in order that are not all equal. A cluster
/// without numbers keeps its centroid, which no number is then nearest to.
fn centroids(sorted: &[f32], clusters: usize) -> Vec<f64> {
    let (low, high) = (f64::from(sorted[0]), f64::from(sorted[sorted.len() - 1]));
    let mut centroids: Vec<f64> = match clusters {
        1 => vec![(low + high) / 2.0],
        _ => (0..clusters).map(|i| low + (high - low) * i as f64 / (clusters - 1) as f64).collect(),
    };
    let mut ends = Vec::new();
    for _ in 0..MOST_ROUNDS {
        // A cluster is the numbers up to its end.
        let end = |pair: &[f64]| {
            sorted.partition_point(|&x| f64::from(x) - pair[0] <= pair[1] - f64::from(x))
        };
        let mut now: Vec<usize> = centroids.windows(2).map(end).collect();
        now.push(sorted.len());
        if now == ends {
            break;
        }
        let mut begin = 0;
        for (centroid, &end) in centroids.iter_mut().zip(&now) {
            if begin < end {
                let sum: f64 = sorted[begin..end].iter().map(|&x| f64::from(x)).sum();
                *centroid = sum / (end - begin) as f64;
            }
            begin = end.max(begin);
        }
        ends = now;
    }
    centroids
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use edgesmith_testing::{arbitrary_graph, conv_graph, random_weights};
    use proptest::prelude::*;

    use super::*;
    use crate::WeightScores;
    use crate::fold;

    /// K-means as it is written down: all distances, and means of what is nearest.
    fn naive(numbers: &[f32], clusters: usize) -> Vec<f32> {
        let low = f64::from(numbers.iter().copied().fold(f32::MAX, f32::min));
        let high = f64::from(numbers.iter().copied().fold(f32::MIN, f32::max));
        let step = |i: usize| low + (high - low) * i as f64 / (clusters - 1) as f64;
        let mut centroids: Vec<f64> = (0..clusters).map(step).collect();
        let nearest = |centroids: &[f64], x: f32| {
            let distance = |c: usize| (f64::from(x) - centroids[c]).abs();
            (0..clusters).fold(0, |best, c| if distance(c) < distance(best) { c } else { best })
        };
        let mut before = Vec::new();
        loop {
            let now: Vec<usize> = numbers.iter().map(|&x| nearest(&centroids, x)).collect();
            if now == before {
                return now.iter().map(|&c| centroids[c] as f32).collect();
            }
            for (cluster, centroid) in centroids.iter_mut().enumerate() {
                let members = numbers.iter().zip(&now).filter(|(_, c)| **c == cluster);
                let mut members: Vec<f32> = members.map(|(x, _)| *x).collect();
                members.sort_unstable_by(f32::total_cmp);
                if !members.is_empty() {
                    let sum: f64 = members.iter().map(|&x| f64::from(x)).sum();
                    *centroid = sum / members.len() as f64;
                }
            }
            before = now;
        }
    }

    fn different(numbers: &[f32]) -> usize {
        numbers.iter().map(|x| x.to_bits()).collect::<BTreeSet<u32>>().len()
    }

    proptest! {
        #[test]
        fn clusters_are_those_of_plain_k_means(
            numbers in prop::collection::vec(-2.0..3.0f32, 20..200),
            clusters in 2usize..18,
        ) {
            prop_assume!(different(&numbers) > clusters);
            let mut clustered = numbers.clone();
            to_centroids(&mut clustered, clusters);
            prop_assert_eq!(clustered, naive(&numbers, clusters));
        }

        #[test]
        fn each_tensor_has_a_few_numbers(
            graph in arbitrary_graph(),
            seed: u64,
            clusters in 2usize..20,
        ) {
            let (graph, weights) = fold(&graph, &random_weights(&graph, seed));
            let clustered = cluster(&graph, &weights, None, clusters);
            let masks = Masks::least_globally(&WeightScores::magnitudes(&graph, &weights), 0.6);
            let mut sparse = weights.clone();
            masks.apply(&mut sparse);
            let both = cluster(&graph, &sparse, Some(&masks), clusters);
            for (_, parameter) in graph.parameters() {
                let name = &*parameter.name;
                if parameter.role != Role::Weight {
                    prop_assert_eq!(&clustered.arrays[name], &weights.arrays[name]);
                    continue;
                }
                let of = |weights: &Weights| weights.arrays[name].data.clone();
                prop_assert!(different(&of(&clustered)) <= clusters);
                prop_assert!(different(&of(&both)) <= clusters);
                for (number, &kept) in of(&both).iter().zip(&masks.kept[name]) {
                    prop_assert!(kept || number.to_bits() == 0);
                }
                // The same again.
                let again = cluster(&graph, &clustered, None, clusters);
                prop_assert_eq!(of(&again), of(&clustered));
            }
        }
    }

    #[test]
    fn the_first_centroids_are_at_equal_distances() {
        // No number is near to the third of four, which stays empty.
        let mut numbers = [0.0, 0.1, 1.0, 0.9, 3.0, 3.0, 0.05];
        to_centroids(&mut numbers, 4);
        let mean = |numbers: &[f64]| (numbers.iter().sum::<f64>() / numbers.len() as f64) as f32;
        let near = mean(&[0.0, 0.05f32.into(), 0.1f32.into()]);
        let next = mean(&[0.9f32.into(), 1.0]);
        assert_eq!(numbers, [near, near, next, next, 3.0, 3.0, near]);
        // Not more different numbers than clusters: nothing to do.
        let mut few = [0.25, 0.75, 0.75, -1.0];
        to_centroids(&mut few, 3);
        assert_eq!(few, [0.25, 0.75, 0.75, -1.0]);
        to_centroids(&mut few, 1);
        assert_eq!(few, [0.1875; 4]);
    }

    #[test]
    fn more_clusters_are_nearer() {
        let (graph, weights) = fold(&conv_graph(), &random_weights(&conv_graph(), 1));
        let error = |clusters: usize| -> f64 {
            let clustered = cluster(&graph, &weights, None, clusters);
            let names = weights.arrays.keys();
            let both = names.flat_map(|name| {
                weights.arrays[name].data.iter().zip(&clustered.arrays[name].data)
            });
            both.map(|(a, b)| f64::from(a - b).powi(2)).sum()
        };
        let errors = [2, 4, 16, 256].map(error);
        assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
    }
}

//! The distance from the geometric median of a layer's filters (He et al. 2019, "Filter pruning via
//! geometric median").

use edgesmith_graph::{Channels, Graph, Weights};

use super::of_filters;

/// The sum of the euclidean distances of a filter to all other filters of its layer. A filter near
/// the middle of the others can be replaced by them, whatever its norm is. The time grows with the
/// square of a layer's channels.
///
/// # Panics
/// If `weights` do not fit `graph`.
pub fn geometric_median(graph: &Graph, channels: &Channels, weights: &Weights) -> Vec<f64> {
    of_filters(graph, channels, weights, |filters| {
        let mut sums = vec![0.0; filters.len()];
        for (i, filter) in filters.iter().enumerate() {
            for (j, other) in filters.iter().enumerate().skip(i + 1) {
                let distance = distance(filter, other);
                sums[i] += distance;
                sums[j] += distance;
            }
        }
        sums
    })
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use edgesmith_testing::{arbitrary_graph, random_weights, tiny_graph};
    use proptest::prelude::*;

    use super::*;
    use crate::fold;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// The sum over the rows of the matrix of all distances, each from norms and a product.
        #[test]
        fn distances_equal_those_of_plain_loops(graph in arbitrary_graph(), seed: u64) {
            let (graph, weights) = fold(&graph, &random_weights(&graph, seed));
            let channels = graph.channels();
            let mut expected = vec![0.0; channels.count()];
            for (id, parameter) in graph.parameters().filter(|(_, p)| p.shape.len() > 1) {
                let data = &weights.of(&graph, id).data;
                let size = data.len() / parameter.shape[0] as usize;
                let product = |a: usize, b: usize| {
                    let pairs = (0..size).map(|k| (data[a * size + k], data[b * size + k]));
                    pairs.map(|(x, y)| f64::from(x) * f64::from(y)).sum::<f64>()
                };
                let rows = 0..parameter.shape[0] as usize;
                let row = |a: usize| {
                    let square = |b| product(a, a) + product(b, b) - 2.0 * product(a, b);
                    rows.clone().map(|b| square(b).max(0.0).sqrt()).sum::<f64>()
                };
                let total: f64 = rows.clone().map(row).sum();
                let of_rows = channels.of_parameter(id, 0).unwrap();
                for (a, channel) in of_rows.iter().enumerate().filter(|_| total > 1e-6) {
                    expected[channel.index()] += row(a) / total;
                }
            }
            let importance = geometric_median(&graph, &channels, &weights);
            for (got, expected) in importance.iter().zip(&expected) {
                prop_assert!((got - expected).abs() < 1e-6, "{importance:?} {expected:?}");
            }
        }
    }

    #[test]
    fn the_filter_in_the_middle_is_the_least_important_and_not_the_smallest() {
        let graph = tiny_graph();
        let (graph, mut weights) = fold(&graph, &random_weights(&graph, 1));
        let id = graph.parameters().find(|(_, p)| p.shape[0] == 3 && p.shape.len() == 4);
        let (id, parameter) = id.unwrap();
        let array = weights.arrays.get_mut(&*parameter.name).unwrap();
        array.data.fill(0.0);
        let size = array.data.len() / 3;
        // Three filters on a line, at 1, 9 and 5.
        [1.0, 9.0, 5.0].iter().enumerate().for_each(|(i, &at)| array.data[i * size] = at);
        let channels = graph.channels();
        let importance = geometric_median(&graph, &channels, &weights);
        let of_rows = channels.of_parameter(id, 0).unwrap();
        assert_eq!(distance(&[1.0, 2.0], &[4.0, 6.0]), 5.0);
        let [first, second, third] = [0, 1, 2].map(|row| importance[of_rows[row].index()]);
        assert!(third < first && third < second, "{first} {second} {third}");
    }
}

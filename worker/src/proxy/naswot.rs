//! Measures how differently a network's rectified units respond to different images before
//! training, after Mellor, Turner, Storkey & Crowley 2021, *Neural Architecture Search without
//! Training*: a network that already distinguishes images learns more easily.

use edgesmith_data::Dataset;
use edgesmith_graph::{Effect, Evaluator, Graph, Operation, Role, Weights};

/// Number of images that are compared with each other.
const IMAGES: usize = 32;

/// Training images at the network's size, normalised as in training. They are spread over the whole
/// set, because it may be sorted by class.
pub fn batch(graph: &Graph, dataset: &Dataset) -> Vec<Vec<f64>> {
    let count = IMAGES.min(dataset.train.len());
    let chosen: Vec<usize> = (0..count).map(|i| i * dataset.train.len() / count).collect();
    let input = graph.inputs().next().expect("a network has an input");
    let side = graph.shape(input).space()[0] as usize;
    let images = dataset.train.subset(&chosen).resized(side);
    let normalization = &dataset.normalization;
    let normalised = |image: usize| {
        let planes = images.image(image).chunks_exact(images.height * images.width);
        let scales = normalization.mean.iter().zip(&normalization.std);
        let pixels = planes.zip(scales).flat_map(|(plane, (mean, std))| {
            plane
                .iter()
                .map(move |byte| (f64::from(*byte) / 255.0 - f64::from(*mean)) / f64::from(*std))
        });
        pixels.collect()
    };
    (0..count).map(normalised).collect()
}

/// `ln det (K + 1)`, where `K` counts, for each pair of images, the units that are on for both or
/// off for both. The paper's `K` is singular if two images activate the same units. Adding the
/// identity acts as one more unit per image that is on for this image only; it keeps the logarithm
/// finite and changes it little among thousands of units.
pub fn score(graph: &Graph, weights: &Weights, batch: &[Vec<f64>]) -> f64 {
    let codes = codes(graph, weights, batch);
    let same = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|(a, b)| a == b).count();
    let kernel: Vec<Vec<f64>> = codes
        .iter()
        .enumerate()
        .map(|(i, own)| {
            let row = codes.iter().enumerate();
            row.map(|(j, other)| same(own, other) as f64 + f64::from(u8::from(i == j))).collect()
        })
        .collect();
    log_determinant(kernel)
}

/// Which rectified units are on, by image. Batch normalisation uses the batch's statistics, as in
/// the first training step.
fn codes(graph: &Graph, weights: &Weights, batch: &[Vec<f64>]) -> Vec<Vec<bool>> {
    let mut evaluator = Evaluator::<f64>::new(graph, weights);
    let mut codes: Vec<Vec<bool>> = vec![Vec::new(); batch.len()];
    // By image and value. A value is dropped after its last reader, because the feature maps of a
    // batch are large.
    let readers = graph.readers();
    let mut values: Vec<Vec<Vec<f64>>> = batch.iter().map(|image| vec![image.clone()]).collect();
    for (id, node) in graph.nodes() {
        let input = node.inputs.first().map_or(0, |input| input.index());
        match node.op.effect() {
            Effect::Normalizes => {
                let channels = graph.shape(node.output).channels() as usize;
                let maps: Vec<&[f64]> = values.iter().map(|of| of[input].as_slice()).collect();
                let statistics = statistics(&maps, channels);
                for &parameter in &node.parameters {
                    let numbers = match graph.parameter(parameter).role {
                        Role::Mean => &statistics.mean,
                        Role::Variance => &statistics.variance,
                        Role::Weight
                        | Role::Bias
                        | Role::Scale
                        | Role::Shift
                        | Role::Slope
                        | Role::Constant => continue,
                    };
                    evaluator.parameter_mut(parameter).copy_from_slice(numbers);
                }
            }
            Effect::Activates { off_up_to: Some(off) } => {
                for (code, of) in codes.iter_mut().zip(&values) {
                    code.extend(of[input].iter().map(|value| *value > f64::from(off)));
                }
            }
            // They rectify nothing.
            Effect::Activates { off_up_to: None } | Effect::Combines | Effect::Rescales => {}
        }
        for of in &mut values {
            let output = evaluator.node(id, of);
            of.push(output);
            for input in &node.inputs {
                if readers[input.index()].last() == Some(&id) {
                    of[input.index()] = Vec::new();
                }
            }
        }
    }
    codes
}

/// Mean and variance of each channel over a batch.
struct Statistics {
    mean: Vec<f64>,
    variance: Vec<f64>,
}

fn statistics(maps: &[&[f64]], channels: usize) -> Statistics {
    let positions = maps.first().map_or(0, |map| map.len() / channels);
    let mean_of = |channel: usize, of: &dyn Fn(f64) -> f64| {
        let range = channel * positions..(channel + 1) * positions;
        let all = maps.iter().flat_map(|map| &map[range.clone()]);
        all.map(|value| of(*value)).sum::<f64>() / (maps.len() * positions) as f64
    };
    let mean: Vec<f64> = (0..channels).map(|channel| mean_of(channel, &|value| value)).collect();
    let variance = mean.iter().enumerate();
    let variance =
        variance.map(|(channel, mean)| mean_of(channel, &|value| (value - mean).powi(2))).collect();
    Statistics { mean, variance }
}

/// Logarithm of the determinant of a symmetric, positive definite matrix, by Cholesky
/// factorisation.
fn log_determinant(mut matrix: Vec<Vec<f64>>) -> f64 {
    let mut sum = 0.0;
    for i in 0..matrix.len() {
        for j in 0..=i {
            let (row, other) = (&matrix[i], &matrix[j]);
            let inner: f64 = row[..j].iter().zip(&other[..j]).map(|(a, b)| a * b).sum();
            let rest = row[j] - inner;
            matrix[i][j] = if i == j {
                let pivot = rest.max(f64::MIN_POSITIVE).sqrt();
                sum += 2.0 * pivot.ln();
                pivot
            } else {
                rest / matrix[j][j]
            };
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use edgesmith_testing::{arbitrary_graph, random_image};
    use edgesmith_train::fresh_weights;

    fn images(graph: &Graph, count: u64) -> Vec<Vec<f64>> {
        let image = |seed| random_image(graph, seed).iter().map(|v| f64::from(*v)).collect();
        (0..count).map(image).collect()
    }

    #[test]
    fn a_determinant_matches_a_calculation_by_hand() {
        let matrix = vec![vec![4.0, 2.0, 0.0], vec![2.0, 5.0, 1.0], vec![0.0, 1.0, 3.0]];
        // 4 · (15 - 1) - 2 · 6.
        assert!((log_determinant(matrix) - 44f64.ln()).abs() < 1e-12);
        assert_eq!(log_determinant(Vec::new()), 0.0);
    }

    #[test]
    fn statistics_are_those_of_each_channel_over_the_batch() {
        let maps: [&[f64]; 2] = [&[1.0, 3.0, 10.0, 10.0], &[5.0, 7.0, 10.0, 10.0]];
        let Statistics { mean, variance } = statistics(&maps, 2);
        assert_eq!((mean, variance), (vec![4.0, 10.0], vec![5.0, 0.0]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_network_has_a_score_that_does_not_depend_on_order(graph in arbitrary_graph(), seed: u8) {
            let weights = fresh_weights(&graph, [seed; 32]);
            let batch = images(&graph, 6);
            let one = score(&graph, &weights, &batch);
            prop_assert!(one.is_finite());
            let turned: Vec<Vec<f64>> = batch.iter().rev().cloned().collect();
            prop_assert!((score(&graph, &weights, &turned) - one).abs() < 1e-6 * one.abs().max(1.0));
            // Two equal images lower the score, but it stays finite.
            let mut alike = batch.clone();
            alike[5] = alike[0].clone();
            prop_assert!(score(&graph, &weights, &alike).is_finite());
            let all_alike = vec![batch[0].clone(); 6];
            let units = codes(&graph, &weights, &all_alike)[0].len() as f64;
            let expected = (6.0 * units + 1.0).ln();
            prop_assert!((score(&graph, &weights, &all_alike) - expected).abs() < 1e-6);
        }

        /// A unit of the stem is on if its normalised sum is above 0; computed here from the
        /// definition.
        #[test]
        fn a_unit_is_on_above_its_mean(graph in arbitrary_graph(), seed: u8) {
            let weights = fresh_weights(&graph, [seed; 32]);
            let batch = images(&graph, 4);
            let codes = codes(&graph, &weights, &batch);
            let stem = graph.value_named("stem").unwrap();
            let evaluator = Evaluator::<f64>::new(&graph, &weights);
            let sums: Vec<Vec<f64>> = batch
                .iter()
                .map(|image| evaluator.run(vec![image.clone()]).swap_remove(stem.index()))
                .collect();
            let positions = graph.shape(stem).positions() as usize;
            for channel in 0..graph.shape(stem).channels() as usize {
                let range = channel * positions..(channel + 1) * positions;
                let all: Vec<f64> = sums.iter().flat_map(|map| map[range.clone()].to_vec()).collect();
                let mean = all.iter().sum::<f64>() / all.len() as f64;
                for (map, code) in sums.iter().zip(&codes) {
                    for at in range.clone().filter(|at| (map[*at] - mean).abs() > 1e-9) {
                        prop_assert_eq!(code[at], map[at] > mean);
                    }
                }
            }
        }
    }
}

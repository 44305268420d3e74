//! Measures how differently a network's rectified units respond to different images before
//! training, after Mellor, Turner, Storkey & Crowley 2021, *Neural Architecture Search without
//! Training*: a network that already distinguishes images learns more easily.

use edgesmith_search_space::{Activation, LayerId, LayerOp, Plan, Source};

use super::loops::{convolve, plane_means};
use crate::data::Dataset;
use crate::network::Weights;

/// Number of images that are compared with each other.
const IMAGES: usize = 32;

/// Training images at the plan's size, normalised as in training. They are spread over the whole
/// set, because it may be sorted by class.
pub fn batch(plan: &Plan, dataset: &Dataset) -> Vec<Vec<f64>> {
    let count = IMAGES.min(dataset.train.len());
    let chosen: Vec<usize> = (0..count).map(|i| i * dataset.train.len() / count).collect();
    let images = dataset.train.subset(&chosen).resized(plan.input().height as usize);
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
pub fn score(plan: &Plan, weights: &Weights, batch: &[Vec<f64>]) -> f64 {
    let codes = codes(plan, weights, batch);
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
fn codes(plan: &Plan, weights: &Weights, batch: &[Vec<f64>]) -> Vec<Vec<bool>> {
    let mut codes: Vec<Vec<bool>> = vec![Vec::new(); batch.len()];
    // By layer and image. An output is dropped after its last reader, because the feature maps of a
    // batch are large.
    let mut outputs: Vec<Vec<Vec<f64>>> = Vec::with_capacity(plan.layers().len());
    for id in plan.ids() {
        let layer = plan.layer(id);
        let read = |source: Source| match source {
            Source::Input => batch,
            Source::Layer(LayerId(index)) => &outputs[index],
        };
        let input = read(layer.inputs[0]);
        let output = match layer.op {
            LayerOp::Conv { activation, .. } | LayerOp::Depthwise { activation, .. } => {
                let filters = &weights.get(&layer.name, "weight").data;
                let sums = input.iter().map(|image| convolve(plan, id, filters, image));
                let mut maps: Vec<Vec<f64>> = sums.collect();
                normalise(&mut maps, plan.output_shape(id).channels as usize);
                if let Some(activation) = activation {
                    for (code, map) in codes.iter_mut().zip(&maps) {
                        code.extend(map.iter().map(|value| *value > 0.0));
                    }
                    let most = match activation {
                        Activation::Relu => f64::INFINITY,
                        Activation::Relu6 => 6.0,
                    };
                    maps.iter_mut().flatten().for_each(|value| *value = value.clamp(0.0, most));
                }
                maps
            }
            LayerOp::Add => {
                let pairs = input.iter().zip(read(layer.inputs[1]));
                pairs.map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
            }
            LayerOp::GlobalAveragePool => {
                let channels = plan.input_shape(id).channels as usize;
                input.iter().map(|image| plane_means(image, channels)).collect()
            }
            // The logits are not rectified.
            LayerOp::Linear => Vec::new(),
        };
        outputs.push(output);
        for source in &layer.inputs {
            if let Source::Layer(read) = *source
                && !plan.ids().skip(id.0 + 1).any(|later| plan.layer(later).inputs.contains(source))
            {
                outputs[read.0] = Vec::new();
            }
        }
    }
    codes
}

/// Normalises each channel to mean 0 and variance 1 over the batch.
fn normalise(maps: &mut [Vec<f64>], channels: usize) {
    let positions = maps.first().map_or(0, |map| map.len() / channels);
    for channel in 0..channels {
        let range = channel * positions..(channel + 1) * positions;
        let count = (maps.len() * positions) as f64;
        let sum = |of: &dyn Fn(f64) -> f64| {
            maps.iter().flat_map(|map| &map[range.clone()]).map(|value| of(*value)).sum::<f64>()
        };
        let mean = sum(&|value| value) / count;
        let variance = sum(&|value| (value - mean).powi(2)) / count;
        let scale = 1.0 / (variance + f64::from(Weights::EPSILON)).sqrt();
        for map in &mut *maps {
            map[range.clone()].iter_mut().for_each(|value| *value = (*value - mean) * scale);
        }
    }
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
    use crate::compress::testing::{arbitrary_plan, random_image};

    fn images(plan: &Plan, count: u64) -> Vec<Vec<f64>> {
        let image = |seed| random_image(plan, seed).iter().map(|v| f64::from(*v)).collect();
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
    fn channels_are_normalised_over_the_batch() {
        let mut maps = vec![vec![1.0, 3.0, 10.0, 10.0], vec![5.0, 7.0, 10.0, 10.0]];
        normalise(&mut maps, 2);
        let by_hand = [-3.0, -1.0, 1.0, 3.0].map(|v: f64| v / 5f64.sqrt());
        let got = [maps[0][0], maps[0][1], maps[1][0], maps[1][1]];
        assert!(got.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?}");
        assert_eq!(maps[0][2], 0.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_plan_has_a_score_that_does_not_depend_on_order(plan in arbitrary_plan(), seed: u8) {
            let weights = Weights::init(&plan, [seed; 32]);
            let batch = images(&plan, 6);
            let one = score(&plan, &weights, &batch);
            prop_assert!(one.is_finite());
            let turned: Vec<Vec<f64>> = batch.iter().rev().cloned().collect();
            prop_assert!((score(&plan, &weights, &turned) - one).abs() < 1e-6 * one.abs().max(1.0));
            // Two equal images lower the score, but it stays finite.
            let mut alike = batch.clone();
            alike[5] = alike[0].clone();
            prop_assert!(score(&plan, &weights, &alike).is_finite());
            let all_alike = vec![batch[0].clone(); 6];
            let units = codes(&plan, &weights, &all_alike)[0].len() as f64;
            let expected = (6.0 * units + 1.0).ln();
            prop_assert!((score(&plan, &weights, &all_alike) - expected).abs() < 1e-6);
        }

        /// A unit of the stem is on if its normalised sum is above 0; computed here from the
        /// definition.
        #[test]
        fn a_unit_is_on_above_its_mean(plan in arbitrary_plan(), seed: u8) {
            let weights = Weights::init(&plan, [seed; 32]);
            let batch = images(&plan, 4);
            let codes = codes(&plan, &weights, &batch);
            let stem = LayerId(0);
            let filters = &weights.get(&plan.layer(stem).name, "weight").data;
            let sums: Vec<Vec<f64>> =
                batch.iter().map(|image| convolve(&plan, stem, filters, image)).collect();
            let shape = plan.output_shape(stem);
            let positions = (shape.height * shape.width) as usize;
            for channel in 0..shape.channels as usize {
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

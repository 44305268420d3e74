//! Trainings with silent channels, as on a GPU; here on `flex`.

use proptest::prelude::*;

use super::*;
use crate::compress::testing::{arbitrary_plan, random_bytes, random_weights as any_weights};

fn padded(channel_multiple: u32) -> Manner {
    Manner { steps_ahead: 1, channel_multiple }
}

fn train_padded(multiple: u32, request: TrainRequest) -> Trained {
    train_in(padded(multiple), request, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// A few images for a plan.
fn images(plan: &Plan) -> Dataset {
    let (input, classes) = (plan.input(), plan.classes() as usize);
    let set = |count: usize| ImageSet {
        channels: input.channels as usize,
        height: input.height as usize,
        width: input.width as usize,
        pixels: (0..count).flat_map(|i| random_bytes(plan, i as u64)).collect(),
        labels: (0..count).map(|i| (i % classes) as u16).collect(),
    };
    let train = set(21);
    let normalization = Normalization::of(&train);
    Dataset { train, validation: set(1), test: set(1), classes, normalization }
}

/// What a padded training leaves in its silent channels.
fn silent(plan: &Plan, multiple: u32, arrays: &Moments) -> Vec<f32> {
    let padding = Padding::new(plan, multiple);
    let own = padding.pad(padding.crop(arrays.clone()));
    let differences = arrays.iter().flat_map(|(name, array)| {
        let pairs = array.data.iter().zip(&own[name].data);
        pairs.filter(|(a, b)| a != b).map(|(a, _)| *a)
    });
    differences.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_padded_network_trains_as_the_plain_one(plan in arbitrary_plan(), seed: u64, multiple in 2u32..9) {
        let data = images(&plan);
        // AdamW's first steps make as much of a rounding error as of a gradient.
        let optimizer = OptimizerSpec::Sgd { momentum: 0.9 };
        let spec = TrainingSpec { optimizer, batch_size: 8, ..spec() };
        let views = views(&spec);
        let start = Checkpoint::fresh(any_weights(&plan, seed));
        let request = TrainRequest { start, learning_rate: 1e-3, ..request(&plan, &data, &views, &spec) };
        let plain = run(request.clone()).unwrap();
        let padded = train_padded(multiple, request);
        for (padded, plain) in padded.losses.iter().zip(&plain.losses) {
            prop_assert!((padded - plain).abs() < 1e-3 * plain.abs().max(1.0), "{padded} {plain}");
        }
        let (weights, others) = (&plain.weights.arrays, &padded.weights.arrays);
        prop_assert_eq!(weights.len(), others.len());
        for (name, array) in weights {
            prop_assert_eq!(&array.shape, &others[name].shape);
            for (padded, plain) in others[name].data.iter().zip(&array.data) {
                prop_assert!((padded - plain).abs() < 1e-2 * plain.abs().max(1.0), "{name}: {padded} {plain}");
            }
        }
    }

    #[test]
    fn silent_channels_stay_silent(plan in arbitrary_plan(), seed: u64, multiple in 2u32..9, sgd: bool) {
        let data = images(&plan);
        let optimizer =
            if sgd { OptimizerSpec::Sgd { momentum: 0.9 } } else { OptimizerSpec::AdamW };
        let spec = TrainingSpec { optimizer, batch_size: 8, weight_decay: 0.1, ..spec() };
        let views = views(&spec);
        // The padded network trained as one of its own.
        let padding = Padding::new(&plan, multiple);
        let weights = Weights { arrays: padding.pad(any_weights(&plan, seed).arrays) };
        let start = Checkpoint::fresh(weights);
        let trained = run(TrainRequest { start, ..request(padding.plan(), &data, &views, &spec) });
        let trained = trained.unwrap();
        prop_assert_eq!(silent(&plan, multiple, &trained.weights.arrays), Vec::<f32>::new());
        prop_assert_eq!(silent(&plan, multiple, &trained.moments), Vec::<f32>::new());
    }
}

#[test]
fn padded_trainings_go_on_from_their_checkpoints() {
    let (spec, data, plan) = (spec(), colours(), tiny_plan());
    let views = views(&spec);
    let request = request(&plan, &data, &views, &spec);
    let padding = Padding::new(&plan, 4);
    assert_ne!(padding.plan(), &plan, "there is something to pad");
    let whole = train_padded(4, request.clone());
    let first = train_padded(4, TrainRequest { until: 1, ..request.clone() });
    let Trained { weights, moments, images_seen, .. } = first;
    // On a processor, for what it is worth: a checkpoint is of the network, not of a device.
    for name in ["moment_1/stem.weight", "moment_2/classifier.weight"] {
        let of = name.rsplit('/').next().unwrap();
        assert_eq!(moments[name].data.len(), weights.arrays[of].data.len());
    }
    let start = Checkpoint { weights, moments, epochs: 1, images_seen, seconds: 0.0 };
    assert_eq!(run(TrainRequest { start: start.clone(), ..request.clone() }).map(|_| ()), Ok(()));
    let second = train_padded(4, TrainRequest { start, ..request });
    assert_eq!(second.weights, whole.weights);
    assert_eq!(second.moments, whole.moments);
}

//! Networks in fp32 agree with the definitions computed in f64, up to rounding.

use edgesmith_edge_runtime::{
    Activation, Conv, FloatConv, FloatLayer, FloatLeakyRelu, FloatNode, InputError, InputSpec,
    Linear, Model, Network, Session, ValueId,
};
use proptest::prelude::*;

use crate::models::{Random, float_model};
use crate::reference;

fn assert_close(model: &Model, seed: u64) {
    let mut fast = Session::new(model).expect("a valid model");
    let mut portable = Session::portable(model).expect("a valid model");
    let mut random = Random(seed);
    for _ in 0..2 {
        let image = random.bytes(fast.image_bytes());
        let expected = reference::run(model, &image);
        let largest = expected.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
        for session in [&mut fast, &mut portable] {
            let found = session.run(&image).unwrap();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(error <= 1e-4 * largest, "{found} for {expected}, seed {seed}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn single_layers_are_close(seed: u64) {
        assert_close(&float_model(seed, 1), seed);
    }

    #[test]
    fn whole_networks_are_close(seed: u64) {
        assert_close(&float_model(seed, 8), seed);
    }
}

/// One pixel through an identity convolution with this activation.
fn activated(activation: Activation, byte: u8) -> f32 {
    let conv = Conv {
        in_channels: 1,
        out_channels: 1,
        kernel: 1,
        stride: 1,
        padding: 0,
        weight: vec![1.0],
        bias: vec![0.0],
    };
    let linear = Linear { in_features: 1, out_features: 1, weight: vec![1.0], bias: vec![0.0] };
    let nodes = vec![
        FloatNode {
            inputs: vec![ValueId(0)],
            layer: FloatLayer::Conv(FloatConv { conv, activation }),
        },
        FloatNode { inputs: vec![ValueId(1)], layer: FloatLayer::Linear(linear) },
    ];
    // Bytes 0, 51, … 255 mean -10, -6, … 10.
    let input = InputSpec { channels: 1, height: 1, width: 1, mean: vec![0.5], std: vec![0.05] };
    let mut session = Session::new(&Model { input, network: Network::Fp32(nodes) }).unwrap();
    session.run(&[byte]).unwrap()[0]
}

#[test]
fn activations_clamp_at_their_bounds() {
    let all = |activation| [0u8, 102, 153, 255].map(|byte| activated(activation, byte).round());
    assert_eq!(all(Activation::Linear), [-10.0, -2.0, 2.0, 10.0]);
    assert_eq!(all(Activation::Relu), [0.0, 0.0, 2.0, 10.0]);
    assert_eq!(all(Activation::Relu6), [0.0, 0.0, 2.0, 6.0]);
}

#[test]
fn a_leaky_relu_scales_what_is_negative() {
    // More elements than a vector register has, and a rest.
    let side = 7;
    let features = side * side;
    let mut identity = vec![0.0; (features * features) as usize];
    identity.iter_mut().step_by(features as usize + 1).for_each(|weight| *weight = 1.0);
    // Bytes 0 to 255 are about -128 to 127.
    let (mean, std) = (vec![128.0 / 255.0], vec![1.0 / 255.0]);
    let input = InputSpec { channels: 1, height: side, width: side, mean, std };
    let image = Random(1).bytes(features as usize);
    for slope in [0.25, -0.5, 2.0, 0.0] {
        let linear = Linear {
            in_features: features,
            out_features: features,
            weight: identity.clone(),
            bias: vec![0.0; features as usize],
        };
        let nodes = vec![
            FloatNode {
                inputs: vec![ValueId(0)],
                layer: FloatLayer::LeakyRelu(FloatLeakyRelu { slope }),
            },
            FloatNode { inputs: vec![ValueId(1)], layer: FloatLayer::Linear(linear) },
        ];
        let expected: Vec<f32> = image
            .iter()
            .map(|&byte| input.normalized(0, byte))
            .map(|x| if x >= 0.0 { x } else { slope * x })
            .collect();
        let model = Model { input: input.clone(), network: Network::Fp32(nodes) };
        for mut session in [Session::new(&model).unwrap(), Session::portable(&model).unwrap()] {
            assert_eq!(session.run(&image).unwrap(), expected, "slope {slope}");
        }
    }
}

#[test]
fn images_of_another_size_are_refused() {
    let mut session = Session::new(&float_model(1, 3)).unwrap();
    let expected = session.image_bytes();
    let error = session.run(&vec![0; expected + 1]).unwrap_err();
    assert_eq!(error, InputError::WrongLength { expected, found: expected + 1 });
    assert!(session.classify(&[]).is_err());
    assert!(session.run(&vec![0; expected]).is_ok());
}

#[test]
fn a_run_does_not_affect_the_next_one() {
    for seed in 0..50 {
        let model = float_model(seed, 8);
        let mut used = Session::new(&model).unwrap();
        let mut random = Random(seed);
        let [first, second] = [0; 2].map(|_| random.bytes(used.image_bytes()));
        used.run(&first).unwrap();
        let again = used.run(&second).unwrap().to_vec();
        assert_eq!(again, Session::new(&model).unwrap().run(&second).unwrap());
    }
}

#[test]
fn memory_is_reused_along_a_chain() {
    let conv = |inputs| FloatNode {
        inputs: vec![ValueId(inputs)],
        layer: FloatLayer::Conv(FloatConv {
            conv: Conv {
                in_channels: 1,
                out_channels: 1,
                kernel: 1,
                stride: 1,
                padding: 0,
                weight: vec![1.0],
                bias: vec![0.0],
            },
            activation: Activation::Linear,
        }),
    };
    let mut nodes: Vec<_> = (0..20).map(conv).collect();
    let linear =
        Linear { in_features: 64, out_features: 2, weight: vec![1.0; 128], bias: vec![0.0; 2] };
    nodes.push(FloatNode { inputs: vec![ValueId(20)], layer: FloatLayer::Linear(linear) });
    let input = InputSpec { channels: 1, height: 8, width: 8, mean: vec![0.0], std: vec![1.0] };
    let session = Session::new(&Model { input, network: Network::Fp32(nodes) }).unwrap();
    // Two maps of 64 and two logits.
    assert_eq!(session.peak_memory_bytes(), (2 * 64 + 2) * 4);
}

//! Integer networks agree with the definitions bit for bit, for every instruction set.

use edgesmith_edge_runtime::{
    Conv, InputSpec, IntConv, IntLayer, IntLeakyRelu, IntLinear, IntNode, Linear, Model, Network,
    Quantization, Requantization, Session, ValueId,
};
use proptest::prelude::*;

use crate::models::{Random, int_model};
use crate::reference;

fn assert_exact(model: &Model, seed: u64) {
    let mut fast = Session::new(model).expect("a valid model");
    let mut portable = Session::portable(model).expect("a valid model");
    let mut random = Random(seed);
    for _ in 0..2 {
        let image = random.bytes(fast.image_bytes());
        let expected = reference::run_int(model, &image);
        assert_eq!(fast.run(&image).unwrap(), expected, "fast kernels, seed {seed}");
        assert_eq!(portable.run(&image).unwrap(), expected, "portable kernels, seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(768))]

    #[test]
    fn single_layers_are_exact(seed: u64) {
        assert_exact(&int_model(seed, 1), seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whole_networks_are_exact(seed: u64) {
        assert_exact(&int_model(seed, 10), seed);
    }
}

/// A 1x1 map whose products reach the largest allowed accumulator.
#[test]
fn the_largest_accumulators_do_not_wrap() {
    let channels = 8000;
    let conv = Conv {
        in_channels: 1,
        out_channels: channels,
        kernel: 1,
        stride: 1,
        padding: 0,
        weight: vec![127; channels as usize],
        bias: vec![0; channels as usize],
    };
    let byte = Quantization { scale: 1.0, zero_point: 0 };
    let one = Requantization::from_real(1.0);
    let wide = Conv {
        in_channels: channels,
        out_channels: 2,
        kernel: 1,
        stride: 1,
        padding: 0,
        weight: [vec![127; channels as usize], vec![-128; channels as usize]].concat(),
        bias: vec![
            i32::MAX - 255 * 127 * channels as i32,
            -(i32::MAX - 255 * 128 * channels as i32),
        ],
    };
    let nodes = vec![
        IntNode {
            inputs: vec![ValueId(0)],
            layer: IntLayer::Conv(IntConv {
                conv,
                requantize: vec![one; channels as usize],
                clamp: (0, 255),
            }),
            output: byte,
        },
        IntNode {
            inputs: vec![ValueId(1)],
            layer: IntLayer::Conv(IntConv {
                conv: wide,
                requantize: vec![Requantization::from_real(127.0 / i32::MAX as f64); 2],
                clamp: (0, 255),
            }),
            output: Quantization { scale: 1.0, zero_point: 128 },
        },
        IntNode {
            inputs: vec![ValueId(2)],
            layer: IntLayer::Linear(IntLinear {
                linear: Linear {
                    in_features: 2,
                    out_features: 2,
                    weight: vec![1, 0, 0, 1],
                    bias: vec![0, 0],
                },
                logit_scale: vec![1.0; 2],
            }),
            output: byte,
        },
    ];
    let input =
        InputSpec { channels: 1, height: 1, width: 1, mean: vec![0.0], std: vec![1.0 / 255.0] };
    let model = Model { input, network: Network::Int8 { input: byte, nodes } };
    for mut session in [Session::new(&model).unwrap(), Session::portable(&model).unwrap()] {
        assert_eq!(session.run(&[255]).unwrap(), [127.0, -127.0]);
    }
}

#[test]
fn a_leaky_relu_looks_every_byte_up() {
    let byte = Quantization { scale: 1.0, zero_point: 0 };
    let table = Box::new(std::array::from_fn(|input| 255 - input as u8));
    let linear = Linear { in_features: 1, out_features: 1, weight: vec![1], bias: vec![0] };
    let nodes = vec![
        IntNode {
            inputs: vec![ValueId(0)],
            layer: IntLayer::LeakyRelu(IntLeakyRelu { slope: -1.0, table }),
            output: byte,
        },
        IntNode {
            inputs: vec![ValueId(1)],
            layer: IntLayer::Linear(IntLinear { linear, logit_scale: vec![1.0] }),
            output: byte,
        },
    ];
    let input =
        InputSpec { channels: 1, height: 1, width: 1, mean: vec![0.0], std: vec![1.0 / 255.0] };
    let model = Model { input, network: Network::Int8 { input: byte, nodes } };
    for mut session in [Session::new(&model).unwrap(), Session::portable(&model).unwrap()] {
        for byte in 0..=u8::MAX {
            assert_eq!(session.run(&[byte]).unwrap(), [f32::from(255 - byte)]);
        }
    }
}

#[test]
fn classify_returns_the_first_of_equal_highest_logits() {
    let quantization = Quantization { scale: 1.0, zero_point: 0 };
    let linear =
        Linear { in_features: 1, out_features: 4, weight: vec![0; 4], bias: vec![1, 5, 5, -9] };
    let node = IntNode {
        inputs: vec![ValueId(0)],
        layer: IntLayer::Linear(IntLinear { linear, logit_scale: vec![1.0; 4] }),
        output: quantization,
    };
    let model = Model {
        input: InputSpec { channels: 1, height: 1, width: 1, mean: vec![0.0], std: vec![1.0] },
        network: Network::Int8 { input: quantization, nodes: vec![node] },
    };
    let mut session = Session::new(&model).unwrap();
    assert_eq!(session.classes(), 4);
    assert_eq!(session.classify(&[7]).unwrap(), 1);
    assert_eq!(session.run(&[7]).unwrap(), [1.0, 5.0, 5.0, -9.0]);
}

//! Layers in integers with one factor or scale for all channels: they compute what layers compute
//! that list the same for each channel, bit for bit, in a smaller file.

use edgesmith_edge_runtime::*;
use proptest::prelude::*;

use crate::models::{arrays, int_model, tensors};

/// What a layer lists for its channels, from the first of them: for each channel, and once.
fn lists(layer: &mut Layer, each: bool) -> usize {
    fn repeat<T: Copy>(list: &mut Vec<T>, channels: u32, each: bool) {
        if let Some(&first) = list.first() {
            *list = vec![first; if each { channels as usize } else { 1 }];
        }
    }
    match layer {
        Layer::IntConv(layer) => {
            let channels = layer.conv.out_channels;
            repeat(&mut layer.requantize, channels, each);
            repeat(&mut layer.weight_scale, channels, each);
            let scales = 4 * usize::from(!layer.weight_scale.is_empty());
            (channels as usize - 1) * (5 + scales)
        }
        Layer::IntConvTranspose(layer) => {
            let channels = layer.conv.out_channels;
            repeat(&mut layer.requantize, channels, each);
            repeat(&mut layer.weight_scale, channels, each);
            let scales = 4 * usize::from(!layer.weight_scale.is_empty());
            (channels as usize - 1) * (5 + scales)
        }
        Layer::IntLinear(layer) => {
            repeat(&mut layer.logit_scale, layer.linear.out_features, each);
            (layer.linear.out_features as usize - 1) * 4
        }
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn one_for_all_is_the_same_for_each(seed: u64) {
        let (mut all, mut one) = (int_model(seed, 12), int_model(seed, 12));
        (all.notes, one.notes) = (Notes::default(), Notes::default());
        for node in &mut all.nodes {
            lists(&mut node.layer, true);
        }
        let saved: usize = one.nodes.iter_mut().map(|node| lists(&mut node.layer, false)).sum();
        let (long, short) = (all.to_bytes(), one.to_bytes());
        // A length of a section or a shift may take a byte less, too.
        let less = long.len() - short.len();
        prop_assert!((saved..=saved + 4).contains(&less), "{} {}", less, saved);
        prop_assert_eq!(one.counted_bytes(), short.len() as u64);
        let read = Model::from_bytes(&short).unwrap();
        prop_assert_eq!(&read, &one);
        prop_assert_eq!(&Model::from_bytes(&long).unwrap(), &all);
        let inputs = arrays(&all, seed);
        let inputs = tensors(&inputs);
        let mut expected = Session::portable(&all).unwrap();
        expected.run_on(&inputs).unwrap();
        for mut session in Session::each(&read).unwrap() {
            session.run_on(&inputs).unwrap();
            for place in 0..all.outputs.len() {
                prop_assert_eq!(session.output(place), expected.output(place));
            }
        }
    }
}

/// The layout of docs/model-format.md, byte by byte.
#[test]
fn the_layout_is_as_documented() {
    let bytes = Element::Uint8(Quantization { scale: 0.5, zero_point: 1 });
    let conv = Conv {
        in_channels: 1,
        out_channels: 2,
        groups: 1,
        axes: Vec::new(),
        weight: vec![3, -4],
        bias: vec![5, -6],
    };
    let half = Requantization::from_real(0.25);
    let conv = IntConv { conv, weight_scale: vec![2.0], requantize: vec![half], clamp: (0, 255) };
    let linear = Linear { in_features: 2, out_features: 2, weight: vec![1; 4], bias: vec![0; 2] };
    let linear = IntLinear { linear, logit_scale: vec![0.25] };
    let model = Model {
        inputs: vec![Input {
            name: "x".to_owned(),
            shape: Shape::new(&[1]).unwrap(),
            order: vec![0],
            array: Array::Fp32,
            element: bytes,
        }],
        nodes: vec![
            Node { inputs: vec![ValueId(0)], layer: conv.into(), output: bytes },
            Node { inputs: vec![ValueId(1)], layer: linear.into(), output: Element::Fp32 },
        ],
        outputs: vec![Output::new("y", ValueId(2), 1)],
        rounding: Rounding::Once,
        notes: Notes::default(),
    };
    let quantization = [&[1][..], &0.5f32.to_le_bytes(), &[1]].concat();
    let weight = [&[3, 2, 2, 1, 1, 0, 1][..], &2f32.to_le_bytes(), &[3, 0xfc]].concat();
    let bias = [&[4, 1, 2, 0][..], &5i32.to_le_bytes(), &(-6i32).to_le_bytes()].concat();
    let factor = [&[1][..], &(1i32 << 30).to_le_bytes(), &[1, 0, 255]].concat();
    let first = [&[2, 1, 0, 1, 0][..], &weight, &bias, &factor, &quantization].concat();
    let weight = [3, 2, 2, 2, 0, 1, 1, 1, 1];
    let bias = [&[4, 1, 2, 0][..], &[0; 8]].concat();
    let second = [&[6, 1, 1][..], &weight, &bias, &[1], &0.25f32.to_le_bytes(), &[0]].concat();
    let nodes = [&[1, 2][..], &first, &second].concat();
    let file = model.to_bytes();
    let at = file.windows(4).position(|tag| tag == b"GRPH").unwrap() + 4;
    assert_eq!(file[at] as usize, nodes.len());
    assert_eq!(&file[at + 1..][..nodes.len()], nodes);
    let mut session = Session::new(&Model::from_bytes(&file).unwrap()).unwrap();
    session.run_on(&[Tensor::from(&Numbers::Fp32(vec![2.0]))]).unwrap();
    // The byte is 5, so the sums are 4 * 3 + 5 and 4 * -4 - 6; a quarter of each, rounded, and 1.
    let (a, b) = (4 + 1, -5 + 1);
    let centred = [a, b].map(|byte: i32| byte.clamp(0, 255) - 1);
    assert_eq!(session.output(0), [0.25 * (centred[0] + centred[1]) as f32; 2]);
}

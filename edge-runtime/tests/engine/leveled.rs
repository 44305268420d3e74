//! Layers whose weights are levels of few bits: they compute what layers with the real weights
//! compute, bit for bit, and the file stores the levels in so many bits.

use edgesmith_edge_runtime::*;
use proptest::prelude::*;

use crate::models::{Random, arrays, tensors};

const BITS: [u8; 5] = [1, 2, 4, 8, 16];

/// Lowest and highest level of so many bits.
fn range(bits: u8) -> (i64, i64) {
    match bits {
        1 => (-1, 1),
        bits => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
    }
}

/// A layer over a value of `[3, 5, 5]`, or over its 75 numbers.
fn layer(random: &mut Random, form: u32, bits: u8) -> Leveled {
    let (low, high) = range(bits);
    let level = |random: &mut Random| match bits {
        // Without zeros, as binary weights are.
        1 => random.int(0, 1) as i16 * 2 - 1,
        _ => random.int(low, high) as i16,
    };
    let out_channels = 4;
    let count = |of: u32| 0..of * out_channels;
    let bias: Vec<f32> = (0..out_channels).map(|_| random.real(-1.0, 1.0)).collect();
    let layer = match form {
        0 => {
            let axes = vec![WindowAxis::new(3, 1, 1), WindowAxis::new(3, 2, 0)];
            let weight = count(27).map(|_| level(random)).collect();
            let conv = Conv { in_channels: 3, out_channels, groups: 1, axes, weight, bias };
            LeveledLayer::Conv(conv, Activation::Relu)
        }
        1 => {
            let weight = count(75).map(|_| level(random)).collect();
            LeveledLayer::Linear(Linear { in_features: 75, out_features: 4, weight, bias })
        }
        _ => {
            let axis =
                TransposedAxis { kernel: 2, stride: 2, dilation: 1, before: 0, after: 1, extra: 0 };
            let weight = count(12).map(|_| level(random)).collect();
            let axes = vec![axis; 2];
            let conv =
                ConvTranspose { in_channels: 3, out_channels, groups: 1, axes, weight, bias };
            LeveledLayer::ConvTranspose(conv, Activation::Linear)
        }
    };
    let rows = if random.chance(2) { 1 } else { out_channels };
    let scales: Vec<f32> = (0..rows).map(|_| random.real(0.001, 0.1)).collect();
    let affine = bits > 1 && random.chance(2);
    let zero_points =
        if affine { scales.iter().map(|_| level(random)).collect() } else { Vec::new() };
    Leveled { layer, bits, scales, zero_points }
}

fn model(layer: impl Into<Layer>, axes: usize) -> Model {
    let input = Input {
        name: "x".to_owned(),
        shape: Shape::new(&[3, 5, 5]).unwrap(),
        order: vec![0, 1, 2],
        array: Array::Fp32,
        element: Element::Fp32,
    };
    let node = Node { inputs: vec![ValueId(0)], layer: layer.into(), output: Element::Fp32 };
    Model {
        inputs: vec![input],
        nodes: vec![node],
        outputs: vec![Output::new("y", ValueId(1), axes)],
        rounding: Rounding::Once,
        notes: Notes::default(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn levels_compute_what_the_weights_do_and_come_back(seed: u64, form in 0u32..3, place in 0..5usize) {
        let random = &mut Random(seed);
        let leveled = layer(random, form, BITS[place]);
        // The definition, number by number.
        let real = match leveled.real() {
            Layer::FloatConv(layer) => layer.conv.weight,
            Layer::FloatLinear(layer) => layer.weight,
            Layer::FloatConvTranspose(layer) => layer.conv.weight,
            other => panic!("{other:?}"),
        };
        let levels = leveled.levels();
        for (place, (weight, level)) in real.iter().zip(levels).enumerate() {
            let row = place / (levels.len() / leveled.scales.len());
            let zero = leveled.zero_points.get(row).map_or(0, |zero| i32::from(*zero));
            prop_assert_eq!(*weight, leveled.scales[row] * (i32::from(*level) - zero) as f32);
        }
        let axes = if form == 1 { 1 } else { 3 };
        let (of_levels, of_weights) = (model(leveled.clone(), axes), model(leveled.real(), axes));
        let read = Model::from_bytes(&of_levels.to_bytes()).unwrap();
        prop_assert_eq!(&read, &of_levels);
        prop_assert!(!read.runs_by_reference());
        let given = arrays(&read, seed);
        for isa in [Session::new, Session::portable] {
            let (mut first, mut second) = (isa(&read).unwrap(), isa(&of_weights).unwrap());
            first.run_on(&tensors(&given)).unwrap();
            second.run_on(&tensors(&given)).unwrap();
            prop_assert_eq!(first.output(0), second.output(0));
        }
    }

    /// Against whole numbers and f64.
    #[test]
    fn rounding_goes_to_the_nearest_level(
        numbers in prop::collection::vec(-50.0..50.0f32, 75), scale in 0.001..1.0f32,
        last in prop_oneof![Just(255u16), Just(65535)], zero: u16,
    ) {
        let round = Round { scale, zero_point: zero.min(last), last };
        let model = model(round, 3);
        let read = Model::from_bytes(&model.to_bytes()).unwrap();
        prop_assert_eq!(&read, &model);
        prop_assert!(read.runs_by_reference());
        let mut session = Session::new(&read).unwrap();
        session.run_on(&[Tensor::from(&Numbers::Fp32(numbers.clone()))]).unwrap();
        let zero = f64::from(round.zero_point);
        let ends = [0.0, f64::from(last)].map(|level| (level - zero) * f64::from(scale));
        for (&given, &found) in numbers.iter().zip(session.output(0)) {
            let nearest = f64::from(given).clamp(ends[0], ends[1]);
            let error = (f64::from(found) - nearest).abs();
            prop_assert!(error <= 0.5001 * f64::from(scale) + 1e-5, "{given} became {found}");
            let level = f64::from(found) / f64::from(scale) + zero;
            prop_assert!((level - level.round()).abs() < 0.01, "{level}");
        }
    }
}

/// Of 40,000 weights: the levels take as many bits as they have, and the rest is little.
#[test]
fn the_file_stores_so_many_bits() {
    for bits in BITS {
        let random = &mut Random(7);
        let (low, high) = range(bits);
        let level = |random: &mut Random| match bits {
            1 => random.int(0, 1) as i16 * 2 - 1,
            _ => random.int(low, high) as i16,
        };
        let weight = (0..40_000).map(|_| level(random)).collect();
        let linear = Linear { in_features: 400, out_features: 100, weight, bias: vec![0.5; 100] };
        let leveled = Leveled {
            layer: LeveledLayer::Linear(linear),
            bits,
            scales: vec![0.01; 100],
            zero_points: Vec::new(),
        };
        let mut model = model(leveled, 1);
        model.inputs[0].shape = Shape::new(&[400]).unwrap();
        model.inputs[0].order = vec![0];
        let stored = model.stored_weights()[0][0];
        let levels = 40_000 * u64::from(bits) / 8;
        // Scales, and a codebook of at most 256 bytes.
        let most = levels + 400 + 300;
        assert!((levels..=most).contains(&stored.bytes), "{bits} bits: {} bytes", stored.bytes);
        assert!(model.counted_bytes() < most + 700);
        assert_eq!(Model::from_bytes(&model.to_bytes()).unwrap(), model);
    }
}

#[test]
fn what_no_bits_hold_is_refused() {
    let refused = |change: &dyn Fn(&mut Leveled)| {
        let mut leveled = layer(&mut Random(3), 1, 4);
        (leveled.scales, leveled.zero_points) = (vec![0.5; 4], vec![0; 4]);
        change(&mut leveled);
        let model = model(leveled, 1);
        let error = model.validate().unwrap_err();
        assert_eq!(Model::from_bytes(&model.to_bytes()).unwrap_err(), error);
        match error {
            ModelError::Node { problem, .. } => problem,
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused(&|layer| layer.bits = 3), Problem::LevelBits(3));
    let many = refused(&|layer| layer.zero_points[1] = 8);
    assert_eq!(many, Problem::LevelRange { level: 8, bits: 4 });
    let weight = refused(&|layer| match &mut layer.layer {
        LeveledLayer::Linear(linear) => linear.weight[2] = -9,
        other => panic!("{other:?}"),
    });
    assert_eq!(weight, Problem::LevelRange { level: -9, bits: 4 });
    let what = "the weight scale";
    let few = refused(&|layer| layer.scales.truncate(3));
    assert_eq!(few, Problem::WrongSize { what, expected: 4, found: 3 });
    let zero = refused(&|layer| layer.scales[0] = 0.0);
    assert_eq!(zero, Problem::BadNumber { what, value: 0.0, positive: true });
    let what = "the list of zero points";
    let unlike = refused(&|layer| layer.zero_points.truncate(1));
    assert_eq!(unlike, Problem::WrongSize { what, expected: 4, found: 1 });
    let round = model(Round { scale: 1.0, zero_point: 256, last: 255 }, 3);
    let problem = Problem::ZeroPoint { found: 256, limit: 255 };
    let kind = "round to levels";
    assert_eq!(round.validate().unwrap_err(), ModelError::Node { node: 0, kind, problem });
}

/// The layout of docs/model-format.md, byte by byte.
#[test]
fn the_layout_is_as_documented() {
    let linear = Linear { in_features: 2, out_features: 1, weight: vec![-1, 1], bias: vec![0.5] };
    let layer = LeveledLayer::Linear(linear);
    let leveled = Leveled { layer, bits: 4, scales: vec![2.0], zero_points: vec![-2] };
    let mut model = model(leveled, 1);
    model.inputs[0].shape = Shape::new(&[2]).unwrap();
    model.inputs[0].order = vec![0];
    let round = Round { scale: 0.25, zero_point: 3, last: 255 };
    let node = Node { inputs: vec![ValueId(1)], layer: round.into(), output: Element::Fp32 };
    model.nodes.push(node);
    let weight = [&[3, 2, 1, 2, 1, 0, 1][..], &2f32.to_le_bytes(), &[0xff, 1]].concat();
    let bias = [&[1, 1, 1, 0][..], &0.5f32.to_le_bytes()].concat();
    let first = [&[33, 1, 0, 1, 4][..], &weight, &bias, &[1, 0xfe, 0xff], &[0]].concat();
    let second = [&[34, 1, 1][..], &0.25f32.to_le_bytes(), &[3, 0, 255, 0], &[0]].concat();
    let nodes = [&[1, 2][..], &first, &second].concat();
    let file = model.to_bytes();
    let at = file.windows(4).position(|tag| tag == b"GRPH").unwrap() + 4;
    assert_eq!(file[at] as usize, nodes.len());
    assert_eq!(&file[at + 1..][..nodes.len()], nodes);
    let mut session = Session::new(&Model::from_bytes(&file).unwrap()).unwrap();
    session.run_on(&[Tensor::from(&Numbers::Fp32(vec![1.0, 0.1]))]).unwrap();
    // 2 * (-1 + 2) * 1 + 2 * (1 + 2) * 0.1 + 0.5
    let first = session.output(0)[0];
    assert!((first - 3.1).abs() < 1e-6, "{first}");
}

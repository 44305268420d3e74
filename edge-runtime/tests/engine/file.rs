//! The model file: written files can be read back, and all other content is refused.

use edgesmith_edge_runtime::{
    Activation, Conv, FORMAT_VERSION, FloatAdd, FloatConv, FloatDepthwise, FloatGlobalAveragePool,
    FloatLayer, FloatLeakyRelu, FloatNode, FormatProblem, InputSpec, IntAdd, IntConv, IntDepthwise,
    IntGlobalAveragePool, IntLayer, IntLeakyRelu, IntLinear, IntNode, Linear, Model, ModelError,
    Network, Quantization, Requantization, Session, ValueId,
};
use proptest::prelude::*;

use crate::models::{float_model, int_model};

const HEADER: usize = 20;

fn model(seed: u64) -> Model {
    if seed.is_multiple_of(2) { float_model(seed, 5) } else { int_model(seed, 5) }
}

/// Corrects length and checksum, so that the reader accepts them.
fn sign(bytes: &mut Vec<u8>) {
    let length = (bytes.len() + 4) as u64;
    bytes[12..HEADER].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32fast::hash(bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
}

proptest! {
    #[test]
    fn a_written_model_is_read_back(seed: u64) {
        let model = model(seed);
        let bytes = model.to_bytes();
        prop_assert_eq!(&model.clone().to_bytes(), &bytes);
        prop_assert_eq!(Model::from_bytes(&bytes).unwrap(), model);
    }

    #[test]
    fn every_corruption_is_found(seed: u64, changes in prop::collection::vec((any::<usize>(), 1u8..), 1..8)) {
        let good = model(seed).to_bytes();
        let mut bad = good.clone();
        for (at, change) in changes {
            let at = at % bad.len();
            bad[at] ^= change;
        }
        prop_assume!(bad != good);
        prop_assert!(Model::from_bytes(&bad).is_err());
    }

    #[test]
    fn every_truncation_is_found(seed: u64, length: usize) {
        let bytes = model(seed).to_bytes();
        let length = length % bytes.len();
        let error = Model::from_bytes(&bytes[..length]).unwrap_err();
        prop_assert!(matches!(error, ModelError::Truncated { .. }), "{}", error);
    }

    /// Damage with a correct checksum results in an error, or in another model whose file has these
    /// bytes.
    #[test]
    fn signed_corruption_does_not_panic(
        seed: u64,
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)
    ) {
        let mut bytes = model(seed).to_bytes();
        bytes.truncate(bytes.len() - 4);
        for (at, byte) in changes {
            // Mostly changes sizes, which are at the beginning.
            let span = bytes.len() - HEADER;
            let span = if at % 2 == 0 { span.min(40) } else { span };
            bytes[HEADER + (at / 2) % span] = byte;
        }
        sign(&mut bytes);
        if let Ok(model) = Model::from_bytes(&bytes) {
            prop_assert_eq!(model.to_bytes(), bytes);
            if let Ok(mut session) = Session::new(&model) {
                let image = vec![1; session.image_bytes()];
                session.run(&image).unwrap();
            }
        }
    }

    #[test]
    fn arbitrary_content_does_not_panic(content in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Model::from_bytes(&content);
        let mut bytes = model(0).to_bytes();
        bytes.truncate(HEADER);
        bytes.extend_from_slice(&content);
        sign(&mut bytes);
        prop_assert!(Model::from_bytes(&bytes).is_err());
    }
}

/// A convolution of one channel with a kernel of one element.
fn small_conv<W, B>(weight: Vec<W>, bias: Vec<B>) -> Conv<W, B> {
    Conv { in_channels: 1, out_channels: 1, kernel: 1, stride: 1, padding: 0, weight, bias }
}

fn tiny() -> Model {
    let conv = small_conv(vec![1.0], vec![-2.0]);
    let linear =
        Linear { in_features: 200, out_features: 1, weight: vec![0.0; 200], bias: vec![0.5] };
    Model {
        input: InputSpec { channels: 1, height: 10, width: 20, mean: vec![0.5], std: vec![0.25] },
        network: Network::Fp32(vec![
            FloatNode {
                inputs: vec![ValueId(0)],
                layer: FloatLayer::Conv(FloatConv { conv, activation: Activation::Relu6 }),
            },
            FloatNode { inputs: vec![ValueId(1)], layer: FloatLayer::Linear(linear) },
        ]),
    }
}

/// The layout of docs/model-format.md, byte by byte.
#[test]
fn the_layout_is_as_documented() {
    let mut expected = b"EDGESMTH\x01\0\0\0".to_vec();
    expected.extend_from_slice(&[0; 8]);
    let mut input = vec![1, 10, 20];
    input.push(1);
    input.extend_from_slice(&0.5f32.to_le_bytes());
    input.push(1);
    input.extend_from_slice(&0.25f32.to_le_bytes());
    expected.extend_from_slice(b"INPT");
    expected.push(input.len() as u8);
    expected.extend(input);
    let mut nodes = vec![2];
    // A convolution of value 0: sizes, weights, biases, ReLU6.
    nodes.extend_from_slice(&[1, 1, 0]);
    nodes.extend_from_slice(&[1, 1, 1, 1, 0]);
    nodes.push(1);
    nodes.extend_from_slice(&1f32.to_le_bytes());
    nodes.push(1);
    nodes.extend_from_slice(&(-2f32).to_le_bytes());
    nodes.push(2);
    // A linear layer of value 1; 200 takes two bytes.
    nodes.extend_from_slice(&[5, 1, 1]);
    nodes.extend_from_slice(&[0xc8, 1, 1]);
    nodes.extend_from_slice(&[0xc8, 1]);
    nodes.extend_from_slice(&[0; 800]);
    nodes.push(1);
    nodes.extend_from_slice(&0.5f32.to_le_bytes());
    expected.extend_from_slice(b"FP32");
    expected.extend_from_slice(&[nodes.len() as u8 & 0x7f | 0x80, (nodes.len() >> 7) as u8]);
    expected.extend(nodes);
    sign(&mut expected);
    assert_eq!(tiny().to_bytes(), expected);
}

/// Checks that the section of the nodes has these bytes, and that it can be read.
fn assert_nodes(network: Network, tag: &[u8; 4], nodes: &[u8]) {
    let model = Model { network, ..tiny() };
    let bytes = model.to_bytes();
    let start = HEADER + 5 + usize::from(bytes[HEADER + 4]);
    let length = match nodes.len() {
        short @ ..0x80 => vec![short as u8],
        long => vec![long as u8 & 0x7f | 0x80, (long >> 7) as u8],
    };
    let expected = [&tag[..], &length, nodes].concat();
    assert_eq!(bytes[start..bytes.len() - 4], expected);
    assert_eq!(Model::from_bytes(&bytes), Ok(model));
}

#[test]
fn the_layout_of_layers_in_fp32_is_as_documented() {
    let depthwise = FloatLayer::Depthwise(FloatDepthwise {
        conv: small_conv(vec![1.0], vec![-2.0]),
        activation: Activation::Relu,
    });
    let linear = Linear { in_features: 1, out_features: 1, weight: vec![0.5], bias: vec![0.25] };
    let layers = [
        (vec![0], depthwise),
        (vec![0, 1], FloatLayer::Add(FloatAdd)),
        (vec![2], FloatLayer::GlobalAveragePool(FloatGlobalAveragePool)),
        (vec![3], FloatLayer::LeakyRelu(FloatLeakyRelu { slope: 0.25 })),
        (vec![4], FloatLayer::Linear(linear)),
    ];
    let nodes = layers.map(|(inputs, layer)| FloatNode {
        inputs: inputs.into_iter().map(ValueId).collect(),
        layer,
    });
    let mut expected = vec![5];
    expected.extend([2, 1, 0, 1, 1, 1, 1, 0, 1, 0, 0, 0x80, 0x3f, 1, 0, 0, 0, 0xc0, 1]);
    expected.extend([3, 2, 0, 1]);
    expected.extend([4, 1, 2]);
    expected.extend([6, 1, 3, 0, 0, 0x80, 0x3e]);
    expected.extend([5, 1, 4, 1, 1, 1, 0, 0, 0, 0x3f, 1, 0, 0, 0x80, 0x3e]);
    assert_nodes(Network::Fp32(nodes.to_vec()), b"FP32", &expected);
}

#[test]
fn the_layout_of_layers_in_integers_is_as_documented() {
    let output = Quantization { scale: 0.5, zero_point: 7 };
    let half = Requantization { multiplier: 1 << 30, shift: 0 };
    let quarter = Requantization { multiplier: 1 << 30, shift: -1 };
    let conv = small_conv(vec![-1], vec![-2]);
    let table = std::array::from_fn(|byte| 255 - byte as u8);
    let linear = Linear { in_features: 1, out_features: 1, weight: vec![3], bias: vec![4] };
    let layers = [
        (
            vec![0],
            IntLayer::Conv(IntConv { conv: conv.clone(), requantize: vec![half], clamp: (7, 255) }),
        ),
        (
            vec![1],
            IntLayer::Depthwise(IntDepthwise { conv, requantize: vec![half], clamp: (7, 200) }),
        ),
        (
            vec![1, 2],
            IntLayer::Add(IntAdd { sides: [half, quarter], output: quarter, clamp: (0, 255) }),
        ),
        (vec![3], IntLayer::GlobalAveragePool(IntGlobalAveragePool { requantize: quarter })),
        (vec![4], IntLayer::LeakyRelu(IntLeakyRelu { slope: 0.25, table: Box::new(table) })),
        (vec![5], IntLayer::Linear(IntLinear { linear, logit_scale: vec![1.0] })),
    ];
    let nodes = layers.map(|(inputs, layer)| IntNode {
        inputs: inputs.into_iter().map(ValueId).collect(),
        layer,
        output,
    });
    // The scale 0.5 and the zero point 7.
    let end = [0, 0, 0, 0x3f, 7];
    let mut expected = vec![0, 0, 0, 0x3f, 7, 6];
    expected.extend([1, 1, 0, 1, 1, 1, 1, 0, 1, 0xff, 1, 0xfe, 0xff, 0xff, 0xff]);
    expected.extend([1, 0, 0, 0, 0x40, 0, 7, 255]);
    expected.extend(end);
    expected.extend([2, 1, 1, 1, 1, 1, 1, 0, 1, 0xff, 1, 0xfe, 0xff, 0xff, 0xff]);
    expected.extend([1, 0, 0, 0, 0x40, 0, 7, 200]);
    expected.extend(end);
    expected.extend([3, 2, 1, 2, 0, 0, 0, 0x40, 0, 0, 0, 0, 0x40, 1, 0, 0, 0, 0x40, 1, 0, 255]);
    expected.extend(end);
    expected.extend([4, 1, 3, 0, 0, 0, 0x40, 1]);
    expected.extend(end);
    expected.extend([6, 1, 4, 0, 0, 0x80, 0x3e]);
    expected.extend((0..=255).rev());
    expected.extend(end);
    expected.extend([5, 1, 5, 1, 1, 1, 3, 1, 4, 0, 0, 0, 1, 0, 0, 0x80, 0x3f]);
    expected.extend(end);
    let network = Network::Int8 { input: output, nodes: nodes.to_vec() };
    assert_nodes(network, b"INT8", &expected);
}

#[test]
fn other_files_are_reported_as_not_a_model_file() {
    for other in [&b"PK\x03\x04 something else entirely"[..], b"\x7fELF", b"EDGESMTX\x01\0\0\0"] {
        assert_eq!(Model::from_bytes(other), Err(ModelError::WrongMagic));
    }
    assert_eq!(Model::from_bytes(b""), Err(ModelError::Truncated { expected: 20, found: 0 }));
    assert_eq!(Model::from_bytes(b"EDGE"), Err(ModelError::Truncated { expected: 20, found: 4 }));
}

#[test]
fn other_versions_are_reported() {
    let mut bytes = tiny().to_bytes();
    bytes[8] = 9;
    let error = ModelError::UnsupportedVersion { found: 9, supported: FORMAT_VERSION };
    assert_eq!(Model::from_bytes(&bytes), Err(error));
}

#[test]
fn a_checksum_mismatch_reports_both_values() {
    let mut bytes = tiny().to_bytes();
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    let expected = u32::from_le_bytes(*bytes.last_chunk().unwrap());
    let found = crc32fast::hash(&bytes[..=last]);
    let error = Model::from_bytes(&bytes).unwrap_err();
    assert_eq!(error, ModelError::WrongChecksum { expected, found });
    let message = error.to_string();
    assert!(message.contains(&format!("{expected:08x}")), "{message}");
    assert!(message.contains(&format!("{found:08x}")), "{message}");
}

#[test]
fn more_bytes_than_the_header_says_are_refused() {
    let mut bytes = tiny().to_bytes();
    let expected = bytes.len() as u64;
    bytes.push(0);
    let error = ModelError::TrailingBytes { expected, found: expected + 1 };
    assert_eq!(Model::from_bytes(&bytes), Err(error));
}

/// The error of `from_bytes` for a file with these sections and a correct header and checksum.
fn with_sections(sections: &[u8]) -> ModelError {
    let mut bytes = tiny().to_bytes();
    bytes.truncate(HEADER);
    bytes.extend_from_slice(sections);
    sign(&mut bytes);
    Model::from_bytes(&bytes).unwrap_err()
}

#[test]
fn malformed_sections_are_located() {
    let malformed = |offset, problem| ModelError::Malformed { offset, problem };
    assert_eq!(
        with_sections(b"WXYZ\0"),
        malformed(20, FormatProblem::WrongSection { expected: *b"INPT", found: *b"WXYZ" })
    );
    assert_eq!(
        with_sections(b"INPT\x64abc"),
        malformed(25, FormatProblem::TooShort { needed: 100, available: 3 })
    );
    // A mean of 2^63 elements.
    let huge = b"INPT\x0d\x01\x01\x01\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01";
    assert_eq!(
        with_sections(huge),
        malformed(38, FormatProblem::TooShort { needed: u64::MAX, available: 0 })
    );
    // The number 1 written in two bytes, and a number of more than 64 bits.
    assert_eq!(with_sections(b"INPT\x02\x81\x00"), malformed(25, FormatProblem::BadNumber));
    let wide = b"INPT\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02";
    assert_eq!(with_sections(wide), malformed(25, FormatProblem::BadNumber));
    // A height above u32.
    assert_eq!(
        with_sections(b"INPT\x06\x01\xff\xff\xff\xff\x7f"),
        malformed(26, FormatProblem::BadNumber)
    );
    let input = b"INPT\x0d\x01\x01\x01\x01\0\0\0\0\x01\0\0\x80\x3f";
    assert_eq!(
        with_sections(&[&input[..], b"FP32\x03\x01\x09\x00"].concat()),
        malformed(44, FormatProblem::UnknownCode { what: "layer", code: 9 })
    );
    assert_eq!(
        with_sections(&[&input[..], b"FP32\x02\0\0"].concat()),
        malformed(44, FormatProblem::LeftOver(1))
    );
    assert_eq!(
        with_sections(&[&input[..], b"FP32\x01\0more"].concat()),
        malformed(44, FormatProblem::LeftOver(4))
    );
    assert_eq!(with_sections(&[&input[..], b"FP32\x01\0"].concat()), ModelError::NoNodes);
    // A leaky ReLU whose slope, or whose table, ends early.
    assert_eq!(
        with_sections(&[&input[..], b"FP32\x07\x01\x06\x01\0abc"].concat()),
        malformed(47, FormatProblem::TooShort { needed: 4, available: 3 })
    );
    let nodes = b"\0\0\x80\x3f\0\x01\x06\x01\0\0\0\x80\x3e";
    assert_eq!(
        with_sections(&[&input[..], b"INT8\x71", nodes, &[1; 100]].concat()),
        malformed(56, FormatProblem::TooShort { needed: 256, available: 100 })
    );
}

//! The model file: written files can be read back, and all other content is refused.

use edgesmith_edge_runtime::*;
use proptest::prelude::*;

use crate::models::{arrays, float_model, int_model, tensors};

const HEADER: usize = 20;

fn model(seed: u64) -> Model {
    let mut model = if seed.is_multiple_of(2) { float_model(seed, 6) } else { int_model(seed, 6) };
    if seed.is_multiple_of(3) {
        model.notes = notes(&model, seed);
    }
    model
}

/// Notes of every kind.
fn notes(model: &Model, seed: u64) -> Notes {
    let inputs = arrays(model, seed);
    let mut session = Session::new(model).unwrap();
    session.run_on(&tensors(&inputs)).unwrap();
    let outputs: Vec<Vec<f32>> = session
        .outputs()
        .map(|array| array.iter().map(|x| if x.is_nan() { 0.0 } else { *x }).collect())
        .collect();
    let text = |text: &str| text.to_owned();
    Notes {
        classes: (0..outputs[0].len()).map(|class| format!("Nr. {class}")).collect(),
        preprocessing: vec![(text("colour"), text("grey"))],
        provenance: vec![(text("study"), text("digits")), (text("trial"), text("26"))],
        tests: vec![TestVector { inputs, outputs }],
        tolerances: if seed.is_multiple_of(2) { vec![0.5] } else { Vec::new() },
        others: vec![
            Section { tag: *b"abcd", bytes: vec![1, 2, 3] },
            Section { tag: *b"prob", bytes: vec![] },
            Section { tag: *b"zZZZ", bytes: vec![0] },
        ],
    }
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
    fn every_corruption_is_found(
        seed: u64,
        changes in prop::collection::vec((any::<usize>(), 1u8..), 1..8)
    ) {
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

    #[test]
    fn arbitrary_content_does_not_panic(content in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Model::from_bytes(&content);
        for version in 1..=FORMAT_VERSION {
            let mut bytes = model(0).to_bytes();
            bytes.truncate(HEADER);
            bytes[8] = version as u8;
            bytes.extend_from_slice(&content);
            sign(&mut bytes);
            prop_assert!(Model::from_bytes(&bytes).is_err());
        }
    }
}

/// A model most of whose weights are zero, or are one of a few numbers.
fn sparse(seed: u64) -> Model {
    let mut model = model(seed);
    let mut at = seed;
    let mut gone = |share: u64| {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (at >> 33) % 100 < share
    };
    let mut floats = |weight: &mut Vec<f32>| {
        weight.iter_mut().filter(|_| gone(80)).for_each(|w| *w = 0.0);
    };
    for node in &mut model.nodes {
        match &mut node.layer {
            Layer::FloatConv(layer) => floats(&mut layer.conv.weight),
            Layer::FloatLinear(layer) => floats(&mut layer.weight),
            Layer::IntConv(layer) => layer.conv.weight.iter_mut().for_each(|w| *w /= 50),
            Layer::IntLinear(layer) => layer.linear.weight.iter_mut().for_each(|w| *w /= 50),
            _ => {}
        }
    }
    model
}

/// Changes a few bytes of a file, mostly those of sizes, and runs what can still be read.
fn damaged(mut bytes: Vec<u8>, changes: &[(usize, u8)]) -> Result<(), TestCaseError> {
    bytes.truncate(bytes.len() - 4);
    let version = bytes[8];
    for &(at, byte) in changes {
        // Mostly changes what is at the beginning.
        let span = bytes.len() - HEADER;
        let span = if at % 2 == 0 { span.min(60) } else { span };
        bytes[HEADER + (at / 2) % span] = byte;
    }
    sign(&mut bytes);
    let Ok(model) = Model::from_bytes(&bytes) else { return Ok(()) };
    if version == 2 {
        // The file may be another one, because weights can be packed in several ways. The written
        // bytes are compared, because a number of a test vector may have become NaN, which is not
        // equal to itself.
        let written = model.to_bytes();
        prop_assert_eq!(Model::from_bytes(&written).unwrap().to_bytes(), written);
    }
    let elements = |model: &Model| {
        let values = model.validate().unwrap();
        values.all().iter().map(|value| value.shape.elements()).sum::<usize>()
    };
    // Larger ones would only take long.
    if elements(&model) < 100_000
        && let Ok(mut session) = Session::new(&model)
    {
        let arrays = arrays(&model, 1);
        session.run_on(&tensors(&arrays)).unwrap();
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Damage with a correct checksum results in an error, or in another model that can be written.
    #[test]
    fn signed_corruption_does_not_panic(
        seed: u64,
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)
    ) {
        damaged(model(seed % 1000).to_bytes(), &changes)?;
    }

    #[test]
    fn signed_corruption_of_packed_weights_does_not_panic(
        seed: u64,
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)
    ) {
        let model = sparse(seed % 1000);
        let bytes = model.to_bytes();
        prop_assert_eq!(Model::from_bytes(&bytes).unwrap().to_bytes(), bytes.clone());
        damaged(bytes, &changes)?;
    }

    #[test]
    fn signed_corruption_of_old_files_does_not_panic(
        int8: bool,
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)
    ) {
        let bytes: &[u8] = if int8 {
            include_bytes!("written/int8.edge")
        } else {
            include_bytes!("written/fp32.edge")
        };
        damaged(bytes.to_vec(), &changes)?;
    }
}

/// Numbers that nothing packs.
fn weights() -> Vec<f32> {
    (1..=100).map(|i| i as f32).collect()
}

fn tiny() -> Model {
    let conv = Conv {
        in_channels: 1,
        out_channels: 1,
        groups: 1,
        axes: vec![WindowAxis::new(1, 1, 0), WindowAxis::new(3, 2, 1)],
        weight: vec![1.0, 0.5, 0.25],
        bias: vec![-2.0],
    };
    let linear = Linear { in_features: 100, out_features: 1, weight: weights(), bias: vec![0.5] };
    let image = InputSpec { channels: 1, height: 10, width: 20, mean: vec![0.5], std: vec![0.25] };
    Model {
        inputs: vec![Input::image(&image, Element::Fp32).unwrap()],
        nodes: vec![
            Node {
                inputs: vec![ValueId(0)],
                layer: FloatConv { conv, activation: Activation::Relu6 }.into(),
                output: Element::Fp32,
            },
            Node { inputs: vec![ValueId(1)], layer: linear.into(), output: Element::Fp32 },
        ],
        outputs: vec![Output::new("logits", ValueId(2), 1)],
        rounding: Rounding::Once,
        notes: Notes { classes: vec!["a".to_owned()], ..Notes::default() },
    }
}

/// Appends a section of fewer than 2^14 bytes.
fn section(file: &mut Vec<u8>, tag: &[u8; 4], content: &[u8]) {
    file.extend_from_slice(tag);
    match content.len() {
        short @ ..0x80 => file.push(short as u8),
        long => file.extend([long as u8 & 0x7f | 0x80, (long >> 7) as u8]),
    }
    file.extend_from_slice(content);
}

/// The layout of docs/model-format.md, byte by byte.
#[test]
fn the_layout_is_as_documented() {
    let mut expected = b"EDGESMTH\x02\0\0\0".to_vec();
    expected.extend_from_slice(&[0; 8]);
    // One input: name, sizes, order, bytes with mean and std and no tables, fp32.
    let mut input = b"\x01\x05image\x03\x01\x0a\x14\x03\0\x01\x02\x01".to_vec();
    input.push(1);
    input.extend_from_slice(&0.5f32.to_le_bytes());
    input.push(1);
    input.extend_from_slice(&0.25f32.to_le_bytes());
    input.extend([0, 0]);
    section(&mut expected, b"INPT", &input);
    // Rounds once; two nodes.
    let mut graph = vec![1, 2];
    // A convolution of value 0: one group, stride, dilation and padding of each axis, the weight
    // as fp32 with its sizes and no scales, the bias, ReLU6, fp32.
    graph.extend([1, 1, 0, 1, 2, 1, 1, 0, 0, 2, 1, 1, 1]);
    graph.extend([1, 4, 1, 1, 1, 3, 0]);
    [1.0f32, 0.5, 0.25].iter().for_each(|w| graph.extend_from_slice(&w.to_le_bytes()));
    graph.extend([1, 1, 1, 0]);
    graph.extend_from_slice(&(-2f32).to_le_bytes());
    graph.extend([2, 0]);
    // A linear layer of value 1.
    graph.extend([5, 1, 1, 1, 2, 1, 100, 0]);
    weights().iter().for_each(|w| graph.extend_from_slice(&w.to_le_bytes()));
    graph.extend([1, 1, 1, 0]);
    graph.extend_from_slice(&0.5f32.to_le_bytes());
    graph.push(0);
    section(&mut expected, b"GRPH", &graph);
    // One output: name, value, order.
    section(&mut expected, b"OUTP", b"\x01\x06logits\x02\x01\0");
    section(&mut expected, b"clas", b"\x01\x01a");
    sign(&mut expected);
    assert_eq!(tiny().to_bytes(), expected);
    assert_eq!(Model::from_bytes(&expected), Ok(tiny()));
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
    for version in [0, 3, 9] {
        let mut bytes = tiny().to_bytes();
        bytes[8] = version;
        let (found, supported) = (version.into(), FORMAT_VERSION);
        let error = ModelError::UnsupportedVersion { found, supported };
        assert_eq!(Model::from_bytes(&bytes), Err(error));
    }
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

/// What `from_bytes` makes of a file with these sections and a correct header and checksum.
fn with_sections(version: u8, sections: &[u8]) -> Result<Model, ModelError> {
    let mut bytes = tiny().to_bytes();
    bytes.truncate(HEADER);
    bytes[8] = version;
    bytes.extend_from_slice(sections);
    sign(&mut bytes);
    Model::from_bytes(&bytes)
}

fn malformed<T>(offset: usize, problem: FormatProblem) -> Result<T, ModelError> {
    Err(ModelError::Malformed { offset, problem })
}

#[test]
fn malformed_sections_are_located() {
    assert_eq!(
        with_sections(2, b"WXYZ\0"),
        malformed(20, FormatProblem::WrongSection { expected: *b"INPT", found: *b"WXYZ" })
    );
    assert_eq!(
        with_sections(2, b"INPT\x64abc"),
        malformed(25, FormatProblem::TooShort { needed: 100, available: 3 })
    );
    // 2^63 inputs.
    let huge = b"INPT\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01";
    assert_eq!(
        with_sections(2, huge),
        malformed(35, FormatProblem::TooShort { needed: u64::MAX, available: 0 })
    );
    // The number 1 written in two bytes, and a number of more than 64 bits.
    assert_eq!(with_sections(2, b"INPT\x02\x81\x00"), malformed(25, FormatProblem::BadNumber));
    let wide = b"INPT\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02";
    assert_eq!(with_sections(2, wide), malformed(25, FormatProblem::BadNumber));
    let not_text = b"INPT\x0a\x01\x01\xff\x01\x01\0\0\0\0\0";
    assert_eq!(with_sections(2, not_text), malformed(27, FormatProblem::NotText));
    // An input of one number in fp32.
    let input = b"INPT\x09\x01\x01x\x01\x01\x01\0\0\0";
    let unknown = [&input[..], b"GRPH\x05\x01\x01\xc8\x00\x00"].concat();
    assert_eq!(
        with_sections(2, &unknown),
        malformed(41, FormatProblem::UnknownCode { what: "layer", code: 200 })
    );
    let left = [&input[..], b"GRPH\x03\x01\0\0"].concat();
    assert_eq!(with_sections(2, &left), malformed(41, FormatProblem::LeftOver(1)));
    let empty = [&input[..], b"GRPH\x02\x01\0OUTP\x05\x01\x01y\0\0"].concat();
    assert_eq!(with_sections(2, &empty), Err(ModelError::NoNodes));
}

#[test]
fn malformed_sections_of_old_files_are_located() {
    // A height above u32.
    assert_eq!(
        with_sections(1, b"INPT\x06\x01\xff\xff\xff\xff\x7f"),
        malformed(26, FormatProblem::BadNumber)
    );
    let input = b"INPT\x0d\x01\x01\x01\x01\0\0\0\0\x01\0\0\x80\x3f";
    assert_eq!(
        with_sections(1, &[&input[..], b"FP32\x03\x01\x09\x00"].concat()),
        malformed(44, FormatProblem::UnknownCode { what: "layer", code: 9 })
    );
    assert_eq!(
        with_sections(1, &[&input[..], b"FP32\x01\0more"].concat()),
        malformed(44, FormatProblem::LeftOver(4))
    );
    assert_eq!(with_sections(1, &[&input[..], b"FP32\x01\0"].concat()), Err(ModelError::NoNodes));
    // A leaky ReLU whose slope, or whose table, ends early.
    assert_eq!(
        with_sections(1, &[&input[..], b"FP32\x07\x01\x06\x01\0abc"].concat()),
        malformed(47, FormatProblem::TooShort { needed: 4, available: 3 })
    );
    let nodes = b"\0\0\x80\x3f\0\x01\x06\x01\0\0\0\x80\x3e";
    assert_eq!(
        with_sections(1, &[&input[..], b"INT8\x71", nodes, &[1; 100]].concat()),
        malformed(56, FormatProblem::TooShort { needed: 256, available: 100 })
    );
}

/// The layout of version 1 as docs/model-format.md has it: a leaky ReLU and a linear layer.
#[test]
fn files_of_version_1_are_read() {
    let input = b"INPT\x0d\x01\x01\x01\x01\0\0\0\0\x01\0\0\x80\x3f";
    let leaky = b"\x02\x06\x01\0\0\0\x80\x3e";
    let linear = b"\x05\x01\x01\x01\x01\x01\0\0\0\x3f\x01\0\0\x80\x3e";
    let mut file = input.to_vec();
    section(&mut file, b"FP32", &[&leaky[..], linear].concat());
    let model = with_sections(1, &file).unwrap();
    let mut session = Session::new(&model).unwrap();
    assert_eq!(session.run(&[255]).unwrap(), [0.75]);
    assert_eq!(model.rounding, Rounding::Twice);
    assert_eq!(model.outputs, [Output::new("logits", ValueId(2), 1)]);
    // The linear layer must come last.
    let mut file = input.to_vec();
    section(&mut file, b"FP32", b"\x01\x06\x01\0\0\0\x80\x3e");
    assert!(matches!(
        with_sections(1, &file),
        Err(ModelError::Node { node: 0, problem: Problem::LinearNotLast, .. })
    ));
}

/// The file of the tiny model with these sections after the required ones.
fn with_notes(notes: &[(&[u8; 4], &[u8])]) -> Result<Model, ModelError> {
    let mut model = tiny();
    model.notes = Notes::default();
    let mut bytes = model.to_bytes();
    bytes.truncate(bytes.len() - 4);
    for (tag, content) in notes {
        section(&mut bytes, tag, content);
    }
    sign(&mut bytes);
    Model::from_bytes(&bytes)
}

#[test]
fn sections_that_a_reader_may_skip_are_kept() {
    let model = with_notes(&[(b"boar", b"x"), (b"clas", b"\x01\x01a")]).unwrap();
    assert_eq!(model.notes.others, [Section { tag: *b"boar", bytes: b"x".to_vec() }]);
    assert_eq!(model.notes.classes, ["a"]);
    assert_eq!(Model::from_bytes(&model.to_bytes()), Ok(model));
}

#[test]
fn sections_that_must_be_known_are_refused_by_name() {
    let start = with_notes(&[]).unwrap().to_bytes().len() - 4;
    assert_eq!(
        with_notes(&[(b"SPRS", b"")]),
        malformed(start, FormatProblem::UnknownSection(*b"SPRS"))
    );
    let error = with_notes(&[(b"zzzz", b""), (b"aaaa", b"")]);
    assert_eq!(error, malformed(start + 5, FormatProblem::SectionOutOfOrder(*b"aaaa")));
    let error = with_notes(&[(b"aaaa", b""), (b"aaaa", b"")]);
    assert_eq!(error, malformed(start + 5, FormatProblem::SectionOutOfOrder(*b"aaaa")));
    assert_eq!(with_notes(&[(b"clas", b"\0")]), malformed(start, FormatProblem::EmptySection));
    // Two names for one class.
    let error = with_notes(&[(b"clas", b"\x02\x01a\x01b")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the model's notes are invalid: the list of class names has 2 elements, but the shapes \
         require 1"
    );
}

#[test]
fn a_test_vector_is_what_the_session_computes() {
    for seed in 0..20 {
        let mut model = int_model(seed, 6);
        model.notes = notes(&model, seed);
        let mut session = Session::new(&model).unwrap();
        assert_eq!(session.difference(&model.notes.tests[0]), Ok(0.0));
        let mut test = model.notes.tests[0].clone();
        test.outputs[0][0] += 1.0;
        let difference = session.difference(&test).unwrap();
        assert!((difference - 1.0).abs() < 1e-4, "{difference}");
    }
}

#[test]
fn packed_weights_come_back() {
    let mut packed = 0;
    for seed in 0..200 {
        let model = sparse(seed);
        let stored = model.stored_weights();
        packed += usize::from(stored.iter().flatten().any(|weight| weight.packing.is_some()));
        assert_eq!(Model::from_bytes(&model.to_bytes()).unwrap(), model);
    }
    assert!(packed > 50, "{packed}");
}

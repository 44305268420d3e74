//! Test vectors: how they are made, and what checks them.

use edgesmith_edge_runtime::*;
use proptest::prelude::*;

use crate::models::{float_model, int_model};

/// A picture of these sides, and one convolution that adds 1.
fn picture(side: u32, element: Element) -> Model {
    let conv = |weight: f32| Conv {
        in_channels: 1,
        out_channels: 1,
        groups: 1,
        axes: vec![WindowAxis::new(1, 1, 0); 2],
        weight: vec![weight],
        bias: vec![1.0],
    };
    let layer = match element {
        Element::Fp32 => FloatConv { conv: conv(1.0), activation: Activation::Linear }.into(),
        Element::Uint8(_) => Layer::from(Table { function: None, tables: (0..=255).collect() }),
    };
    let image =
        InputSpec { channels: 1, height: side, width: side, mean: vec![0.5], std: vec![1.] };
    Model {
        inputs: vec![Input::image(&image, element).unwrap()],
        nodes: vec![Node { inputs: vec![ValueId(0)], layer, output: element }],
        outputs: vec![Output::new("picture", ValueId(1), 3)],
        rounding: Rounding::Once,
        notes: Notes::default(),
    }
}

const BYTES: Element = Element::Uint8(Quantization { scale: 0.01, zero_point: 128 });

fn checked(model: &Model) -> Vec<TestResult> {
    Session::new(model).unwrap().check(&model.notes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Fast loops compute integers as the portable ones do, which wrote the outputs.
    #[test]
    fn integers_have_no_tolerance_and_pass(seed: u64) {
        let mut model = int_model(seed, 6);
        model.add_tests(1 << 20).unwrap();
        prop_assert!(model.validate().is_ok());
        prop_assert_eq!(Model::from_bytes(&model.to_bytes()), Ok(model.clone()));
        for result in checked(&model) {
            prop_assert!(result.passes(), "{:?}", result);
        }
    }

    #[test]
    fn all_numbers_are_finite(seed: u64) {
        let mut model = float_model(seed, 6);
        model.add_tests(1 << 20).unwrap();
        let outputs = model.notes.tests.iter().flat_map(|test| test.outputs.iter().flatten());
        prop_assert!(outputs.into_iter().all(|number| number.is_finite()));
        prop_assert_eq!(model.notes.tests.len(), model.notes.tolerances.len());
        // They are made of the model alone.
        let mut again = model.clone();
        again.add_tests(1 << 20).unwrap();
        prop_assert_eq!(&again, &model);
        for result in checked(&model) {
            prop_assert!(result.passes(), "{:?}", result);
        }
    }
}

#[test]
fn another_weight_is_found() {
    let mut model = picture(4, Element::Fp32);
    model.add_tests(1 << 12).unwrap();
    let Layer::FloatConv(conv) = &mut model.nodes[0].layer else { unreachable!() };
    conv.conv.weight[0] = 1.01;
    assert!(checked(&model).iter().all(|result| !result.passes()));
}

/// The convolution in fp32 reads bytes, or its sums become bytes as well.
#[test]
fn only_sums_that_become_bytes_have_the_wide_tolerance() {
    let mut model = picture(4, BYTES);
    let Node { layer, .. } = picture(4, Element::Fp32).nodes.remove(0);
    let node = |value, layer, output| Node { inputs: vec![ValueId(value)], layer, output };
    model.nodes.push(node(1, Dequantize.into(), Element::Fp32));
    model.nodes.push(node(2, layer, Element::Fp32));
    model.outputs[0].value = ValueId(3);
    let widest = |model: &mut Model| {
        model.add_tests(1 << 12).unwrap();
        assert!(checked(model).iter().all(TestResult::passes));
        model.notes.tolerances.iter().fold(0.0f32, |most, tolerance| most.max(*tolerance))
    };
    let narrow = widest(&mut model);
    assert!((1e-4..1e-3).contains(&narrow), "{narrow}");
    // Bytes that are made of bytes do not matter.
    model.nodes.push(node(2, Quantize.into(), BYTES));
    assert_eq!(widest(&mut model), narrow);
    model.nodes.push(node(3, Quantize.into(), BYTES));
    assert!((1e-2..1e-1).contains(&widest(&mut model)));
}

#[test]
fn there_are_at_most_four_and_as_many_as_fit() {
    let mut model = picture(8, Element::Fp32);
    // 64 bytes in, 64 numbers out.
    for (most, count) in [(0, 0), (319, 0), (320, 1), (959, 2), (1 << 30, 4)] {
        model.add_tests(most).unwrap();
        assert_eq!(model.notes.tests.len(), count, "{most}");
    }
    // A ramp over all bytes, and inputs that differ.
    let Numbers::Bytes(first) = &model.notes.tests[0].inputs[0] else { unreachable!() };
    assert_eq!([first[0], first[63]], [0, 255]);
    let inputs = model.notes.tests.iter().map(|test| format!("{:?}", test.inputs));
    assert_eq!(inputs.collect::<std::collections::BTreeSet<_>>().len(), 4);
}

#[test]
fn a_difference_is_found() {
    for (element, exact) in [(Element::Fp32, false), (BYTES, true)] {
        let mut model = picture(4, element);
        model.add_tests(1 << 12).unwrap();
        assert!(checked(&model).iter().all(TestResult::passes));
        assert!(model.notes.tolerances.iter().all(|&tolerance| (tolerance == 0.0) == exact));
        model.notes.tests[1].outputs[0][3] += 0.01;
        let passed: Vec<bool> = checked(&model).iter().map(TestResult::passes).collect();
        assert_eq!(passed, [true, false, true, true]);
        model.notes.tests[2].outputs[0][0] = f32::NAN;
        assert!(!checked(&model)[2].passes(), "what is not a number does not pass");
        // Files of before say no tolerance.
        model.notes.tolerances.clear();
        assert!((1e-4..2e-4).contains(&checked(&model)[0].tolerance));
    }
}

#[test]
fn notes_do_not_count_but_names_of_classes_do() {
    let mut model = picture(2, Element::Fp32);
    let bare = model.to_bytes().len() as u64;
    assert_eq!(model.counted_bytes(), bare);
    model.notes.provenance.push(("study".to_owned(), "s".to_owned()));
    model.add_tests(1 << 12).unwrap();
    assert!(model.to_bytes().len() as u64 > bare + 80);
    assert_eq!(model.counted_bytes(), bare);
    model.notes.classes = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    // Tag, length, count, and four names of one letter.
    assert_eq!(model.counted_bytes(), bare + 4 + 1 + 1 + 8);
}

#[test]
fn tolerances_fit_the_test_vectors() {
    let mut model = picture(2, Element::Fp32);
    model.add_tests(1 << 12).unwrap();
    model.notes.tolerances.pop();
    let error = model.validate().unwrap_err().to_string();
    assert!(error.contains("tolerances has 3 elements, but the shapes require 4"), "{error}");
    for wrong in [-1.0, f32::NAN] {
        model.notes.tolerances = vec![0.0, 0.0, 0.0, wrong];
        assert!(model.validate().unwrap_err().to_string().contains("tolerance"), "{wrong}");
    }
}

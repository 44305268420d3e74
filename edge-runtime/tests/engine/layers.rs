//! Every layer against plain loops: random models, all of whose values are outputs.

use std::collections::BTreeSet;

use edgesmith_edge_runtime::*;
use proptest::prelude::*;

use crate::models::{arrays, float_model, int_model, tensors};
use crate::reference::{self, Listed};

/// The model with all its values as outputs, in the order of the values.
fn open(model: &Model) -> (Model, Values) {
    let mut model = model.clone();
    let values = model.validate().unwrap();
    model.outputs = values
        .all()
        .iter()
        .map(|value| Output::new(&format!("v{}", value.id.0), value.id, value.shape.axes()))
        .collect();
    (model, values)
}

/// Runs the model and compares each value with what plain loops make of the values before it.
fn check(model: &Model, session: &mut Session, seed: u64) -> Result<(), TestCaseError> {
    let (model, values) = open(model);
    let arrays = arrays(&model, seed);
    session.run_on(&tensors(&arrays)).unwrap();
    let found: Vec<Listed> = values
        .all()
        .iter()
        .zip(&model.outputs)
        .zip(session.outputs())
        .map(|((value, output), array)| {
            reference::listed(output, value.shape, value.element, array)
        })
        .collect();
    for ((input, array), found) in model.inputs.iter().zip(&arrays).zip(&found) {
        let expected = reference::input(input, array);
        prop_assert_eq!(&expected.numbers, &found.numbers, "{}", input.name);
    }
    for (index, node) in model.nodes.iter().enumerate() {
        let value = &values.all()[model.inputs.len() + index];
        let inputs: Vec<&Listed> = node.inputs.iter().map(|id| &found[id.0 as usize]).collect();
        let expected = reference::run(node, model.rounding, &inputs, value.shape);
        let exact = matches!(node.output, Element::Uint8(_))
            || inputs.iter().any(|input| matches!(input.element, Element::Uint8(_)));
        for (&found, &expected) in found[value.id.0 as usize].numbers.iter().zip(&expected) {
            let wide = expected.abs() > f64::from(f32::MAX);
            let same = found == expected
                || (found.is_nan() && expected.is_nan())
                || (found.is_infinite() && wide && found.signum() == expected.signum());
            let near = (found - expected).abs() <= 2e-5 * expected.abs().max(1.0);
            // Numbers that cancel, and those whose squares or powers overflow, are as wrong as
            // fp32 is.
            let vague = inputs
                .iter()
                .any(|input| input.numbers.iter().any(|x| !x.is_finite() || x.abs() > 100.0));
            prop_assert!(
                same || (!exact && (near || vague)),
                "node {}, a {}: {} instead of {}",
                index,
                node.layer.name(),
                found,
                expected
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn layers_in_fp32_compute_what_plain_loops_do(seed: u64) {
        let model = float_model(seed, 5);
        let (open, _) = open(&model);
        for session in &mut Session::each(&open).unwrap() {
            check(&model, session, seed)?;
        }
    }

    #[test]
    fn layers_in_integers_compute_what_plain_loops_do_bit_for_bit(seed: u64) {
        let model = int_model(seed, 5);
        let (open, _) = open(&model);
        for session in &mut Session::each(&open).unwrap() {
            check(&model, session, seed)?;
        }
    }

    /// Values that share memory do not disturb each other, and a session forgets nothing between
    /// runs.
    #[test]
    fn outputs_do_not_depend_on_what_else_is_handed_out(seed: u64) {
        for model in [float_model(seed, 12), int_model(seed, 12)] {
            let (open, _) = open(&model);
            let (mut narrow, mut wide) =
                (Session::new(&model).unwrap(), Session::new(&open).unwrap());
            for seed in [seed, seed ^ 1] {
                let arrays = arrays(&model, seed);
                narrow.run_on(&tensors(&arrays)).unwrap();
                wide.run_on(&tensors(&arrays)).unwrap();
                for (output, array) in model.outputs.iter().zip(narrow.outputs()) {
                    let value = output.value.0 as usize;
                    let order = &output.order;
                    let straight = order.iter().copied().eq(0..order.len() as u32);
                    let (mut found, mut expected) = (array.to_vec(), wide.output(value).to_vec());
                    if !straight {
                        // Only the order differs.
                        found.sort_by(f32::total_cmp);
                        expected.sort_by(f32::total_cmp);
                    }
                    let bits = |numbers: Vec<f32>| -> Vec<u32> {
                        numbers.into_iter().map(f32::to_bits).collect()
                    };
                    prop_assert_eq!(bits(found), bits(expected));
                }
            }
        }
    }
}

/// The random models have every kind of layer.
#[test]
fn every_kind_is_tested() {
    let mut seen = BTreeSet::new();
    for seed in 0..1500 {
        for model in [float_model(seed, 5), int_model(seed, 5)] {
            seen.extend(model.nodes.iter().map(|node| node.layer.name()));
        }
    }
    assert_eq!(seen.len(), 32, "{seen:?}");
}

//! The tests that the `onnx` package has for each operator, by the environment variable
//! `EDGESMITH_ONNX_BACKEND`: the folder `onnx/backend/test/data/node` of `onnx==1.17.0`. Inputs
//! that have to be constant are bound from the data of the case.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use edgesmith_onnx::read::{BatchAxis, ReadErrors, ReadOptions, read};

use crate::support::{Numbers, difference, run};
use crate::wire::{bind, graph_inputs, graph_outputs, op_types, tensor};

enum Verdict {
    Passed,
    /// The operators that are not supported.
    Unsupported(String),
    Failed(String),
}

#[test]
fn onnx_node_tests() {
    let Some(folder) = std::env::var_os("EDGESMITH_ONNX_BACKEND") else {
        let message = "EDGESMITH_ONNX_BACKEND does not name ONNX's node tests: they were not run";
        assert!(std::env::var_os("EDGESMITH_REQUIRE_ONNX").is_none(), "{message}");
        println!("{message}");
        return;
    };
    let cases = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
    let mut cases: Vec<_> = cases.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 1000, "all node tests are there");
    let (mut passed, mut unsupported, mut failed) = (0, BTreeMap::<String, u32>::new(), vec![]);
    for case in &cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let verdict = catch_unwind(AssertUnwindSafe(|| verdict(case)));
        match verdict.unwrap_or_else(|_| Verdict::Failed("it panicked".to_owned())) {
            Verdict::Passed => passed += 1,
            Verdict::Unsupported(kind) => {
                if std::env::var_os("EDGESMITH_VERBOSE").is_some() {
                    println!("{name}: {kind}");
                }
                *unsupported.entry(kind.split(':').next().unwrap().to_owned()).or_default() += 1;
            }
            Verdict::Failed(why) => failed.push(format!("{name}: {why}")),
        }
    }
    let count: u32 = unsupported.values().sum();
    println!("ONNX's node tests: {passed} passed, {count} unsupported, {} failed", failed.len());
    let kinds: Vec<String> = unsupported.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
    println!("unsupported: {}", kinds.join(", "));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(passed >= 689, "as many as before, or more");
}

fn verdict(case: &Path) -> Verdict {
    let model = std::fs::read(case.join("model.onnx")).unwrap();
    let kinds = op_types(&model).join("+");
    let Ok(data) = std::fs::read_dir(case.join("test_data_set_0")) else {
        return Verdict::Unsupported(format!("{kinds}: no data"));
    };
    let count = |kind: &str| {
        let files = std::fs::read_dir(case.join("test_data_set_0")).unwrap();
        files
            .filter(|f| f.as_ref().unwrap().file_name().to_string_lossy().starts_with(kind))
            .count()
    };
    drop(data);
    let file = |kind: &str, place: usize| {
        std::fs::read(case.join(format!("test_data_set_0/{kind}_{place}.pb"))).unwrap()
    };
    let inputs: Vec<Vec<u8>> = (0..count("input_")).map(|place| file("input", place)).collect();
    let outputs: Vec<Vec<u8>> = (0..count("output_")).map(|place| file("output", place)).collect();
    let names = graph_inputs(&model);
    if names.len() != inputs.len() || graph_outputs(&model) != outputs.len() {
        return Verdict::Unsupported(format!(
            "{kinds}: it has inputs or outputs that are no tensors"
        ));
    }
    let expected: Option<Vec<Numbers>> = outputs.iter().map(|bytes| tensor(bytes)).collect();
    let Some(expected) = expected else {
        return Verdict::Unsupported(format!("{kinds}: its outputs are no real numbers"));
    };
    // First as few constants as possible: none, then all but the first input, then all but one.
    let mut bindings: Vec<Vec<usize>> = vec![vec![], (1..inputs.len()).collect()];
    bindings
        .extend((0..inputs.len()).map(|free| (0..inputs.len()).filter(|&i| i != free).collect()));
    bindings.push((0..inputs.len()).collect());
    let mut last = None;
    let mut wrong = None;
    for bound in bindings {
        let mut bytes = model.clone();
        for &place in &bound {
            match bind(&bytes, &names[place], &inputs[place]) {
                Some(bound) => bytes = bound,
                None => return Verdict::Unsupported(format!("{kinds}: an input is no tensor")),
            }
        }
        let free: Vec<usize> = (0..inputs.len()).filter(|place| !bound.contains(place)).collect();
        let numbers: Option<Vec<Numbers>> =
            free.iter().map(|&place| tensor(&inputs[place])).collect();
        let Some(numbers) = numbers else { continue };
        let shapes = free.iter().zip(&numbers).map(|(&place, numbers)| {
            let dims = numbers.dims.iter().map(|&dim| dim as u32).collect();
            (names[place].clone(), dims)
        });
        let input_shapes: BTreeMap<String, Vec<u32>> = shapes.collect();
        for batch in [BatchAxis::First, BatchAxis::None] {
            let options =
                ReadOptions { batch, input_shapes: input_shapes.clone(), ..Default::default() };
            match read(&bytes, &options) {
                Ok(imported) => {
                    let results = run(&imported, &numbers);
                    let differs = results
                        .iter()
                        .zip(&expected)
                        .find_map(|(given, expected)| difference(given, expected, 1e-4, 1e-5));
                    match differs {
                        None => return Verdict::Passed,
                        Some(how) => wrong = Some(format!("{batch:?}, constants {bound:?}: {how}")),
                    }
                }
                Err(errors) => last = Some(errors),
            }
        }
        if let Some(wrong) = wrong {
            return Verdict::Failed(wrong);
        }
    }
    let why = last.map(|errors: ReadErrors| errors.to_string()).unwrap_or_default();
    Verdict::Unsupported(format!("{kinds}: {why}"))
}

//! Files that are broken or made to do harm: one clear sentence each, no panic, and no more memory
//! than the file is worth.

use edgesmith_graph::Evaluator;
use edgesmith_onnx::read::{ReadOptions, read};

use crate::make::{File, Setting, numbers};
use crate::wire::field;

fn error(bytes: &[u8]) -> String {
    let error = read(bytes, &ReadOptions::default()).unwrap_err();
    assert!(!error.problems.is_empty());
    error.to_string()
}

/// A network with most kinds of things in it.
fn small(opset: u8) -> File {
    let weight = numbers(&[4, 2, 3, 3], 1);
    let dense = numbers(&[16, 3], 2);
    File::new(opset)
        .input("x", &[0, 2, 4, 4])
        .floats("w", &[4, 2, 3, 3], &weight.data)
        .floats("dense", &[16, 3], &dense.data)
        .ints("split", &[2], &[2, 2])
        .ints("shape", &[2], &[-1, 16])
        .ints("starts", &[1], &[0])
        .ints("ends", &[1], &[1])
        .floats("low", &[], &[0.0])
        .node(
            "Conv",
            &["x", "w"],
            &["c"],
            &[("pads", Setting::Ints(&[1, 1, 1, 1])), ("group", Setting::Int(1))],
        )
        .node("Clip", &["c", "low"], &["r"], &[])
        .node("Split", &["r", "split"], &["a", "b"], &[("axis", Setting::Int(1))])
        .node("Mul", &["a", "b"], &["m"], &[])
        .node("LeakyRelu", &["m"], &["l"], &[("alpha", Setting::Float(0.2))])
        .node("Transpose", &["l"], &["t"], &[("perm", Setting::Ints(&[0, 2, 3, 1]))])
        .node(
            "MaxPool",
            &["l"],
            &["p"],
            &[("kernel_shape", Setting::Ints(&[2, 2])), ("strides", Setting::Ints(&[2, 2]))],
        )
        .node("Shape", &["x"], &["s"], &[])
        .node("Slice", &["s", "starts", "ends"], &["n"], &[])
        .node("Concat", &["n", "starts"], &["unused"], &[("axis", Setting::Int(0))])
        .node("Resize", &["p", "", "", "sizes"], &["z"], &[("mode", Setting::Text("nearest"))])
        .ints("sizes", &[4], &[1, 2, 4, 4])
        .node("GlobalAveragePool", &["z"], &["g"], &[])
        .node("Mul", &["t", "k"], &["tm"], &[])
        .floats("k", &[2], &[0.5, 2.0])
        .node("Reshape", &["p", "pooled"], &["f"], &[])
        .ints("pooled", &[2], &[0, -1])
        .node("Concat", &["f", "f"], &["ff"], &[("axis", Setting::Int(1))])
        .node("MatMul", &["ff", "dense"], &["y"], &[])
        .node("Softmax", &["y"], &["out"], &[])
        .output("out")
        .output("g")
        .output("tm")
}

#[test]
fn the_small_network_is_read() {
    let bytes = small(13).bytes();
    let imported = read(&bytes, &ReadOptions::default()).unwrap();
    assert_eq!(imported.outputs.len(), 3);
}

#[test]
fn changed_files_do_no_harm() {
    let files = [small(13).bytes(), small(17).bytes()];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let mut read_anyway = 0;
    for round in 0..20_000 {
        let mut bytes = files[round % files.len()].clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(6) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] ^= 1 << random(8),
                2 => bytes.truncate(at.max(1)),
                3 => bytes.insert(at, random(256) as u8),
                4 => drop(bytes.remove(at)),
                _ => {
                    let from = random(bytes.len());
                    let length = random(40).min(bytes.len() - from.max(at));
                    let part = bytes[from..from + length].to_vec();
                    bytes[at..at + length].copy_from_slice(&part);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        if let Ok(imported) = read(&bytes, &ReadOptions::default()) {
            read_anyway += 1;
            let elements = |id| imported.graph.shape(id).elements();
            let total: u64 = imported.graph.values().map(|(id, _)| elements(id)).sum();
            if total < 100_000 {
                let inputs = imported.graph.inputs().map(|id| vec![0.5; elements(id) as usize]);
                let evaluator = Evaluator::<f32>::new(&imported.graph, &imported.weights);
                evaluator.run(inputs.collect());
            }
        }
    }
    println!("{read_anyway} of the changed files are networks still");
    assert!(read_anyway > 1000, "changes reach what is behind the format");
}

#[test]
fn what_is_no_network() {
    assert!(error(b"").contains("has no network in it"));
    assert!(error(b"PK\x03\x04 some archive").contains("not an ONNX file"));
    assert!(
        error(&[0x3a, 0xff, 0xff, 0xff, 0xff, 0x07])
            .contains("claims 2147483647 bytes where 0 are left")
    );
    let whole = small(13).bytes();
    assert!(error(&whole[..whole.len() / 2]).contains("cut short"));
    assert!(error(&File::new(13).input("x", &[1]).bytes()).contains("has no network in it"));
    assert!(error(&small(6).bytes()).contains("version 6 of ONNX's operators"));
    assert!(error(&small(99).bytes()).contains("version 99"));
}

#[test]
fn claims_are_not_believed() {
    let relu = |file: File| file.node("Add", &["x", "w"], &["y"], &[]).output("y").bytes();
    // Two gigabytes of numbers, which are not there.
    let file = File::new(13).input("x", &[1, 4]).floats("w", &[1 << 29], &[1.0]);
    assert_eq!(
        error(&relu(file)),
        "tensor \"w\": it has 536870912 numbers of 4 bytes, but 4 bytes are there"
    );
    let file = File::new(13).input("x", &[1, 4]).floats("w", &[i64::MAX, i64::MAX], &[1.0]);
    assert!(error(&relu(file)).contains("too large"));
    let file = File::new(13).input("x", &[1, 4]).floats("w", &[-4], &[1.0]);
    assert!(error(&relu(file)).contains("a size of -4 is not possible"));
    // Numbers made out of nothing.
    for (op_type, inputs) in [
        ("ConstantOfShape", &["huge"][..]),
        ("Expand", &["one", "huge"]),
        ("Tile", &["one", "huge"]),
        ("Range", &["zero", "end", "step"]),
    ] {
        let file = File::new(13)
            .input("x", &[1, 4])
            .ints("huge", &[1], &[1 << 40])
            .floats("one", &[1], &[1.0])
            .ints("zero", &[], &[0])
            .ints("end", &[], &[i64::MAX])
            .ints("step", &[], &[1])
            .node(op_type, inputs, &["c"], &[])
            .node("Cast", &["c"], &["w"], &[("to", Setting::Int(1))]);
        assert!(error(&relu(file)).contains("constant numbers out of a few"), "{op_type}");
    }
    let file = File::new(13)
        .input("x", &[1, 4])
        .node("Pad", &["x", "pads"], &["y"], &[("mode", Setting::Text("edge"))])
        .ints("pads", &[4], &[0, 1 << 30, 0, 1 << 30])
        .output("y");
    assert!(error(&file.bytes()).contains("pads are too large"));
    // Empty, but with a size that is walked through.
    for (op_type, inputs, settings) in [
        ("Slice", &["e", "zeros", "zeros"][..], &[][..]),
        ("Split", &["e"], &[]),
        ("Tile", &["e", "ones"], &[]),
        ("Gather", &["e", "zeros"], &[("axis", Setting::Int(1))]),
        ("Concat", &["e", "e"], &[("axis", Setting::Int(1))]),
        ("Flatten", &["e"], &[]),
        ("ReduceSum", &["e", "zeros"], &[]),
        ("Reshape", &["e", "huge"], &[("allowzero", Setting::Int(1))]),
    ] {
        for made in [true, false] {
            let mut file = File::new(17)
                .input("x", &[1, 4])
                .ints("huge", &[2], &[1 << 40, 0])
                .ints("zeros", &[1], &[0])
                .ints("ones", &[2], &[1, 1])
                .node(op_type, inputs, &["w"], settings);
            file = if made {
                file.node("ConstantOfShape", &["huge"], &["e"], &[])
            } else {
                file.floats("e", &[1 << 40, 0], &[])
            };
            let error = error(&relu(file));
            let expected = if made { "constant numbers out of a few" } else { "is too large" };
            assert!(error.contains(expected), "{op_type}: {error}");
        }
    }
    // Values that double again and again.
    let mut file = File::new(13).input("x", &[1, 4]);
    for step in 0..64 {
        let (from, to) = (format!("v{step}"), format!("v{}", step + 1));
        let from = if step == 0 { "x" } else { &from };
        file = file.node("Concat", &[from, from], &[&to], &[("axis", Setting::Int(1))]);
    }
    assert!(error(&file.output("v64").bytes()).contains("more than 2147483648 numbers"));
}

#[test]
fn nesting_is_limited() {
    let mut graph = field(1, &[field(2, b"y"), field(4, b"If")].concat());
    for _ in 0..200 {
        let attribute = [field(1, b"then_branch"), field(6, &graph), vec![0xa0, 1, 5]].concat();
        graph = field(1, &[field(2, b"y"), field(4, b"If"), field(5, &attribute)].concat());
    }
    assert!(error(&field(7, &graph)).contains("nested more than 8 deep"));
    // Functions that call each other.
    let call = |name: &str| {
        field(
            7,
            &[field(1, b"a"), field(2, b"b"), field(4, name.as_bytes()), field(7, b"own")].concat(),
        )
    };
    let function = |name: &str, body: Vec<u8>| {
        field(
            25,
            &[field(1, name.as_bytes()), field(4, b"a"), field(5, b"b"), body, field(10, b"own")]
                .concat(),
        )
    };
    let file = |body: Vec<u8>| {
        File::new(13)
            .input("x", &[1, 4])
            .own_node("F", &["x"], &["y"])
            .output("y")
            .model_field(&function("F", body))
            .bytes()
    };
    assert!(error(&file(call("F"))).contains("functions call each other 16 deep"));
    // A long body that is copied again and again.
    let node = |input: &str, output: &str, name: &[u8]| {
        field(
            7,
            &[field(1, input.as_bytes()), field(2, output.as_bytes()), field(4, name)].concat(),
        )
    };
    let mut body = node("a", "b", b"Relu");
    (0..3000).for_each(|place| body.extend(node("a", &format!("u{place}"), b"Relu")));
    let mut file = File::new(13).input("x", &[1, 4]).model_field(&function("F", body));
    for step in 0..100 {
        let from = if step == 0 { "x".to_owned() } else { format!("v{step}") };
        file = file.own_node("F", &[&from], &[&format!("v{}", step + 1)]);
    }
    assert!(error(&file.output("v100").bytes()).contains("more than 262144 nodes"));
}

#[test]
fn mistakes_in_the_network_are_named() {
    let add = |file: File| file.node("Add", &["x", "b"], &["y"], &[]).output("y").bytes();
    let file = || File::new(13).input("x", &[1, 4]);
    assert_eq!(
        error(&add(file())),
        "node \"y\" (Add) reads \"b\", but no input, constant or node has this name"
    );
    let twice = file().floats("b", &[1], &[0.0]).floats("b", &[1], &[0.0]);
    assert!(error(&add(twice)).contains("two tensors of the network are called \"b\""));
    let cycle = file().node("Relu", &["y"], &["b"], &[]);
    assert!(error(&add(cycle)).contains("must not have cycles"));
    let unlike = file().floats("b", &[3], &[0.0; 3]);
    assert_eq!(
        error(&add(unlike)),
        "node \"y\" (Add): its inputs have the shapes [1, 4] and [1, 3], which do not fit together"
    );
    let mistyped =
        file().node("Concat", &["x", "x"], &["y"], &[("axis", Setting::Text("1"))]).output("y");
    assert!(error(&mistyped.bytes()).contains("its attribute axis is not an integer"));
    // All kinds at once, each once.
    let several = file()
        .node("LSTM", &["x"], &["a"], &[])
        .node("NonZero", &["a"], &["b"], &[])
        .node("LSTM", &["b"], &["c"], &[])
        .node("Sin", &["x"], &["d"], &[])
        .output("c")
        .output("d");
    let error = error(&several.bytes());
    assert_eq!(error.lines().count(), 3, "{error}");
    assert!(error.starts_with("node \"a\" (LSTM and 1 more) is not supported"), "{error}");
}

//! Networks with QuantizeLinear and DequantizeLinear: the network of real numbers, and its scales.

use edgesmith_graph::{Affine, Op};
use edgesmith_onnx::read::{Imported, ReadOptions, read};
use edgesmith_onnx::{Input, Output, write};

use crate::make::{File, Setting, numbers};
use crate::support::{difference, run};

/// A convolution whose result is on levels of this type, from this zero point on.
fn network(data_type: i64, zero: u8) -> File {
    let weight: Vec<u8> = (0..16 * 9).map(|i| (i * 37 % 251) as u8).collect();
    File::new(13)
        .input("x", &[0, 4, 5, 5])
        .tensor("w", &[4, 4, 3, 3], 3, &weight)
        .floats("ws", &[4], &[0.01, 0.02, 0.03, 0.04])
        .tensor("wz", &[4], 3, &[0; 4])
        .floats("s", &[], &[0.05])
        .tensor("z", &[], data_type, &[zero])
        .node("DequantizeLinear", &["w", "ws", "wz"], &["wr"], &[("axis", Setting::Int(0))])
        .node("Conv", &["x", "wr"], &["c"], &[])
        .node("QuantizeLinear", &["c", "s", "z"], &["q"], &[])
        .node("DequantizeLinear", &["q", "s", "z"], &["d"], &[])
        .node("GlobalAveragePool", &["d"], &["y"], &[])
        .output("y")
}

fn import(file: &File) -> Imported {
    read(&file.bytes(), &ReadOptions::default()).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn scales_are_kept_and_the_numbers_are_real() {
    for (data_type, zero, expected) in [(2, 7, 7), (3, 10, 138), (3, 0x80 + 1, 1)] {
        let imported = import(&network(data_type, zero));
        let quantization = imported.quantization.as_ref().unwrap();
        let graph = &imported.graph;
        let conv = graph.value_named("c").unwrap();
        let affine = Affine { scale: 0.05, zero_point: expected };
        assert_eq!(quantization.value(conv), Some(affine), "{data_type} {zero}");
        let weight = graph.parameter_named("w").unwrap();
        let scales = [0.01f32, 0.02, 0.03, 0.04].map(f64::from);
        assert_eq!(quantization.parameter(weight), Some(&scales[..]));
        assert_eq!(imported.weights.of(graph, weight).data[1], 37.0 * 0.01);
        assert_eq!(graph.nodes().len(), 2);
    }
}

/// The scales per output channel that a transposed convolution of 4 channels in these groups, to 6,
/// has for its weight.
fn transposed_scales(groups: usize, scales: &[f32], axis: i64) -> Option<Vec<f32>> {
    let writes = 6 / groups;
    let weight: Vec<u8> = (0..4 * writes * 4).map(|i| (i * 37 % 251) as u8).collect();
    let count: &[i64] = &[scales.len() as i64];
    let file = File::new(13)
        .input("x", &[0, 4, 5, 5])
        .tensor("w", &[4, writes as i64, 2, 2], 3, &weight)
        .floats("ws", count, scales)
        .tensor("wz", count, 3, &vec![0; scales.len()])
        .node("DequantizeLinear", &["w", "ws", "wz"], &["wr"], &[("axis", Setting::Int(axis))])
        .node("ConvTranspose", &["x", "wr"], &["y"], &[("group", Setting::Int(groups as i64))])
        .output("y");
    let imported = import(&file);
    let graph = &imported.graph;
    let (id, _) = graph.parameters().next().unwrap();
    let found = imported.quantization.as_ref()?.parameter(id)?;
    // The integers are whole numbers of the scales, filter by filter.
    let numbers = &imported.weights.of(graph, id).data;
    for (row, scale) in numbers.chunks_exact(numbers.len() / 6).zip(found) {
        for number in row {
            let level = f64::from(*number) / scale;
            assert!((level - level.round()).abs() < 1e-3, "{number} {scale}");
        }
    }
    Some(found.iter().map(|&scale| scale as f32).collect())
}

#[test]
fn weights_of_transposed_convolutions_keep_their_scales() {
    let six = [0.01, 0.02, 0.03, 0.04, 0.05, 0.07];
    assert_eq!(transposed_scales(1, &six, 1).unwrap(), six);
    for groups in [1, 2] {
        assert_eq!(transposed_scales(groups, &[0.03], 0).unwrap(), [0.03; 6]);
    }
    let repeated = transposed_scales(2, &six[..3], 1).unwrap();
    assert_eq!(repeated, [0.01, 0.02, 0.03, 0.01, 0.02, 0.03]);
    // Scales of input channels are none of output channels.
    assert_eq!(transposed_scales(1, &six[..4], 0), None);
}

#[test]
fn a_depthwise_transposed_convolution_keeps_its_scales() {
    let scales = [0.01, 0.02, 0.03];
    let file = File::new(13)
        .input("x", &[0, 3, 5])
        .tensor("w", &[3, 2, 2], 3, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
        .floats("ws", &[3], &scales)
        .tensor("wz", &[3], 3, &[0; 3])
        .node("DequantizeLinear", &["w", "ws", "wz"], &["wr"], &[("axis", Setting::Int(0))])
        .node("ConvTranspose", &["x", "wr"], &["y"], &[("group", Setting::Int(3))])
        .output("y");
    let imported = import(&file);
    let (id, _) = imported.graph.parameters().next().unwrap();
    let found = imported.quantization.as_ref().unwrap().parameter(id).unwrap();
    assert_eq!(found, [0.01f32, 0.01, 0.02, 0.02, 0.03, 0.03].map(f64::from));
}

#[test]
fn a_rectifier_that_the_levels_stand_for_comes_back() {
    let x = numbers(&[2, 4, 5, 5], 3);
    let plain = run(&import(&network(2, 7)), std::slice::from_ref(&x));
    for (data_type, lowest) in [(2, 0), (3, 0x80)] {
        let imported = import(&network(data_type, lowest));
        let clips = imported.graph.nodes().filter(|(_, node)| matches!(node.op, Op::Clip(_)));
        assert_eq!(clips.count(), 1);
        let rectified = run(&imported, std::slice::from_ref(&x));
        assert!(difference(&rectified[0], &plain[0], 1e-3, 1e-3).is_some());
        assert!(rectified[0].data.iter().all(|&x| x >= 0.0));
    }
}

#[test]
fn a_value_with_scales_that_contradict_each_other_has_none() {
    let scales = |second: f32| {
        let mut file = File::new(13).input("x", &[0, 4]).tensor("z", &[], 2, &[7]);
        for (place, scale) in [("a", 0.05), ("b", second)] {
            let [s, q, d, t] = ["s", "q", "d", "t"].map(|part| format!("{part}_{place}"));
            file = file
                .floats(&s, &[], &[scale])
                .node("QuantizeLinear", &["x", &s, "z"], &[&q], &[])
                .node("DequantizeLinear", &[&q, &s, "z"], &[&d], &[])
                .node("Tanh", &[&d], &[&t], &[]);
        }
        let imported = import(&file.output("t_a").output("t_b"));
        let input = imported.graph.inputs().next().unwrap();
        imported.quantization.and_then(|quantization| quantization.value(input))
    };
    assert_eq!(scales(0.05), Some(Affine { scale: 0.05, zero_point: 7 }));
    assert_eq!(scales(0.002), None);
}

#[test]
fn levels_without_a_zero_point_have_the_type_that_is_named() {
    let levels = |output_dtype: i64| {
        let file = File::new(21)
            .input("x", &[0, 4])
            .floats("s", &[], &[0.05])
            .node("Neg", &["x"], &["n"], &[])
            .node(
                "QuantizeLinear",
                &["n", "s"],
                &["q"],
                &[("output_dtype", Setting::Int(output_dtype))],
            )
            .node("DequantizeLinear", &["q", "s"], &["d"], &[])
            .node("Tanh", &["d"], &["y"], &[])
            .output("y");
        let imported = import(&file);
        let clips = imported.graph.nodes().filter(|(_, node)| matches!(node.op, Op::Clip(_)));
        let clips = clips.count();
        let graph = &imported.graph;
        let last = graph.producer(graph.outputs()[0]).unwrap();
        let read = graph.node(last).inputs[0];
        (clips, imported.quantization.unwrap().value(read).unwrap().zero_point)
    };
    // Bytes without a sign start at 0, as what a ReLU computes; bytes with a sign do not.
    assert_eq!(levels(0), (1, 0));
    assert_eq!(levels(2), (1, 0));
    assert_eq!(levels(3), (0, 128));
}

#[test]
fn scales_have_to_fit_the_tensor() {
    let error = |scales: &[f32]| {
        let file = File::new(13)
            .input("x", &[0, 4, 5])
            .floats("s", &[scales.len() as i64], scales)
            .tensor("z", &[scales.len() as i64], 3, &vec![0; scales.len()])
            .node("QuantizeLinear", &["x", "s", "z"], &["q"], &[])
            .node("DequantizeLinear", &["q", "s", "z"], &["y"], &[])
            .output("y");
        read(&file.bytes(), &ReadOptions::default()).map_err(|errors| errors.to_string())
    };
    assert!(error(&[0.1; 4]).is_ok());
    assert!(error(&[]).unwrap_err().contains("it has no scale"));
    assert!(error(&[0.1; 3]).unwrap_err().contains("it has 3 scales for an axis of size 4"));
}

/// Outputs whose numbers are those of bytes keep the scale, at the end and in between; others have
/// none, even if somebody else reads bytes.
#[test]
fn outputs_keep_their_scales_if_they_are_bytes() {
    let file = network(2, 7)
        .node("QuantizeLinear", &["y", "s", "z"], &["yq"], &[])
        .node("DequantizeLinear", &["yq", "s", "z"], &["yd"], &[])
        .output("yd")
        .output("d");
    let imported = import(&file);
    let Imported { graph, weights, quantization, .. } = &imported;
    let input = imported.inputs.iter().map(|port| Input {
        port: port.clone(),
        doc: String::new(),
        scales: None,
    });
    let inputs: Vec<Input> = input.collect();
    for bytes in [true, false] {
        let output = |(place, port): (usize, &edgesmith_onnx::Port)| {
            let name = format!("out{place}");
            Output {
                port: edgesmith_onnx::Port { name, ..port.clone() },
                doc: String::new(),
                bytes,
            }
        };
        let outputs: Vec<Output> = imported.outputs.iter().enumerate().map(output).collect();
        let bytes_of = write(graph, weights, quantization.as_ref(), &inputs, &outputs, &[]);
        let again = read(&bytes_of, &ReadOptions::default()).unwrap_or_else(|e| panic!("{e}"));
        let scales = again.quantization.as_ref().unwrap();
        let affine = Affine { scale: 0.05, zero_point: 7 };
        let [first, second, third] = *again.graph.outputs() else { panic!("three outputs") };
        // The pool is only an output; the convolution is read as bytes whatever the output is.
        let expected = bytes.then_some(affine);
        assert_eq!([scales.value(first), scales.value(second)], [expected; 2]);
        assert_eq!(scales.value(third), Some(affine));
    }
}

#[test]
fn integers_at_the_end_are_refused() {
    let file = network(2, 7).output("q");
    let error = read(&file.bytes(), &ReadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("export the network with a DequantizeLinear at its end"), "{error}");
}

//! Exported ONNX files, run by ONNX Runtime: those of models on the digits' test images against the
//! edge runtime, and those of random graphs of every operation against the graph's own evaluation.
//! The edge runtime runs these random graphs too.
//!
//! Needs a Python with `onnxruntime` and `numpy` (`EDGESMITH_PYTHON`, else `python3`); without one
//! the tests say so and pass, unless `EDGESMITH_REQUIRE_ONNX` is set.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use edgesmith_common::Seed;
use edgesmith_common::spec::{DataSource, DataSpec};
use edgesmith_compress::Calibration;
use edgesmith_data::{Dataset, ImageSet, Normalization};
use edgesmith_edge_runtime::{Model, Session};
use edgesmith_graph::{
    Add, Affine, AveragePool, BatchNormalization, Binary, BinaryFunction, Clip, Concat, Constant,
    Conv, ConvTranspose, Coordinates, Evaluator, Flatten, Function, Gather, GlobalAveragePool,
    Graph, GraphBuilder, Groups, LayerNormalization, LeakyRelu, Linear, Map, MatrixProduct,
    MaxPool, Multiply, Node, Op, Operands, Operation as _, Pad, ParameterId, Place, Prelu,
    Quantization, Reduce, ReduceFunction, Reshape, Resize, ResizeAxis, ResizeMode, Role, Rounding,
    Select, Shape, Softmax, Transpose, TransposedAxis, ValueId, Weights, WindowAxis,
};
use edgesmith_search_space::{Activation, Architecture, DataShape, Operation, Skip, Stage};
use edgesmith_testing::random_weights;
use edgesmith_train::fresh_weights;
use edgesmith_worker::export::{Interface, float_model, integer_model, lift, lower_as, onnx};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/onnx_check.py");

#[test]
fn onnx_runtime_computes_what_the_edge_runtime_does() {
    let Some(python) = python() else { return };
    let data = DataShape { channels: 1, classes: 10 };
    let spec = DataSpec {
        source: DataSource::Digits,
        validation_fraction: 0.2,
        train_limit: None,
        test_limit: None,
    };
    let digits = Dataset::load(&spec, data, Seed(1), Path::new(".")).unwrap();
    for (index, architecture) in [plain(), residual()].iter().enumerate() {
        let graph = architecture.graph(data).unwrap();
        let mut weights = away_from_initial(fresh_weights(&graph, [index as u8; 32]));
        let side = architecture.resolution as usize;
        let train = digits.train.resized(side);
        fit_classifier(&graph, &mut weights, &train, &digits.normalization);
        let test = digits.test.resized(side);
        let images: Vec<&[u8]> = (0..test.len()).map(|i| test.image(i)).collect();

        let float = float_model(&graph, &weights, &digits.normalization).unwrap();
        check_model(&python, &float, &images, &[]);

        let calibration = train.subset(&(0..256).collect::<Vec<_>>());
        let go_on = &mut || ControlFlow::Continue(());
        let int8 = integer_model(&graph, &weights, &digits.normalization, &calibration, go_on);
        let int8 = int8.unwrap();
        // Integers round halves up and floats to even: a byte may differ by one.
        check_model(&python, &int8, &images, &["--tolerance", "1", "--agreement", "0.95"]);
    }
}

#[test]
fn random_graphs_have_every_operation() {
    let graphs: Vec<Graph> = (0..GRAPHS).map(random_graph).collect();
    let nodes = || graphs.iter().flat_map(Graph::nodes).map(|(_, node)| node);
    let kinds: BTreeSet<&str> = nodes().map(|node| node.op.kind()).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), Op::KINDS);
    // And what ONNX says in another way.
    let with = |graph: &Graph, of: &dyn Fn(&Op, &Shape) -> bool| {
        let mut readers = graph.nodes().filter(|(_, node)| !node.inputs.is_empty());
        readers.any(|(_, node)| of(&node.op, graph.shape(node.inputs[0])))
    };
    let some = |of: &dyn Fn(&Op, &Shape) -> bool| graphs.iter().any(|graph| with(graph, of));
    let unequal = |axes: &[WindowAxis]| axes.iter().any(|axis| axis.before != axis.after);
    for axes in 1..=2 {
        assert!(some(&|op, _| matches!(op, Op::Conv(conv) if conv.axes.len() == axes)));
        assert!(some(&|op, _| matches!(op, Op::MaxPool(pool) if pool.axes.len() == axes)));
    }
    for axes in 0..=2 {
        let at = |shape: &Shape| shape.space().len() == axes;
        assert!(some(&|op, shape| matches!(op, Op::Linear(_)) && at(shape)));
        assert!(some(&|op, shape| matches!(op, Op::Multiply(_)) && at(shape)));
        assert!(some(&|op, shape| matches!(op, Op::GlobalAveragePool(_)) && at(shape)));
        assert!(some(&|op, shape| matches!(op, Op::BatchNormalization(_)) && at(shape)));
    }
    let dilated = |pool: &AveragePool| pool.axes.iter().any(|axis| axis.dilation > 1);
    let counts = |pool: &AveragePool| pool.counted.iter().any(|&counted| counted != (0, 0));
    for (is_dilated, is_counted) in [(false, false), (false, true), (true, true)] {
        let alike = |pool: &AveragePool| (dilated(pool), counts(pool)) == (is_dilated, is_counted);
        assert!(some(&|op, _| matches!(op, Op::AveragePool(pool) if alike(pool))));
    }
    for linear in [false, true] {
        let mode = |resize: &Resize| (resize.mode == ResizeMode::Linear) == linear;
        assert!(some(&|op, _| matches!(op, Op::Resize(resize) if mode(resize))));
    }
    for group in [Groups::Equal(1), Groups::Equal(2), Groups::PerChannel] {
        assert!(some(&|op, _| matches!(op, Op::ConvTranspose(conv) if conv.groups == group)));
    }
    for group in [Groups::Equal(1), Groups::Equal(2), Groups::PerChannel] {
        assert!(some(&|op, _| matches!(op, Op::Conv(conv) if conv.groups == group)));
    }
    assert!(some(&|op, _| matches!(op, Op::Conv(conv) if unequal(&conv.axes))));
    assert!(some(&|op, _| matches!(op, Op::Conv(conv) if conv.axes[0].dilation > 1)));
    let beyond = |pool: &MaxPool| pool.axes[0].before >= pool.kernel[0];
    assert!(some(&|op, _| matches!(op, Op::MaxPool(pool) if beyond(pool))));
    assert!(some(&|op, _| matches!(op, Op::MaxPool(pool) if unequal(&pool.axes))));
    assert!(some(&|op, _| matches!(op, Op::Clip(clip) if clip.low == f32::NEG_INFINITY)));
    assert!(nodes().any(|node| node.op == Linear.into() && node.parameters.len() == 1));
    for function in BINARY {
        assert!(some(&|op, _| *op == Op::from(Binary { function })), "{function:?}");
    }
    let functions: BTreeSet<String> = nodes().filter_map(function).collect();
    assert_eq!(functions.len(), 16, "{functions:?}");
    // Normalised along the last axes, and along others.
    let along = |first: bool| {
        move |op: &Op, shape: &Shape| {
            matches!(op, Op::LayerNormalization(norm)
            if (norm.axes.last() == Some(&(shape.space().len() as u32))) == first)
        }
    };
    assert!(some(&along(true)) && some(&along(false)));
}

/// The name of the function of a node that applies one.
fn function(node: &Node) -> Option<String> {
    let Op::Map(Map { function }) = &node.op else { return None };
    let name = format!("{function:?}");
    Some(name.split(' ').next().unwrap().to_owned())
}

#[test]
fn onnx_runtime_computes_what_a_graph_does() {
    let Some(python) = python() else { return };
    let cases = (0..GRAPHS).map(|seed| {
        let graph = random_graph(seed);
        let (weights, images) = (random_weights(&graph, seed), pictures(&graph, seed));
        let evaluator = Evaluator::<f32>::new(&graph, &weights);
        let outputs = images.iter().map(|image| evaluator.output(normalized(&graph, image)));
        let outputs = outputs.collect::<Vec<_>>().concat();
        let file = onnx::to_bytes(&graph, &weights, None, &normalization(&graph), &[]);
        Case { file, images: images.concat(), outputs }
    });
    // Where the outputs cancel out, only rounding is left to compare.
    let is_left = |case: &Case| case.outputs.iter().any(|output| output.abs() > 1e-3);
    let cases: Vec<Case> = cases.filter(is_left).collect();
    check(&python, &cases, &["--relative", "--tolerance", "1e-4", "--agreement", "0"]);
}

#[test]
fn the_engine_computes_what_a_graph_does() {
    let mut errors = Vec::new();
    for seed in 0..GRAPHS {
        let graph = random_graph(seed);
        let (weights, images) = (random_weights(&graph, seed), pictures(&graph, seed));
        let interface = Interface::of(&graph, Some(&normalization(&graph)));
        let mut calibration = Calibration::new(&graph, &weights);
        images.iter().for_each(|image| calibration.observe(normalized(&graph, image)).unwrap());
        let quantization = calibration.finish((-2.0, 2.0)).unwrap();
        let models = [None, Some(&quantization)]
            .map(|quantization| lower_as(&graph, &weights, quantization, &interface).unwrap());
        let [mut float, mut int] = models.map(|model| {
            // From its file.
            Session::new(&Model::from_bytes(&model.to_bytes()).unwrap()).unwrap()
        });
        let evaluator = Evaluator::<f32>::new(&graph, &weights);
        for image in &images {
            let expected = evaluator.output(normalized(&graph, image));
            let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            let difference = |found: &[f32]| {
                assert_eq!(found.len(), expected.len());
                let pairs = found.iter().zip(&expected);
                pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / largest.max(1.0)
            };
            let error = difference(float.run(image).unwrap());
            assert!(error <= 1e-4, "graph {seed}: {error}");
            errors.push(difference(int.run(image).unwrap()));
        }
    }
    // What is computed in integers is near, for all but a few networks, which amplify rounding.
    errors.sort_by(f32::total_cmp);
    let [half, most] = [errors.len() / 2, errors.len() * 9 / 10].map(|at| errors[at]);
    assert!(half < 0.03 && most < 0.2, "{half} {most}");
}

#[test]
fn onnx_runtime_quantizes_where_a_graph_is_annotated() {
    let Some(python) = python() else { return };
    let cases = (0..GRAPHS).map(|seed| {
        let graph = random_graph(seed);
        let (weights, images) = (random_weights(&graph, seed), pictures(&graph, seed));
        let mut calibration = Calibration::new(&graph, &weights);
        images.iter().for_each(|image| calibration.observe(normalized(&graph, image)).unwrap());
        // No pixel is halfway between two levels.
        let quantization = calibration.finish((-0.97, 1.31)).unwrap();
        let outputs = images
            .iter()
            .map(|image| in_levels(&graph, &weights, &quantization, normalized(&graph, image)));
        let outputs = outputs.collect::<Vec<_>>().concat();
        let normalization = normalization(&graph);
        let file = onnx::to_bytes(&graph, &weights, Some(&quantization), &normalization, &[]);
        let case = Case { file, images: images.concat(), outputs };
        (case, averages_in_range(&graph, &quantization))
    });
    let (cases, others): (Vec<_>, Vec<_>) = cases.partition(|(_, in_range)| *in_range);
    let in_range = cases.len();
    let cases: Vec<Case> = cases.into_iter().chain(others).map(|(case, _)| case).collect();
    // A level of rounding here and there, if a number is halfway between two, and what a few nodes
    // make of it.
    let options = ["--relative", "--agreement", "0", "--tolerance"];
    check(&python, &cases, &[&options[..], &["0.02", "--as-written"]].concat());
    // Kernels in integers round at other places.
    check(&python, &cases[..in_range], &[&options[..], &["0.1"]].concat());
}

/// Whether ONNX Runtime has an integer kernel for all means of a graph: it refuses one whose output
/// has a scale that is far below its input's, as means have that cancel out.
fn averages_in_range(graph: &Graph, quantization: &Quantization) -> bool {
    let scale = |id| quantization.value(id).map_or(1.0, |affine| affine.scale);
    let mut means = graph.nodes().filter(|(_, node)| matches!(node.op, Op::GlobalAveragePool(_)));
    means.all(|(_, node)| {
        let positions = graph.shape(node.inputs[0]).positions() as f32;
        scale(node.inputs[0]) / (positions * scale(node.output)) < 256.0
    })
}

/// The interpreter, where it has what the check needs.
fn python() -> Option<String> {
    let python = std::env::var("EDGESMITH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python).args(["-c", "import numpy, onnxruntime"]).output();
    if probe.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let message = format!("{python} has no onnxruntime and numpy: ONNX files were not checked");
    assert!(std::env::var_os("EDGESMITH_REQUIRE_ONNX").is_none(), "{message}");
    println!("{message}");
    None
}

/// An ONNX file, and what it has to compute of some images.
struct Case {
    file: Vec<u8>,
    images: Vec<u8>,
    outputs: Vec<f32>,
}

/// Exports `model` and has its logits on `images` checked.
fn check_model(python: &str, model: &Model, images: &[&[u8]], options: &[&str]) {
    let mut session = Session::new(model).unwrap();
    let outputs = images.iter().flat_map(|image| session.run(image).unwrap().to_vec()).collect();
    let metadata = [("study", "digits".to_owned())];
    let file = onnx::of_study(&lift(model).unwrap(), &metadata);
    check(python, &[Case { file, images: images.concat(), outputs }], options);
}

/// Has ONNX Runtime compute all cases.
fn check(python: &str, cases: &[Case], options: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let mut arguments = Vec::new();
    for (index, Case { file, images, outputs }) in cases.iter().enumerate() {
        let outputs = &outputs.iter().flat_map(|output| output.to_le_bytes()).collect();
        for (name, bytes) in [("model.onnx", file), ("images", images), ("outputs", outputs)] {
            let path = directory.path().join(format!("{index}.{name}"));
            std::fs::write(&path, bytes).unwrap();
            arguments.push(path);
        }
    }
    let output = Command::new(python).arg(CHECK).args(options).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaint}");
    println!("{said}");
}

/// How many random graphs are compared.
const GRAPHS: u64 = 160;

/// Values that a random graph may have at most, so that the reference stays fast.
const MAX_ELEMENTS: u64 = 2_000;

/// A graph of random operations on a picture or a sequence.
fn random_graph(seed: u64) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut net = Net::default();
    let axes = rng.random_range(1..=2);
    let space: Vec<u32> = (0..axes).map(|_| rng.random_range(1..7)).collect();
    let shape = Shape::new(rng.random_range(1..5), &space).unwrap();
    let mut values = vec![net.builder.input("input", shape).unwrap()];
    for _ in 0..10 {
        if let Some(value) = random_node(&mut net, &mut rng, &values)
            && net.builder.shape(value).elements() <= MAX_ELEMENTS
        {
            values.push(value);
        }
    }
    let mut output = *values.last().unwrap();
    // A map of positions may be the output too.
    if rng.random_bool(0.5) {
        let features = net.add(Flatten, &[output], &[]).unwrap();
        output = net.linear(features, 3, true).unwrap();
    }
    net.builder.finish(&[output]).unwrap()
}

/// Adds a random node, unless the operation that was drawn fits none of the values.
fn random_node(net: &mut Net, rng: &mut ChaCha8Rng, values: &[ValueId]) -> Option<ValueId> {
    let mut pick = || {
        let back = rng.random_range(0..values.len()).min(rng.random_range(0..values.len()));
        values[values.len() - 1 - back]
    };
    let (first, second) = (pick(), pick());
    let shape = net.builder.shape(first).clone();
    let axes = shape.space().len();
    let same_space = net.builder.shape(second).space() == shape.space();
    let alike = *net.builder.shape(second) == shape;
    let operands = [&shape, net.builder.shape(second)];
    let fits = Add.infer(&Operands { inputs: &operands, parameters: &[] }).is_ok();
    match rng.random_range(0..33) {
        0 => random_conv(net, rng, first, Groups::Equal(1)),
        1 => random_conv(net, rng, first, Groups::PerChannel),
        2 if shape.channels().is_multiple_of(2) => {
            random_conv(net, rng, first, Groups::of(2, shape.channels()))
        }
        3 if axes > 0 => {
            let kernel = rng.random_range(1..4);
            let axis = WindowAxis {
                stride: rng.random_range(1..3),
                dilation: rng.random_range(1..3),
                before: rng.random_range(0..4),
                after: rng.random_range(0..4),
            };
            let (kernel, axes) = ((0..axes).map(|_| kernel), (0..axes).map(|_| axis));
            net.add(MaxPool { kernel: kernel.collect(), axes: axes.collect() }, &[first], &[])
        }
        4 => {
            let parts = [
                ("scale", Role::Scale),
                ("shift", Role::Shift),
                ("mean", Role::Mean),
                ("variance", Role::Variance),
            ];
            let parts = parts.map(|(part, role)| net.parameter(part, &[shape.channels()], role));
            net.add(BatchNormalization { epsilon: 1e-2 }, &[first], &parts)
        }
        5 => {
            let clips = [
                Clip::RELU,
                Clip::RELU6,
                Clip { low: f32::NEG_INFINITY, high: 0.5 },
                Clip { low: -0.5, high: f32::INFINITY },
                Clip { low: -0.25, high: 0.75 },
            ];
            net.add(clips[rng.random_range(0..clips.len())], &[first], &[])
        }
        6 | 7 => random_map(net, rng, first),
        8 if fits => net.add(Add, &[first, second], &[]),
        9 if same_space => net.add(Concat::channels(), &[first, second, first], &[]),
        10 => {
            // Squeeze-and-excitation.
            let squeezed = net.add(GlobalAveragePool, &[first], &[])?;
            let hidden = net.linear(squeezed, rng.random_range(1..4), false)?;
            let hidden = net.add(Clip::RELU, &[hidden], &[])?;
            let gate = net.linear(hidden, shape.channels(), true)?;
            let gate = net.add(Map { function: Function::Sigmoid }, &[gate], &[])?;
            net.add(Multiply, &[first, gate], &[])
        }
        11 => {
            let axis = rng.random_range(0..=axes);
            let size = shape.sizes()[axis];
            let count = rng.random_range(1..=size + 1);
            let indices = (0..count).map(|_| rng.random_range(0..size)).collect();
            net.add(Gather { axis: axis as u32, indices }, &[first], &[])
        }
        12 if shape.elements() < 200 => net.add(Flatten, &[first], &[]),
        13 => net.linear(first, rng.random_range(1..6), rng.random_bool(0.5)),
        14 if fits => net.add(Multiply, &[first, second], &[]),
        15 => net.add(LeakyRelu { slope: rng.random_range(-0.5..1.5) }, &[first], &[]),
        16 if axes > 0 => {
            let axis = rng.random_range(1..=axes) as u32;
            net.add(Concat { axis }, &[first, first], &[])
        }
        17 if axes > 0 => {
            let transposed = [[false, true], [true, false]][rng.random_range(0..2)];
            net.add(MatrixProduct { transposed }, &[first, first], &[])
        }
        18 => {
            let mut order: Vec<u32> = (0..=axes as u32).collect();
            order.rotate_left(rng.random_range(0..=axes));
            net.add(Transpose { order: order.into() }, &[first], &[])
        }
        19 => {
            let (channels, positions) = (shape.channels(), shape.positions() as u32);
            let sizes = match rng.random_range(0..3) {
                0 if channels.is_multiple_of(2) => vec![channels / 2, 2, positions],
                1 => vec![positions, channels],
                _ => vec![channels, positions],
            };
            net.add(Reshape { sizes: sizes.into() }, &[first], &[])
        }
        20 => {
            let mut some = || (0..=axes).map(|_| rng.random_range(0..2)).collect();
            let (before, after) = (some(), some());
            net.add(Pad { before, after, value: 0.75 }, &[first], &[])
        }
        21 if axes > 0 => random_average_pool(net, rng, first),
        22 if axes > 0 => {
            let resize = random_resize(rng, shape.space());
            net.add(resize, &[first], &[])
        }
        23 | 24 => random_conv_transpose(net, rng, first),
        25 if alike => net.add(Add, &[first, second], &[]),
        26 if fits => random_binary(net, rng, first, second),
        27 if fits => {
            let less = net.add(Binary { function: BinaryFunction::Less }, &[first, second], &[])?;
            net.add(Select, &[[less, first][rng.random_range(0..2)], second, first], &[])
        }
        28 => {
            let slope = net.parameter("slope", &[shape.channels()], Role::Slope);
            net.add(Prelu, &[first], &[slope])
        }
        29 => {
            let mut sizes = shape.sizes();
            sizes.truncate(rng.random_range(1..=sizes.len()));
            sizes.iter_mut().filter(|_| rng.random_bool(0.2)).for_each(|size| *size = 1);
            let value = net.parameter("value", &sizes, Role::Constant);
            let constant = net.add(Constant, &[], &[value])?;
            match rng.random_range(0..4) {
                0 => Some(constant),
                1 => net.add(Multiply, &[constant, constant], &[]),
                2 => net.add(Add, &[constant, first], &[]),
                _ => net.add(Multiply, &[first, constant], &[]),
            }
        }
        30 => {
            let functions = [
                ReduceFunction::L2,
                ReduceFunction::Maximum,
                ReduceFunction::Mean,
                ReduceFunction::Minimum,
                ReduceFunction::Sum,
            ];
            let function = functions[rng.random_range(0..functions.len())];
            net.add(Reduce { function, axes: random_axes(rng, axes).into() }, &[first], &[])
        }
        31 => {
            let softmax =
                Softmax { axis: rng.random_range(0..=axes as u32), log: rng.random_bool(0.5) };
            net.add(softmax, &[first], &[])
        }
        32 => {
            let axes = random_axes(rng, axes);
            let sizes: Vec<u32> = axes.iter().map(|&axis| shape.sizes()[axis as usize]).collect();
            let parts = [("scale", Role::Scale), ("shift", Role::Shift)];
            let parts = parts.iter().take(rng.random_range(0..=2));
            let parts: Vec<ParameterId> =
                parts.map(|&(part, role)| net.parameter(part, &sizes, role)).collect();
            net.add(LayerNormalization { axes: axes.into(), epsilon: 0.1 }, &[first], &parts)
        }
        _ => None,
    }
}

fn random_average_pool(net: &mut Net, rng: &mut ChaCha8Rng, input: ValueId) -> Option<ValueId> {
    let axes = net.builder.shape(input).space().len();
    let kernel: Vec<u32> = (0..axes).map(|_| rng.random_range(1..4)).collect();
    let dilated = rng.random_bool(0.3);
    let axis = |rng: &mut ChaCha8Rng| WindowAxis {
        stride: rng.random_range(1..4),
        dilation: if dilated { 2 } else { 1 },
        before: rng.random_range(0..3),
        after: rng.random_range(0..4),
    };
    let axes: Vec<WindowAxis> = (0..axes).map(|_| axis(rng)).collect();
    let how = rng.random_range(0..3);
    let counted = axes.iter().map(|axis| match how {
        0 => (0, 0),
        1 => (axis.before, axis.after),
        _ => (rng.random_range(0..=axis.before), rng.random_range(0..=axis.after)),
    });
    let counted = counted.collect();
    net.add(AveragePool { kernel: kernel.into(), axes: axes.into(), counted }, &[input], &[])
}

fn random_resize(rng: &mut ChaCha8Rng, space: &[u32]) -> Resize {
    let roundings = [Rounding::HalfDown, Rounding::HalfUp, Rounding::Floor, Rounding::Ceil];
    let mode = match rng.random_range(0..8) {
        at @ 0..4 => ResizeMode::Nearest(roundings[at]),
        _ => ResizeMode::Linear,
    };
    let alike = rng.random_bool(0.7);
    let all = [
        Coordinates::HalfPixel,
        Coordinates::PytorchHalfPixel,
        Coordinates::Asymmetric,
        Coordinates::AlignCorners,
        Coordinates::HalfPixelSymmetric,
    ];
    let first = rng.random_range(0..all.len());
    let axes = space.iter().map(|&size| {
        let scale = [0.5, 0.6, 1.0, 1.3, 2.0, 2.75][rng.random_range(0..6)];
        let size = ((size as f32 * scale) as u32).max(1) + u32::from(rng.random_bool(0.1));
        let coordinates = all[if alike { first } else { rng.random_range(0..all.len()) }];
        ResizeAxis { size, scale, coordinates }
    });
    Resize { mode, axes: axes.collect() }
}

fn random_conv_transpose(net: &mut Net, rng: &mut ChaCha8Rng, input: ValueId) -> Option<ValueId> {
    let shape = net.builder.shape(input).clone();
    let (channels, axes) = (shape.channels(), shape.space().len());
    if !(1..=2).contains(&axes) {
        return None;
    }
    let halves = if channels.is_multiple_of(2) { 2 } else { 1 };
    let parts = [1, halves, channels][rng.random_range(0..3)];
    let filters = parts * rng.random_range(1..3);
    let kernel: Vec<u32> = (0..axes).map(|_| rng.random_range(1..4)).collect();
    let axes = kernel.iter().map(|&kernel| TransposedAxis {
        stride: rng.random_range(1..4),
        dilation: rng.random_range(1..3),
        before: rng.random_range(0..kernel),
        after: rng.random_range(0..2),
        extra: rng.random_range(1..4),
    });
    let conv = ConvTranspose { axes: axes.collect(), groups: Groups::of(parts, channels) };
    let sizes = [&[filters, channels / parts], &kernel[..]].concat();
    let mut parameters = vec![net.parameter("weight", &sizes, Role::Weight)];
    if rng.random_bool(0.5) {
        parameters.push(net.parameter("bias", &[filters], Role::Bias));
    }
    net.add(conv, &[input], &parameters)
}

/// One of the functions of a number, of numbers for which its slope is not large.
fn random_map(net: &mut Net, rng: &mut ChaCha8Rng, input: ValueId) -> Option<ValueId> {
    let small = Clip { low: -2.0, high: 2.0 };
    let positive = Clip { low: 0.5, high: 4.0 };
    let functions = [
        (Function::Absolute, None),
        (Function::Elu { alpha: 0.7 }, None),
        (Function::Erf, None),
        (Function::Exponential, Some(small)),
        (Function::Gelu, None),
        (Function::GeluTanh, None),
        (Function::HardSigmoid { slope: 0.3, offset: 0.4 }, None),
        (Function::HardSwish, None),
        (Function::Logarithm, Some(positive)),
        (Function::Power { exponent: 2.0 }, Some(small)),
        (Function::Power { exponent: -0.5 }, Some(positive)),
        (Function::Scale { factor: 0.7, offset: -0.3 }, None),
        (Function::Scale { factor: -1.5, offset: 0.0 }, None),
        (Function::Sigmoid, None),
        (Function::Silu, None),
        (Function::Softplus, None),
        (Function::SquareRoot, Some(positive)),
        (Function::Tanh, None),
    ];
    let (function, bounds) = functions[rng.random_range(0..functions.len())];
    let input = match bounds {
        Some(clip) => net.add(clip, &[input], &[])?,
        None => input,
    };
    net.add(Map { function }, &[input], &[])
}

/// One of the functions of two numbers.
fn random_binary(
    net: &mut Net,
    rng: &mut ChaCha8Rng,
    first: ValueId,
    second: ValueId,
) -> Option<ValueId> {
    let function = BINARY[rng.random_range(0..BINARY.len())];
    let bounded = matches!(function, BinaryFunction::Divide | BinaryFunction::Power);
    let mut inputs = [first, second];
    if bounded {
        for input in &mut inputs {
            *input = net.add(Clip { low: 0.5, high: 2.0 }, &[*input], &[])?;
        }
    }
    net.add(Binary { function }, &inputs, &[])
}

const BINARY: [BinaryFunction; 8] = [
    BinaryFunction::Divide,
    BinaryFunction::Equal,
    BinaryFunction::Less,
    BinaryFunction::LessOrEqual,
    BinaryFunction::Maximum,
    BinaryFunction::Minimum,
    BinaryFunction::Power,
    BinaryFunction::Subtract,
];

/// Some of the axes of a value with so many axes of positions.
fn random_axes(rng: &mut ChaCha8Rng, space: usize) -> Vec<u32> {
    let mut axes: Vec<u32> = (0..=space as u32).filter(|_| rng.random_bool(0.5)).collect();
    if axes.is_empty() {
        axes.push(space as u32);
    }
    axes
}

fn random_conv(
    net: &mut Net,
    rng: &mut ChaCha8Rng,
    input: ValueId,
    groups: Groups,
) -> Option<ValueId> {
    let shape = net.builder.shape(input).clone();
    let axes = shape.space().len();
    if !(1..=2).contains(&axes) {
        return None;
    }
    let axis = |rng: &mut ChaCha8Rng| WindowAxis {
        stride: rng.random_range(1..3),
        dilation: rng.random_range(1..3),
        before: rng.random_range(2..4),
        after: rng.random_range(2..5),
    };
    let conv = Conv { axes: (0..axes).map(|_| axis(rng)).collect(), groups };
    let parts = conv.parts(shape.channels());
    let filters = parts * rng.random_range(1..4);
    let mut sizes = vec![filters, shape.channels() / parts];
    sizes.extend((0..axes).map(|_| rng.random_range(1..4)));
    let weight = net.parameter("weight", &sizes, Role::Weight);
    let mut parameters = vec![weight];
    if rng.random_bool(0.5) {
        parameters.push(net.parameter("bias", &[filters], Role::Bias));
    }
    net.add(conv, &[input], &parameters)
}

/// A graph in the making.
#[derive(Default)]
struct Net {
    builder: GraphBuilder,
    count: usize,
}

impl Net {
    /// Adds a node, unless the operation does not fit its inputs.
    fn add(
        &mut self,
        op: impl Into<Op>,
        inputs: &[ValueId],
        parameters: &[ParameterId],
    ) -> Option<ValueId> {
        let name = format!("value{}", self.count);
        let value = self.builder.node(name, op, inputs, parameters, Place::default());
        self.count += 1;
        assert!(parameters.is_empty() || value.is_ok(), "its parameters would be left over");
        value.ok()
    }

    fn parameter(&mut self, part: &str, shape: &[u32], role: Role) -> ParameterId {
        let name = format!("value{}.{part}", self.count);
        self.builder.parameter(name, shape, role).unwrap()
    }

    fn linear(&mut self, input: ValueId, out: u32, with_bias: bool) -> Option<ValueId> {
        let channels = self.builder.shape(input).channels();
        let mut parameters = vec![self.parameter("weight", &[out, channels], Role::Weight)];
        if with_bias {
            parameters.push(self.parameter("bias", &[out], Role::Bias));
        }
        self.add(Linear, &[input], &parameters)
    }
}

/// Random bytes for a graph.
fn pictures(graph: &Graph, seed: u64) -> Vec<Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let size = graph.input().elements();
    (0..5).map(|_| (0..size).map(|_| rng.random()).collect()).collect()
}

/// Another one for each channel.
fn normalization(graph: &Graph) -> Normalization {
    let channels = || (0..graph.input().channels()).map(|channel| channel as f32);
    Normalization {
        mean: channels().map(|c| 0.4 + 0.02 * c).collect(),
        std: channels().map(|c| 0.5 + 0.1 * c).collect(),
    }
}

fn normalized(graph: &Graph, image: &[u8]) -> Vec<f32> {
    let Normalization { mean, std } = normalization(graph);
    let plane = graph.input().positions() as usize;
    let channel = |i: usize| i / plane;
    let pixels = image.iter().enumerate();
    pixels.map(|(i, &b)| (f32::from(b) / 255.0 - mean[channel(i)]) / std[channel(i)]).collect()
}

/// What a graph computes if every annotated value and weight is rounded to its levels.
fn in_levels(
    graph: &Graph,
    weights: &Weights,
    quantization: &Quantization,
    image: Vec<f32>,
) -> Vec<f32> {
    let mut rounded = weights.clone();
    for (_, node) in graph.nodes() {
        let Some(&weight) = node.parameters.first() else { continue };
        let Some(scales) = quantization.parameter(weight) else { continue };
        let mut round = |id: ParameterId, scale: &dyn Fn(usize) -> f64| {
            let data = &mut rounded.arrays.get_mut(&*graph.parameter(id).name).unwrap().data;
            let row = data.len() / scales.len();
            for (i, number) in data.iter_mut().enumerate() {
                let scale = scale(i / row);
                *number = ((f64::from(*number) / scale).round() * scale) as f32;
            }
        };
        round(weight, &|channel| scales[channel]);
        let input = f64::from(quantization.value(node.inputs[0]).unwrap().scale);
        if let Some(&bias) = node.parameters.get(1) {
            round(bias, &|channel| scales[channel] * input);
        }
    }
    let level = |id: ValueId, values: &mut Vec<f32>| {
        let Some(Affine { scale, zero_point }) = quantization.value(id) else { return };
        if graph.outputs().contains(&id) {
            return;
        }
        let zero = f32::from(zero_point);
        let byte = |real: f32| ((real / scale).round() + zero).clamp(0.0, 255.0);
        values.iter_mut().for_each(|value| *value = (byte(*value) - zero) * scale);
    };
    let evaluator = Evaluator::<f32>::new(graph, &rounded);
    let mut values = vec![image];
    level(graph.inputs().next().unwrap(), &mut values[0]);
    for (id, node) in graph.nodes() {
        let mut output = evaluator.node(id, &values);
        level(node.output, &mut output);
        values.push(output);
    }
    values.swap_remove(graph.outputs()[0].index())
}

/// Batch normalisation that does something, repeatably.
fn away_from_initial(mut weights: Weights) -> Weights {
    for (name, array) in &mut weights.arrays {
        let (base, spread) = match name.rsplit('.').next() {
            Some("gamma" | "variance") => (1.0, 0.4),
            Some("beta" | "mean" | "bias") => (0.0, 0.4),
            _ => continue,
        };
        for (i, value) in array.data.iter_mut().enumerate() {
            *value = base + spread * (i as f32 * 1.7 + 0.3).sin();
        }
    }
    weights
}

/// Makes the last layer a linear discriminant of the pooled features (of independent features with
/// the variance of all images), so that logits are apart without any training.
fn fit_classifier(
    graph: &Graph,
    weights: &mut Weights,
    images: &ImageSet,
    normalization: &Normalization,
) {
    let evaluator = Evaluator::<f32>::new(graph, weights);
    let pooled = graph.value_named("pool").unwrap();
    let features: Vec<Vec<f32>> = (0..images.len())
        .map(|i| {
            let normalize =
                |b: &u8| (f32::from(*b) / 255.0 - normalization.mean[0]) / normalization.std[0];
            let image: Vec<f32> = images.image(i).iter().map(normalize).collect();
            evaluator.run(vec![image]).swap_remove(pooled.index())
        })
        .collect();
    let width = features[0].len();
    let classes = graph.output().channels() as usize;
    let mean = |of: &dyn Fn(usize) -> bool| -> Vec<f32> {
        let members: Vec<&Vec<f32>> =
            (0..images.len()).filter(|&i| of(i)).map(|i| &features[i]).collect();
        (0..width)
            .map(|f| members.iter().map(|m| m[f]).sum::<f32>() / members.len() as f32)
            .collect()
    };
    let centre = mean(&|_| true);
    let variance: Vec<f32> = (0..width)
        .map(|f| {
            features.iter().map(|x| (x[f] - centre[f]).powi(2)).sum::<f32>() / images.len() as f32
        })
        .collect();
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for class in 0..classes {
        let own = mean(&|i| usize::from(images.labels[i]) == class);
        let row: Vec<f32> =
            (0..width).map(|f| (own[f] - centre[f]) / (variance[f] + 1e-3)).collect();
        bias.push(-(0..width).map(|f| row[f] * (own[f] + centre[f]) / 2.0).sum::<f32>());
        weight.extend(row);
    }
    weights.set("classifier", "weight", vec![classes, width], weight);
    weights.set("classifier", "bias", vec![classes], bias);
}

/// Plain convolutions, colour left out, a stride.
fn plain() -> Architecture {
    let stage = |width, stride| Stage {
        depth: 1,
        width,
        kernel: 3,
        operation: Operation::Conv,
        stride,
        activation: Activation::Relu,
        squeeze: 0,
        skip: Skip::Add,
    };
    Architecture { resolution: 8, stem_width: 8, stages: vec![stage(16, 1), stage(24, 2)] }
}

/// Every other kind of layer: depthwise, residual sums, linear projections, ReLU6, a 5x5 kernel.
fn residual() -> Architecture {
    let stage = |operation, width, depth, kernel, activation| Stage {
        depth,
        width,
        kernel,
        operation,
        stride: 2,
        activation,
        squeeze: 0,
        skip: Skip::Add,
    };
    let inverted = Operation::InvertedResidual { expansion: 3 };
    let stages = vec![
        stage(inverted, 12, 3, 3, Activation::Relu6),
        stage(Operation::Separable, 20, 1, 5, Activation::Relu),
    ];
    Architecture { resolution: 12, stem_width: 12, stages }
}

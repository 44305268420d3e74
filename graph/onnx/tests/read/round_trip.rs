//! Files of our own writer are read again, and compute the same.

use edgesmith_graph::{
    Add, Array, AveragePool, BatchNormalization, Binary, BinaryFunction, Clip, Concat, Constant,
    Conv, ConvTranspose, Coordinates, Evaluator, Flatten, Function, Gather, GlobalAveragePool,
    Graph, GraphBuilder, Groups, LayerNormalization, LeakyRelu, Linear, Map, MatrixProduct,
    MaxPool, Multiply, Op, Operation as _, Pad, ParameterId, Place, Prelu, Reduce, ReduceFunction,
    Reshape, Resize, ResizeAxis, ResizeMode, Role, Rounding, Select, Shape, Softmax, Transpose,
    TransposedAxis, ValueId, Weights, WindowAxis,
};
use edgesmith_onnx::read::{ReadOptions, read};
use edgesmith_onnx::write::{Input, NEWER, OLDER, Output, write};
use edgesmith_onnx::{Port, PortAxis};
use smallvec::smallvec;

use crate::make::numbers;
use crate::support::{Numbers, difference, run};

/// A graph in the making.
struct Net {
    builder: GraphBuilder,
    weights: Weights,
    count: u32,
}

impl Net {
    fn parameter(&mut self, shape: &[u32], role: Role) -> ParameterId {
        self.count += 1;
        let name = format!("parameter{}", self.count);
        let dims: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
        let mut data = numbers(&dims, self.count).data;
        if role == Role::Variance {
            data.iter_mut().for_each(|x| *x = x.abs() + 0.5);
        }
        self.weights.arrays.insert(name.clone(), Array { shape: dims, data });
        self.builder.parameter(name, shape, role).unwrap()
    }

    fn op(&mut self, op: impl Into<Op>, inputs: &[ValueId], parameters: &[ParameterId]) -> ValueId {
        self.count += 1;
        let name = format!("value{}", self.count);
        self.builder.node(name, op, inputs, parameters, Place::default()).unwrap()
    }
}

/// Graphs of a picture of 4 channels with every operation in one of them.
fn graphs() -> Vec<(Graph, Weights)> {
    let make = |build: &dyn Fn(&mut Net, ValueId) -> Vec<ValueId>| {
        let mut builder = GraphBuilder::new();
        let input = builder.input("x", Shape::new(4, &[6, 5]).unwrap()).unwrap();
        let mut net = Net { builder, weights: Weights::default(), count: 0 };
        let outputs = build(&mut net, input);
        (net.builder.finish(&outputs).unwrap(), net.weights)
    };
    let window = WindowAxis { stride: 2, dilation: 1, before: 1, after: 1 };
    vec![
        make(&|net, x| {
            let axes = smallvec![window, WindowAxis::same(3, 1)];
            let w = net.parameter(&[6, 2, 3, 3], Role::Weight);
            let b = net.parameter(&[6], Role::Bias);
            let x = net.op(Conv { axes, groups: Groups::Equal(2) }, &[x], &[w, b]);
            let roles = [Role::Scale, Role::Shift, Role::Mean, Role::Variance];
            let parts = roles.map(|role| net.parameter(&[6], role));
            let x = net.op(BatchNormalization { epsilon: 1e-3 }, &[x], &parts);
            let a = net.op(Clip::RELU6, &[x], &[]);
            let b = net.op(LeakyRelu { slope: 0.1 }, &[x], &[]);
            let slope = net.parameter(&[6], Role::Slope);
            let c = net.op(Prelu, &[x], &[slope]);
            let x = net.op(Add, &[a, b], &[]);
            let x = net.op(Concat { axis: 0 }, &[x, c], &[]);
            let y = net.op(Gather::shuffle(12, 3), &[x], &[]);
            let z =
                net.op(MaxPool { kernel: smallvec![3, 3], axes: smallvec![window; 2] }, &[y], &[]);
            let pool = AveragePool {
                kernel: smallvec![3, 3],
                axes: smallvec![window; 2],
                counted: smallvec![(1, 1), (1, 1)],
            };
            let p = net.op(pool, &[y], &[]);
            let z = net.op(Multiply, &[z, p], &[]);
            let z = net.op(Flatten, &[z], &[]);
            let w = net.parameter(&[5, 12 * 2 * 3], Role::Weight);
            let z = net.op(Linear, &[z], &[w]);
            let s = net.op(Softmax { axis: 0, log: true }, &[z], &[]);
            let g = net.op(GlobalAveragePool, &[y], &[]);
            vec![s, g]
        }),
        make(&|net, x| {
            let axis = TransposedAxis { stride: 2, dilation: 1, before: 1, after: 0, extra: 1 };
            let w = net.parameter(&[4, 2, 3, 3], Role::Weight);
            let up = ConvTranspose { axes: smallvec![axis; 2], groups: Groups::Equal(2) };
            let y = net.op(up, &[x], &[w]);
            let along = |size: u32, scale: f32| ResizeAxis {
                size,
                scale,
                coordinates: Coordinates::HalfPixel,
            };
            let axes = smallvec![along(9, 1.5), along(10, 2.0)];
            let r = net.op(Resize { mode: ResizeMode::Linear, axes }, &[x], &[]);
            let axes = smallvec![along(12, 2.0), along(5, 1.0)];
            let n =
                net.op(Resize { mode: ResizeMode::Nearest(Rounding::HalfDown), axes }, &[x], &[]);
            let pad = Pad { before: smallvec![0, 1, 0], after: smallvec![1, 0, 2], value: 0.5 };
            let p = net.op(pad, &[x], &[]);
            vec![y, r, n, p]
        }),
        make(&|net, x| {
            let t = net.op(Transpose { order: smallvec![1, 2, 0] }, &[x], &[]);
            let r = net.op(Reshape { sizes: smallvec![5, 6, 4] }, &[t], &[]);
            let m = net.op(MatrixProduct { transposed: [false, true] }, &[r, r], &[]);
            let n = net.op(MatrixProduct { transposed: [true, false] }, &[r, r], &[]);
            let reduce = |function, axes: &[u32]| Reduce { function, axes: axes.into() };
            let l2 = net.op(reduce(ReduceFunction::L2, &[0]), &[x], &[]);
            let mean = net.op(reduce(ReduceFunction::Mean, &[1]), &[x], &[]);
            let largest = net.op(reduce(ReduceFunction::Maximum, &[0, 2]), &[x], &[]);
            let divided = net.op(Binary { function: BinaryFunction::Divide }, &[x, l2], &[]);
            let less = net.op(Binary { function: BinaryFunction::Less }, &[x, mean], &[]);
            let chosen = net.op(Select, &[less, divided, largest], &[]);
            let constant = net.parameter(&[4, 1, 5], Role::Constant);
            let constant = net.op(Constant, &[], &[constant]);
            let sum =
                net.op(Binary { function: BinaryFunction::Subtract }, &[chosen, constant], &[]);
            let scale = net.parameter(&[6, 5], Role::Scale);
            let shift = net.parameter(&[6, 5], Role::Shift);
            let norm = LayerNormalization { axes: smallvec![1, 2], epsilon: 1e-5 };
            let norm = net.op(norm, &[sum], &[scale, shift]);
            vec![m, n, norm]
        }),
        make(&|net, x| {
            let functions = [
                Function::Absolute,
                Function::Elu { alpha: 0.7 },
                Function::Erf,
                Function::Exponential,
                Function::Gelu,
                Function::GeluTanh,
                Function::HardSigmoid { slope: 0.2, offset: 0.4 },
                Function::HardSwish,
                Function::Power { exponent: 2.0 },
                Function::Scale { factor: 0.3, offset: -1.0 },
                Function::Sigmoid,
                Function::Silu,
                Function::Softplus,
                Function::Tanh,
            ];
            let mut outputs: Vec<ValueId> =
                functions.iter().map(|&function| net.op(Map { function }, &[x], &[])).collect();
            let above = net.op(Map { function: Function::Softplus }, &[x], &[]);
            for function in [Function::Logarithm, Function::SquareRoot] {
                outputs.push(net.op(Map { function }, &[above], &[]));
            }
            outputs
        }),
    ]
}

#[test]
fn files_of_the_writer_are_read_again() {
    let graphs = graphs();
    for (graph, weights) in &graphs {
        let port = |name: &str, id| Port::batched(name, 0..graph.shape(id).sizes().len() as u32);
        let input = |id| Input { port: port("x", id), doc: String::new(), scales: None };
        let inputs: Vec<Input> = graph.inputs().map(input).collect();
        let output = |(place, id): (usize, &ValueId)| Output {
            port: port(&format!("y{place}"), *id),
            doc: String::new(),
            bytes: false,
        };
        let outputs: Vec<Output> = graph.outputs().iter().enumerate().map(output).collect();
        let bytes = write(graph, weights, None, &inputs, &outputs, &[("made", "here".to_owned())]);
        let imported = read(&bytes, &ReadOptions::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(imported.about.producer, "edgesmith");
        // The oldest versions that have all operators.
        let newer = graph.nodes().any(|(_, node)| {
            let hard_swish = Map { function: Function::HardSwish };
            matches!(node.op, Op::LayerNormalization(_)) || node.op == hard_swish.into()
        });
        let versions = if newer { NEWER } else { OLDER };
        let about = (imported.about.opset, imported.about.ir_version);
        assert_eq!(about, (versions.opset, versions.ir));
        assert_eq!(imported.about.metadata, [("made".to_owned(), "here".to_owned())]);
        let x = numbers(&[2, 4, 6, 5], 7);
        let given = run(&imported, std::slice::from_ref(&x));
        let evaluator = Evaluator::<f32>::new(graph, weights);
        let examples: Vec<Vec<Vec<f32>>> =
            x.data.chunks(120).map(|x| evaluator.run(vec![x.to_vec()])).collect();
        for (place, id) in graph.outputs().iter().enumerate() {
            let shape = graph.shape(*id);
            let mut dims = vec![2, shape.channels() as usize];
            dims.extend(shape.space().iter().map(|&size| size as usize));
            let data = examples.iter().flat_map(|values| values[id.index()].clone()).collect();
            let expected = Numbers { dims, data };
            let kind = graph.node(graph.producer(*id).unwrap()).op.kind();
            let differs = difference(&given[place], &expected, 1e-5, 1e-5);
            assert_eq!(differs, None, "output {place}, {kind}");
        }
    }
    let mut kinds: Vec<&str> = graphs
        .iter()
        .flat_map(|(graph, _)| graph.nodes().map(|(_, node)| node.op.kind()))
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, Op::KINDS, "every operation is in one of the graphs");
}

/// Tensors whose axes lie in another order than the network has them, with axes of size 1 more and
/// less, with and without a batch.
#[test]
fn tensors_keep_the_axes_that_they_are_given() {
    use PortAxis::{Batch, Of, One};
    let mut builder = GraphBuilder::new();
    let x = builder.input("x", Shape::new(4, &[1, 5]).unwrap()).unwrap();
    let op = Map { function: Function::Tanh };
    let y = builder.node("value", op, &[x], &[], Place::default()).unwrap();
    let graph = builder.finish(&[y, y]).unwrap();
    let value = numbers(&[20], 3).data;
    let tanh = |x: &f32| x.tanh();
    // The numbers along the axes of the other order.
    let turned = |numbers: &[f32]| -> Vec<f32> {
        (0..5)
            .flat_map(|at| (0..4).map(move |channel| channel * 5 + at))
            .map(|i| numbers[i])
            .collect()
    };
    let flat: Vec<f32> = value.iter().map(tanh).collect();
    for batch in [Some(Batch(None)), Some(Batch(Some(1))), None] {
        let axes = |rest: &[PortAxis]| batch.into_iter().chain(rest.iter().copied()).collect();
        let port = |name: &str, rest: &[PortAxis]| Port { name: name.to_owned(), axes: axes(rest) };
        let input =
            Input { port: port("in", &[One, Of(2), Of(0)]), doc: String::new(), scales: None };
        let doc = String::new;
        let outputs = [
            Output { port: port("a", &[Of(2), One, Of(1), Of(0)]), doc: doc(), bytes: false },
            Output { port: port("b", &[Of(0), Of(2)]), doc: doc(), bytes: false },
        ];
        let bytes =
            write(&graph, &Weights::default(), None, std::slice::from_ref(&input), &outputs, &[]);
        let imported = read(&bytes, &ReadOptions::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(imported.inputs[0].name, "in");
        let ones = usize::from(batch.is_some());
        let dims = |rest: &[usize]| [&[1][..ones], rest].concat();
        let given = run(&imported, &[Numbers { dims: dims(&[1, 5, 4]), data: turned(&value) }]);
        assert_eq!(given[0], Numbers { dims: dims(&[5, 1, 1, 4]), data: turned(&flat) });
        assert_eq!(given[1], Numbers { dims: dims(&[4, 5]), data: flat.clone() });
    }
}

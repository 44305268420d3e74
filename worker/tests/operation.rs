//! An operation that no space has, all the way: a network with leaky ReLU is trained on the digits,
//! pruned, fine-tuned, folded, quantized, lowered, and run by the engine from its file.

use std::ops::ControlFlow;
use std::path::Path;

use edgesmith_common::Seed;
use edgesmith_common::spec::{DataSource, DataSpec};
use edgesmith_compress::{Scheme, prune};
use edgesmith_data::{Dataset, Views};
use edgesmith_edge_runtime::{Model, Session};
use edgesmith_graph::{Graph, LeakyRelu, NodeId, Op, Rebuild, Weights};
use edgesmith_testing::{DIGITS, conv_graph};
use edgesmith_train::{Checkpoint, Cores, Throughput, TrainDevice, TrainRequest, fresh_weights};
use edgesmith_worker::export::{Lifted, float_model, integer_model, lift, lower_as};

/// The network with every clip replaced.
fn leaky(graph: &Graph) -> Graph {
    let mut rebuild = Rebuild::new(graph);
    for (id, node) in graph.nodes() {
        if matches!(node.op, Op::Clip(_)) {
            replace(&mut rebuild, graph, id);
        } else {
            rebuild.copy(id).unwrap();
        }
    }
    rebuild.finish().unwrap()
}

fn replace(rebuild: &mut Rebuild, graph: &Graph, id: NodeId) {
    let node = graph.node(id);
    let (name, input) = (graph.value(node.output).name.clone(), rebuild.value(node.inputs[0]));
    let op = LeakyRelu { slope: 0.1 };
    let new = rebuild.builder.node(name, op, &[input], &[], node.place.clone()).unwrap();
    rebuild.replace(node.output, new);
}

fn trained(graph: &Graph, weights: Weights, epochs: u32, digits: &Dataset) -> Weights {
    let spec = Throughput::usual_training(32);
    let request = TrainRequest {
        graph,
        start: Checkpoint::fresh(weights),
        dataset: digits,
        views: &Views::new(&spec.augmentation, Seed(1)),
        spec: &spec,
        epochs,
        until: epochs,
        learning_rate: 5e-3,
        skipped: 0,
        shrink: (edgesmith_search_space::Shrink::None, 0.0),
        ties: false,
        first: None,
        keeps_statistics: false,
        at_once: u32::MAX,
        shuffle_seed: [1; 32],
        distillation: None,
        quantization: None,
        kept: None,
        device: TrainDevice::Flex,
        cores: &Cores::one(),
    };
    edgesmith_train::train(request, &mut |_| ControlFlow::Continue(())).unwrap().weights
}

/// Share of the test images that a model, read back from its file, gets right.
fn accuracy(model: &Model, digits: &Dataset) -> f64 {
    let mut session = Session::new(&Model::from_bytes(&model.to_bytes()).unwrap()).unwrap();
    let labels = digits.test.labels.iter().enumerate();
    let right = labels.filter(|(i, label)| {
        session.classify(digits.test.image(*i)).unwrap() == usize::from(**label)
    });
    right.count() as f64 / digits.test.len() as f64
}

#[test]
fn leaky_relu_is_trained_compressed_and_run() {
    let spec = DataSpec {
        source: DataSource::Digits,
        validation_fraction: 0.2,
        train_limit: None,
        test_limit: None,
    };
    let digits = Dataset::load(&spec, DIGITS, Seed(1), Path::new(".")).unwrap();
    let graph = leaky(&conv_graph());
    let weights = trained(&graph, fresh_weights(&graph, [1; 32]), 4, &digits);
    let whole = float_model(&graph, &weights, &digits.normalization).unwrap();
    assert!(accuracy(&whole, &digits) > 0.9, "{}", accuracy(&whole, &digits));

    let kept = |group: &edgesmith_graph::ChannelGroup| match group.fixed {
        true => group.channels.len(),
        false => group.channels.len().div_ceil(2),
    };
    let (graph, weights) = prune(&graph, &weights, kept);
    let weights = trained(&graph, weights, 3, &digits);
    let float = float_model(&graph, &weights, &digits.normalization).unwrap();
    let sample = digits.train.subset(&(0..200).collect::<Vec<_>>());
    let go_on = &mut || ControlFlow::Continue(());
    let (constants, scheme) = (&digits.normalization, Scheme::default());
    let int8 = integer_model(&graph, &weights, constants, &sample, &scheme, go_on).unwrap();
    let [float_right, int8_right] = [&float, &int8].map(|model| accuracy(model, &digits));
    assert!(float_right > 0.9 && int8_right > float_right - 0.02, "{float_right} {int8_right}");
    for model in [&float, &int8] {
        let Lifted { graph, weights, quantization, interface } = lift(model).unwrap();
        let again = lower_as(&graph, &weights, quantization.as_ref(), &interface);
        assert_eq!(again, Ok(model.clone()));
    }
    assert!(int8.to_bytes().len() * 2 < float.to_bytes().len());
    assert!(float.to_bytes().len() * 2 < whole.to_bytes().len());
}

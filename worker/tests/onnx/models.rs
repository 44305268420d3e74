//! Models of the digits' networks, written as ONNX: ONNX Runtime computes on the test images what
//! the edge runtime does.

use std::ops::ControlFlow;
use std::path::Path;

use edgesmith_common::Seed;
use edgesmith_common::spec::{DataSource, DataSpec};
use edgesmith_compress::Scheme;
use edgesmith_data::{Dataset, ImageSet, Normalization};
use edgesmith_edge_runtime::{Model, Session};
use edgesmith_graph::{Evaluator, Graph, Weights};
use edgesmith_search_space::{Activation, Architecture, DataShape, Operation, Skip, Stage};
use edgesmith_train::fresh_weights;
use edgesmith_worker::export::{float_model, integer_model, lift, onnx};

use crate::runtime::{Case, check, python};

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
        let scheme = Scheme::default();
        let constants = &digits.normalization;
        let int8 = integer_model(&graph, &weights, constants, &calibration, &scheme, go_on);
        let int8 = int8.unwrap();
        // Integers round halves up and floats to even: a byte may differ by one.
        check_model(&python, &int8, &images, &["--tolerance", "1", "--agreement", "0.95"]);
    }
}

/// Exports `model` and has its logits on `images` checked.
fn check_model(python: &str, model: &Model, images: &[&[u8]], options: &[&str]) {
    let mut session = Session::new(model).unwrap();
    let outputs = images.iter().flat_map(|image| session.run(image).unwrap().to_vec()).collect();
    let metadata = [("study", "digits".to_owned())];
    let file = onnx::of_study(&lift(model).unwrap(), &metadata);
    check(python, &[Case { file, images: images.concat(), outputs }], options);
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

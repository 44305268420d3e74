//! The burn module of a graph: built from plain arrays, trained on any burn device, and turned back
//! into plain arrays. It walks the graph's nodes; [`super::ops`] says what each one computes.
//!
//! On burn's `flex` device, convolutions with their normalisation and activation are our own
//! operations ([`super::chain`]). Everything else is burn's. On a device with autodiff, batch
//! normalisation uses the batch's statistics and updates the running ones. On a device without
//! autodiff, it uses the running ones. A network may simulate its quantization
//! ([`super::simulation`]).

use std::collections::BTreeMap;

use burn::module::{Module, ParamId};
use burn::tensor::{Device, Tensor};
use edgesmith_graph::{Array, Graph, NodeId, Quantization, Role, ValueId, Weights};
use edgesmith_kernels::Threads;

use super::chain::{Part, parts};
use super::fitting::fitting_node;
use super::flex;
use super::layout::Layout;
use super::live::{Live, reads};
use super::ops::{Call, Trainable};
use super::parameter::Parameter;
use super::simulation::{Layer, Simulation};

/// Smallest share of the newest batch in batch normalisation's running statistics.
pub(crate) const MOMENTUM: f64 = 0.1;

/// The share of the newest batch in the running statistics after `batches_before` batches. The
/// statistics are at first the plain mean of all batches, so that their initial values do not
/// count; later the share is a tenth.
pub fn momentum(batches_before: u64) -> f64 {
    MOMENTUM.max(mean_share(batches_before))
}

/// The share of the newest batch in the plain mean of all batches.
pub fn mean_share(batches_before: u64) -> f64 {
    1.0 / (batches_before as f64 + 1.0)
}

/// A trainable network.
#[derive(Module, Debug)]
pub struct Network {
    /// In the order of the graph's parameters.
    parameters: Vec<Parameter>,
    simulation: Option<Simulation>,
    #[module(skip)]
    graph: Graph,
    /// By node.
    #[module(skip)]
    parts: Vec<Part>,
    /// By value, how often a pass reads it.
    #[module(skip)]
    reads: Vec<usize>,
    #[module(skip)]
    momentum: f64,
    #[module(skip)]
    threads: Threads,
}

impl Network {
    /// Puts the weights on a device; with autodiff they are trainable.
    ///
    /// # Panics
    /// If the weights do not fit the graph; see [`Weights::check`]. Its passes panic if a value has
    /// more than two axes of positions; trainings refuse such a graph.
    pub fn new(graph: &Graph, weights: &Weights, device: &Device) -> Self {
        let parameters = graph.parameters();
        let parameters =
            parameters.map(|(id, p)| Parameter::new(p.role, weights.of(graph, id), device));
        Self {
            parameters: parameters.collect(),
            simulation: None,
            graph: graph.clone(),
            parts: parts(graph),
            reads: reads(graph),
            momentum: MOMENTUM,
            threads: Threads::one(),
        }
    }

    /// The same, computed as the engine computes it with an annotation: weights and values are
    /// rounded to their levels. With autodiff, the scales are trainable as well. Normalisation
    /// that follows a layer is computed before its output is rounded, and not with its weights.
    ///
    /// # Panics
    /// See [`Network::new`]; or if the annotation does not fit the graph.
    pub fn quantized(
        graph: &Graph,
        weights: &Weights,
        quantization: &Quantization,
        device: &Device,
    ) -> Self {
        let simulation = Simulation::new(graph, quantization, device);
        let parts = simulation.parts(graph);
        Self { simulation: Some(simulation), parts, ..Self::new(graph, weights, device) }
    }

    /// Sets the share of the next batch in the running statistics, above 0 and at most 1.
    pub fn set_momentum(&mut self, momentum: f64) {
        self.momentum = momentum;
    }

    /// Sets the threads that compute it on `flex`. Initially only the calling thread does.
    pub(crate) fn set_threads(&mut self, threads: Threads) {
        self.threads = threads;
    }

    /// The first output, `[batch, numbers]`, for a batch of the first input, `[batch, channels,
    /// rows, columns]`. For a classifier of images these are its logits. A sequence has one row, a
    /// vector has one row and one column.
    ///
    /// # Panics
    /// If the graph has another number of inputs than one.
    pub fn forward(&self, batch: Tensor<4>) -> Tensor<2> {
        let fast = flex::runs_on(&batch.device());
        self.forward_on(batch, fast)
    }

    /// [`Network::forward`], on the fast path for `flex` or through burn's operations.
    pub(crate) fn forward_on(&self, batch: Tensor<4>, fast: bool) -> Tensor<2> {
        self.pass(batch, fast, &mut |_, _, _| {}).flatten(1, 3)
    }

    /// [`Network::forward`] with some of its values, each as in [`Network::values`].
    pub(crate) fn forward_with(
        &self,
        batch: Tensor<4>,
        wanted: &[ValueId],
    ) -> (Tensor<2>, Vec<Tensor<4>>) {
        // What the fast path computes along with the next value is not there to be read.
        let alone = wanted.iter().all(|id| self.is_computed_alone(*id));
        let fast = alone && flex::runs_on(&batch.device());
        let mut values = vec![None; wanted.len()];
        let output = self.pass(batch, fast, &mut |id, value, layout| {
            for (place, _) in wanted.iter().enumerate().filter(|(_, wanted)| **wanted == id) {
                values[place] = Some(layout.to_batch_first(value.clone()));
            }
        });
        let values = values.into_iter().map(|value| value.expect("a value of the network"));
        (output.flatten(1, 3), values.collect())
    }

    /// Whether the fast path has this value.
    fn is_computed_alone(&self, value: ValueId) -> bool {
        let Some(id) = self.graph.producer(value) else { return true };
        self.graph.nodes().any(|(other, node)| match &self.parts[other.index()] {
            Part::First(chain) => chain.output == value,
            Part::Rounded(conv) => self.graph.node(conv.last).output == value,
            Part::Alone => other == id && node.output == value,
            Part::Later => false,
        })
    }

    /// All values that a pass computes, by [`ValueId::index`], each `[batch, channels, rows,
    /// columns]`; the last two are 1 where the value has none. `None` for a value that the fast
    /// path computes along with the next one.
    ///
    /// # Panics
    /// See [`Network::forward`].
    pub fn values(&self, batch: Tensor<4>) -> Vec<Option<Tensor<4>>> {
        let fast = flex::runs_on(&batch.device());
        let mut values = vec![None; self.graph.values().len()];
        self.pass(batch, fast, &mut |id, value, layout| {
            values[id.index()] = Some(layout.to_batch_first(value.clone()));
        });
        values
    }

    /// One pass: the first output, with the batch first. `see` gets each value.
    fn pass(
        &self,
        batch: Tensor<4>,
        fast: bool,
        see: &mut dyn FnMut(ValueId, &Tensor<4>, Layout),
    ) -> Tensor<4> {
        let mut inputs = self.graph.inputs();
        let (Some(input), None) = (inputs.next(), inputs.next()) else {
            panic!("a network has one input");
        };
        // Without a convolution that is fast in it, the layout of the kernels only costs time.
        let fast = fast && self.graph.nodes().any(|(_, n)| fitting_node(&self.graph, n).is_some());
        let layout = if fast { Layout::BatchLast } else { Layout::BatchFirst };
        let [examples, ..] = batch.dims();
        let mut values = Live::new(&self.reads);
        let mut keep = |values: &mut Live, id: ValueId, value: Tensor<4>| {
            see(id, &value, layout);
            values.keep(id, value);
        };
        let batch = layout.arrange(batch);
        let batch = match &self.simulation {
            Some(simulation) => simulation.input(input, batch, &self.threads),
            None => batch,
        };
        keep(&mut values, input, batch);
        for (id, node) in self.graph.nodes() {
            let part = if fast { &self.parts[id.index()] } else { &Part::Alone };
            match part {
                Part::Later => {}
                Part::First(chain) => {
                    let (parameters, momentum) = (&self.parameters, self.momentum);
                    let (input, last) = (node.inputs[0], self.graph.producer(chain.output));
                    let mut value = values.read(input);
                    if let Some(simulation) = &self.simulation {
                        value = simulation.read(id, input, value, &self.threads);
                    }
                    let call = self.call(id, layout, examples);
                    let steps = call.quantized.as_ref().map(Layer::steps);
                    let (layer, threads) = ((value, call.weight()), &self.threads);
                    let mut output = chain.forward(layer, steps, parameters, momentum, threads);
                    if let (Some(simulation), Some(last)) = (&self.simulation, last) {
                        output = simulation.write(last, output, &self.threads);
                    }
                    keep(&mut values, chain.output, output);
                }
                Part::Rounded(conv) => {
                    let simulation = self.simulation.as_ref().expect("its parts have it");
                    let input = node.inputs[0];
                    let value = simulation.read(id, input, values.read(input), &self.threads);
                    let call = self.call(id, layout, examples);
                    let parameters = (call.weight(), call.bias());
                    let output = simulation.convolve(*conv, value, parameters, &self.threads);
                    keep(&mut values, self.graph.node(conv.last).output, output);
                }
                Part::Alone => {
                    let inputs = node.inputs.iter().map(|&input| {
                        let value = values.read(input);
                        match &self.simulation {
                            Some(simulation) => simulation.read(id, input, value, &self.threads),
                            None => value,
                        }
                    });
                    let inputs = inputs.collect();
                    let output = node.op.forward(inputs, &self.call(id, layout, examples));
                    let output = match &self.simulation {
                        Some(simulation) => simulation.write(id, output, &self.threads),
                        None => output,
                    };
                    keep(&mut values, node.output, output);
                }
            }
        }
        layout.to_batch_first(values.read(self.graph.outputs()[0]))
    }

    /// The weights as plain arrays, running statistics included.
    pub fn weights(&self) -> Weights {
        let parameters = self.graph.parameters().zip(&self.parameters);
        let arrays = parameters.map(|((_, declared), parameter)| {
            let array = Array { shape: declared.sizes(), data: parameter.numbers() };
            (declared.name.to_string(), array)
        });
        Weights { arrays: arrays.collect() }
    }

    /// Gradients of this network's parameters as plain arrays named like the weights.
    #[cfg(test)]
    pub(crate) fn gradients(&self, gradients: &burn::optim::GradientsParams) -> Weights {
        let parameters = self.graph.parameters().zip(&self.parameters);
        let arrays = parameters.filter_map(|((_, declared), parameter)| {
            let data = parameter.gradient(gradients)?;
            Some((declared.name.to_string(), Array { shape: declared.sizes(), data }))
        });
        let scales = self.simulation.iter().flat_map(|simulation| simulation.scales(&self.graph));
        let scales = scales.filter_map(|(name, id, count)| {
            let data = gradients.get::<1>(id)?.into_data().try_into_vec().ok()?;
            Some((format!("{name}@scale"), Array { shape: vec![count], data }))
        });
        Weights { arrays: arrays.chain(scales).collect() }
    }

    /// The annotation with the scales as they are now, if quantization is simulated.
    pub fn quantization(&self) -> Option<Quantization> {
        self.simulation.as_ref().map(|simulation| simulation.quantization(&self.graph))
    }

    /// The scales that learn, by the name of what they belong to.
    pub(crate) fn scales(&self) -> BTreeMap<String, Vec<f32>> {
        let Some(simulation) = &self.simulation else { return BTreeMap::new() };
        let names = simulation.scales(&self.graph).into_iter().map(|(name, ..)| name);
        names.zip(simulation.numbers()).collect()
    }

    /// Takes over scales, by the name of what they belong to.
    ///
    /// # Errors
    /// The name of the first scales that are missing or of another number.
    pub(crate) fn set_scales(
        &mut self,
        mut scales: BTreeMap<String, Vec<f32>>,
    ) -> Result<(), String> {
        let Some(simulation) = &mut self.simulation else { return Ok(()) };
        let own = simulation.scales(&self.graph).into_iter().map(|(name, _, count)| {
            let given = scales.remove(&name).filter(|given| given.len() == count);
            given.ok_or(name)
        });
        let scales = own.collect::<Result<_, _>>()?;
        simulation.set_scales(scales);
        Ok(())
    }

    /// Moves weights that are far beyond their outermost level nearer to it, so that the engine
    /// rounds them to this level, and makes scales so wide that no example can overflow the
    /// engine's sums. A second call changes nothing more. Nothing changes without a simulated
    /// quantization.
    pub(crate) fn settle(&mut self) {
        let Some(simulation) = &mut self.simulation else { return };
        for ((id, _), parameter) in self.graph.parameters().zip(&mut self.parameters) {
            if let Some(ends) = simulation.ends(id) {
                parameter.clamp_rows(&ends);
            }
        }
        simulation.widen(&self.graph, |id| self.parameters[id.index()].numbers());
    }

    /// The parameters that are scales. They are above 0, and learn by factors.
    pub(crate) fn factors(&self) -> Vec<ParamId> {
        let scales = self.simulation.iter().flat_map(|simulation| simulation.scales(&self.graph));
        scales.map(|(_, id, _)| id).collect()
    }

    /// The trainable parameters: name of the weights, id, number of values. Those that are scales
    /// are named `NAME@scale` after what they belong to.
    pub fn parameters(&self) -> Vec<(String, ParamId, usize)> {
        let parameters = self.graph.parameters().zip(&self.parameters);
        let trained = parameters.filter_map(|((_, declared), parameter)| {
            let id = parameter.trained()?;
            Some((declared.name.to_string(), id, declared.elements() as usize))
        });
        let scales = self.simulation.iter().flat_map(|simulation| simulation.scales(&self.graph));
        let scales = scales.map(|(name, id, count)| (format!("{name}@scale"), id, count));
        trained.chain(scales).collect()
    }

    /// The parameters that weight decay applies to: weights, but not biases, slopes or those of
    /// normalisation, because their size does not make a network more complex.
    pub fn decayed(&self) -> Vec<ParamId> {
        let parameters = self.graph.parameters().zip(&self.parameters);
        let weights = parameters.filter(|((_, declared), _)| declared.role == Role::Weight);
        weights.filter_map(|(_, parameter)| parameter.trained()).collect()
    }

    /// What a node's operation works on.
    fn call(&self, id: NodeId, layout: Layout, batch: usize) -> Call<'_> {
        let node = self.graph.node(id);
        let simulation = self.simulation.as_ref();
        Call {
            quantized: simulation.and_then(|simulation| simulation.layer(&self.graph, id)),
            steps: simulation
                .and_then(|s| s.normalized(&self.graph, id))
                .map(|layer| layer.steps()),
            layout,
            inputs: node.inputs.iter().map(|&input| self.graph.shape(input)).collect(),
            batch,
            output: self.graph.shape(node.output),
            momentum: self.momentum,
            threads: &self.threads,
            parameters: node.parameters.iter().map(|id| &self.parameters[id.index()]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use edgesmith_graph::{Add, Evaluator};

    use super::super::fresh_weights;
    use super::super::tests::Net;
    use super::*;
    use crate::tests::sizes;
    use edgesmith_testing::{
        conv_graph, noise, random_weights, reference, residual_graph, tiny_graph,
    };

    fn images(graph: &Graph, count: usize, device: &Device) -> (Vec<f32>, Tensor<4>) {
        let shape = sizes(graph, count);
        let values = noise(shape.iter().product(), 3);
        (values.clone(), Tensor::from_data(TensorData::new(values, shape), device))
    }

    #[test]
    fn weights_survive_the_round_trip() {
        for graph in [conv_graph(), residual_graph(), tiny_graph()] {
            let weights = random_weights(&graph, 5);
            for device in [Device::flex(), Device::flex().autodiff()] {
                assert_eq!(Network::new(&graph, &weights, &device).weights(), weights);
            }
        }
    }

    #[test]
    fn only_weights_decay_and_constants_are_not_trained() {
        let (mut net, input) = Net::new(3, &[4, 4]);
        let constant = net.constant(&[3, 4]);
        let sum = net.op(Add, &[input, constant]);
        let active = net.prelu(sum);
        let normalized = net.normalize_layer(&[0, 2], active);
        let output = net.pointwise(normalized, 2);
        let graph = net.finish(output);
        let weights = random_weights(&graph, 5);
        for device in [Device::flex(), Device::flex().autodiff()] {
            let network = Network::new(&graph, &weights, &device);
            assert_eq!(network.weights(), weights);
            let trained = network.parameters();
            let names: Vec<&str> = trained.iter().map(|(name, ..)| &**name).collect();
            assert_eq!(names, ["n3.slope", "n4.scale", "n4.shift", "n5.weight", "n5.bias"]);
            assert_eq!(network.decayed(), [trained[3].1]);
        }
    }

    #[test]
    fn evaluation_equals_the_plain_loops() {
        for graph in [conv_graph(), residual_graph(), tiny_graph()] {
            let weights = random_weights(&graph, 6);
            let (values, batch) = images(&graph, 3, &Device::flex());
            let network = Network::new(&graph, &weights, &Device::flex());
            let logits = network.forward(batch).into_data().try_into_vec::<f32>().unwrap();
            let size = graph.input().elements() as usize;
            let expected: Vec<f32> = values
                .chunks_exact(size)
                .flat_map(|image| reference(&graph, &weights, image))
                .collect();
            for (got, expected) in logits.iter().zip(&expected) {
                assert!((got - expected).abs() < 1e-4, "{logits:?} against {expected:?}");
            }
        }
    }

    #[test]
    fn both_paths_train_alike() {
        for graph in [conv_graph(), residual_graph(), tiny_graph()] {
            let weights = random_weights(&graph, 6);
            let device = Device::flex().autodiff();
            let (_, batch) = images(&graph, 5, &device);
            let factors = noise(5 * graph.output().channels() as usize, 1);
            let road = |fast: bool| {
                let network = Network::new(&graph, &weights, &device);
                let logits = network.forward_on(batch.clone(), fast);
                let factors = TensorData::new(factors.clone(), logits.dims());
                let gradients = (logits * Tensor::from_data(factors, &device)).sum().backward();
                let gradients = burn::optim::GradientsParams::from_grads(gradients, &network);
                (network.gradients(&gradients), network.weights())
            };
            let ((fast, fast_weights), (slow, slow_weights)) = (road(true), road(false));
            for (fast, slow) in [(fast, slow), (fast_weights, slow_weights)] {
                for (name, array) in &slow.arrays {
                    let size = array.data.iter().fold(1.0f32, |size, v| size.max(v.abs()));
                    for (got, expected) in fast.arrays[name].data.iter().zip(&array.data) {
                        let error = (got - expected).abs();
                        assert!(error < 1e-3 * size, "{name}: {got} against {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn running_statistics_move_towards_the_unbiased_statistics_of_the_batch() {
        let graph = conv_graph();
        let start = fresh_weights(&graph, [9; 32]);
        let device = Device::flex().autodiff();
        let network = Network::new(&graph, &start, &device);
        let (values, batch) = images(&graph, 4, &device);
        network.forward(batch.clone());
        network.forward(batch);
        let trained = network.weights();

        // The stem's output before normalisation, from the reference evaluation.
        let evaluator = Evaluator::<f64>::new(&graph, &start);
        let stem = &graph.value_named("stem").unwrap();
        let maps: Vec<Vec<f64>> = values
            .chunks_exact(64)
            .map(|image| {
                let image = image.iter().map(|&value| f64::from(value)).collect();
                evaluator.run(vec![image]).swap_remove(stem.index())
            })
            .collect();
        for channel in 0..16 {
            let outputs: Vec<f64> = maps
                .iter()
                .flat_map(|map| &map[channel * 64..(channel + 1) * 64])
                .copied()
                .collect();
            let count = outputs.len() as f64;
            let mean = outputs.iter().sum::<f64>() / count;
            let variance = outputs.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
            // Two updates with the same batch keep 0.9 * 0.9 of the start.
            let expected_mean = 0.19 * mean;
            let expected_variance = 0.81 + 0.19 * variance;
            let got = |part| f64::from(trained.get("stem", part).data[channel]);
            assert!((got("mean") - expected_mean).abs() < 1e-5);
            assert!((got("variance") - expected_variance).abs() < 1e-4 * expected_variance);
        }
    }

    #[test]
    fn the_first_batches_count_equally_and_later_ones_a_tenth() {
        let shares: Vec<f64> = (0..12).map(momentum).collect();
        assert_eq!(shares[..3], [1.0, 0.5, 1.0 / 3.0]);
        assert_eq!(shares[9..], [MOMENTUM; 3]);
    }

    #[test]
    fn training_mode_normalises_with_the_batch() {
        let graph = conv_graph();
        let mut weights = fresh_weights(&graph, [9; 32]);
        let device = Device::flex().autodiff();
        let (_, batch) = images(&graph, 4, &device);
        let forward = |weights: &Weights| {
            let network = Network::new(&graph, weights, &device);
            network.forward(batch.clone()).into_data().try_into_vec::<f32>().unwrap()
        };
        let before = forward(&weights);
        weights.set("stem", "mean", vec![16], vec![3.0; 16]);
        assert_eq!(before, forward(&weights), "running statistics do not matter in training");
    }
}

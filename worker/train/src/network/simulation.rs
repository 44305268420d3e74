//! Quantization, simulated in training: values and weights of a network are rounded to the levels
//! that the engine will hold them in, and the scales learn along with the weights (Jacob et al.
//! 2018; Esser et al. 2020). Zero points and the scales of inputs stay as they are, and rows of a
//! weight that all have one scale go on sharing it. Nothing is chosen here: an annotation says what
//! is quantized.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use edgesmith_graph::{Affine, Graph, NodeId, ParameterId, Quantization, ValueId};
use edgesmith_kernels::{Levels, Nearest, Threads};

use super::chain::{Part, RoundedConv, rounded_parts};
use super::flex;
use super::held::{Form, Held};
use super::levels::{factor, round, round_bias, untracked};

/// Upper limit of what a channel can sum up, as in calibration: half of the range of 32 bits, so
/// that it cannot overflow even if every weight is rounded up.
const ACCUMULATOR_MAX: f64 = (1u64 << 30) as f64;

/// How far beyond the outermost level a weight may be, in scales. It is still rounded to this
/// level, and its gradient is still that of a weight beyond it.
const BEYOND: f32 = 0.25;

/// The same for a weight of which only the sign counts. Its gradient passes wherever it is, so it
/// needs room to be more or less near to the other sign: the scale is at first the mean magnitude.
const BEYOND_SIGN: f32 = 2.0;

/// The scales of a network's values and weights.
#[derive(Module, Debug)]
pub(super) struct Simulation {
    /// The scales that learn.
    trained: Vec<Param<Tensor<1>>>,
    /// In the order of `trained`.
    #[module(skip)]
    of: Vec<Owner>,
    /// By value, where its scale is.
    #[module(skip)]
    values: Vec<Option<OfValue>>,
    /// By parameter, where its scales are.
    #[module(skip)]
    parameters: Vec<Option<OfParameter>>,
    /// By node, the layer of integers that the normalisation in it is folded into.
    #[module(skip)]
    normalizes: Vec<Option<NodeId>>,
    #[module(skip)]
    held: Held,
    /// As it was given.
    #[module(skip)]
    start: Quantization,
}

/// What scales belong to.
#[derive(Debug, Clone, Copy)]
enum Owner {
    Value(ValueId),
    Parameter(ParameterId),
}

/// The quantization of a value.
#[derive(Debug, Clone, Copy)]
struct OfValue {
    scale: Scale,
    zero_point: f32,
    factor: f32,
}

/// The scale of a value.
#[derive(Debug, Clone, Copy)]
enum Scale {
    /// Its place in `trained`.
    Trained(usize),
    Fixed(f32),
}

/// The quantization of a parameter.
#[derive(Debug, Clone, Copy)]
struct OfParameter {
    /// Its place in `trained`. There is one for each row, or one for all.
    scales: usize,
    /// How many rows it has.
    rows: usize,
    levels: Levels,
    factor: f32,
}

/// A layer whose weight and bias are integers.
pub(super) struct Layer<'a> {
    simulation: &'a Simulation,
    weight: OfParameter,
    /// The value that it reads.
    input: ValueId,
}

impl Simulation {
    /// An annotation on a device; with autodiff its scales are trainable.
    ///
    /// # Panics
    /// If it does not fit the graph.
    pub(super) fn new(graph: &Graph, quantization: &Quantization, device: &Device) -> Self {
        let start = quantization.with_clipped(graph);
        let held = Held::new(graph, &start);
        let mut simulation = Self {
            trained: Vec::new(),
            of: Vec::new(),
            values: vec![None; graph.values().len()],
            parameters: vec![None; graph.parameters().len()],
            normalizes: vec![None; graph.nodes().len()],
            held,
            start,
        };
        for id in simulation.held.used(graph) {
            let Affine { scale, zero_point } =
                simulation.start.value(id).expect("only values with a scale are rounded to it");
            let learns = graph.producer(id).is_some();
            let scale = if learns {
                Scale::Trained(simulation.add(Owner::Value(id), vec![scale], device))
            } else {
                Scale::Fixed(scale)
            };
            let factor = factor(graph.shape(id).elements(), f32::from(u8::MAX));
            let zero_point = f32::from(zero_point);
            simulation.values[id.index()] = Some(OfValue { scale, zero_point, factor });
        }
        for (id, node) in graph.nodes() {
            let Some(&weight) = node.parameters.first() else { continue };
            // One of several nodes is read once.
            let known = simulation.parameters[weight.index()].is_some();
            if known || !simulation.form(id).multiplies {
                continue;
            }
            let scales = simulation.start.parameter(weight);
            let scales: Vec<f32> = scales
                .expect("only layers with scales are computed in integers")
                .iter()
                .map(|&scale| scale as f32)
                .collect();
            let parameter = graph.parameter(weight);
            let rows = parameter.shape[0] as usize;
            assert_eq!(scales.len(), rows, "a scale for each row of {}", parameter.name);
            let shared = scales.iter().all(|scale| *scale == scales[0]);
            let scales = if shared { vec![scales[0]] } else { scales };
            let numbers = parameter.elements() / scales.len() as u64;
            let largest = f32::from(simulation.start.largest(weight));
            let signs = simulation.start.is_signs(weight);
            let nearest = if signs { Nearest::Sign } else { Nearest::Away };
            let levels = Levels { low: -largest, high: largest, nearest };
            let scales = simulation.add(Owner::Parameter(weight), scales, device);
            let factor = factor(numbers, largest);
            let of = OfParameter { scales, rows, levels, factor };
            simulation.parameters[weight.index()] = Some(of);
        }
        let normalizations = graph.absorbed_normalizations();
        for (layer, _) in
            graph.nodes().filter(|(id, _)| simulation.held.forms[id.index()].multiplies)
        {
            if let Some(normalization) = normalizations[layer.index()] {
                simulation.normalizes[normalization.index()] = Some(layer);
            }
        }
        simulation
    }

    /// A value as a node reads it.
    pub(super) fn read(
        &self,
        node: NodeId,
        id: ValueId,
        value: Tensor<4>,
        threads: &Threads,
    ) -> Tensor<4> {
        if self.form(node).reads && self.held.scales[id.index()].is_none() {
            self.rounded(id, Nearest::Away, value, threads)
        } else {
            value
        }
    }

    /// The output of a node as it is held.
    pub(super) fn write(&self, node: NodeId, value: Tensor<4>, threads: &Threads) -> Tensor<4> {
        match self.form(node).writes {
            Some((scale, nearest)) => self.rounded(scale, nearest, value, threads),
            None => value,
        }
    }

    /// How the fast path computes each node.
    pub(super) fn parts(&self, graph: &Graph) -> Vec<Part> {
        rounded_parts(graph, |id, last| {
            self.form(id).multiplies && self.form(last).writes.is_some()
        })
    }

    /// A convolution of the fast path with bias, clip and rounding. `input` is as it reads it.
    pub(super) fn convolve(
        &self,
        conv: RoundedConv,
        input: Tensor<4>,
        (weight, bias): (Tensor<4>, Option<Tensor<1>>),
        threads: &Threads,
    ) -> Tensor<4> {
        let (scale, nearest) = self.form(conv.last).writes.expect("its output is rounded");
        let of = self.of_value(scale);
        let device = input.device();
        let layer = conv.on(&input, threads);
        let bias = bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[0]], &device));
        let scale = self.scale(of, &device);
        let rounding = (of.levels(nearest), of.factor);
        flex::convolve_and_round(layer, rounding, input, weight, [bias, scale])
    }

    /// An input of the network as it is held.
    pub(super) fn input(&self, id: ValueId, value: Tensor<4>, threads: &Threads) -> Tensor<4> {
        if self.held.scales[id.index()].is_some() {
            self.rounded(id, Nearest::Away, value, threads)
        } else {
            value
        }
    }

    /// A node as a layer of integers, if its weight is one.
    pub(super) fn layer(&self, graph: &Graph, id: NodeId) -> Option<Layer<'_>> {
        let node = graph.node(id);
        if !self.form(id).multiplies {
            return None;
        }
        let weight = self.parameters[node.parameters[0].index()];
        Some(Layer { simulation: self, weight: weight?, input: node.inputs[0] })
    }

    /// The layer of integers that a node normalises; `None` if it does not.
    pub(super) fn normalized(&self, graph: &Graph, id: NodeId) -> Option<Layer<'_>> {
        self.layer(graph, self.normalizes[id.index()]?)
    }

    /// The scales that learn: what they belong to, burn's id, and how many there are.
    pub(super) fn scales(&self, graph: &Graph) -> Vec<(String, ParamId, usize)> {
        let scales = self.of.iter().zip(&self.trained);
        let named = scales.map(|(of, scales)| {
            let name = match *of {
                Owner::Value(id) => &graph.value(id).name,
                Owner::Parameter(id) => &graph.parameter(id).name,
            };
            (name.to_string(), scales.id, scales.val().dims()[0])
        });
        named.collect()
    }

    /// The annotation with the scales as they are now. A value that is only moved has the scale of
    /// what it is moved from.
    pub(super) fn quantization(&self, graph: &Graph) -> Quantization {
        let mut learned = self.start.clone();
        for (of, scales) in self.of.iter().zip(&self.trained) {
            let scales = numbers(scales);
            match *of {
                Owner::Value(id) => {
                    let affine = self.start.value(id).expect("it has a scale");
                    learned.set_value(id, Affine { scale: scales[0], ..affine });
                }
                Owner::Parameter(id) => {
                    let rows = self.parameters[id.index()].expect("it has scales").rows;
                    let scales = scales.iter().cycle().take(rows).map(|&scale| scale.into());
                    learned.set_parameter(id, scales.collect());
                }
            }
        }
        for (id, _) in graph.values() {
            if let Some(from) = self.held.scales[id.index()]
                && let Some(affine) = learned.value(from)
            {
                learned.set_value(id, affine);
            }
        }
        learned
    }

    /// Takes over scales, in the order of [`Simulation::scales`].
    pub(super) fn set_scales(&mut self, scales: Vec<Vec<f32>>) {
        self.trained.iter_mut().zip(scales).for_each(|(old, new)| set(old, new));
    }

    /// The scales as they are now, in the order of [`Simulation::scales`].
    pub(super) fn numbers(&self) -> Vec<Vec<f32>> {
        self.trained.iter().map(numbers).collect()
    }

    /// Makes scales so wide that no example can overflow the sum of a channel. `numbers_of` says
    /// the numbers of a parameter.
    pub(super) fn widen(&mut self, graph: &Graph, numbers_of: impl Fn(ParameterId) -> Vec<f32>) {
        for (id, node) in graph.nodes() {
            let Some(Layer { weight, .. }) = self.layer(graph, id) else { continue };
            let input_scale = f64::from(self.scale_number(node.inputs[0]));
            let bias = node.parameters.get(1).map(|&bias| numbers_of(bias));
            let weights = numbers_of(node.parameters[0]);
            let mut scales = numbers(&self.trained[weight.scales]);
            let filters = weights.chunks_exact(weights.len() / weight.rows).enumerate();
            for (channel, filter) in filters {
                let sum: f64 = filter.iter().map(|w| f64::from(w.abs())).sum();
                let bias = bias.as_ref().map_or(0.0, |bias| f64::from(bias[channel].abs()));
                let least = (255.0 * sum + bias / input_scale) / ACCUMULATOR_MAX;
                let place = channel % scales.len();
                // Rounding to f32 must not make it smaller.
                if f64::from(scales[place]) < least {
                    scales[place] = (least as f32).next_up();
                }
            }
            set(&mut self.trained[weight.scales], scales);
        }
    }

    /// For each row of a parameter, or for all, where its numbers end; `None` if it is not
    /// quantized. What lies beyond may be moved there, because it is rounded to the same level.
    pub(super) fn ends(&self, id: ParameterId) -> Option<Vec<f32>> {
        let OfParameter { scales, levels, .. } = self.parameters[id.index()]?;
        let beyond = match levels.nearest {
            Nearest::Away | Nearest::Up => BEYOND,
            Nearest::Sign => BEYOND_SIGN,
        };
        let end = |scale| (levels.high + beyond) * scale;
        Some(numbers(&self.trained[scales]).into_iter().map(end).collect())
    }

    fn form(&self, node: NodeId) -> Form {
        self.held.forms[node.index()]
    }

    /// Adds scales that learn, and returns their place.
    fn add(&mut self, of: Owner, scales: Vec<f32>, device: &Device) -> usize {
        let count = scales.len();
        let scales = Tensor::from_data(TensorData::new(scales, [count]), device);
        self.trained.push(Param::from_tensor(scales));
        self.of.push(of);
        self.of.len() - 1
    }

    /// Rounds a value to the levels of a scale.
    fn rounded(
        &self,
        scale: ValueId,
        nearest: Nearest,
        value: Tensor<4>,
        threads: &Threads,
    ) -> Tensor<4> {
        let of = self.of_value(scale);
        let scale = self.scale(of, &value.device());
        round(of.levels(nearest), of.factor, threads, value, scale)
    }

    fn of_value(&self, scale: ValueId) -> OfValue {
        self.values[scale.index()].expect("a scale that is used")
    }

    fn scale(&self, of: OfValue, device: &Device) -> Tensor<1> {
        match of.scale {
            Scale::Trained(place) => self.trained[place].val(),
            Scale::Fixed(scale) => Tensor::from_data([scale], device),
        }
    }

    /// The scale that a value has where integers are read.
    fn scale_number(&self, id: ValueId) -> f32 {
        match self.of_value(self.held.scale_of(id)).scale {
            Scale::Trained(place) => numbers(&self.trained[place])[0],
            Scale::Fixed(scale) => scale,
        }
    }
}

impl OfValue {
    fn levels(self, nearest: Nearest) -> Levels {
        Levels { low: -self.zero_point, high: f32::from(u8::MAX) - self.zero_point, nearest }
    }
}

impl Layer<'_> {
    /// The weight, rounded.
    pub(super) fn weight(&self, weight: Tensor<4>, threads: &Threads) -> Tensor<4> {
        let OfParameter { scales, levels, factor, .. } = self.weight;
        round(levels, factor, threads, weight, self.simulation.trained[scales].val())
    }

    /// The bias, rounded.
    pub(super) fn bias(&self, bias: Tensor<1>) -> Tensor<1> {
        round_bias(bias, self.steps())
    }

    /// By channel, the step between its sums, which is the scale of its input times that of its
    /// weight. What is folded into the layer adds whole steps. Without a gradient.
    pub(super) fn steps(&self) -> Tensor<1> {
        let Self { simulation, weight, input } = self;
        let scales = untracked(simulation.trained[weight.scales].val());
        let of = simulation.of_value(simulation.held.scale_of(*input));
        let steps = scales.clone() * untracked(simulation.scale(of, &scales.device()));
        steps.expand([weight.rows])
    }
}

fn numbers(scales: &Param<Tensor<1>>) -> Vec<f32> {
    scales.val().into_data().try_into_vec().expect("scales are f32")
}

/// Gives a parameter other numbers, if they are others.
fn set(scales: &mut Param<Tensor<1>>, new: Vec<f32>) {
    if numbers(scales) != new {
        let old = std::mem::replace(scales, Param::from_tensor(scales.val()));
        *scales = with_numbers(old, new);
    }
}

/// A parameter with other numbers. It keeps its id.
pub(super) fn with_numbers<const D: usize>(
    param: Param<Tensor<D>>,
    numbers: Vec<f32>,
) -> Param<Tensor<D>> {
    param.map(|old| {
        let new = Tensor::from_data(TensorData::new(numbers, old.dims()), &old.device());
        if old.is_require_grad() { new.require_grad() } else { new }
    })
}

//! Optimizers and their state. Weight decay is decoupled from the gradient in both (Loshchilov &
//! Hutter 2019) and does not apply to biases and batch normalisation.
//!
//! Scales of a quantization learn by factors, because they are far smaller than the steps that suit
//! weights, and stay above 0: `s ← s · exp(step)`, where `step` is that of a parameter with the
//! gradient divided by `s`. With SGD, this is the plain step up to its square. A step changes a
//! scale by at most about a tenth, and weight decay does not apply to it.
//!
//! Burn computes the update rules, but its `ModuleOptimizer` is not used. It exports its state only
//! under random ids, in no fixed order, and imports it only to the default device. So a checkpoint
//! of that state could not be loaded into another network object or on another machine.

use std::collections::{BTreeMap, HashMap, HashSet};

use burn::module::{Module as _, ModuleMapper, Param, ParamId};
use burn::optim::{
    AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, GradientsParams, Optimizer as _,
};
use burn::tensor::{Device, Tensor, TensorData};
use edgesmith_common::spec::OptimizerSpec;

use super::TrainError;
use super::shaping::Shaping;
use crate::network::Network;
use edgesmith_graph::Array;

/// The state of an optimizer: flat arrays, each as long as a parameter of the network, named
/// `NAME/PARAMETER`, for example `moment_1/stem.weight`. The scales that a simulated quantization
/// learns are among them, for example `scale/stem.weight` for those of this weight. Empty before
/// the first step.
pub type Moments = BTreeMap<String, Array>;

/// How far the logarithm of a scale moves in a step at most. With SGD, a few large gradients would
/// move it out of the range of numbers.
const FARTHEST: f32 = 0.1;

/// The optimizer of one training.
pub(super) struct NetworkOptimizer {
    rule: Rule,
    decayed: HashSet<ParamId>,
    /// The parameters that learn by factors.
    factors: HashSet<ParamId>,
    steps: usize,
    /// The moments of each parameter, flat, in the order of [`Rule::moments`].
    moments: HashMap<ParamId, Vec<Tensor<1>>>,
    /// Flat: 1 for the numbers of a parameter that learn, and 0 for those that stay 0.
    masks: HashMap<ParamId, Tensor<1>>,
    /// What else steps do to parameters.
    shaping: Shaping,
    /// The parameters that do not learn in the first steps, and the number of these steps.
    late: (HashSet<ParamId>, usize),
}

enum Rule {
    AdamW {
        plain: AdamW,
        decaying: AdamW,
    },
    /// `v ← momentum · v + g; w ← w - rate · (v + decay · w)`
    Sgd {
        momentum: f64,
        weight_decay: f64,
    },
}

impl NetworkOptimizer {
    /// An optimizer with the state after `steps` steps on `network`, on `device` (without
    /// autodiff). `first` names the parameters that learn alone in the first steps, and in how
    /// many; with `None` all learn from the start.
    ///
    /// # Errors
    /// If the moments do not fit this rule, network and number of steps.
    pub(super) fn new(
        spec: OptimizerSpec,
        weight_decay: f64,
        network: &Network,
        first: Option<(&[String], usize)>,
        steps: usize,
        mut moments: Moments,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let late = match first {
            Some((names, alone)) => {
                let all = network.parameters().into_iter();
                let others = all.filter(|(name, ..)| !names.contains(name));
                (others.map(|(_, id, _)| id).collect(), alone)
            }
            None => (HashSet::new(), 0),
        };
        let rule = match spec {
            OptimizerSpec::AdamW => {
                let config = AdamWConfig::new().with_epsilon(1e-8);
                let rule = |decay: f64| config.clone().with_weight_decay(decay as f32).build();
                Rule::AdamW { plain: rule(0.0), decaying: rule(weight_decay) }
            }
            OptimizerSpec::Sgd { momentum } => Rule::Sgd { momentum, weight_decay },
        };
        let mut remembered = HashMap::new();
        for (name, id, values) in network.parameters() {
            if steps == 0 {
                break;
            }
            let mut of_this = Vec::new();
            for moment in rule.moments() {
                let name = format!("{moment}/{name}");
                let array = moments.remove(&name).filter(|array| array.data.len() == values);
                let data = array.ok_or(TrainError::Checkpoint { name })?.data;
                of_this.push(Tensor::from_data(TensorData::new(data, [values]), device));
            }
            remembered.insert(id, of_this);
        }
        match moments.pop_first() {
            Some((name, _)) => Err(TrainError::Checkpoint { name }),
            None => {
                let decayed = network.decayed().into_iter().collect();
                let factors = network.factors().into_iter().collect();
                let (masks, shaping, moments) = (HashMap::new(), Shaping::default(), remembered);
                Ok(Self { rule, decayed, factors, steps, moments, masks, shaping, late })
            }
        }
    }

    /// From now on, the numbers of parameters whose mask is 0 become 0 with every step, and
    /// remember nothing. All others have the mask 1.
    pub(super) fn keep_zeros(
        &mut self,
        masks: BTreeMap<String, Array>,
        network: &Network,
        device: &Device,
    ) {
        for (name, id, values) in network.parameters() {
            if let Some(mask) = masks.get(&name) {
                let data = TensorData::new(mask.data.clone(), [values]);
                self.masks.insert(id, Tensor::from_data(data, device));
            }
        }
    }

    /// From now on, steps do this to parameters, too.
    pub(super) fn shape(&mut self, shaping: Shaping) {
        self.shaping = shaping;
    }

    /// The network after one step along its gradients.
    pub(super) fn step(
        &mut self,
        rate: f64,
        network: Network,
        gradients: GradientsParams,
    ) -> Network {
        let network = network.map(&mut Step { optimizer: self, rate, gradients });
        self.steps += 1;
        network
    }

    /// The state after the steps so far.
    pub(super) fn moments(&self, network: &Network) -> Moments {
        let mut all = Moments::new();
        for (name, id, values) in network.parameters() {
            let of_this = self.moments.get(&id);
            for (place, moment) in self.rule.moments().iter().enumerate() {
                let data = match of_this {
                    Some(tensors) => {
                        tensors[place].to_data().try_into_vec().expect("moments are f32")
                    }
                    None if self.steps == 0 => continue,
                    // It has not learned yet, or the output does not depend on it.
                    None => vec![0.0; values],
                };
                all.insert(format!("{moment}/{name}"), Array { shape: vec![values], data });
            }
        }
        all
    }

    /// The number of steps that moved a parameter so far; `None` while it does not learn.
    fn own_steps(&self, id: ParamId) -> Option<usize> {
        let (late, alone) = &self.late;
        self.steps.checked_sub(if late.contains(&id) { *alone } else { 0 })
    }
}

impl Rule {
    /// Names of the moments.
    fn moments(&self) -> &'static [&'static str] {
        match self {
            Rule::AdamW { .. } => &["moment_1", "moment_2"],
            Rule::Sgd { .. } => &["velocity"],
        }
    }
}

/// Visits all parameters to take one step.
struct Step<'a> {
    optimizer: &'a mut NetworkOptimizer,
    rate: f64,
    gradients: GradientsParams,
}

impl ModuleMapper for Step<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let gradient = self.gradients.remove::<D>(id);
        let Some((gradient, steps)) = gradient.zip(self.optimizer.own_steps(id)) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let trainable = tensor.is_require_grad();
        let stepped = Tensor::from_inner(self.stepped(id, steps, tensor.inner(), gradient));
        let stepped = if trainable { stepped.require_grad() } else { stepped };
        Param::from_mapped_value(id, stepped, mapper)
    }
}

impl Step<'_> {
    /// Updates a parameter and its moments, after `steps` steps of its own.
    fn stepped<const D: usize>(
        &mut self,
        id: ParamId,
        steps: usize,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
    ) -> Tensor<D> {
        let Self { optimizer, rate, .. } = self;
        let (rate, shape) = (*rate, tensor.dims());
        // A checkpoint has moments of all parameters. Zeros stand for those of one that has not
        // learned.
        let before = optimizer.moments.remove(&id).filter(|_| steps > 0);
        let mut before = before.unwrap_or_default().into_iter();
        let mut before = || before.next().map(|flat| flat.reshape(shape));
        let flat = |tensor: Tensor<D>| tensor.reshape([shape.iter().product::<usize>()]);
        let mask = optimizer.masks.get(&id).map(|mask| mask.clone().reshape(shape));
        let gradient = match &mask {
            Some(mask) => gradient * mask.clone(),
            None => gradient,
        };
        let gradient = optimizer.shaping.gradient(id, gradient);
        let decays = optimizer.decayed.contains(&id);
        let scales = optimizer.factors.contains(&id).then(|| tensor.clone());
        let (tensor, gradient) = match &scales {
            Some(scales) => (tensor.zeros_like(), gradient / scales.clone()),
            None => (tensor, gradient),
        };
        let (tensor, moments) = match &optimizer.rule {
            Rule::AdamW { plain, decaying } => {
                let rule = if decays { decaying } else { plain };
                let momentum = before().zip(before());
                let momentum =
                    momentum.map(|(one, two)| AdaptiveMomentumState::new(steps, one, two));
                let state = momentum.map(|momentum| AdamWState { momentum });
                let (tensor, state) = rule.step(rate, tensor, gradient, state);
                let momentum = state.expect("AdamW always has a state").momentum;
                (tensor, vec![flat(momentum.moment_1), flat(momentum.moment_2)])
            }
            Rule::Sgd { momentum, weight_decay } => {
                let velocity = match before() {
                    Some(velocity) => gradient + velocity.mul_scalar(*momentum),
                    None => gradient,
                };
                let decay = if decays { *weight_decay } else { 0.0 };
                let decayed = tensor.mul_scalar(1.0 - rate * decay);
                (decayed - velocity.clone().mul_scalar(rate), vec![flat(velocity)])
            }
        };
        optimizer.moments.insert(id, moments);
        match scales {
            Some(scales) => scales * tensor.clamp(-FARTHEST, FARTHEST).exp(),
            None => {
                let tensor = optimizer.shaping.shaped(id, tensor, rate);
                match mask {
                    Some(mask) => tensor * mask,
                    None => tensor,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::ParamGroup;
    use burn::optim::ModuleOptimizer;

    use super::*;
    use crate::network::Net;
    use edgesmith_graph::{Affine, GlobalAveragePool, Quantization};
    use edgesmith_testing::{conv_graph, noise, random_weights};

    /// Some gradients of a network of [`conv_graph`].
    fn gradients(network: &Network, seed: u8) -> GradientsParams {
        let shape = [4, 1, 8, 8];
        let images = TensorData::new(noise(shape.iter().product(), seed), shape);
        let images = Tensor::from_data(images, &Device::flex().autodiff());
        let loss = network.forward(images).powi_scalar(2).sum();
        GradientsParams::from_grads(loss.backward(), network)
    }

    #[test]
    fn adamw_steps_equal_those_of_burns_optimizer() {
        let graph = conv_graph();
        let device = Device::flex().autodiff();
        let start = Network::new(&graph, &random_weights(&graph, 3), &device);
        let burns = {
            let config = AdamWConfig::new().with_epsilon(1e-8);
            let rule = |decay: f32| config.clone().with_weight_decay(decay).build();
            let decayed = ParamGroup::from_ids(start.decayed());
            let mut optimizer =
                ModuleOptimizer::from(rule(0.0)).with_group(decayed, rule(0.1), None);
            (0..3).fold(start.clone(), |network, seed| {
                let gradients = gradients(&network, seed);
                optimizer.step(0.01, network, gradients)
            })
        };
        let start = Network::new(&graph, &random_weights(&graph, 3), &device);
        let inner = Device::flex();
        let rule = OptimizerSpec::AdamW;
        let mut ours =
            NetworkOptimizer::new(rule, 0.1, &start, None, 0, Moments::new(), &inner).unwrap();
        let stepped = (0..3).fold(start, |network, seed| {
            let gradients = gradients(&network, seed);
            ours.step(0.01, network, gradients)
        });
        assert_eq!(stepped.weights(), burns.weights());
        assert_eq!(ours.moments(&stepped).len(), 2 * stepped.parameters().len());
    }

    #[test]
    fn parameters_that_learn_later_count_their_own_steps() {
        let graph = conv_graph();
        let device = Device::flex();
        let start = Network::new(&graph, &random_weights(&graph, 3), &device.clone().autodiff());
        let names: Vec<String> = start.parameters().into_iter().map(|(name, ..)| name).collect();
        let (body, head) = names.split_at(names.len() - 2);
        let alone = 3;
        for rule in [OptimizerSpec::AdamW, OptimizerSpec::Sgd { momentum: 0.9 }] {
            let optimizer = |network: &Network, first, steps, moments| {
                NetworkOptimizer::new(rule, 0.1, network, first, steps, moments, &device).unwrap()
            };
            let whole = |network: &Network, steps, moments| {
                optimizer(network, Some((head, alone)), steps, moments)
            };
            let mut through = whole(&start, 0, Moments::new());
            let mut network = start.clone();
            // Another optimizer begins when the body does, and sees the same gradients.
            let mut fresh = None;
            for step in 0..alone + 3 {
                if step == alone {
                    let begun = optimizer(&network, None, 0, Moments::new());
                    fresh = Some((begun, network.clone()));
                }
                let mut resumed = whole(&network, step, through.moments(&network));
                let seed = step as u8;
                let again = resumed.step(0.01, network.clone(), gradients(&network, seed));
                fresh = fresh.map(|(mut begun, stepped)| {
                    let stepped = begun.step(0.01, stepped, gradients(&network, seed));
                    (begun, stepped)
                });
                network = through.step(0.01, network.clone(), gradients(&network, seed));
                assert_eq!(again.weights(), network.weights(), "step {step}");
                assert_eq!(resumed.moments(&again), through.moments(&network), "step {step}");
                let (weights, begin) = (network.weights(), start.weights());
                for name in body {
                    let got = &weights.arrays[name];
                    match &fresh {
                        Some((_, fresh)) => assert_eq!(got, &fresh.weights().arrays[name]),
                        None => assert_eq!(got, &begin.arrays[name]),
                    }
                }
                assert_ne!(weights.arrays[&head[0]], begin.arrays[&head[0]]);
            }
        }
    }

    #[test]
    fn scales_learn_by_factors_and_do_not_decay() {
        let (mut net, input) = Net::new(1, &[2, 2]);
        let pooled = net.op(GlobalAveragePool, &[input]);
        let output = net.linear(pooled, 2, true);
        let graph = net.finish(output);
        let device = Device::flex().autodiff();
        let mut quantization = Quantization::none(&graph);
        for (id, _) in graph.values() {
            quantization.set_value(id, Affine { scale: 0.1, zero_point: 128 });
        }
        let weight = graph.parameter_named("n2.weight").unwrap();
        quantization.set_parameter(weight, vec![0.01, 0.1]);
        let weights = random_weights(&graph, 3);
        let start = Network::quantized(&graph, &weights, &quantization, &device);
        let name = "n2.weight@scale".to_owned();
        let images = Tensor::<4>::from_data([[[[0.3, 0.8], [-0.4, 1.1]]]], &device);
        let gradients = || {
            let loss = start.forward(images.clone()).sum();
            GradientsParams::from_grads(loss.backward(), &start)
        };
        let slopes = start.gradients(&gradients()).arrays[&name].data.clone();
        let stepped = |spec, rate: f64| {
            let inner = Device::flex();
            let optimizer =
                NetworkOptimizer::new(spec, 0.5, &start, None, 0, Moments::new(), &inner);
            let network = optimizer.unwrap().step(rate, start.clone(), gradients());
            network.scales()["n2.weight"].clone()
        };
        let sgd = OptimizerSpec::Sgd { momentum: 0.9 };
        let near = |got: f32, expected: f32| assert!((got / expected - 1.0).abs() < 1e-5);
        for ((got, before), slope) in stepped(sgd, 1e-4).iter().zip([0.01, 0.1]).zip(&slopes) {
            assert_ne!(*slope, 0.0);
            near(*got, before * (-1e-4 * slope / before).exp());
        }
        // Whatever the size of a scale is.
        for ((got, before), slope) in
            stepped(OptimizerSpec::AdamW, 0.02).iter().zip([0.01, 0.1]).zip(&slopes)
        {
            near(*got, before * (-0.02 * slope.signum()).exp());
        }
        for ((got, before), slope) in stepped(sgd, 1e6).iter().zip([0.01, 0.1]).zip(&slopes) {
            near(*got, before * (-FARTHEST * slope.signum()).exp());
        }
    }

    #[test]
    fn moments_of_another_network_or_rule_are_refused() {
        let graph = conv_graph();
        let network = Network::new(&graph, &random_weights(&graph, 3), &Device::flex().autodiff());
        let resume = |rule, steps, moments| {
            NetworkOptimizer::new(rule, 0.1, &network, None, steps, moments, &Device::flex())
        };
        let sgd = OptimizerSpec::Sgd { momentum: 0.9 };
        let refused = |made: Result<NetworkOptimizer, TrainError>| match made {
            Ok(_) => panic!("it was accepted"),
            Err(error) => error.to_string(),
        };
        let velocity = |size: &dyn Fn(usize) -> usize| -> Moments {
            let array = |values| Array { shape: vec![values], data: vec![0.5; values] };
            let of = |(name, _, values)| (format!("velocity/{name}"), array(size(values)));
            network.parameters().into_iter().map(of).collect()
        };
        assert!(resume(sgd, 7, velocity(&|values| values)).is_ok());
        assert!(refused(resume(sgd, 7, velocity(&|values| values + 1))).contains("velocity/"));
        assert!(refused(resume(sgd, 7, Moments::new())).contains("velocity/"));
        assert!(refused(resume(sgd, 0, velocity(&|values| values))).contains("velocity/"));
        let adamw = resume(OptimizerSpec::AdamW, 7, velocity(&|values| values));
        assert!(refused(adamw).contains("moment_1/"));
    }
}

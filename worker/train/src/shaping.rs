//! What a step of training does to parameters besides following their gradients: it makes scales or
//! filters small, so that they can be removed afterwards, and keeps weights equal that are equal at
//! the start, so that clusters stay clusters.
//!
//! What becomes small is moved by the proximal step of its penalty after the step of the optimizer,
//! apart from the gradient as weight decay is (Loshchilov & Hutter 2019). So whatever is not needed
//! becomes exactly 0, which a gradient of the penalty would never reach.

use std::collections::{BTreeMap, HashMap};

use burn::module::ParamId;
use burn::tensor::{Tensor, TensorData};
use edgesmith_graph::{Graph, Parameter, Role, Weights};
use edgesmith_search_space::Shrink;

use super::TrainError;
use crate::network::Network;

/// Keeps the norm of a filter of zeros from being divided by.
const LEAST_NORM: f32 = 1e-30;

/// What steps do to the parameters of one network.
#[derive(Debug, Default)]
pub(super) struct Shaping {
    /// What becomes small, and the weight of its penalty.
    small: HashMap<ParamId, (Small, f64)>,
    /// For each number of a parameter its cluster, counted from 0.
    clusters: HashMap<ParamId, Vec<u32>>,
}

/// How the size of a parameter is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Small {
    /// By the sum of magnitudes.
    Numbers,
    /// By the sum of the norms of its filters, each times the root of how many numbers it has. The
    /// tensor may have more, which are 0, where channels are padded.
    Filters { numbers: u64 },
}

/// The parameters of a graph that become small, by name.
fn small(graph: &Graph, shrink: Shrink) -> BTreeMap<String, Small> {
    let channels = graph.channels();
    let mut fixed = vec![false; channels.count()];
    for group in channels.groups().iter().filter(|group| group.fixed) {
        group.channels.iter().for_each(|channel| fixed[channel.index()] = true);
    }
    let free = |id| {
        let rows = channels.of_parameter(id, 0);
        rows.is_some_and(|rows| rows.iter().all(|channel| !fixed[channel.index()]))
    };
    let role = match shrink {
        Shrink::None => return BTreeMap::new(),
        Shrink::Scales => Role::Scale,
        Shrink::Filters => Role::Weight,
    };
    let parameters = graph.parameters().filter(|(id, p)| p.role == role && free(*id));
    let small = |p: &Parameter| match role {
        Role::Weight => Small::Filters { numbers: p.elements() / u64::from(p.shape[0]) },
        _ => Small::Numbers,
    };
    parameters.map(|(_, p)| (p.name.to_string(), small(p))).collect()
}

/// Refuses a penalty of something that a graph does not have.
///
/// # Errors
/// If nothing would become small.
pub(super) fn check(graph: &Graph, shrink: Shrink) -> Result<(), TrainError> {
    if shrink != Shrink::None && small(graph, shrink).is_empty() {
        return Err(TrainError::NothingToShrink { shrink });
    }
    Ok(())
}

impl Shaping {
    /// Makes what `shrink` names small, `by` this weight.
    pub(super) fn shrink(&mut self, graph: &Graph, network: &Network, (shrink, by): (Shrink, f64)) {
        let small = small(graph, shrink);
        for (name, id, _) in network.parameters() {
            if let Some(small) = small.get(&name) {
                self.small.insert(id, (*small, by));
            }
        }
    }

    /// Lets weights that are equal in a tensor stay equal (Han et al. 2016). Each follows the mean
    /// gradient of all: AdamW takes the same steps with their sum, and SGD steps of the size that
    /// single weights have.
    pub(super) fn tie(&mut self, graph: &Graph, network: &Network, weights: &Weights) {
        let tied: Vec<&str> = graph
            .parameters()
            .filter(|(_, p)| p.role == Role::Weight)
            .map(|(_, p)| &*p.name)
            .collect();
        for (name, id, _) in network.parameters() {
            if !tied.contains(&&*name) {
                continue;
            }
            let mut places = HashMap::new();
            let clusters = weights.arrays[&name].data.iter().map(|number| {
                let next = places.len() as u32;
                // Both zeros are one number.
                *places.entry((number + 0.0).to_bits()).or_insert(next)
            });
            self.clusters.insert(id, clusters.collect());
        }
    }

    /// The gradient that a parameter follows.
    pub(super) fn gradient<const D: usize>(&self, id: ParamId, gradient: Tensor<D>) -> Tensor<D> {
        let Some(clusters) = self.clusters.get(&id) else { return gradient };
        let (shape, device) = (gradient.shape(), gradient.device());
        let mut numbers = gradient.into_data().try_into_vec::<f32>().expect("gradients are f32");
        let count = clusters.iter().max().map_or(0, |last| *last as usize + 1);
        let mut sums = vec![(0.0f64, 0u32); count];
        for (number, cluster) in numbers.iter().zip(clusters) {
            let (sum, members) = &mut sums[*cluster as usize];
            *sum += f64::from(*number);
            *members += 1;
        }
        for (number, cluster) in numbers.iter_mut().zip(clusters) {
            let (sum, members) = sums[*cluster as usize];
            *number = (sum / f64::from(members)) as f32;
        }
        Tensor::from_data(TensorData::new(numbers, shape), &device)
    }

    /// A parameter after a step at this rate: the point that is best for half the squared distance
    /// from where it is, plus the rate times its penalty.
    pub(super) fn shaped<const D: usize>(
        &self,
        id: ParamId,
        tensor: Tensor<D>,
        rate: f64,
    ) -> Tensor<D> {
        let Some((small, by)) = self.small.get(&id) else { return tensor };
        let shape = tensor.dims();
        let step = rate * by;
        match small {
            Small::Numbers => {
                let left = tensor.clone().abs().sub_scalar(step as f32).clamp_min(0.0);
                tensor.sign() * left
            }
            Small::Filters { numbers } => {
                let rows = shape[0];
                let size = shape.iter().product::<usize>() / rows.max(1);
                let filters: Tensor<2> = tensor.reshape([rows, size]);
                let norms = (filters.clone() * filters.clone()).sum_dim(1).sqrt();
                let lost = norms.clamp_min(LEAST_NORM).recip();
                let lost = lost.mul_scalar((step * (*numbers as f64).sqrt()) as f32);
                let left = lost.neg().add_scalar(1.0).clamp_min(0.0);
                (filters * left).reshape(shape)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use edgesmith_graph::{Conv, GlobalAveragePool};
    use edgesmith_testing::{conv_graph, random_weights, tiny_graph};

    use super::*;
    use crate::network::Net;

    /// Searches the least value of `half the squared distance + step · penalty` along the line
    /// through 0, where it lies for both penalties.
    fn nearest(point: &[f64], step: f64, penalty: impl Fn(&[f64]) -> f64) -> Vec<f64> {
        let at = |share: f64| -> Vec<f64> { point.iter().map(|x| x * share).collect() };
        let value = |share: f64| {
            let moved = at(share);
            let off: f64 = moved.iter().zip(point).map(|(a, b)| (a - b).powi(2)).sum();
            off / 2.0 + step * penalty(&moved)
        };
        let best = (0..=100_000).map(|i| f64::from(i) / 100_000.0);
        at(best.min_by(|a, b| value(*a).total_cmp(&value(*b))).unwrap())
    }

    #[test]
    fn what_shrinks_moves_to_the_best_point_for_its_penalty() {
        let graph = tiny_graph();
        let network = Network::new(&graph, &random_weights(&graph, 5), &Device::flex());
        let rows = [[0.5f32, -0.25, 1.0], [0.02, 0.01, -0.01], [0.0, 0.0, 0.0]];
        let (rate, by) = (0.5, 0.2);
        for shrink in [Shrink::Scales, Shrink::Filters] {
            let mut shaping = Shaping::default();
            shaping.shrink(&graph, &network, (shrink, by));
            let (&id, &(small, _)) = shaping.small.iter().next().unwrap();
            let shaped = shaping.shaped(id, Tensor::<2>::from_data(rows, &Device::flex()), rate);
            let shaped = shaped.into_data().try_into_vec::<f32>().unwrap();
            for (row, got) in rows.iter().zip(shaped.chunks(3)) {
                let row = row.map(f64::from);
                let expected: Vec<f64> = match small {
                    Small::Numbers => {
                        row.iter().flat_map(|x| nearest(&[*x], rate * by, |x| x[0].abs())).collect()
                    }
                    // Of the layer, whatever the size of the tensor.
                    Small::Filters { numbers } => nearest(&row, rate * by, |x| {
                        (numbers as f64).sqrt() * x.iter().map(|x| x * x).sum::<f64>().sqrt()
                    }),
                };
                for (got, expected) in got.iter().zip(expected) {
                    assert!((f64::from(*got) - expected).abs() < 2e-5, "{got} {expected}");
                }
            }
            assert_eq!(shaped[3..], [0.0; 6], "they are exactly 0");
        }
    }

    #[test]
    fn only_what_can_be_removed_shrinks() {
        let graph = tiny_graph();
        let names = |shrink| small(&graph, shrink).into_keys().collect::<Vec<_>>();
        assert_eq!(names(Shrink::None), [""; 0]);
        let scales = names(Shrink::Scales);
        assert!(!scales.is_empty() && scales.iter().all(|name| name.ends_with("gamma")));
        let filters = names(Shrink::Filters);
        let last = edgesmith_search_space::last_layer(&graph).unwrap();
        let classes = graph.parameter(graph.node(last).parameters[0]).name.to_string();
        assert!(!filters.is_empty() && !filters.contains(&classes), "{filters:?}");
        // What is not there cannot become small. The same layers, without normalisation and with.
        let layers = |normalized: bool| {
            let (mut net, input) = Net::new(1, &[4, 4]);
            let mut value = net.conv(Conv::dense(3, 1), input, 3, &[3, 3], true).unwrap();
            if normalized {
                value = net.normalize(value);
            }
            let pooled = net.op(GlobalAveragePool, &[value]);
            let output = net.linear(pooled, 2, true);
            net.finish(output)
        };
        let nothing = TrainError::NothingToShrink { shrink: Shrink::Scales };
        assert_eq!(check(&layers(false), Shrink::Scales), Err(nothing));
        assert_eq!(check(&layers(true), Shrink::Scales), Ok(()));
        for normalized in [false, true] {
            assert_eq!(check(&layers(normalized), Shrink::Filters), Ok(()));
            assert_eq!(check(&layers(normalized), Shrink::None), Ok(()));
        }
    }

    #[test]
    fn equal_weights_follow_the_mean_of_their_gradients() {
        let graph = conv_graph();
        let mut weights = random_weights(&graph, 5);
        let name = "stem.weight";
        let numbers = &mut weights.arrays.get_mut(name).unwrap().data;
        for (place, number) in numbers.iter_mut().enumerate() {
            *number = [0.5, -0.25, 0.0, -0.0][place % 4];
        }
        let size = numbers.len();
        let network = Network::new(&graph, &weights, &Device::flex());
        let mut shaping = Shaping::default();
        shaping.tie(&graph, &network, &weights);
        let parameters = network.parameters();
        let (_, id, _) = parameters.iter().find(|(found, ..)| found == name).unwrap();
        let slopes: Vec<f32> = (0..size).map(|place| (place * place % 11) as f32).collect();
        let given =
            Tensor::<1>::from_data(TensorData::new(slopes.clone(), [size]), &Device::flex());
        let got = shaping.gradient(*id, given).into_data().try_into_vec::<f32>().unwrap();
        let cluster = |place: usize| (place % 4).min(2);
        for (place, got) in got.iter().enumerate() {
            let of_same = (0..size).filter(|other| cluster(*other) == cluster(place));
            let of_same: Vec<f32> = of_same.map(|other| slopes[other]).collect();
            let mean = of_same.iter().sum::<f32>() / of_same.len() as f32;
            assert!((got - mean).abs() < 1e-5, "{got} {mean}");
        }
        // Biases are not clustered.
        let bias = parameters.iter().find(|(found, ..)| found.ends_with("bias"));
        assert!(bias.is_none_or(|(_, id, _)| !shaping.clusters.contains_key(id)));
    }
}

//! How often a channel is on (Hu et al. 2016, "Network trimming", there the average percentage of
//! zeros).

use edgesmith_graph::{Channels, Effect, Evaluator, Graph, Operation, ValueId, Weights};

use super::{ImportanceError, values, writers};

/// Observes on examples for which share of their numbers channels are on.
///
/// A number is on if the activation that reads it passes it, as a rectifier does above 0 and
/// another clip above its lower bound. A channel that several such activations read gets the mean
/// over them. A channel that none reads gets the share of numbers that are not zero, over the
/// layers that write it. Sigmoids and other functions that never switch a channel off do not count.
#[derive(Debug)]
pub struct Activity<'a> {
    graph: &'a Graph,
    evaluator: Evaluator<'a, f32>,
    /// What activations that can be off read.
    activated: Vec<Observed>,
    /// What nodes with parameters compute.
    computed: Vec<Observed>,
    examples: u32,
}

/// A value and how many of its numbers are on, for each index of its channels.
#[derive(Debug)]
struct Observed {
    value: ValueId,
    off_up_to: Option<f32>,
    on: Vec<u64>,
}

impl<'a> Activity<'a> {
    /// A network with one input.
    ///
    /// # Panics
    /// If `weights` do not fit `graph`.
    pub fn new(graph: &'a Graph, weights: &Weights) -> Self {
        let observed = |value: ValueId, off_up_to: Option<f32>| {
            let on = vec![0; graph.shape(value).channels() as usize];
            Observed { value, off_up_to, on }
        };
        let activated = graph.nodes().filter_map(|(_, node)| match node.op.effect() {
            Effect::Activates { off_up_to: Some(off) } => Some(observed(node.inputs[0], Some(off))),
            Effect::Activates { off_up_to: None }
            | Effect::Combines
            | Effect::Normalizes
            | Effect::Rescales => None,
        });
        let channels = graph.channels();
        let computed = writers(graph, &channels)
            .map(|(id, _)| observed(graph.node(id).output, None))
            .collect();
        Self {
            graph,
            evaluator: Evaluator::new(graph, weights),
            activated: activated.collect(),
            computed,
            examples: 0,
        }
    }

    /// Observes one example: the numbers of the network's input.
    ///
    /// # Errors
    /// If it has the wrong size, or the network's values on it are not finite.
    pub fn observe(&mut self, example: Vec<f32>) -> Result<(), ImportanceError> {
        let values = values(self.graph, &self.evaluator, example)?;
        for Observed { value, off_up_to, on } in self.activated.iter_mut().chain(&mut self.computed)
        {
            let numbers = &values[value.index()];
            let positions = numbers.len() / on.len();
            for (on, channel) in on.iter_mut().zip(numbers.chunks_exact(positions)) {
                let count = match *off_up_to {
                    Some(off) => channel.iter().filter(|number| **number > off).count(),
                    None => channel.iter().filter(|number| **number != 0.0).count(),
                };
                *on += count as u64;
            }
        }
        self.examples += 1;
        Ok(())
    }

    /// The importance of each channel, from 0 for never on to 1 for always on.
    ///
    /// # Errors
    /// If there were no examples.
    pub fn finish(&self, channels: &Channels) -> Result<Vec<f64>, ImportanceError> {
        if self.examples == 0 {
            return Err(ImportanceError::NoExamples);
        }
        let activated = self.shares(&self.activated, channels);
        let computed = self.shares(&self.computed, channels);
        let both = activated.into_iter().zip(computed);
        Ok(both.map(|(activated, computed)| activated.or(computed).unwrap_or(0.0)).collect())
    }

    /// For each channel the share of numbers that are on, as the mean over the values that have it.
    fn shares(&self, observed: &[Observed], channels: &Channels) -> Vec<Option<f64>> {
        let mut sums = vec![(0.0, 0u32); channels.count()];
        for Observed { value, on, .. } in observed {
            let numbers = self.graph.shape(*value).positions() * u64::from(self.examples);
            for (channel, on) in channels.of_value(*value).iter().zip(on) {
                let (sum, count) = &mut sums[channel.index()];
                *sum += *on as f64 / numbers as f64;
                *count += 1;
            }
        }
        let mean = |(sum, count)| (count > 0).then(|| sum / f64::from(count));
        sums.into_iter().map(mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{Clip, Conv, GraphBuilder, Place, Role, Shape};
    use edgesmith_testing::{random_image, random_weights, residual_graph};

    use super::*;

    #[test]
    fn shares_are_counted_over_examples_and_positions() {
        // Two channels from one, with and without an activation after them.
        let mut b = GraphBuilder::new();
        let x = b.input("x", Shape::new(1, &[1, 2]).unwrap()).unwrap();
        let v = b.parameter("first.weight", &[2, 1, 1, 1], Role::Weight).unwrap();
        let first = b.node("first", Conv::dense(1, 1), &[x], &[v], Place::default()).unwrap();
        let clip = Clip { low: -1.0, high: 6.0 };
        let clipped = b.node("clip", clip, &[first], &[], Place::default()).unwrap();
        let w = b.parameter("second.weight", &[2, 2, 1, 1], Role::Weight).unwrap();
        let second = b.node("second", Conv::dense(1, 1), &[clipped], &[w], Place::default());
        let graph = b.finish(&[second.unwrap()]).unwrap();
        let mut weights = Weights::default();
        weights.set("first", "weight", vec![2, 1, 1, 1], vec![1.0, -1.0]);
        weights.set("second", "weight", vec![2, 2, 1, 1], vec![1.0, 0.0, 0.0, 0.0]);
        let mut activity = Activity::new(&graph, &weights);
        // The first channel is what is here, and the second the opposite.
        activity.observe(vec![-3.0, 0.0]).unwrap();
        activity.observe(vec![2.0, 7.0]).unwrap();
        let channels = graph.channels();
        let importance = activity.finish(&channels).unwrap();
        let of = |name: &str, index: usize| {
            importance[channels.of_value(graph.value_named(name).unwrap())[index].index()]
        };
        assert_eq!([of("first", 0), of("first", 1)], [0.75, 0.5]);
        // Without an activation: -1, 0, 2 and 6, and always 0.
        assert_eq!([of("second", 0), of("second", 1)], [0.75, 0.0]);
    }

    #[test]
    fn rectified_channels_count_the_positive_numbers_of_all_layers_that_share_them() {
        let graph = residual_graph();
        let weights = random_weights(&graph, 7);
        let mut activity = Activity::new(&graph, &weights);
        let images: Vec<_> = (0..3).map(|seed| random_image(&graph, seed)).collect();
        images.iter().for_each(|image| activity.observe(image.clone()).unwrap());
        let channels = graph.channels();
        let importance = activity.finish(&channels).unwrap();
        let evaluator = Evaluator::<f64>::new(&graph, &weights);
        for group in channels.groups().iter().filter(|group| !group.fixed) {
            for channel in &group.channels {
                let mut shares = Vec::new();
                for (_, node) in graph.nodes().filter(|(_, node)| node.op.kind() == "clip") {
                    let at = channels.of_value(node.output).iter().position(|c| c == channel);
                    let Some(at) = at else { continue };
                    let mut numbers = Vec::new();
                    for image in &images {
                        let image = image.iter().map(|&x| f64::from(x)).collect();
                        let positions = graph.shape(node.output).positions() as usize;
                        let value = evaluator.run(vec![image]).swap_remove(node.output.index());
                        numbers.extend_from_slice(&value[at * positions..][..positions]);
                    }
                    let on = numbers.iter().filter(|number| **number > 0.0).count();
                    shares.push(on as f64 / numbers.len() as f64);
                }
                if !shares.is_empty() {
                    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
                    assert!((importance[channel.index()] - mean).abs() < 1e-12);
                }
            }
        }
    }
}

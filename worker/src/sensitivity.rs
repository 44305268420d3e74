//! What quantizing or pruning each layer alone costs a trained network: its accuracy in the engine,
//! and how far its answers move. It changes nothing for good and chooses no recipe.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use edgesmith_compress::importance::l1_norm;
use edgesmith_compress::{Scheme, cut_to, fold};
use edgesmith_data::{ImageSet, Normalization};
use edgesmith_edge_runtime::{InputError, Model, Session};
use edgesmith_graph::{ChannelGroup, Graph, NodeId, Weights};

use crate::evaluate::{RunError, correct_biases, each_image, size};
use crate::export::{float_model, input_spec, integer_model};

/// Largest number of images on which means of layers are compared.
const BIAS_IMAGES: usize = 64;

/// A network, and the images that say what its layers cost.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// A classifier: one image in, one number per class out.
    pub graph: &'a Graph,
    /// Its weights.
    pub weights: &'a Weights,
    /// What it reads for a byte.
    pub normalization: &'a Normalization,
    /// Training images, for ranges and biases.
    pub calibration: &'a ImageSet,
    /// The images on which answers are compared.
    pub judged: &'a ImageSet,
    /// The share of channels that a layer loses when it is pruned, above 0 and below 1.
    pub share: f64,
}

/// The answers of a network, and what its layers cost, in the order of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensitivity {
    /// The share of images that the whole network in fp32 classifies right.
    pub accuracy: f64,
    /// By layer with a weight.
    pub layers: Vec<Layer>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// The name of what it computes.
    pub name: String,
    /// Its multiply-accumulates.
    pub macs: u64,
    /// Numbers of its weight.
    pub parameters: u64,
    /// With this layer alone in integers.
    pub quantized: Effect,
    /// With channels that this layer writes removed from the network; `None` if they may not be. Of
    /// a layer whose channels go several ways, only those that go with the first are removed.
    pub pruned: Option<Pruned>,
}

/// A network with a part of a layer's channels removed. Layers that are tied together, as around a
/// sum, lose the same ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Pruned {
    /// How many of its channels stay.
    pub kept: usize,
    /// How many channels it has.
    pub of: usize,
    /// What that does.
    pub effect: Effect,
}

/// What a change of a network does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    /// The share of images that it still classifies right.
    pub accuracy: f64,
    /// How many images it gives another class than before.
    pub changed: usize,
    /// The power of its answers to that of their change, decibels: `10 log10(Σ y² / Σ (y' - y)²)`.
    /// Infinite if nothing changed.
    pub signal_to_noise_db: f64,
}

/// Changes each layer alone. `progress` is told how many layers are done of how many, may block,
/// and stops it if it breaks.
///
/// # Errors
/// If `progress` breaks, or the engine or quantization refuses the network.
///
/// # Panics
/// If the weights do not fit the network.
pub fn sensitivity(
    asked: Asked<'_>,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Sensitivity, RunError> {
    let (graph, weights) = fold(asked.graph, asked.weights);
    let weighted = graph.nodes().filter(|(_, node)| graph.has_weight(node));
    let layers: Vec<NodeId> = weighted.map(|(id, _)| id).collect();
    let name = |id: NodeId| graph.value(graph.node(id).output).name.to_string();
    let names: BTreeSet<String> = layers.iter().map(|&id| name(id)).collect();
    let whole = float_model(&graph, &weights, asked.normalization)?;
    let before = answers(&whole, asked.judged, &mut || progress(0, layers.len()))?;
    let effect = |model: &Model, pause: &mut dyn FnMut() -> ControlFlow<()>| {
        let after = answers(model, asked.judged, pause)?;
        Ok::<_, RunError>(before.effect(&after, &asked.judged.labels))
    };
    let mut found = Vec::with_capacity(layers.len());
    for (done, &id) in layers.iter().enumerate() {
        let mut pause = || progress(done, layers.len());
        // Layers that share their weight can only be in integers together.
        let weight = graph.node(id).parameters[0];
        let shares = layers.iter().filter(|&&other| graph.node(other).parameters[0] == weight);
        let together: BTreeSet<String> = shares.map(|&other| name(other)).collect();
        let real = names.difference(&together).cloned().collect();
        // As a recipe does it unless it says otherwise.
        let scheme = Scheme { real, clip_ranges: true, correct_biases: true, ..Scheme::default() };
        let (normalization, calibration) = (asked.normalization, asked.calibration);
        let model =
            integer_model(&graph, &weights, normalization, calibration, &scheme, &mut pause)?;
        let quantized = effect(&model, &mut pause)?;
        let pruned = match without(&graph, &weights, id, asked, &mut pause)? {
            Some((model, kept, of)) => {
                Some(Pruned { kept, of, effect: effect(&model, &mut pause)? })
            }
            None => None,
        };
        let node = graph.node(id);
        found.push(Layer {
            name: name(id),
            macs: graph.macs(node),
            parameters: graph.parameter(node.parameters[0]).elements(),
            quantized,
            pruned,
        });
    }
    Ok(Sensitivity { accuracy: before.accuracy(&asked.judged.labels), layers: found })
}

/// The model with a share of the channels removed that a layer writes, how many stay and how many
/// there were; `None` if they may not be removed.
fn without(
    graph: &Graph,
    weights: &Weights,
    layer: NodeId,
    asked: Asked<'_>,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Option<(Model, usize, usize)>, RunError> {
    let channels = graph.channels();
    let written = channels.of_value(graph.node(layer).output);
    let has = |group: &ChannelGroup| {
        !group.fixed && written.first().is_some_and(|first| group.channels.contains(first))
    };
    let Some(place) = channels.groups().iter().position(has) else { return Ok(None) };
    let of = channels.groups()[place].channels.len();
    let stay = ((of as f64 * (1.0 - asked.share)).round() as usize).clamp(1, of);
    if stay == of {
        return Ok(None);
    }
    let mut kept: Vec<usize> = channels.groups().iter().map(|group| group.channels.len()).collect();
    kept[place] = stay;
    let cut = cut_to(graph, &channels, &l1_norm(graph, &channels, weights), &kept);
    let slim = cut.weights(weights);
    let input = input_spec(graph, asked.normalization)?;
    let few = asked.calibration;
    let few = few.subset(&(0..few.len().min(BIAS_IMAGES)).collect::<Vec<usize>>());
    let slim = correct_biases((graph, weights), (&cut, &slim), &input, &few, pause)?;
    Ok(Some((float_model(&cut.graph, &slim, asked.normalization)?, stay, of)))
}

/// What a network answers to each image, one number per class.
struct Answers {
    classes: usize,
    numbers: Vec<f32>,
}

fn answers(
    model: &Model,
    set: &ImageSet,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Answers, RunError> {
    let mut session = Session::new(model)?;
    let input = model.image().ok_or(InputError::NotAnImage)?;
    let (classes, mut numbers) = (session.classes(), Vec::new());
    each_image(set, size(&input), pause, |image, _| {
        numbers.extend_from_slice(session.run(image)?);
        Ok(())
    })?;
    Ok(Answers { classes, numbers })
}

impl Answers {
    /// The class of each image: the first of the largest numbers.
    fn chosen(&self) -> impl Iterator<Item = usize> {
        self.numbers.chunks_exact(self.classes).map(|logits| {
            let greater = |best, (class, &logit)| if logit > logits[best] { class } else { best };
            logits.iter().enumerate().fold(0, greater)
        })
    }

    fn accuracy(&self, labels: &[u16]) -> f64 {
        let right =
            self.chosen().zip(labels).filter(|(class, label)| *class == usize::from(**label));
        right.count() as f64 / labels.len().max(1) as f64
    }

    fn effect(&self, changed: &Answers, labels: &[u16]) -> Effect {
        let square = |number: f32| f64::from(number).powi(2);
        let signal: f64 = self.numbers.iter().map(|&number| square(number)).sum();
        let pairs = self.numbers.iter().zip(&changed.numbers);
        let noise: f64 = pairs.map(|(before, after)| square(after - before)).sum();
        let signal_to_noise_db = match noise {
            0.0 => f64::INFINITY,
            noise => 10.0 * (signal / noise).log10(),
        };
        let others = self.chosen().zip(changed.chosen()).filter(|(before, after)| before != after);
        Effect { accuracy: changed.accuracy(labels), changed: others.count(), signal_to_noise_db }
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_testing::{
        images_for, normalization, random_bytes, random_weights, residual_graph,
    };

    use super::*;

    fn set(graph: &Graph, seeds: std::ops::Range<u64>) -> ImageSet {
        let images: Vec<Vec<u8>> = seeds.map(|seed| random_bytes(graph, seed)).collect();
        images_for(graph, &images)
    }

    #[test]
    fn each_layer_is_changed_alone() {
        let graph = residual_graph();
        let weights = random_weights(&graph, 3);
        let normalization = normalization(&graph);
        let (calibration, judged) = (set(&graph, 0..8), set(&graph, 8..24));
        let asked = Asked {
            graph: &graph,
            weights: &weights,
            normalization: &normalization,
            calibration: &calibration,
            judged: &judged,
            share: 0.5,
        };
        let mut told = Vec::new();
        let mut progress = |done, all| {
            told.push((done, all));
            ControlFlow::Continue(())
        };
        let found = sensitivity(asked, &mut progress).unwrap();
        let (folded, _) = fold(&graph, &weights);
        let macs: u64 = found.layers.iter().map(|layer| layer.macs).sum();
        assert_eq!(macs, folded.total_macs());
        let count = found.layers.len();
        assert_eq!(told.last(), Some(&(count - 1, count)));
        // Every layer moves the answers a little when it is rounded, and more when half of it goes.
        for layer in &found.layers {
            let quantized = layer.quantized.signal_to_noise_db;
            assert!(quantized.is_finite() && quantized > 10.0, "{layer:?}");
            if let Some(pruned) = &layer.pruned {
                assert!(pruned.effect.signal_to_noise_db < quantized, "{layer:?}");
                assert_eq!(pruned.kept, pruned.of.div_ceil(2));
            }
        }
        // The classes are not removed, and everything else may be.
        assert_eq!(found.layers.iter().filter(|layer| layer.pruned.is_none()).count(), 1);
        let stopped = sensitivity(asked, &mut |_, _| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(RunError::Stopped)));
    }

    #[test]
    fn the_effect_is_that_of_the_answers() {
        let of = |numbers: &[f32]| Answers { classes: 2, numbers: numbers.to_vec() };
        let (before, after) = (of(&[3.0, 4.0, 0.0, 0.0]), of(&[3.0, 3.5, 0.0, 0.0]));
        assert_eq!(before.accuracy(&[1, 0]), 1.0);
        let effect = before.effect(&after, &[1, 0]);
        assert!((effect.signal_to_noise_db - 20.0).abs() < 1e-9);
        assert_eq!(before.effect(&before, &[0, 0]).signal_to_noise_db, f64::INFINITY);
        let nothing = of(&[0.0; 4]);
        assert_eq!(nothing.effect(&nothing, &[0, 0]).signal_to_noise_db, f64::INFINITY);
        assert_eq!(before.effect(&after, &[0, 0]).accuracy, 0.5);
        // The accuracy is that after the change: both are right now, and one was before.
        let right = of(&[5.0, 4.0, 0.0, 0.0]);
        assert_eq!(before.effect(&right, &[0, 0]).accuracy, 1.0);
        let wrong = before.effect(&of(&[0.0, 1.0, 0.0, 2.0]), &[0, 0]);
        assert_eq!(before.accuracy(&[0, 0]) - wrong.accuracy, 0.5);
        assert_eq!(
            (effect.changed, before.effect(&of(&[5.0, 4.0, 0.0, 0.0]), &[0, 0]).changed),
            (0, 1)
        );
    }
}

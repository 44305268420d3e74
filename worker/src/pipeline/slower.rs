//! Compares a trial with networks in fp32 on the machine that measures it: with its own as it was
//! before it was quantized, and with the user's as it came. Where the trial takes longer, it finds
//! the layers that cause it. It does not time anything itself.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};

use edgesmith_common::{LayerTimes, Measurement};
use edgesmith_edge_runtime::{Layer, Model, ValueId};

use super::gate::QuietGate;
use super::original::Own;
use super::run::Study;
use crate::export::{Unquantized, unquantized};
use crate::probe::ProbeError;
use crate::session::AttemptContext;

/// Most layers that are named.
const MOST_LAYERS: usize = 8;

/// Layers that take no more than so many milliseconds longer are not named: that is the last digit
/// that is shown.
const LEAST_MS: f64 = 1e-4;

/// What times models: `whole` as the study says it, and `nodes` each node of one.
pub struct Timers<W, N> {
    pub whole: W,
    pub nodes: N,
}

/// Adds to a measurement of `shipped`, which may have the timing of the study's own network
/// already, what the same network takes in fp32 if any of it is in integers, and the layers that
/// are slower than in either of the two. The form in fp32 is not timed if it is the study's own
/// network with other weights, because the engine's time does not depend on them. What cannot be
/// compared is left out: the trial is measured all the same.
///
/// # Errors
/// If it was stopped.
pub fn compare<W, N>(
    study: &Study<'_>,
    shipped: &Model,
    mut measured: Measurement,
    (gate, context): (&QuietGate, &AttemptContext),
    time: &Timers<W, N>,
) -> Result<Measurement, ProbeError>
where
    W: Fn(&Model) -> Result<Measurement, ProbeError>,
    N: Fn(&Model) -> Result<Vec<f64>, ProbeError>,
{
    let integers = shipped.has_integers();
    if !integers && !measured.is_slower_than_original() {
        return Ok(measured);
    }
    let busy = gate.busy();
    let Ok(fp32) = unquantized(shipped) else { return Ok(measured) };
    drop(busy);
    let own = measured.original.and_then(|_| Own::of(study, gate, context));
    let is_own = own.as_ref().is_some_and(|own| is_same(&own.model, &fp32.model));
    if integers && !is_own {
        let timed = unless_stopped((time.whole)(&fp32.model))?;
        measured.unquantized = timed.map(|timed| timed.timing());
    }
    let (than_original, in_integers) =
        (measured.is_slower_than_original(), measured.is_slower_in_integers());
    if !than_original && !in_integers {
        return Ok(measured);
    }
    let nodes = |model: &Model| -> Result<Vec<f64>, ProbeError> {
        Ok(unless_stopped((time.nodes)(model))?.unwrap_or_default())
    };
    let shipped_ms = nodes(shipped)?;
    let names = names(&fp32, own.as_ref());
    if in_integers {
        let same = (0..fp32.places.len()).map(|node| (node, node));
        let pairs = pairs(shipped, &fp32, same, true);
        let times = (&*shipped_ms, &*nodes(&fp32.model)?);
        measured.slower_in_integers = slower(shipped, &names, &pairs, times);
    }
    if let Some(own) = own.filter(|_| than_original) {
        let (matched, all) = matched(&fp32.model, &own.model);
        if !matched.is_empty() {
            let pairs = pairs(shipped, &fp32, matched.into_iter(), all);
            let times = (&*shipped_ms, &*nodes(&own.model)?);
            measured.slower_layers = slower(shipped, &names, &pairs, times);
        }
    }
    Ok(measured)
}

/// `None` in place of a failure.
fn unless_stopped<T>(result: Result<T, ProbeError>) -> Result<Option<T>, ProbeError> {
    match result {
        Ok(timed) => Ok(Some(timed)),
        Err(ProbeError::Stopped) => Err(ProbeError::Stopped),
        Err(error) => {
            tracing::warn!("a network was not timed to compare a trial with one in fp32: {error}");
            Ok(None)
        }
    }
}

/// Whether two models are the same but for their weights, and for numbers that values are clipped
/// to.
fn is_same(one: &Model, other: &Model) -> bool {
    let (Ok(values), Ok(others)) = (one.validate(), other.validate()) else { return false };
    let shapes = |all: &edgesmith_edge_runtime::Values| -> Vec<_> {
        all.all().iter().map(|value| value.shape).collect()
    };
    let layers = |model: &Model| -> Vec<_> {
        let layer = |node: &edgesmith_edge_runtime::Node| {
            (kind(&node.layer), node.inputs.clone(), weights(&node.layer))
        };
        model.nodes.iter().map(layer).collect()
    };
    shapes(&values) == shapes(&others) && layers(one) == layers(other)
}

/// What a layer is, in the engine.
fn kind(layer: &Layer) -> Discriminant<Layer> {
    match layer {
        Layer::Leveled(leveled) => discriminant(&leveled.real()),
        layer => discriminant(layer),
    }
}

/// How many weights a layer has, if it is one of those that have a weight.
fn weights(layer: &Layer) -> Option<usize> {
    match layer {
        Layer::FloatConv(layer) => Some(layer.conv.weight.len()),
        Layer::IntConv(layer) => Some(layer.conv.weight.len()),
        Layer::FloatConvTranspose(layer) => Some(layer.conv.weight.len()),
        Layer::IntConvTranspose(layer) => Some(layer.conv.weight.len()),
        Layer::FloatLinear(layer) => Some(layer.weight.len()),
        Layer::IntLinear(layer) => Some(layer.linear.weight.len()),
        Layer::Leveled(layer) => Some(layer.levels().len()),
        Layer::IntAddTwice(_)
        | Layer::AveragePool(_)
        | Layer::IntAveragePool(_)
        | Layer::Binary(_)
        | Layer::Concat(_)
        | Layer::Constant(_)
        | Layer::Quantize(_)
        | Layer::Dequantize(_)
        | Layer::Gather(_)
        | Layer::LayerNormalization(_)
        | Layer::Map(_)
        | Layer::MatrixProduct(_)
        | Layer::MaxPool(_)
        | Layer::Pad(_)
        | Layer::Prelu(_)
        | Layer::IntProduct(_)
        | Layer::Reduce(_)
        | Layer::IntReduce(_)
        | Layer::Reshape(_)
        | Layer::Resize(_)
        | Layer::IntResize(_)
        | Layer::Round(_)
        | Layer::Select(_)
        | Layer::Softmax(_)
        | Layer::IntSum(_)
        | Layer::Table(_)
        | Layer::Transpose(_) => None,
    }
}

/// The layers of two models in fp32 that are the same, and whether these are all. If passes left
/// layers out or added some, these are the layers with weights, if there are as many.
fn matched(one: &Model, other: &Model) -> (Vec<(usize, usize)>, bool) {
    let kinds =
        |model: &Model| -> Vec<_> { model.nodes.iter().map(|node| kind(&node.layer)).collect() };
    if kinds(one) == kinds(other) {
        return ((0..one.nodes.len()).map(|node| (node, node)).collect(), true);
    }
    let [ones, others] = [one, other].map(|model| {
        let weighted = model.nodes.iter().map(|node| weights(&node.layer).is_some());
        let weighted = weighted.enumerate().filter(|(_, weighted)| *weighted);
        weighted.map(|(node, _)| node).collect::<Vec<_>>()
    });
    let pairs = if ones.len() == others.len() {
        ones.into_iter().zip(others)
    } else {
        Vec::new().into_iter().zip(Vec::new())
    };
    (pairs.collect(), false)
}

/// The names of the layers of a trial: those of the user's network, where they are the same ones.
fn names(fp32: &Unquantized, own: Option<&Own>) -> Vec<String> {
    let mut names = fp32.names.clone();
    if let Some(own) = own {
        for (node, of_own) in matched(&fp32.model, &own.model).0 {
            names[fp32.places[node]].clone_from(&own.names[of_own]);
        }
    }
    names
}

/// By layer of the trial: the layers of another network that compute the same; `None` if they are
/// not known. `matched` are the layers of the trial in fp32 with those of the other network, and
/// `all` says whether every layer is among them.
fn pairs(
    shipped: &Model,
    fp32: &Unquantized,
    matched: impl Iterator<Item = (usize, usize)>,
    all: bool,
) -> Vec<Option<Vec<usize>>> {
    let alone = |node: usize| all || !fp32.places.contains(&node);
    let mut pairs: Vec<Option<Vec<usize>>> =
        (0..shipped.nodes.len()).map(|node| alone(node).then(Vec::new)).collect();
    for (node, other) in matched {
        pairs[fp32.places[node]].get_or_insert_default().push(other);
    }
    pairs
}

/// The layers that take longer than their counterparts, and the conversions that a layer makes
/// necessary, the greatest difference first. Empty if a layer was not timed.
fn slower(
    shipped: &Model,
    names: &[String],
    pairs: &[Option<Vec<usize>>],
    (shipped_ms, other_ms): (&[f64], &[f64]),
) -> Vec<LayerTimes> {
    let timed = |places: &Vec<usize>| places.iter().all(|&place| place < other_ms.len());
    if shipped_ms.len() != pairs.len() || !pairs.iter().flatten().all(timed) {
        return Vec::new();
    }
    let (mut found, mut conversions) = (Vec::new(), BTreeMap::<usize, f64>::new());
    for (node, pair) in pairs.iter().enumerate() {
        let Some(others) = pair else { continue };
        let time = shipped_ms[node];
        let original_ms: f64 = others.iter().map(|&at| other_ms[at]).sum();
        let slower = (1.0 + Measurement::SLOWER) * original_ms;
        if others.is_empty() && converts(&shipped.nodes[node].layer) {
            *conversions.entry(cause(shipped, node)).or_default() += time;
        } else if time > slower.max(original_ms + LEAST_MS) {
            let (layer, conversions, shipped_ms) = (names[node].clone(), false, time);
            found.push(LayerTimes { layer, conversions, shipped_ms, original_ms });
        }
    }
    let conversions = conversions.into_iter().filter(|(_, time)| *time > LEAST_MS);
    found.extend(conversions.map(|(node, shipped_ms)| {
        let (layer, conversions, original_ms) = (names[node].clone(), true, 0.0);
        LayerTimes { layer, conversions, shipped_ms, original_ms }
    }));
    let more = |of: &LayerTimes| of.shipped_ms - of.original_ms;
    found.sort_by(|a, b| more(b).total_cmp(&more(a)));
    found.truncate(MOST_LAYERS);
    found
}

/// Whether a layer that a network in fp32 does not have only changes how numbers are held.
fn converts(layer: &Layer) -> bool {
    matches!(layer, Layer::Quantize(_) | Layer::Dequantize(_) | Layer::Table(_))
}

/// The layer whose form makes a conversion necessary: the one in fp32 that reads what comes of
/// bytes, or whose output becomes bytes; and one that needs bytes of another scale.
fn cause(shipped: &Model, conversion: usize) -> usize {
    let inputs = shipped.inputs.len();
    let node = &shipped.nodes[conversion];
    let made_by = || (node.inputs[0].0 as usize).checked_sub(inputs);
    let value = ValueId((inputs + conversion) as u32);
    let reader = || shipped.nodes.iter().position(|node| node.inputs.contains(&value));
    let other = match node.layer {
        Layer::Quantize(_) => made_by().or_else(reader),
        _ => reader().or_else(made_by),
    };
    other.unwrap_or(conversion)
}

#[cfg(test)]
mod tests {
    use edgesmith_edge_runtime as edge;

    use super::*;

    fn model(nodes: Vec<(u32, Layer)>) -> Model {
        let output = edge::Element::Fp32;
        let node = |(input, layer)| edge::Node { inputs: vec![ValueId(input)], layer, output };
        let input = edge::Input {
            name: "x".to_owned(),
            shape: edge::Shape::new(&[4]).unwrap(),
            order: vec![0],
            array: edge::Array::Fp32,
            element: output,
        };
        Model {
            inputs: vec![input],
            nodes: nodes.into_iter().map(node).collect(),
            outputs: vec![edge::Output::new("y", ValueId(0), 1)],
            rounding: edge::Rounding::Once,
            notes: edge::Notes::default(),
        }
    }

    fn map() -> Layer {
        edge::Map { function: edge::Function::Tanh }.into()
    }

    #[test]
    fn the_layer_that_takes_most_time_more_comes_first() {
        let names = ["a", "b", "c", "d"].map(str::to_owned);
        let shipped = model((0..4).map(|input| (input, map())).collect());
        let pairs: Vec<_> = (0..4).map(|node| Some(vec![node])).collect();
        let found = |pairs: &[Option<Vec<usize>>], times: &[f64]| -> Vec<(String, f64)> {
            let found = slower(&shipped, &names, pairs, (times, &[1.0, 1.0, 1.0, 4.0]));
            found.into_iter().map(|of| (of.layer, of.original_ms)).collect()
        };
        let (b, d) = (("b".to_owned(), 1.0), ("d".to_owned(), 4.0));
        let times = [1.04, 2.0, 0.5, 6.0];
        assert_eq!(found(&pairs, &times), [d, b.clone()], "4 % more is within the spread");
        assert_eq!(found(&pairs, &times[..3]), [], "a layer was not timed");
        let little = times.map(|_| 4e-5);
        assert_eq!(found(&[const { Some(vec![]) }; 4], &little), [], "too little to be shown");
        // One that became two is compared with both, and one that is not known with none.
        let (c, d) = (("c".to_owned(), 0.0), ("d".to_owned(), 5.0));
        let pairs = [None, Some(vec![1]), Some(vec![]), Some(vec![2, 3])];
        assert_eq!(found(&pairs, &[9.0, 2.0, 0.5, 5.75]), [b, d, c]);
        assert_eq!(found(&[None, Some(vec![1]), Some(vec![]), Some(vec![4])], &times), []);
    }

    #[test]
    fn conversions_are_named_with_the_layer_that_needs_them() {
        let nodes = vec![
            (0, edge::Quantize.into()),
            (1, map()),
            (2, edge::Dequantize.into()),
            (3, map()),
            (4, edge::Quantize.into()),
            (5, map()),
            (6, edge::Dequantize.into()),
        ];
        let shipped = model(nodes);
        let names: Vec<String> = (0..7).map(|node| format!("l{node}")).collect();
        let pairs: Vec<_> = [None, Some(0), None, Some(1), None, Some(2), None]
            .map(|pair: Option<usize>| Some(pair.into_iter().collect()))
            .into();
        let times = [0.5, 1.0, 2.0, 1.0, 4.0, 1.0, 0.0];
        let found = slower(&shipped, &names, &pairs, (&times, &[1.0; 3]));
        let found: Vec<(&str, bool, f64)> =
            found.iter().map(|of| (&*of.layer, of.conversions, of.shipped_ms)).collect();
        // The input becomes bytes for the first layer; the last conversion took no time.
        assert_eq!(found, [("l3", true, 6.0), ("l1", true, 0.5)]);
    }
}

//! Converts networks to what others read: models of the edge runtime, and ONNX. It does not train
//! or compress.

mod edge;
pub mod onnx;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use edgesmith_compress::{Scheme, fold};
use edgesmith_data::{ImageSet, Normalization};
use edgesmith_edge_runtime::Model;
use edgesmith_graph::{Graph, Quantization, ValueId, Weights};
use edgesmith_onnx::Imported;

use crate::evaluate::{RunError, quantize};

pub use edge::{
    Held, InputForm, Interface, LiftError, Lifted, LowerError, Lowered, OutputForm, Unquantized,
    UnquantizedError, has_integer_form, lift, lift_with_places, lower, lower_as, lower_coarse,
    lower_integers, lower_partly, unquantized,
};
pub(crate) use edge::{input_spec, layers};

/// The fp32 model of a trained network: folded, then lowered.
///
/// # Errors
/// If the engine does not run one of the operations.
///
/// # Panics
/// If `weights` do not fit `graph`, or `normalization` has the wrong number of channels.
pub fn float_model(
    graph: &Graph,
    weights: &Weights,
    normalization: &Normalization,
) -> Result<Model, LowerError> {
    let (graph, weights) = fold(graph, weights);
    lower(&graph, &weights, None, normalization)
}

/// The int8 model of a trained network: folded, quantized by `scheme` on the images of `set`, then
/// lowered. A layer that stays in fp32 reads and writes bytes through conversions, unless what is
/// next to it is in fp32, too, or it is the only one that reads the image. `pause` is called from
/// time to time.
///
/// # Errors
/// If `pause` breaks, the network cannot be quantized, or the engine does not run one of the
/// operations.
///
/// # Panics
/// If `weights` do not fit `graph`, or `normalization` has the wrong number of channels.
pub fn integer_model(
    graph: &Graph,
    weights: &Weights,
    normalization: &Normalization,
    set: &ImageSet,
    scheme: &Scheme,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Model, RunError> {
    let (graph, weights) = fold(graph, weights);
    let input = input_spec(&graph, normalization)?;
    let (weights, quantization) = quantize(&graph, &weights, &input, set, scheme, pause)?;
    if scheme.real.is_empty() {
        return Ok(lower(&graph, &weights, Some(&quantization), normalization)?);
    }
    let interface = Interface::of(&graph, Some(normalization));
    Ok(lower_partly(&graph, &weights, &quantization, &interface)?)
}

/// The fp32 model of a network that was read from an ONNX file: folded, then lowered.
///
/// # Errors
/// If the engine does not run one of the operations.
pub fn imported_model(imported: &Imported) -> Result<Model, LowerError> {
    let (graph, weights) = fold(&imported.graph, &imported.weights);
    lower_as(&graph, &weights, None, &Interface::imported(imported))
}

/// The model of a network that was read from an ONNX file in QDQ form: in integers where the file
/// has the scales of everything that an operation reads and writes, else in fp32, with conversions
/// between. `None` if the file has no scales.
///
/// # Errors
/// If the engine does not run one of the operations.
pub fn imported_integer_model(imported: &Imported) -> Option<Result<Model, LowerError>> {
    let Imported { graph, weights, quantization, .. } = imported;
    let (folded, folded_weights) = fold(graph, weights);
    let quantization = kept((graph, weights, quantization.as_ref()?), (&folded, &folded_weights));
    let interface = Interface::imported(imported);
    Some(lower_partly(&folded, &folded_weights, &quantization, &interface))
}

/// The scales of a network that still hold after it was folded.
fn kept(
    (graph, weights, quantization): (&Graph, &Weights, &Quantization),
    (folded, folded_weights): (&Graph, &Weights),
) -> Quantization {
    let mut kept = Quantization::none(folded);
    // The output of a layer with a normalisation in it is that of the normalisation.
    let normalizations = graph.absorbed_normalizations();
    let mut means: BTreeMap<&str, ValueId> = BTreeMap::new();
    for input in graph.inputs() {
        means.insert(&graph.value(input).name, input);
    }
    for (id, node) in graph.nodes() {
        let output = normalizations[id.index()].map_or(node.output, |last| graph.node(last).output);
        means.insert(&graph.value(node.output).name, output);
    }
    for (id, value) in folded.values() {
        let affine = means.get(&*value.name).and_then(|&meant| quantization.value(meant));
        if let Some(affine) = affine {
            kept.set_value(id, affine);
        }
    }
    for (id, parameter) in folded.parameters() {
        let before = graph.parameter_named(&parameter.name);
        let scales = before.and_then(|before| quantization.parameter(before));
        let (name, arrays) = (&*parameter.name, (&weights.arrays, &folded_weights.arrays));
        if let Some(scales) = scales
            && arrays.0.get(name) == arrays.1.get(name)
        {
            kept.set_parameter(id, scales.to_vec());
            let before = before.expect("it has scales");
            match quantization.is_signs(before) {
                true => kept.set_signs(id),
                false => kept.set_largest(id, quantization.largest(before)),
            }
        }
    }
    kept
}

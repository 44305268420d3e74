//! Converts networks to what others read: models of the edge runtime, and ONNX. It does not train
//! or compress.

mod edge;
pub mod onnx;

use std::ops::ControlFlow;

use edgesmith_compress::fold;
use edgesmith_data::{ImageSet, Normalization};
use edgesmith_edge_runtime::Model;
use edgesmith_graph::{Graph, Weights};
use edgesmith_onnx::Imported;

use crate::evaluate::{RunError, calibrate};

pub(crate) use edge::input_spec;
pub use edge::{
    InputForm, Interface, LiftError, Lifted, LowerError, OutputForm, lift, lower, lower_as,
};

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

/// The int8 model of a trained network: folded, calibrated on the images of `set`, then lowered.
/// `pause` is called from time to time.
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
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Model, RunError> {
    let (graph, weights) = fold(graph, weights);
    let input = input_spec(&graph, normalization)?;
    let quantization = calibrate(&graph, &weights, &input, set, pause)?;
    Ok(lower(&graph, &weights, Some(&quantization), normalization)?)
}

/// The fp32 model of a network that was read from an ONNX file: folded, then lowered.
///
/// # Errors
/// If the engine does not run one of the operations.
pub fn imported_model(imported: &Imported) -> Result<Model, LowerError> {
    let (graph, weights) = fold(&imported.graph, &imported.weights);
    lower_as(&graph, &weights, None, &Interface::imported(imported))
}

//! How a network in fp32 and one in integers differ, apart from their layers.

use super::{AnyLayer, FloatLayer, IntLayer};
use crate::error::Problem;
use crate::model::{FloatNode, IntNode, Quantization, ValueId};
use crate::validate::check_quantization;

/// How a network computes.
pub(crate) trait Arithmetic {
    /// An element of a value.
    type Element: Copy + Default;

    /// An element of scratch memory.
    type Scratch: Copy + Default;

    /// What relates the elements of a value to real numbers.
    type Scale: Copy;

    /// Checks the scale of a value; `what` is its name in the error.
    fn check_scale(what: &'static str, scale: Self::Scale) -> Result<(), Problem>;
}

/// In 32-bit floating point. Elements are the real numbers themselves.
pub(crate) struct Fp32;

impl Arithmetic for Fp32 {
    type Element = f32;
    type Scratch = f32;
    type Scale = ();

    fn check_scale(_: &'static str, (): ()) -> Result<(), Problem> {
        Ok(())
    }
}

/// In integers only.
pub(crate) struct Int8;

impl Arithmetic for Int8 {
    type Element = u8;
    type Scratch = i16;
    type Scale = Quantization;

    fn check_scale(what: &'static str, scale: Quantization) -> Result<(), Problem> {
        check_quantization(what, scale)
    }
}

/// A node in either arithmetic.
pub(crate) trait Node {
    /// What nodes of this arithmetic compute.
    type Layer: AnyLayer;

    /// The values that it reads.
    fn inputs(&self) -> &[ValueId];

    /// What it computes.
    fn layer(&self) -> &Self::Layer;

    /// The scale of its output. The logits have none, whatever it says.
    fn scale(&self) -> <<Self::Layer as AnyLayer>::Arithmetic as Arithmetic>::Scale;
}

impl Node for FloatNode {
    type Layer = FloatLayer;

    fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    fn layer(&self) -> &FloatLayer {
        &self.layer
    }

    fn scale(&self) {}
}

impl Node for IntNode {
    type Layer = IntLayer;

    fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    fn layer(&self) -> &IntLayer {
        &self.layer
    }

    fn scale(&self) -> Quantization {
        self.output
    }
}

//! What the files of the layers use.

pub(super) use super::{Memory, Operands, Plain, Prepared, Settings, Site, Value, view_mut};
pub(super) use crate::error::{ModelError, Problem};
pub(super) use crate::file::{Reader, Writer};
pub(super) use crate::model::{Element, Quantization, Requantization};
pub(super) use crate::shape::{MAX_AXES, PerAxis, Shape, Walk};
pub(super) use crate::validate::{
    bytes, check_axes, check_clamp, check_factor, check_finite, check_not_zero, check_number,
    check_size, floats, inputs_of, moves,
};

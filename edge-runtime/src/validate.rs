//! Checks whether a model can be run: infers every shape and checks every size, reference and
//! number. A valid model runs without panics and without overflow of an accumulator. What is
//! particular to a kind of layer is checked in `layers`, with the checks at the end of this file.

use crate::error::{ModelError, Problem};
use crate::file::KNOWN_NOTES;
use crate::layers::Value;
use crate::model::{
    Array, Element, Input, Model, Notes, Numbers, Output, Quantization, Requantization, TestVector,
    ValueId,
};
use crate::shape::{MAX_VALUE_ELEMENTS, Shape};

/// Most nodes of a model. It keeps the time of planning short.
pub const MAX_NODES: usize = 1 << 14;

/// Most inputs of a model, and most outputs.
pub const MAX_PORTS: usize = 1 << 10;

/// All values of a valid model: the inputs, then the output of each node.
#[derive(Debug, Clone, PartialEq)]
pub struct Values(Vec<Value>);

impl Values {
    /// Shape of one value.
    ///
    /// # Panics
    /// If the model has no such value.
    #[must_use]
    pub fn of(&self, value: ValueId) -> Shape {
        self.0[value.0 as usize].shape
    }

    /// One entry per value: the inputs first.
    #[must_use]
    pub fn all(&self) -> &[Value] {
        &self.0
    }
}

impl Model {
    /// Infers every shape.
    ///
    /// # Errors
    /// Returns the first mistake, with its node.
    pub fn validate(&self) -> Result<Values, ModelError> {
        let mut values = Vec::with_capacity(self.inputs.len() + self.nodes.len());
        if self.inputs.is_empty() {
            return Err(ModelError::NoInputs);
        }
        for (what, found) in [("inputs", self.inputs.len()), ("outputs", self.outputs.len())] {
            if found > MAX_PORTS {
                return Err(ModelError::TooManyPorts { what, found, limit: MAX_PORTS });
            }
        }
        for (index, input) in self.inputs.iter().enumerate() {
            let refused = |problem| ModelError::Input { name: input.name.clone(), problem };
            let others = self.inputs[..index].iter().map(|other| other.name.as_str());
            check_name(&input.name, others).map_err(refused)?;
            check_input(input).map_err(refused)?;
            let id = ValueId(index as u32);
            values.push(Value { id, shape: input.shape, element: input.element });
        }
        self.infer(&mut values)?;
        if self.outputs.is_empty() {
            return Err(ModelError::NoOutputs);
        }
        for (index, output) in self.outputs.iter().enumerate() {
            let refused = |problem| ModelError::Output { name: output.name.clone(), problem };
            let others = self.outputs[..index].iter().map(|other| other.name.as_str());
            check_name(&output.name, others).map_err(refused)?;
            check_output(output, &values).map_err(refused)?;
        }
        let values = Values(values);
        self.check_notes(&values).map_err(ModelError::Note)?;
        Ok(values)
    }

    fn infer(&self, values: &mut Vec<Value>) -> Result<(), ModelError> {
        if self.nodes.is_empty() {
            return Err(ModelError::NoNodes);
        }
        if self.nodes.len() > MAX_NODES {
            return Err(ModelError::TooManyNodes { found: self.nodes.len(), limit: MAX_NODES });
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let kind = node.layer.name();
            let wrap = |problem| ModelError::Node { node: index, kind, problem };
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for &value in &node.inputs {
                match values.get(value.0 as usize) {
                    Some(&value) => inputs.push(value),
                    None => {
                        let limit = values.len();
                        return Err(wrap(Problem::ForwardReference { value: value.0, limit }));
                    }
                }
            }
            check_element("the output quantization", node.output).map_err(wrap)?;
            let shape = node.layer.output(&inputs, node.output).map_err(wrap)?;
            let id = ValueId(values.len() as u32);
            values.push(Value { id, shape, element: node.output });
        }
        Ok(())
    }

    fn check_notes(&self, values: &Values) -> Result<(), Problem> {
        let Notes { classes, tests, tolerances, others, .. } = &self.notes;
        let elements = |output: &Output| values.of(output.value).elements();
        if !classes.is_empty() {
            let expected = elements(&self.outputs[0]);
            check_size("the list of class names", expected as u64, classes.len())?;
        }
        for TestVector { inputs, outputs } in tests {
            check_size("the list of inputs of a test", self.inputs.len() as u64, inputs.len())?;
            check_size("the list of outputs of a test", self.outputs.len() as u64, outputs.len())?;
            for (numbers, input) in inputs.iter().zip(&self.inputs) {
                let found = match (numbers, &input.array) {
                    (Numbers::Bytes(bytes), Array::Bytes(_)) => bytes.len(),
                    (Numbers::Fp32(numbers), Array::Fp32) => numbers.len(),
                    (Numbers::Bytes(_), Array::Fp32) | (Numbers::Fp32(_), Array::Bytes(_)) => {
                        return Err(Problem::TestOfOtherType);
                    }
                };
                check_size("an input of a test", input.shape.elements() as u64, found)?;
            }
            for (numbers, output) in outputs.iter().zip(&self.outputs) {
                check_size("an output of a test", elements(output) as u64, numbers.len())?;
            }
        }
        if !tolerances.is_empty() {
            check_size("the list of tolerances", tests.len() as u64, tolerances.len())?;
        }
        for &tolerance in tolerances {
            check_number("a tolerance", tolerance, false)?;
            if tolerance < 0.0 {
                return Err(Problem::NegativeTolerance(tolerance));
            }
        }
        let skippable = |tag: [u8; 4]| {
            tag.iter().all(u8::is_ascii_alphabetic)
                && tag[0].is_ascii_lowercase()
                && !KNOWN_NOTES.contains(&tag)
        };
        let ordered = others.is_sorted_by(|a, b| a.tag < b.tag);
        match others.iter().find(|section| !ordered || !skippable(section.tag)) {
            Some(section) => Err(Problem::BadTag(section.tag)),
            None => Ok(()),
        }
    }
}

fn check_name<'a>(name: &str, mut others: impl Iterator<Item = &'a str>) -> Result<(), Problem> {
    if name.is_empty() {
        return Err(Problem::NoName);
    }
    if others.any(|other| other == name) { Err(Problem::NameTwice) } else { Ok(()) }
}

fn check_input(input: &Input) -> Result<(), Problem> {
    let Input { shape, order, array, element, .. } = input;
    check_order(order, shape)?;
    check_element("the quantization", *element)?;
    let Array::Bytes(normalization) = array else { return Ok(()) };
    let channels = u64::from(shape.channels());
    check_size("the mean", channels, normalization.mean.len())?;
    check_size("the standard deviation", channels, normalization.std.len())?;
    for (&mean, &std) in normalization.mean.iter().zip(&normalization.std) {
        check_number("the mean", mean, false)?;
        check_number("the standard deviation", std, true)?;
    }
    let tables = match element {
        Element::Fp32 => 0,
        Element::Uint8(_) => channels * 256,
    };
    check_size("the table", tables, normalization.tables.len())
}

fn check_output(output: &Output, values: &[Value]) -> Result<(), Problem> {
    let (value, limit) = (output.value.0, values.len());
    let known = values.get(value as usize);
    let known = known.ok_or(Problem::ForwardReference { value, limit })?;
    check_order(&output.order, &known.shape)
}

/// Checks that `order` has each axis of a value once.
pub(crate) fn check_order(order: &[u32], shape: &Shape) -> Result<(), Problem> {
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    let axes = shape.axes();
    if sorted.into_iter().eq(0..axes as u32) { Ok(()) } else { Err(Problem::NotAnOrder { axes }) }
}

/// The inputs of a layer that has `N` of them.
pub(crate) fn inputs_of<const N: usize>(inputs: &[Value]) -> Result<[Value; N], Problem> {
    let (expected, found) = (N, inputs.len());
    <[Value; N]>::try_from(inputs).map_err(|_| Problem::InputCount { expected, found })
}

/// Checks that the inputs and the output are in fp32.
pub(crate) fn floats(inputs: &[Value], output: Element) -> Result<(), Problem> {
    if let Some(input) = inputs.iter().find(|input| input.element != Element::Fp32) {
        return Err(Problem::WrongElement { value: input.id.0, expected: "fp32" });
    }
    match output {
        Element::Fp32 => Ok(()),
        Element::Uint8(_) => Err(Problem::WrongOutput { expected: "fp32" }),
    }
}

/// Checks that the inputs and the output are bytes.
pub(crate) fn bytes(inputs: &[Value], output: Element) -> Result<(), Problem> {
    if let Some(input) = inputs.iter().find(|input| input.element == Element::Fp32) {
        return Err(Problem::WrongElement { value: input.id.0, expected: "bytes" });
    }
    match output {
        Element::Uint8(_) => Ok(()),
        Element::Fp32 => Err(Problem::WrongOutput { expected: "bytes" }),
    }
}

/// Checks that the inputs hold what the output holds, so that numbers can be moved as they are.
pub(crate) fn moves(inputs: &[Value], output: Element) -> Result<(), Problem> {
    match inputs.iter().find(|input| input.element != output) {
        Some(input) => Err(Problem::OtherElement { value: input.id.0 }),
        None => Ok(()),
    }
}

pub(crate) fn check_axes(what: &'static str, expected: usize, found: usize) -> Result<(), Problem> {
    check_size(what, expected as u64, found)
}

pub(crate) fn check_not_zero(what: &'static str, size: u32) -> Result<(), Problem> {
    if size == 0 { Err(Problem::Zero(what)) } else { Ok(()) }
}

pub(crate) fn check_size(what: &'static str, expected: u64, found: usize) -> Result<(), Problem> {
    let found = found as u64;
    if expected == found { Ok(()) } else { Err(Problem::WrongSize { what, expected, found }) }
}

pub(crate) fn check_limit(what: &'static str, elements: u64) -> Result<(), Problem> {
    let limit = MAX_VALUE_ELEMENTS;
    if elements <= limit { Ok(()) } else { Err(Problem::TooLarge { what, elements, limit }) }
}

pub(crate) fn check_number(what: &'static str, value: f32, positive: bool) -> Result<(), Problem> {
    if value.is_finite() && (!positive || value > 0.0) {
        Ok(())
    } else {
        Err(Problem::BadNumber { what, value, positive })
    }
}

pub(crate) fn check_finite(weight: &[f32], bias: &[f32]) -> Result<(), Problem> {
    weight.iter().try_for_each(|&value| check_number("the weight", value, false))?;
    bias.iter().try_for_each(|&value| check_number("the bias", value, false))
}

fn check_element(what: &'static str, element: Element) -> Result<(), Problem> {
    match element {
        Element::Fp32 => Ok(()),
        Element::Uint8(Quantization { scale, .. }) => check_number(what, scale, true),
    }
}

pub(crate) fn check_factor(factor: Requantization) -> Result<(), Problem> {
    let Requantization { multiplier, shift } = factor;
    if factor.is_normal() { Ok(()) } else { Err(Problem::BadRequantization { multiplier, shift }) }
}

pub(crate) fn check_clamp((low, high): (u8, u8)) -> Result<(), Problem> {
    if low <= high { Ok(()) } else { Err(Problem::EmptyClamp(low, high)) }
}

/// Checks that no input can overflow the accumulator of any output, in any order of summation.
/// Sizes have been checked.
pub(crate) fn check_accumulators(weight: &[i8], bias: &[i32]) -> Result<(), Problem> {
    let rows = weight.chunks_exact(weight.len() / bias.len());
    for (channel, (row, bias)) in rows.zip(bias).enumerate() {
        let weights: u64 = row.iter().map(|w| u64::from(w.unsigned_abs())).sum();
        if weights * 255 + u64::from(bias.unsigned_abs()) > i32::MAX as u64 {
            return Err(Problem::AccumulatorOverflow { channel });
        }
    }
    Ok(())
}

//! A node of the file with what it reads, as the readers of operators see it.

use std::rc::Rc;

use super::constant::{Constant, Size, types};
use super::error::Fault;
use super::model::{Attribute, AttributeValue, Node};
use super::network::Network;
use super::numbers::{self, Beside};
use super::view::{Element, View};

/// What a name of the file stands for.
#[derive(Debug, Clone)]
pub(super) enum Tensor {
    /// Known when the file is read.
    Constant(Rc<Constant>),
    /// Computed when the network runs.
    View(View),
    /// Computed by something that is not supported, which has been said.
    Unknown,
}

/// A node, its inputs and the version of the operators.
pub(super) struct Call<'c> {
    pub(super) node: &'c Node<'c>,
    pub(super) opset: i64,
    /// `None` where one is left out.
    pub(super) inputs: Vec<Option<Tensor>>,
    /// The files beside the network.
    pub(super) beside: &'c Beside<'c>,
}

/// What an operator's reader returns: one tensor per output.
pub(super) type Outputs = Result<Vec<Tensor>, Fault>;

impl Tensor {
    pub(super) fn constant(constant: Constant) -> Self {
        Self::Constant(Rc::new(constant))
    }

    /// Its shape.
    pub(super) fn sizes(&self) -> Vec<Size> {
        match self {
            Self::Constant(constant) => {
                constant.dims.iter().map(|&dim| Size::known(dim as i64)).collect()
            }
            Self::View(view) => view.sizes(),
            Self::Unknown => vec![],
        }
    }

    /// Itself as what is computed when the network runs.
    pub(super) fn to_view(&self, network: &mut Network) -> Result<View, Fault> {
        match self {
            Self::View(view) => Ok(view.clone()),
            Self::Constant(constant) => network.constant(constant),
            Self::Unknown => Err(Fault::invalid("it reads what is not known")),
        }
    }
}

impl From<View> for Tensor {
    fn from(view: View) -> Self {
        Self::View(view)
    }
}

impl<'c> Call<'c> {
    /// An input, if it is given.
    pub(super) fn given(&self, input: usize) -> Option<&Tensor> {
        self.inputs.get(input)?.as_ref()
    }

    /// An input that must be there.
    pub(super) fn input(&self, input: usize) -> Result<&Tensor, Fault> {
        self.given(input).ok_or_else(|| Fault::invalid(format!("its input {input} is missing")))
    }

    /// All inputs, of which there is at least one and none may be left out.
    pub(super) fn all(&self) -> Result<Vec<Tensor>, Fault> {
        if self.inputs.is_empty() {
            return Err(Fault::invalid("it has no inputs"));
        }
        (0..self.inputs.len()).map(|input| self.input(input).cloned()).collect()
    }

    /// An input of real numbers that are computed when the network runs.
    pub(super) fn floats(&self, input: usize, network: &mut Network) -> Result<View, Fault> {
        let view = self.view(input, network)?;
        match view.element {
            Element::Float => Ok(view),
            Element::Bool | Element::Integer | Element::Quantized => Err(integers()),
        }
    }

    /// An input as what is computed when the network runs, of any type.
    pub(super) fn view(&self, input: usize, network: &mut Network) -> Result<View, Fault> {
        self.input(input)?.to_view(network)
    }

    /// An input that has to be known.
    pub(super) fn constant(&self, input: usize) -> Result<Rc<Constant>, Fault> {
        match self.input(input)? {
            Tensor::Constant(constant) => Ok(Rc::clone(constant)),
            _ => Err(Fault::unsupported(
                format!("its input {input} is computed when the network runs, not constant"),
                "simplify the network with onnxsim, or export it with fixed sizes",
            )),
        }
    }

    /// An input that has to be known, if it is given.
    pub(super) fn optional(&self, input: usize) -> Result<Option<Rc<Constant>>, Fault> {
        self.given(input).is_some().then(|| self.constant(input)).transpose()
    }

    /// Integers from an input, which is where newer operators have them, or from an attribute.
    pub(super) fn setting(&self, input: usize, name: &str) -> Result<Option<Vec<i64>>, Fault> {
        match self.optional(input)? {
            Some(constant) => constant.to_ints().map(Some),
            None => self.ints(name),
        }
    }

    fn attribute(&self, name: &str) -> Option<&AttributeValue<'c>> {
        self.node.attributes.iter().find(|a| a.name == name).map(|Attribute { value, .. }| value)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    pub(super) fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, Fault> {
        match self.attribute(name) {
            None => Ok(None),
            Some(AttributeValue::Ints(ints)) => Ok(Some(ints.clone())),
            Some(_) => Err(mistyped(name, "a list of integers")),
        }
    }

    pub(super) fn int(&self, name: &str, default: i64) -> Result<i64, Fault> {
        match self.attribute(name) {
            None => Ok(default),
            Some(AttributeValue::Int(int)) => Ok(*int),
            Some(_) => Err(mistyped(name, "an integer")),
        }
    }

    pub(super) fn float(&self, name: &str, default: f32) -> Result<f32, Fault> {
        match self.attribute(name) {
            None => Ok(default),
            Some(AttributeValue::Float(float)) => Ok(*float),
            Some(_) => Err(mistyped(name, "a number")),
        }
    }

    pub(super) fn floats_attribute(&self, name: &str) -> Result<Option<Vec<f32>>, Fault> {
        match self.attribute(name) {
            None => Ok(None),
            Some(AttributeValue::Floats(floats)) => Ok(Some(floats.clone())),
            Some(_) => Err(mistyped(name, "a list of numbers")),
        }
    }

    pub(super) fn text(&self, name: &str, default: &'c str) -> Result<&'c str, Fault> {
        match self.attribute(name) {
            None => Ok(default),
            Some(AttributeValue::Text(bytes)) => {
                std::str::from_utf8(bytes).map_err(|_| mistyped(name, "text"))
            }
            Some(_) => Err(mistyped(name, "text")),
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Option<Constant>, Fault> {
        match self.attribute(name) {
            None => Ok(None),
            Some(AttributeValue::Tensor(tensor)) => {
                numbers::constant(tensor, self.beside).map(Some).map_err(Fault::invalid)
            }
            Some(_) => Err(mistyped(name, "a tensor")),
        }
    }

    /// Whether a tensor's numbers are in a file beside the network.
    pub(super) fn is_beside(&self, name: &str) -> bool {
        match self.attribute(name) {
            Some(AttributeValue::Tensor(tensor)) => tensor.external.is_some(),
            _ => false,
        }
    }

    /// ONNX's code of the type that a Cast or a CastLike makes.
    pub(super) fn cast_to(&self) -> Result<i64, Fault> {
        match (self.node.op_type, self.given(1)) {
            ("CastLike", Some(Tensor::Constant(like))) => Ok(like.data_type),
            ("CastLike", Some(Tensor::View(like))) => match like.element {
                Element::Float => Ok(types::FLOAT),
                Element::Bool => Ok(types::BOOL),
                Element::Integer => Ok(types::INT64),
                Element::Quantized => Err(integers()),
            },
            _ => self.int("to", types::FLOAT),
        }
    }

    /// How many outputs it has.
    pub(super) fn outputs(&self) -> usize {
        self.node.outputs.len()
    }
}

fn mistyped(name: &str, expected: &str) -> Fault {
    Fault::invalid(format!("its attribute {name} is not {expected}"))
}

/// Whole numbers at run time.
pub(super) fn integers() -> Fault {
    Fault::unsupported(
        "it computes with integers when the network runs",
        "networks of real numbers are read: export the part that reads float32",
    )
}

/// An axis counted from the end if it is negative.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, Fault> {
    let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let place = from_start.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank);
    place.ok_or_else(|| Fault::invalid(format!("it has no axis {axis}; there are {rank}")))
}

/// Axes, ascending and each once.
pub(super) fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>, Fault> {
    let mut places: Vec<usize> =
        list.iter().map(|&one| axis(one, rank)).collect::<Result<_, _>>()?;
    places.sort_unstable();
    if places.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Fault::invalid(format!("its axes {list:?} name one twice")));
    }
    Ok(places)
}

/// An integer that is a size or a count.
pub(super) fn count(number: i64, what: &str) -> Result<u32, Fault> {
    u32::try_from(number).map_err(|_| Fault::invalid(format!("its {what} is {number}")))
}

/// Whether a type of numbers is read as real.
pub(super) fn element(data_type: i64) -> Option<Element> {
    match data_type {
        types::BOOL => Some(Element::Bool),
        types::UINT8 | types::INT8 | types::INT32 | types::INT64 | 4 | 5 | 12 | 13 => {
            Some(Element::Integer)
        }
        other => types::is_float(other).then_some(Element::Float),
    }
}

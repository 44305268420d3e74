//! The messages of `onnx.proto` that are read, borrowed from the file: the numbers of tensors stay
//! where they are. Fields that say nothing about what is computed are skipped.

use super::error::Malformed;
use super::wire::Fields;

/// How deep graphs may be in attributes of graphs.
const NESTING: u32 = 8;

/// `ModelProto`
#[derive(Debug, Default)]
pub(super) struct Model<'a> {
    pub(super) ir_version: i64,
    pub(super) producer: &'a str,
    pub(super) producer_version: &'a str,
    pub(super) graph: Graph<'a>,
    /// Domain and version.
    pub(super) opsets: Vec<(&'a str, i64)>,
    pub(super) metadata: Vec<(&'a str, &'a str)>,
    pub(super) functions: Vec<Function<'a>>,
}

/// `FunctionProto`
#[derive(Debug, Default)]
pub(super) struct Function<'a> {
    pub(super) name: &'a str,
    pub(super) domain: &'a str,
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    /// Values of attributes that a call leaves out.
    pub(super) defaults: Vec<Attribute<'a>>,
    pub(super) nodes: Vec<Node<'a>>,
}

/// `GraphProto`
#[derive(Debug, Default)]
pub(super) struct Graph<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) initializers: Vec<Tensor<'a>>,
    /// The name of a sparse tensor, if there is one.
    pub(super) sparse: Option<&'a str>,
    pub(super) inputs: Vec<ValueInfo<'a>>,
    pub(super) outputs: Vec<ValueInfo<'a>>,
}

/// `NodeProto`
#[derive(Debug, Clone, Default)]
pub(super) struct Node<'a> {
    /// An input that is left out has an empty name.
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) name: &'a str,
    pub(super) op_type: &'a str,
    /// Empty for ONNX's own operators.
    pub(super) domain: &'a str,
    pub(super) attributes: Vec<Attribute<'a>>,
}

/// `AttributeProto`
#[derive(Debug, Clone)]
pub(super) struct Attribute<'a> {
    pub(super) name: &'a str,
    pub(super) value: AttributeValue<'a>,
}

#[derive(Debug, Clone)]
pub(super) enum AttributeValue<'a> {
    Float(f32),
    Int(i64),
    Text(&'a [u8]),
    Tensor(Box<Tensor<'a>>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    /// A graph, several tensors or texts, or a type.
    Other,
    /// In the body of a function: the attribute of the call with this name.
    Reference(&'a str),
}

/// `TensorProto`
#[derive(Debug, Clone, Default)]
pub(super) struct Tensor<'a> {
    pub(super) dims: Vec<i64>,
    pub(super) data_type: i64,
    pub(super) name: &'a str,
    pub(super) raw: Option<&'a [u8]>,
    pub(super) floats: Vec<f32>,
    pub(super) doubles: Vec<f64>,
    /// Of `int32_data`, `int64_data` and `uint64_data`.
    pub(super) ints: Vec<i64>,
    pub(super) has_text: bool,
    /// Key and value of each entry, if the numbers are in another file.
    pub(super) external: Option<Vec<(&'a str, &'a str)>>,
}

/// `ValueInfoProto`
#[derive(Debug, Default)]
pub(super) struct ValueInfo<'a> {
    pub(super) name: &'a str,
    /// 0 if it is no tensor.
    pub(super) element: i64,
    /// `None` if the file does not say.
    pub(super) dims: Option<Vec<Dimension<'a>>>,
}

/// `TensorShapeProto.Dimension`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dimension<'a> {
    Known(i64),
    Named(&'a str),
    Free,
}

/// Reads each field of a message with an arm for those numbers that matter.
macro_rules! fields {
    ($bytes:expr, $message:literal, $field:ident, { $($number:literal => $read:expr,)+ }) => {{
        let mut fields = Fields::new($bytes, $message);
        while let Some($field) = fields.next()? {
            match $field.number {
                $($number => $read,)+
                _ => {}
            }
        }
    }};
}

impl AttributeValue<'_> {
    /// How many numbers are copied with it.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Float(_) | Self::Int(_) | Self::Text(_) | Self::Other | Self::Reference(_) => 0,
            Self::Floats(floats) => floats.len(),
            Self::Ints(ints) => ints.len(),
            Self::Tensor(tensor) => {
                let entries = tensor.external.as_ref().map_or(0, Vec::len);
                let Tensor { dims, floats, doubles, ints, .. } = &**tensor;
                dims.len() + floats.len() + doubles.len() + ints.len() + entries
            }
        }
    }
}

impl<'a> Model<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut model = Self::default();
        let mut graph = None;
        fields!(bytes, "model", field, {
            1 => model.ir_version = field.int()?,
            2 => model.producer = field.text()?,
            3 => model.producer_version = field.text()?,
            7 => graph = Some(Graph::decode(field.bytes()?, 0)?),
            8 => model.opsets.push(opset(field.bytes()?)?),
            14 => model.metadata.push(entry(field.bytes()?)?),
            25 => model.functions.push(Function::decode(field.bytes()?)?),
        });
        model.graph = graph.ok_or(Malformed::NoGraph)?;
        Ok(model)
    }
}

impl<'a> Function<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut function = Self::default();
        fields!(bytes, "function", field, {
            1 => function.name = field.text()?,
            4 => function.inputs.push(field.text()?),
            5 => function.outputs.push(field.text()?),
            7 => function.nodes.push(Node::decode(field.bytes()?, 0)?),
            10 => function.domain = field.text()?,
            11 => function.defaults.push(Attribute::decode(field.bytes()?, 0)?),
        });
        // An empty one is larger in memory than in the file.
        if function.name.is_empty() { Err(Malformed::EmptyNode) } else { Ok(function) }
    }
}

impl<'a> Graph<'a> {
    fn decode(bytes: &'a [u8], depth: u32) -> Result<Self, Malformed> {
        let mut graph = Self::default();
        fields!(bytes, "graph", field, {
            1 => graph.nodes.push(Node::decode(field.bytes()?, depth)?),
            5 => graph.initializers.push(Tensor::decode(field.bytes()?)?),
            11 => graph.inputs.push(ValueInfo::decode(field.bytes()?)?),
            12 => graph.outputs.push(ValueInfo::decode(field.bytes()?)?),
            15 => graph.sparse = Some(sparse(field.bytes()?)?),
        });
        Ok(graph)
    }
}

impl<'a> Node<'a> {
    fn decode(bytes: &'a [u8], depth: u32) -> Result<Self, Malformed> {
        let mut node = Self::default();
        fields!(bytes, "node", field, {
            1 => node.inputs.push(field.text()?),
            2 => node.outputs.push(field.text()?),
            3 => node.name = field.text()?,
            4 => node.op_type = field.text()?,
            5 => node.attributes.push(Attribute::decode(field.bytes()?, depth)?),
            7 => node.domain = field.text()?,
        });
        let says_nothing = node.op_type.is_empty() || node.outputs.iter().all(|o| o.is_empty());
        if says_nothing { Err(Malformed::EmptyNode) } else { Ok(node) }
    }

    /// What to call it: its name, or else that of its first output.
    pub(super) fn label(&self) -> &'a str {
        if self.name.is_empty() {
            self.outputs.iter().find(|o| !o.is_empty()).copied().unwrap_or_default()
        } else {
            self.name
        }
    }
}

impl<'a> Attribute<'a> {
    fn decode(bytes: &'a [u8], depth: u32) -> Result<Self, Malformed> {
        let (mut name, mut kind, mut reference) = ("", None, "");
        let (mut float, mut int, mut text, mut tensor) = (None, None, None, None);
        let (mut floats, mut ints, mut other) = (vec![], vec![], false);
        fields!(bytes, "attribute", field, {
            1 => name = field.text()?,
            2 => float = Some(field.float()?),
            3 => int = Some(field.int()?),
            4 => text = Some(field.bytes()?),
            5 => tensor = Some(Tensor::decode(field.bytes()?)?),
            6 => {
                if depth >= NESTING {
                    return Err(Malformed::Nesting { limit: NESTING });
                }
                // Nothing in it is read, but it has to be sound.
                Graph::decode(field.bytes()?, depth + 1)?;
                other = true;
            },
            7 => field.floats(&mut floats)?,
            8 => field.ints(&mut ints)?,
            9 => other = true,
            20 => kind = Some(field.int()?),
            21 => reference = field.text()?,
        });
        if name.is_empty() {
            return Err(Malformed::Message { message: "attribute" });
        }
        // Writers of the first versions gave no type, and those of today leave zeros out.
        let value = match kind {
            _ if !reference.is_empty() => AttributeValue::Reference(reference),
            Some(1) => AttributeValue::Float(float.unwrap_or(0.0)),
            Some(2) => AttributeValue::Int(int.unwrap_or(0)),
            Some(3) => AttributeValue::Text(text.unwrap_or_default()),
            Some(4) => AttributeValue::Tensor(Box::new(tensor.unwrap_or_default())),
            Some(6) => AttributeValue::Floats(floats),
            Some(7) => AttributeValue::Ints(ints),
            Some(kind) if kind != 0 => AttributeValue::Other,
            _ => match (float, int, text, tensor) {
                (Some(float), ..) => AttributeValue::Float(float),
                (_, Some(int), ..) => AttributeValue::Int(int),
                (_, _, Some(text), _) => AttributeValue::Text(text),
                (.., Some(tensor)) => AttributeValue::Tensor(Box::new(tensor)),
                _ if other => AttributeValue::Other,
                _ if !floats.is_empty() => AttributeValue::Floats(floats),
                _ => AttributeValue::Ints(ints),
            },
        };
        Ok(Self { name, value })
    }
}

impl<'a> Tensor<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut tensor = Self::default();
        let (mut entries, mut outside) = (vec![], false);
        fields!(bytes, "tensor", field, {
            1 => field.ints(&mut tensor.dims)?,
            2 => tensor.data_type = field.int()?,
            4 => field.floats(&mut tensor.floats)?,
            5 => field.ints(&mut tensor.ints)?,
            6 => tensor.has_text = true,
            7 => field.ints(&mut tensor.ints)?,
            8 => tensor.name = field.text()?,
            9 => tensor.raw = Some(field.bytes()?),
            10 => field.doubles(&mut tensor.doubles)?,
            11 => field.ints(&mut tensor.ints)?,
            13 => entries.push(entry(field.bytes()?)?),
            14 => outside = field.int()? == 1,
        });
        tensor.external = outside.then_some(entries);
        // An empty one is larger in memory than in the file.
        if tensor.data_type == 0 {
            return Err(Malformed::Message { message: "tensor" });
        }
        Ok(tensor)
    }
}

impl<'a> ValueInfo<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut info = Self::default();
        let mut r#type = None;
        fields!(bytes, "input or output", field, {
            1 => info.name = field.text()?,
            2 => r#type = Some(field.bytes()?),
        });
        if info.name.is_empty() {
            return Err(Malformed::Message { message: "input or output" });
        }
        let mut tensor = None;
        fields!(r#type.unwrap_or_default(), "type", field, { 1 => tensor = Some(field.bytes()?), });
        let mut shape = None;
        fields!(tensor.unwrap_or_default(), "type", field, {
            1 => info.element = field.int()?,
            2 => shape = Some(field.bytes()?),
        });
        if let Some(shape) = shape {
            let mut dims = vec![];
            fields!(shape, "shape", field, { 1 => dims.push(dimension(field.bytes()?)?), });
            info.dims = Some(dims);
        }
        Ok(info)
    }
}

fn dimension(bytes: &[u8]) -> Result<Dimension<'_>, Malformed> {
    let mut dimension = Dimension::Free;
    fields!(bytes, "shape", field, {
        1 => dimension = Dimension::Known(field.int()?),
        2 => dimension = Dimension::Named(field.text()?),
    });
    Ok(dimension)
}

/// `OperatorSetIdProto`
fn opset(bytes: &[u8]) -> Result<(&str, i64), Malformed> {
    let (mut domain, mut version) = ("", 0);
    fields!(bytes, "opset", field, {
        1 => domain = field.text()?,
        2 => version = field.int()?,
    });
    Ok((domain, version))
}

/// `StringStringEntryProto`
fn entry(bytes: &[u8]) -> Result<(&str, &str), Malformed> {
    let (mut key, mut value) = ("", "");
    fields!(bytes, "entry", field, {
        1 => key = field.text()?,
        2 => value = field.text()?,
    });
    Ok((key, value))
}

/// The name of a `SparseTensorProto`.
fn sparse(bytes: &[u8]) -> Result<&str, Malformed> {
    let mut name = "";
    fields!(bytes, "sparse tensor", field, { 1 => name = Tensor::decode(field.bytes()?)?.name, });
    Ok(name)
}

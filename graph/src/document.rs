//! A graph as a document: how it is written to disk and sent, by serde. Its numbers are not in it;
//! they are [`Weights`](crate::Weights).
//!
//! The form is frozen, because studies keep it: a name or a meaning in it never changes. A field
//! that is added later gets a default that keeps the meaning of older documents. Operations are
//! tagged by their kind, and all settings have names. The form of the settings is stated here and
//! not at the operations, so that these may change. `document.json` in the tests holds a document
//! with every operation.
//!
//! Reading builds the graph anew, so a document that makes no graph is an error.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smallvec::SmallVec;

use crate::*;

/// Values count from 0: first the inputs, then the outputs of the nodes. So do parameters.
#[derive(Serialize, Deserialize)]
struct GraphDocument {
    inputs: Vec<InputDocument>,
    parameters: Vec<ParameterDocument>,
    nodes: Vec<NodeDocument>,
    outputs: Vec<usize>,
}

#[derive(Serialize, Deserialize)]
struct InputDocument {
    name: String,
    channels: u32,
    space: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct ParameterDocument {
    name: String,
    shape: Vec<u32>,
    #[serde(with = "RoleDocument")]
    role: Role,
}

#[derive(Serialize, Deserialize)]
struct NodeDocument {
    name: String,
    #[serde(with = "OpDocument")]
    op: Op,
    inputs: Vec<usize>,
    parameters: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stage: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    block: Option<u32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    part: String,
}

impl Serialize for Graph {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let input = |id: ValueId| InputDocument {
            name: self.value(id).name.to_string(),
            channels: self.shape(id).channels(),
            space: self.shape(id).space().to_vec(),
        };
        let parameters = self.parameters().map(|(_, parameter)| ParameterDocument {
            name: parameter.name.to_string(),
            shape: parameter.shape.to_vec(),
            role: parameter.role,
        });
        let nodes = self.nodes().map(|(_, node)| NodeDocument {
            name: self.value(node.output).name.to_string(),
            op: node.op.clone(),
            inputs: node.inputs.iter().map(|id| id.index()).collect(),
            parameters: node.parameters.iter().map(|id| id.index()).collect(),
            stage: node.place.stage,
            block: node.place.block,
            part: node.place.part.to_string(),
        });
        let document = GraphDocument {
            inputs: self.inputs().map(input).collect(),
            parameters: parameters.collect(),
            nodes: nodes.collect(),
            outputs: self.outputs().iter().map(|id| id.index()).collect(),
        };
        document.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Graph {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        GraphDocument::deserialize(deserializer)?.build().map_err(de::Error::custom)
    }
}

/// What is wrong with a document, in a sentence that names the place.
type Problem = String;

impl GraphDocument {
    fn build(self) -> Result<Graph, Problem> {
        let problem = |error: crate::GraphError| error.to_string();
        let mut builder = GraphBuilder::new();
        let mut values = Vec::with_capacity(self.inputs.len() + self.nodes.len());
        for InputDocument { name, channels, space } in self.inputs {
            let shape = Shape::new(channels, &space).map_err(|e| format!("input {name:?}: {e}"))?;
            values.push(builder.input(name, shape).map_err(problem)?);
        }
        let parameters = self.parameters.into_iter().map(|parameter| {
            let ParameterDocument { name, shape, role } = parameter;
            builder.parameter(name, &shape, role).map_err(problem)
        });
        let parameters: Vec<ParameterId> = parameters.collect::<Result<_, _>>()?;
        for node in self.nodes {
            let NodeDocument { name, op, stage, block, part, .. } = node;
            let inputs = chosen("node", &name, &values, &node.inputs, "value")?;
            let of = chosen("node", &name, &parameters, &node.parameters, "parameter")?;
            let place = Place { stage, block, part: part.into() };
            values.push(builder.node(name, op, &inputs, &of, place).map_err(problem)?);
        }
        let outputs = chosen("the network", "", &values, &self.outputs, "value")?;
        builder.finish(&outputs).map_err(problem)
    }
}

/// The things at these places of a list.
fn chosen<T: Copy>(
    who: &str,
    name: &str,
    among: &[T],
    places: &[usize],
    what: &str,
) -> Result<Vec<T>, Problem> {
    let at = |&place: &usize| {
        let name = if name.is_empty() { String::new() } else { format!(" {name:?}") };
        let missing =
            || format!("{who}{name} reads {what} {place}, which does not stand before it");
        among.get(place).copied().ok_or_else(missing)
    };
    places.iter().map(at).collect()
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Role", rename_all = "snake_case")]
enum RoleDocument {
    Weight,
    Bias,
    Scale,
    Shift,
    Mean,
    Variance,
    Slope,
    Constant,
}

/// The variants are the kinds of operations; see [`crate::Operation::kind`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Op", tag = "kind", rename_all = "snake_case")]
enum OpDocument {
    Add(#[serde(with = "AddDocument")] Add),
    AveragePool(#[serde(with = "AveragePoolDocument")] AveragePool),
    BatchNormalization(#[serde(with = "BatchNormalizationDocument")] BatchNormalization),
    Binary(#[serde(with = "BinaryDocument")] Binary),
    Clip(#[serde(with = "ClipDocument")] Clip),
    Concat(#[serde(with = "ConcatDocument")] Concat),
    Constant(#[serde(with = "ConstantDocument")] Constant),
    Conv(#[serde(with = "ConvDocument")] Conv),
    ConvTranspose(#[serde(with = "ConvTransposeDocument")] ConvTranspose),
    Flatten(#[serde(with = "FlattenDocument")] Flatten),
    Gather(#[serde(with = "GatherDocument")] Gather),
    GlobalAveragePool(#[serde(with = "GlobalAveragePoolDocument")] GlobalAveragePool),
    LayerNormalization(#[serde(with = "LayerNormalizationDocument")] LayerNormalization),
    LeakyRelu(#[serde(with = "LeakyReluDocument")] LeakyRelu),
    Linear(#[serde(with = "LinearDocument")] Linear),
    Map(#[serde(with = "MapDocument")] Map),
    MatrixProduct(#[serde(with = "MatrixProductDocument")] MatrixProduct),
    MaxPool(#[serde(with = "MaxPoolDocument")] MaxPool),
    Multiply(#[serde(with = "MultiplyDocument")] Multiply),
    Pad(#[serde(with = "PadDocument")] Pad),
    Prelu(#[serde(with = "PreluDocument")] Prelu),
    Reduce(#[serde(with = "ReduceDocument")] Reduce),
    Reshape(#[serde(with = "ReshapeDocument")] Reshape),
    Resize(#[serde(with = "ResizeDocument")] Resize),
    Select(#[serde(with = "SelectDocument")] Select),
    Softmax(#[serde(with = "SoftmaxDocument")] Softmax),
    Transpose(#[serde(with = "TransposeDocument")] Transpose),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Add")]
struct AddDocument;

#[derive(Serialize, Deserialize)]
#[serde(remote = "BatchNormalization")]
struct BatchNormalizationDocument {
    #[serde(with = "number")]
    epsilon: f32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Clip")]
struct ClipDocument {
    #[serde(with = "number")]
    low: f32,
    #[serde(with = "number")]
    high: f32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Concat")]
struct ConcatDocument {
    axis: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Conv")]
struct ConvDocument {
    #[serde(with = "windows")]
    axes: SmallVec<[WindowAxis; 2]>,
    #[serde(with = "GroupsDocument")]
    groups: Groups,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Groups", rename_all = "snake_case")]
enum GroupsDocument {
    Equal(u32),
    PerChannel,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Flatten")]
struct FlattenDocument;

#[derive(Serialize, Deserialize)]
#[serde(remote = "Gather")]
struct GatherDocument {
    axis: u32,
    indices: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "GlobalAveragePool")]
struct GlobalAveragePoolDocument;

#[derive(Serialize, Deserialize)]
#[serde(remote = "LeakyRelu")]
struct LeakyReluDocument {
    #[serde(with = "number")]
    slope: f32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Linear")]
struct LinearDocument;

#[derive(Serialize, Deserialize)]
#[serde(remote = "MaxPool")]
struct MaxPoolDocument {
    #[serde(with = "list")]
    kernel: SmallVec<[u32; 2]>,
    #[serde(with = "windows")]
    axes: SmallVec<[WindowAxis; 2]>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Multiply")]
struct MultiplyDocument;

#[derive(Serialize, Deserialize)]
#[serde(remote = "WindowAxis")]
struct WindowAxisDocument {
    stride: u32,
    dilation: u32,
    before: u32,
    after: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "AveragePool")]
struct AveragePoolDocument {
    #[serde(with = "list")]
    kernel: SmallVec<[u32; 2]>,
    #[serde(with = "windows")]
    axes: SmallVec<[WindowAxis; 2]>,
    #[serde(with = "list")]
    counted: SmallVec<[(u32, u32); 2]>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ConvTranspose")]
struct ConvTransposeDocument {
    #[serde(with = "transposed_axes")]
    axes: SmallVec<[TransposedAxis; 2]>,
    #[serde(with = "GroupsDocument")]
    groups: Groups,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "TransposedAxis")]
struct TransposedAxisDocument {
    stride: u32,
    dilation: u32,
    before: u32,
    after: u32,
    extra: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "MatrixProduct")]
struct MatrixProductDocument {
    transposed: [bool; 2],
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Pad")]
struct PadDocument {
    #[serde(with = "list")]
    before: SmallVec<[u32; 3]>,
    #[serde(with = "list")]
    after: SmallVec<[u32; 3]>,
    #[serde(with = "number")]
    value: f32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Reshape")]
struct ReshapeDocument {
    #[serde(with = "list")]
    sizes: SmallVec<[u32; 3]>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Resize")]
struct ResizeDocument {
    #[serde(with = "ResizeModeDocument")]
    mode: ResizeMode,
    #[serde(with = "resize_axes")]
    axes: SmallVec<[ResizeAxis; 2]>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ResizeMode", rename_all = "snake_case")]
enum ResizeModeDocument {
    Nearest(#[serde(with = "RoundingDocument")] Rounding),
    Linear,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Rounding", rename_all = "snake_case")]
enum RoundingDocument {
    HalfDown,
    HalfUp,
    Floor,
    Ceil,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ResizeAxis")]
struct ResizeAxisDocument {
    size: u32,
    #[serde(with = "number")]
    scale: f32,
    #[serde(with = "CoordinatesDocument")]
    coordinates: Coordinates,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Coordinates", rename_all = "snake_case")]
enum CoordinatesDocument {
    HalfPixel,
    PytorchHalfPixel,
    Asymmetric,
    AlignCorners,
    HalfPixelSymmetric,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Transpose")]
struct TransposeDocument {
    #[serde(with = "list")]
    order: SmallVec<[u32; 3]>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Binary")]
struct BinaryDocument {
    #[serde(with = "BinaryFunctionDocument")]
    function: BinaryFunction,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "BinaryFunction", rename_all = "snake_case")]
enum BinaryFunctionDocument {
    Divide,
    Equal,
    Less,
    LessOrEqual,
    Maximum,
    Minimum,
    Power,
    Subtract,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Constant")]
struct ConstantDocument;

#[derive(Serialize, Deserialize)]
#[serde(remote = "LayerNormalization")]
struct LayerNormalizationDocument {
    #[serde(with = "list")]
    axes: SmallVec<[u32; 3]>,
    #[serde(with = "number")]
    epsilon: f32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Map")]
struct MapDocument {
    #[serde(with = "FunctionDocument")]
    function: Function,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Function", rename_all = "snake_case")]
enum FunctionDocument {
    Absolute,
    Elu {
        #[serde(with = "number")]
        alpha: f32,
    },
    Erf,
    Exponential,
    Gelu,
    GeluTanh,
    HardSigmoid {
        #[serde(with = "number")]
        slope: f32,
        #[serde(with = "number")]
        offset: f32,
    },
    HardSwish,
    Logarithm,
    Power {
        #[serde(with = "number")]
        exponent: f32,
    },
    Scale {
        #[serde(with = "number")]
        factor: f32,
        #[serde(with = "number")]
        offset: f32,
    },
    Sigmoid,
    Silu,
    Softplus,
    SquareRoot,
    Tanh,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Prelu")]
struct PreluDocument;

#[derive(Serialize, Deserialize)]
#[serde(remote = "Reduce")]
struct ReduceDocument {
    #[serde(with = "ReduceFunctionDocument")]
    function: ReduceFunction,
    #[serde(with = "list")]
    axes: SmallVec<[u32; 3]>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ReduceFunction", rename_all = "snake_case")]
enum ReduceFunctionDocument {
    L2,
    Maximum,
    Mean,
    Minimum,
    Sum,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Select")]
struct SelectDocument;

#[derive(Serialize, Deserialize)]
#[serde(remote = "Softmax")]
struct SoftmaxDocument {
    axis: u32,
    log: bool,
}

/// Short lists.
mod list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use smallvec::{Array, SmallVec};

    pub fn serialize<A: Array<Item: Serialize>, S: Serializer>(
        list: &SmallVec<A>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        list.as_slice().serialize(serializer)
    }

    pub fn deserialize<'de, A: Array<Item: Deserialize<'de>>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SmallVec<A>, D::Error> {
        Vec::deserialize(deserializer).map(SmallVec::from_vec)
    }
}

/// A module with the form of short lists of settings, one entry for each axis.
macro_rules! entries {
    ($module:ident: $entry:ident, $form:literal) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};
            use smallvec::SmallVec;

            use super::*;

            #[derive(Serialize, Deserialize)]
            struct Entry(#[serde(with = $form)] $entry);

            pub fn serialize<S: Serializer>(
                axes: &SmallVec<[$entry; 2]>,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(axes.iter().copied().map(Entry))
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<SmallVec<[$entry; 2]>, D::Error> {
                let entries = Vec::<Entry>::deserialize(deserializer)?;
                Ok(entries.into_iter().map(|Entry(axis)| axis).collect())
            }
        }
    };
}

entries!(windows: WindowAxis, "WindowAxisDocument");
entries!(transposed_axes: TransposedAxis, "TransposedAxisDocument");
entries!(resize_axes: ResizeAxis, "ResizeAxisDocument");

/// A number with all its digits. JSON has no infinite numbers, so those are words.
mod number {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form {
        Finite(f64),
        Word(String),
    }

    pub fn serialize<S: Serializer>(number: &f32, serializer: S) -> Result<S::Ok, S::Error> {
        let form = if number.is_finite() {
            Form::Finite(f64::from(*number))
        } else {
            Form::Word(number.to_string())
        };
        form.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Finite(number) => Ok(number as f32),
            Form::Word(word) if word == "inf" => Ok(f32::INFINITY),
            Form::Word(word) if word == "-inf" => Ok(f32::NEG_INFINITY),
            Form::Word(word) => Err(de::Error::custom(format!("{word:?} is not a number"))),
        }
    }
}

//! The layers of a graph that an architecture lowers to, as the trainer and the engine run them,
//! and which channels must stay aligned.
//!
//! It is a view of the graph that the worker still reads. What a layer is, is decided by
//! [`Architecture::graph`].
//!
//! Every layer's output belongs to a [`ChannelGroup`]. Layers whose channels are tied together (a
//! depthwise convolution and its input, the two sides of a residual addition) share one group. So
//! pruning channels means lowering the number in a group, and every shape follows from it. A
//! convolution layer stands for convolution, batch normalisation and activation together.

use edgesmith_graph::{Clip, Graph, Groups, NodeId, Op, Operation as _};
use serde::{Deserialize, Serialize};

use crate::kinship::counterparts;
use crate::pruning::{pruned, stage};
use crate::{Activation, Architecture, Cost, Precision};

/// Input channels and classes that the data set requires of every network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DataShape {
    /// Image channels, 1 or 3.
    pub channels: u32,
    /// Number of classes.
    pub classes: u32,
}

/// Channels, height and width of one feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Channels.
    pub channels: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

impl Shape {
    /// Number of values.
    pub fn elements(self) -> u64 {
        u64::from(self.channels) * u64::from(self.height) * u64::from(self.width)
    }
}

/// Index of a layer in [`Plan::layers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LayerId(pub usize);

/// Index of a group in [`Plan::groups`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChannelGroupId(pub usize);

/// Channels that are kept or removed together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChannelGroup {
    /// How many there are.
    pub channels: u32,
    /// What the group belongs to; decides which pruning ratio applies.
    pub scope: Scope,
}

/// What a group of channels belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// The image's channels; never pruned.
    Input,
    /// A stage, counted from 0. The stem belongs to stage 0.
    Stage(usize),
    /// The classes; never pruned.
    Classes,
}

/// Where a layer reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    /// The normalised image.
    Input,
    /// The output of an earlier layer.
    Layer(LayerId),
}

/// One layer of a plan, in execution order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layer {
    /// Unique and stable, for example `stage2.block1.expand`; weights in files are named after it.
    pub name: String,
    /// What it computes.
    pub op: LayerOp,
    /// What it reads: two sources for [`LayerOp::Add`], else one.
    pub inputs: Vec<Source>,
    /// The group its output channels belong to.
    pub group: ChannelGroupId,
    /// Rows of the output.
    pub height: u32,
    /// Columns of the output.
    pub width: u32,
}

/// What a layer computes. Convolutions pad by `(kernel - 1) / 2` on every side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LayerOp {
    /// Dense convolution, batch normalisation, activation. A pointwise one has kernel 1.
    Conv {
        /// Side of the kernel, odd.
        kernel: u32,
        /// 1 or 2.
        stride: u32,
        /// `None` if linear.
        activation: Option<Activation>,
    },
    /// Depthwise convolution (one filter per channel), batch normalisation, activation.
    Depthwise {
        /// Side of the kernel, odd.
        kernel: u32,
        /// 1 or 2.
        stride: u32,
        /// `None` if linear.
        activation: Option<Activation>,
    },
    /// Elementwise sum of two feature maps of one group.
    Add,
    /// Mean over all positions; the output is 1x1.
    GlobalAveragePool,
    /// Fully connected layer with bias; its output is the logits.
    Linear,
}

/// A network as layers in execution order; the last one computes the logits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    #[serde(skip)]
    graph: Graph,
    /// The node that each layer's convolution, addition, pooling or linear layer is.
    #[serde(skip)]
    nodes: Vec<NodeId>,
    input: Shape,
    layers: Vec<Layer>,
    groups: Vec<ChannelGroup>,
}

/// Why an architecture is not a valid network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A stride on a feature map that has one position left.
    #[error(
        "stage {stage} has stride {stride} on a 1x1 feature map; use a larger resolution or fewer \
         strides"
    )]
    NothingLeftToStride {
        /// Counted from 1.
        stage: usize,
        /// Its stride.
        stride: u32,
    },
    /// A feature map that is larger than the inference engine accepts.
    #[error(
        "{layer} works on a feature map of {elements} values; the limit is {MAX_VALUE_ELEMENTS}; \
         use a smaller resolution, width or expansion, or an earlier stride"
    )]
    TooLarge {
        /// The layer's name.
        layer: String,
        /// Values of its padded input or of its output.
        elements: u64,
    },
    /// A layer with more weights than any machine has room for.
    #[error("{layer} has too many weights; use a smaller width, expansion or kernel")]
    TooManyWeights {
        /// The layer's name.
        layer: String,
    },
}

/// Largest number of values of a feature map, including the padding of the layer that reads it.
/// This is the inference engine's limit.
pub const MAX_VALUE_ELEMENTS: u64 = 1 << 24;

const INPUT_GROUP: ChannelGroupId = ChannelGroupId(0);

impl Plan {
    /// Lowers `architecture` for images of `data.channels` and `data.classes` classes.
    ///
    /// # Errors
    /// If a stage has a stride on a feature map with one position, or a feature map is too large.
    pub fn lower(architecture: &Architecture, data: DataShape) -> Result<Self, PlanError> {
        architecture.graph(data).map(Self::of)
    }

    /// The layers of a graph that an architecture lowers to.
    ///
    /// # Panics
    /// If an operation of the graph is none that [`Architecture::graph`] uses.
    pub fn of(graph: Graph) -> Self {
        let channels = graph.channels();
        let scope = |group: &edgesmith_graph::ChannelGroup| match stage(&graph, group) {
            Some(stage) => Scope::Stage(stage as usize),
            None if graph.producer(group.first).is_none() => Scope::Input,
            None => Scope::Classes,
        };
        let groups = channels.groups().iter().map(|group| ChannelGroup {
            channels: group.channels.len() as u32,
            scope: scope(group),
        });
        let groups = groups.collect();
        // The layer that computes each value, once normalisation and activation are merged.
        let mut sources = vec![Source::Input; graph.values().count()];
        let (mut layers, mut nodes): (Vec<Layer>, Vec<NodeId>) = Default::default();
        for (id, node) in graph.nodes() {
            let inputs: Vec<Source> = node.inputs.iter().map(|v| sources[v.index()]).collect();
            let op = match &node.op {
                Op::BatchNormalization(_) => None,
                Op::Clip(clip) => {
                    let merged = layers.last_mut().expect("an activation follows a convolution");
                    let (LayerOp::Conv { activation, .. } | LayerOp::Depthwise { activation, .. }) =
                        &mut merged.op
                    else {
                        panic!("{} is not a convolution", merged.name)
                    };
                    *activation = Some(match *clip {
                        Clip::RELU => Activation::Relu,
                        Clip::RELU6 => Activation::Relu6,
                        other => panic!("{other:?} is no activation of a space"),
                    });
                    None
                }
                Op::Conv(conv) => {
                    let kernel = graph.parameter(node.parameters[0]).shape[2];
                    let (stride, activation) = (conv.axes[0].stride, None);
                    Some(match conv.groups {
                        Groups::Equal(_) => LayerOp::Conv { kernel, stride, activation },
                        Groups::PerChannel => LayerOp::Depthwise { kernel, stride, activation },
                    })
                }
                Op::Add(_) => Some(LayerOp::Add),
                Op::GlobalAveragePool(_) => Some(LayerOp::GlobalAveragePool),
                Op::Linear(_) => Some(LayerOp::Linear),
                Op::Concat(_)
                | Op::Flatten(_)
                | Op::GatherChannels(_)
                | Op::HardSwish(_)
                | Op::MaxPool(_)
                | Op::Multiply(_)
                | Op::Sigmoid(_) => panic!("no space has {}", node.op.kind()),
            };
            sources[node.output.index()] = match op {
                None => inputs[0],
                Some(op) => {
                    let value = graph.value(node.output);
                    let group = channels.group_of(channels.of_value(node.output)[0]);
                    let [height, width] = match *value.shape.space() {
                        [height, width] => [height, width],
                        _ => [1, 1],
                    };
                    let group = ChannelGroupId(group.index());
                    layers.push(Layer {
                        name: value.name.to_string(),
                        op,
                        inputs,
                        group,
                        height,
                        width,
                    });
                    nodes.push(id);
                    Source::Layer(LayerId(layers.len() - 1))
                }
            };
        }
        let image = graph.shape(graph.inputs().next().expect("a space has one input"));
        let (channels, [height, width]) = (image.channels(), [image.space()[0], image.space()[1]]);
        let input = Shape { channels, height, width };
        Plan { nodes, input, layers, groups, graph }
    }

    /// The network that these are the layers of.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Cost with feature maps held in `precision`.
    pub fn cost(&self, precision: Precision) -> Cost {
        Cost::of(&self.graph, precision)
    }

    /// Pairs of a layer of this plan and its counterpart in `donor`, for layers with weights; see
    /// [`counterparts`].
    pub fn counterparts(&self, donor: &Plan) -> Vec<(LayerId, LayerId)> {
        let layer = |plan: &Plan, node| {
            let at = plan.nodes.iter().position(|of| *of == node);
            LayerId(at.expect("a node with weights is a layer"))
        };
        let pairs = counterparts(&self.graph, &donor.graph).into_iter();
        pairs.map(|(own, twin)| (layer(self, own), layer(donor, twin))).collect()
    }

    /// The same network with fewer channels: every group of stage `i` keeps `round(channels * (1 -
    /// ratios[i]))` of them, at least one. A stage without a ratio keeps all channels.
    #[must_use]
    pub fn pruned(&self, ratios: &[f64]) -> Self {
        Self::of(pruned(self.graph.clone(), ratios))
    }

    /// The same network with more channels: every group but the image's and the classes' grows to
    /// the next multiple of `multiple`. The size limit of [`Plan::lower`] is not checked again.
    ///
    /// # Panics
    /// If `multiple` is 0.
    #[must_use]
    pub fn padded(&self, multiple: u32) -> Self {
        Self::of(self.graph.padded(multiple))
    }

    /// Shape of the input image.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// Layers in execution order; the inputs of a layer always come before it.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// One layer.
    pub fn layer(&self, id: LayerId) -> &Layer {
        &self.layers[id.0]
    }

    /// All channel groups; the first is the image's.
    pub fn groups(&self) -> &[ChannelGroup] {
        &self.groups
    }

    /// Number of logits.
    pub fn classes(&self) -> u32 {
        self.layers.last().map_or(0, |l| self.channels(l.group))
    }

    /// Size of a group.
    pub fn channels(&self, group: ChannelGroupId) -> u32 {
        self.groups[group.0].channels
    }

    /// The group that a source's channels belong to.
    pub fn source_group(&self, source: Source) -> ChannelGroupId {
        match source {
            Source::Input => INPUT_GROUP,
            Source::Layer(id) => self.layer(id).group,
        }
    }

    /// Shape of a source's feature map.
    pub fn source_shape(&self, source: Source) -> Shape {
        match source {
            Source::Input => self.input,
            Source::Layer(id) => self.output_shape(id),
        }
    }

    /// Shape of a layer's output.
    pub fn output_shape(&self, id: LayerId) -> Shape {
        let layer = self.layer(id);
        Shape { channels: self.channels(layer.group), height: layer.height, width: layer.width }
    }

    /// Shape of a layer's (first) input.
    pub fn input_shape(&self, id: LayerId) -> Shape {
        self.source_shape(self.layer(id).inputs[0])
    }

    /// Shape of a layer's weights: `[out, in, k, k]` for convolutions, `[channels, 1, k, k]` for
    /// depthwise ones, `[out, in, 1, 1]` for linear ones, `None` for layers without weights.
    pub fn weight_shape(&self, id: LayerId) -> Option<[usize; 4]> {
        let out = self.channels(self.layer(id).group) as usize;
        let inputs = self.input_shape(id).channels as usize;
        match self.layer(id).op {
            LayerOp::Conv { kernel, .. } => Some([out, inputs, kernel as usize, kernel as usize]),
            LayerOp::Depthwise { kernel, .. } => Some([out, 1, kernel as usize, kernel as usize]),
            LayerOp::Linear => Some([out, inputs, 1, 1]),
            LayerOp::Add | LayerOp::GlobalAveragePool => None,
        }
    }

    /// Ids of all layers in execution order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = LayerId> + use<> {
        (0..self.layers.len()).map(LayerId)
    }
}

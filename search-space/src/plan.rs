//! The flat list of layers of an architecture, and which channels must stay aligned.
//!
//! Every layer's output belongs to a [`ChannelGroup`]. Layers whose channels are tied together (a
//! depthwise convolution and its input, the two sides of a residual addition) share one group. So
//! pruning channels means lowering the number in a group, and every shape follows from it. A
//! convolution layer stands for convolution, batch normalisation and activation together.

use serde::{Deserialize, Serialize};

use crate::{Activation, Architecture, Operation, Stage};

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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan {
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
        let side = architecture.resolution;
        let mut b = Builder {
            plan: Plan {
                input: Shape { channels: data.channels, height: side, width: side },
                layers: Vec::new(),
                groups: vec![ChannelGroup { channels: data.channels, scope: Scope::Input }],
            },
            head: Source::Input,
        };
        let stem_activation =
            architecture.stages.first().map_or(Activation::Relu, |stage| stage.activation);
        let stem = b.new_group(architecture.stem_width, Scope::Stage(0));
        b.conv("stem".to_owned(), 3, 1, Some(stem_activation), stem);
        for (index, stage) in architecture.stages.iter().enumerate() {
            if stage.depth > 0 && stage.stride > 1 && b.head_shape().height == 1 {
                return Err(PlanError::NothingLeftToStride {
                    stage: index + 1,
                    stride: stage.stride,
                });
            }
            for block in 0..stage.depth {
                let stride = if block == 0 { stage.stride } else { 1 };
                b.block(index, block, stage, stride);
            }
        }
        b.push("pool".to_owned(), LayerOp::GlobalAveragePool, vec![b.head], b.head_group(), 1, 1);
        let classes = b.new_group(data.classes, Scope::Classes);
        b.push("classifier".to_owned(), LayerOp::Linear, vec![b.head], classes, 1, 1);
        match b.plan.too_large() {
            Some(error) => Err(error),
            None => Ok(b.plan),
        }
    }

    fn too_large(&self) -> Option<PlanError> {
        self.ids().find_map(|id| {
            let layer = self.layer(id);
            let padding = match layer.op {
                LayerOp::Conv { kernel, .. } | LayerOp::Depthwise { kernel, .. } => kernel - 1,
                LayerOp::Add | LayerOp::GlobalAveragePool | LayerOp::Linear => 0,
            };
            let Shape { channels, height, width } = self.input_shape(id);
            let padded = Shape { channels, height: height + padding, width: width + padding };
            let elements = padded.elements().max(self.output_shape(id).elements());
            let layer = || layer.name.clone();
            (elements > MAX_VALUE_ELEMENTS)
                .then(|| PlanError::TooLarge { layer: layer(), elements })
        })
    }

    /// The same network with fewer channels: every group of stage `i` keeps `round(channels * (1 -
    /// ratios[i]))` of them, at least one. A stage without a ratio keeps all channels.
    #[must_use]
    pub fn pruned(&self, ratios: &[f64]) -> Self {
        let mut pruned = self.clone();
        for group in &mut pruned.groups {
            if let Scope::Stage(stage) = group.scope {
                let ratio = ratios.get(stage).copied().unwrap_or(0.0);
                let kept = (f64::from(group.channels) * (1.0 - ratio)).round();
                group.channels = (kept as u32).clamp(1, group.channels);
            }
        }
        pruned
    }

    /// The same network with more channels: every group but the image's and the classes' grows to
    /// the next multiple of `multiple`. The size limit of [`Plan::lower`] is not checked again.
    ///
    /// # Panics
    /// If `multiple` is 0.
    #[must_use]
    pub fn padded(&self, multiple: u32) -> Self {
        let mut padded = self.clone();
        for group in &mut padded.groups {
            if let Scope::Stage(_) = group.scope {
                group.channels = group.channels.next_multiple_of(multiple);
            }
        }
        padded
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

/// Appends layers after `head`.
struct Builder {
    plan: Plan,
    head: Source,
}

impl Builder {
    fn block(&mut self, stage_index: usize, block: u32, stage: &Stage, stride: u32) {
        let name = |part: &str| format!("stage{}.block{}.{part}", stage_index + 1, block + 1);
        let scope = Scope::Stage(stage_index);
        let activation = Some(stage.activation);
        match stage.operation {
            Operation::Conv => {
                let out = self.new_group(stage.width, scope);
                self.conv(name("conv"), stage.kernel, stride, activation, out);
            }
            Operation::Separable => {
                self.depthwise(name("depthwise"), stage.kernel, stride, activation);
                let out = self.new_group(stage.width, scope);
                self.conv(name("pointwise"), 1, 1, activation, out);
            }
            Operation::InvertedResidual { expansion } => {
                let (entry, shape) = (self.head, self.head_shape());
                if expansion > 1 {
                    let hidden = self.new_group(shape.channels * expansion, scope);
                    self.conv(name("expand"), 1, 1, activation, hidden);
                }
                self.depthwise(name("depthwise"), stage.kernel, stride, activation);
                let residual = stride == 1 && shape.channels == stage.width;
                let out = if residual {
                    self.plan.source_group(entry)
                } else {
                    self.new_group(stage.width, scope)
                };
                self.conv(name("project"), 1, 1, None, out);
                if residual {
                    let Shape { height, width, .. } = self.head_shape();
                    self.push(
                        name("add"),
                        LayerOp::Add,
                        vec![entry, self.head],
                        out,
                        height,
                        width,
                    );
                }
            }
        }
    }

    fn conv(
        &mut self,
        name: String,
        kernel: u32,
        stride: u32,
        activation: Option<Activation>,
        out: ChannelGroupId,
    ) {
        let (height, width) = self.strided(stride);
        let op = LayerOp::Conv { kernel, stride, activation };
        self.push(name, op, vec![self.head], out, height, width);
    }

    fn depthwise(
        &mut self,
        name: String,
        kernel: u32,
        stride: u32,
        activation: Option<Activation>,
    ) {
        let (height, width) = self.strided(stride);
        let op = LayerOp::Depthwise { kernel, stride, activation };
        self.push(name, op, vec![self.head], self.head_group(), height, width);
    }

    fn push(
        &mut self,
        name: String,
        op: LayerOp,
        inputs: Vec<Source>,
        group: ChannelGroupId,
        height: u32,
        width: u32,
    ) {
        self.plan.layers.push(Layer { name, op, inputs, group, height, width });
        self.head = Source::Layer(LayerId(self.plan.layers.len() - 1));
    }

    fn new_group(&mut self, channels: u32, scope: Scope) -> ChannelGroupId {
        self.plan.groups.push(ChannelGroup { channels, scope });
        ChannelGroupId(self.plan.groups.len() - 1)
    }

    fn head_shape(&self) -> Shape {
        self.plan.source_shape(self.head)
    }

    fn head_group(&self) -> ChannelGroupId {
        self.plan.source_group(self.head)
    }

    /// Rows and columns of the output of a convolution with this stride and same-padding.
    fn strided(&self, stride: u32) -> (u32, u32) {
        let Shape { height, width, .. } = self.head_shape();
        (height.div_ceil(stride), width.div_ceil(stride))
    }
}

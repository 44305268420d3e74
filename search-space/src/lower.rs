//! Lowers a staged architecture to a graph.
//!
//! Where a node stands (stage, block, part) is annotated. Names are made of the same, because
//! people and files see them, but nothing reads them back.

use std::borrow::Cow;

use edgesmith_graph::{
    Add, BatchNormalization, Clip, Concat, Conv, Function, GlobalAveragePool, Graph, GraphBuilder,
    GraphError, Groups, Linear, Map, Multiply, Op, Place, Role, Shape, ValueId,
};

use crate::names::LayerNames;
use crate::{
    Activation, Architecture, ArchitectureError, DataShape, MAX_VALUE_ELEMENTS, Operation, Skip,
    Stage,
};

/// Epsilon of every batch normalisation.
pub const EPSILON: f32 = 1e-5;

impl Architecture {
    /// The network for images of `data.channels` and `data.classes` classes.
    ///
    /// The parameters of a convolution `L` are `L.weight`, and `L.gamma`, `L.beta`, `L.mean` and
    /// `L.variance` of the normalisation after it; the classifier's are `classifier.weight` and
    /// `classifier.bias`.
    ///
    /// # Errors
    /// If a stage has a stride on a feature map with one position, or a feature map is too large.
    pub fn graph(&self, data: DataShape) -> Result<Graph, ArchitectureError> {
        let mut lowering = Lowering::new([data.channels, self.resolution])?;
        lowering.stem(self.stem_width, self.stem_activation())?;
        for (stage, index) in self.stages.iter().zip(0..) {
            for block in 0..stage.depth {
                lowering.block(index, block, stage, stage.stride_of(block))?;
            }
        }
        lowering.classifier(data.classes)
    }

    /// The activation of the stem.
    pub(crate) fn stem_activation(&self) -> Activation {
        self.stages.first().map_or(Activation::Relu, |stage| stage.activation)
    }
}

impl Stage {
    /// The stride of one of its blocks, counted from 0.
    pub(crate) fn stride_of(&self, block: u32) -> u32 {
        if block == 0 { self.stride } else { 1 }
    }
}

/// A part of a staged network. All networks are a stem, blocks and a classifier in a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// The stem, with its output channels.
    Stem(u32, Activation),
    /// A block of this stage with this stride. The stage's own stride and depth do not matter.
    Block(Stage, u32),
    /// The classifier, with the number of classes.
    Classifier(u32),
}

impl Part {
    /// The part as a network of its own, for an input of this many channels and of this side.
    ///
    /// # Errors
    /// See [`Architecture::graph`].
    pub(crate) fn graph(&self, input: [u32; 2]) -> Result<Graph, ArchitectureError> {
        let mut lowering = Lowering::new(input)?;
        match self {
            Part::Stem(width, activation) => lowering.stem(*width, *activation)?,
            Part::Block(stage, stride) => lowering.block(0, 0, stage, *stride)?,
            Part::Classifier(classes) => return lowering.classifier(*classes),
        }
        Ok(lowering.builder.finish(&[lowering.head]).expect("every parameter is read"))
    }
}

/// Adds nodes after `head`.
struct Lowering {
    builder: GraphBuilder,
    head: ValueId,
}

impl Lowering {
    /// Of nothing yet, for an input of this many channels and of this side.
    fn new([channels, side]: [u32; 2]) -> Result<Self, ArchitectureError> {
        check_size("image", [channels, side, side])?;
        let mut builder = GraphBuilder::new();
        let image = Shape::new(channels, &[side, side]).expect("sizes within the limit");
        let head = builder.input("image", image).expect("the first value");
        Ok(Self { builder, head })
    }

    fn stem(&mut self, width: u32, activation: Activation) -> Result<(), ArchitectureError> {
        let stem = Place { stage: Some(0), block: None, part: Cow::Borrowed("stem") };
        self.conv(stem, Conv::dense(3, 1), width, 3, Some(activation))
    }

    fn block(
        &mut self,
        stage_index: u32,
        block: u32,
        stage: &Stage,
        stride: u32,
    ) -> Result<(), ArchitectureError> {
        if stride > 1 && self.shape().space()[0] == 1 {
            let stage = stage_index as usize + 1;
            return Err(ArchitectureError::NothingLeftToStride { stage, stride });
        }
        let place = |part: &'static str| Place {
            stage: Some(stage_index),
            block: Some(block),
            part: Cow::Borrowed(part),
        };
        let Stage { width, kernel, squeeze, .. } = *stage;
        let activation = Some(stage.activation);
        let entry = self.head;
        let channels = self.shape().channels();
        match stage.operation {
            Operation::Conv => {
                self.conv(place("conv"), Conv::dense(kernel, stride), width, kernel, activation)?;
                self.squeeze_and_excite(&place, squeeze)?;
            }
            Operation::Separable => {
                self.depthwise(place("depthwise"), kernel, stride, activation)?;
                self.squeeze_and_excite(&place, squeeze)?;
                self.conv(place("pointwise"), Conv::dense(1, 1), width, 1, activation)?;
            }
            Operation::InvertedResidual { expansion } => {
                if expansion > 1 {
                    let hidden = channels * expansion;
                    self.conv(place("expand"), Conv::dense(1, 1), hidden, 1, activation)?;
                }
                self.depthwise(place("depthwise"), kernel, stride, activation)?;
                self.squeeze_and_excite(&place, squeeze)?;
                self.conv(place("project"), Conv::dense(1, 1), width, 1, None)?;
            }
        }
        let inverted = matches!(stage.operation, Operation::InvertedResidual { .. });
        match stage.skip {
            Skip::Add if inverted && stride == 1 && channels == width => {
                let sum = self.join(place("add"), Add, [entry, self.head]);
                self.head = sum.expect("both sides have the same shape");
            }
            Skip::Add => {}
            Skip::Concat if stride == 1 => {
                let [rows, columns] = [0, 1].map(|axis| self.shape().space()[axis]);
                let place = place("concat");
                check_size(LayerNames::of(&place).layer, [channels + width, rows, columns])?;
                let both = self.join(place, Concat::channels(), [entry, self.head]);
                self.head = both.expect("both sides have the same positions");
            }
            Skip::Concat => {}
        }
        Ok(())
    }

    /// A node that reads two values.
    fn join(
        &mut self,
        place: Place,
        op: impl Into<Op>,
        inputs: [ValueId; 2],
    ) -> Result<ValueId, GraphError> {
        self.builder.node(LayerNames::of(&place).layer, op, &inputs, &[], place)
    }

    /// Multiplies each channel by a number between 0 and 1 that the means of all channels decide.
    fn squeeze_and_excite(
        &mut self,
        place: &impl Fn(&'static str) -> Place,
        squeeze: u32,
    ) -> Result<(), ArchitectureError> {
        if squeeze == 0 {
            return Ok(());
        }
        let value = self.head;
        let channels = self.shape().channels();
        let squeezed = (channels / squeeze).max(1);
        self.alone(place("means"), GlobalAveragePool);
        self.linear(place("squeeze"), squeezed)?;
        self.alone(place("squeeze_relu"), Clip::RELU);
        self.linear(place("excite"), channels)?;
        let hard = Function::HardSigmoid { slope: 1.0 / 6.0, offset: 0.5 };
        self.alone(place("excite_sigmoid"), Map { function: hard });
        let scaled = self.join(place("scale"), Multiply, [value, self.head]);
        self.head = scaled.expect("a factor for every channel");
        Ok(())
    }

    /// A node without parameters after `head`, on which it fits whatever its shape is.
    fn alone(&mut self, place: Place, op: impl Into<Op>) {
        let name = LayerNames::of(&place).layer;
        let output = self.builder.node(name, op, &[self.head], &[], place);
        self.head = output.expect("it fits every value");
    }

    /// A fully connected layer on a vector, with a bias.
    fn linear(&mut self, place: Place, outputs: u32) -> Result<(), ArchitectureError> {
        let names = LayerNames::of(&place);
        let inputs = self.shape().channels();
        let weight = self.builder.parameter(names.weight, &[outputs, inputs], Role::Weight);
        let too_large = |_| ArchitectureError::TooManyWeights { layer: names.layer.to_owned() };
        let weight = weight.map_err(too_large)?;
        let bias = self.builder.parameter(names.bias, &[outputs], Role::Bias);
        let parameters = [weight, bias.expect("as many numbers as outputs")];
        let output = self.builder.node(names.layer, Linear, &[self.head], &parameters, place);
        self.head = output.expect("a row for every output");
        Ok(())
    }

    fn depthwise(
        &mut self,
        place: Place,
        kernel: u32,
        stride: u32,
        activation: Option<Activation>,
    ) -> Result<(), ArchitectureError> {
        let channels = self.shape().channels();
        self.conv(place, Conv::depthwise(kernel, stride), channels, kernel, activation)
    }

    /// Convolution, batch normalisation, activation.
    fn conv(
        &mut self,
        place: Place,
        conv: Conv,
        filters: u32,
        kernel: u32,
        activation: Option<Activation>,
    ) -> Result<(), ArchitectureError> {
        let names = LayerNames::of(&place);
        let inputs = match conv.groups {
            Groups::Equal(_) => self.shape().channels(),
            Groups::PerChannel => 1,
        };
        let [rows, columns] = [0, 1].map(|axis| self.shape().space()[axis]);
        let padding = kernel - 1;
        check_size(names.layer, [self.shape().channels(), rows + padding, columns + padding])?;
        let stride = conv.axes[0].stride;
        check_size(names.layer, [filters, rows.div_ceil(stride), columns.div_ceil(stride)])?;
        let weight = [filters, inputs, kernel, kernel];
        let weight = self.builder.parameter(names.weight, &weight, Role::Weight);
        let too_large = |_| ArchitectureError::TooManyWeights { layer: names.layer.to_owned() };
        let weight = weight.map_err(too_large)?;
        let convolved =
            self.builder.node(names.layer, conv, &[self.head], &[weight], place.clone());
        let convolved = convolved.expect("a filter for every input, of a size within the limit");
        let parts = [
            (names.gamma, Role::Scale),
            (names.beta, Role::Shift),
            (names.mean, Role::Mean),
            (names.variance, Role::Variance),
        ];
        let statistics = parts.map(|(name, role)| {
            let parameter = self.builder.parameter(name, &[filters], role);
            parameter.expect("a name of its own and at least one filter")
        });
        let op = BatchNormalization { epsilon: EPSILON };
        let normalized =
            self.builder.node(names.normalized, op, &[convolved], &statistics, place.clone());
        self.head = normalized.expect("a normalisation of every filter");
        if let Some(activation) = activation {
            let op: Op = match activation {
                Activation::Relu => Clip::RELU.into(),
                Activation::Relu6 => Clip::RELU6.into(),
                Activation::HardSwish => Map { function: Function::HardSwish }.into(),
                Activation::Silu => Map { function: Function::Silu }.into(),
            };
            let activated = self.builder.node(names.activated, op, &[self.head], &[], place);
            self.head = activated.expect("an activation fits every value");
        }
        Ok(())
    }

    /// Global average pooling and a fully connected layer, whose output is the logits.
    fn classifier(mut self, classes: u32) -> Result<Graph, ArchitectureError> {
        let place = |part| Place { stage: None, block: None, part: Cow::Borrowed(part) };
        self.alone(place("pool"), GlobalAveragePool);
        self.linear(place("classifier"), classes)?;
        Ok(self.builder.finish(&[self.head]).expect("every parameter is read"))
    }

    fn shape(&self) -> &Shape {
        self.builder.shape(self.head)
    }
}

/// Refuses feature maps that the inference engine does not accept.
fn check_size(layer: &str, sizes: [u32; 3]) -> Result<(), ArchitectureError> {
    let elements = sizes.into_iter().map(u64::from).fold(1, u64::saturating_mul);
    if elements > MAX_VALUE_ELEMENTS {
        return Err(ArchitectureError::TooLarge { layer: layer.to_owned(), elements });
    }
    Ok(())
}

//! Lowers a staged architecture to a graph.
//!
//! Where a node stands (stage, block, part) is annotated. Names are made of the same, because
//! people and files see them, but nothing reads them back.

use std::borrow::Cow;

use edgesmith_graph::{
    Add, BatchNormalization, Clip, Conv, GlobalAveragePool, Graph, GraphBuilder, Groups, Linear,
    Place, Role, Shape, ValueId,
};

use crate::names::LayerNames;
use crate::{
    Activation, Architecture, ArchitectureError, DataShape, MAX_VALUE_ELEMENTS, Operation, Stage,
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
        let side = self.resolution;
        check_size("image", [data.channels, side, side])?;
        let mut builder = GraphBuilder::new();
        let image = Shape::new(data.channels, &[side, side]).expect("sizes within the limit");
        let head = builder.input("image", image).expect("the first value");
        let mut lowering = Lowering { builder, head };
        let stem_activation =
            self.stages.first().map_or(Activation::Relu, |stage| stage.activation);
        let stem = Place { stage: Some(0), block: None, part: Cow::Borrowed("stem") };
        lowering.conv(stem, Conv::dense(3, 1), self.stem_width, 3, Some(stem_activation))?;
        for (stage, index) in self.stages.iter().zip(0..) {
            if stage.depth > 0 && stage.stride > 1 && lowering.shape().space()[0] == 1 {
                return Err(ArchitectureError::NothingLeftToStride {
                    stage: index as usize + 1,
                    stride: stage.stride,
                });
            }
            for block in 0..stage.depth {
                let stride = if block == 0 { stage.stride } else { 1 };
                lowering.block(index, block, stage, stride)?;
            }
        }
        lowering.classifier(data.classes)
    }
}

/// Adds nodes after `head`.
struct Lowering {
    builder: GraphBuilder,
    head: ValueId,
}

impl Lowering {
    fn block(
        &mut self,
        stage_index: u32,
        block: u32,
        stage: &Stage,
        stride: u32,
    ) -> Result<(), ArchitectureError> {
        let place = |part: &'static str| Place {
            stage: Some(stage_index),
            block: Some(block),
            part: Cow::Borrowed(part),
        };
        let Stage { width, kernel, .. } = *stage;
        let activation = Some(stage.activation);
        match stage.operation {
            Operation::Conv => {
                self.conv(place("conv"), Conv::dense(kernel, stride), width, kernel, activation)
            }
            Operation::Separable => {
                self.depthwise(place("depthwise"), kernel, stride, activation)?;
                self.conv(place("pointwise"), Conv::dense(1, 1), width, 1, activation)
            }
            Operation::InvertedResidual { expansion } => {
                let entry = self.head;
                let channels = self.shape().channels();
                if expansion > 1 {
                    let hidden = channels * expansion;
                    self.conv(place("expand"), Conv::dense(1, 1), hidden, 1, activation)?;
                }
                self.depthwise(place("depthwise"), kernel, stride, activation)?;
                self.conv(place("project"), Conv::dense(1, 1), width, 1, None)?;
                if stride == 1 && channels == width {
                    let place = place("add");
                    let name = LayerNames::of(&place).layer;
                    let sum = self.builder.node(name, Add, &[entry, self.head], &[], place);
                    self.head = sum.expect("both sides have the same shape");
                }
                Ok(())
            }
        }
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
            let op = match activation {
                Activation::Relu => Clip::RELU,
                Activation::Relu6 => Clip::RELU6,
            };
            let activated = self.builder.node(names.activated, op, &[self.head], &[], place);
            self.head = activated.expect("an activation fits every value");
        }
        Ok(())
    }

    /// Global average pooling and a fully connected layer, whose output is the logits.
    fn classifier(mut self, classes: u32) -> Result<Graph, ArchitectureError> {
        let place = |part| Place { stage: None, block: None, part: Cow::Borrowed(part) };
        let features = self.shape().channels();
        let pooled = self.builder.node("pool", GlobalAveragePool, &[self.head], &[], place("pool"));
        let pooled = pooled.expect("pooling fits every value");
        let too_large = |_| ArchitectureError::TooManyWeights { layer: "classifier".to_owned() };
        let weight =
            self.builder.parameter("classifier.weight", &[classes, features], Role::Weight);
        let weight = weight.map_err(too_large)?;
        let bias = self.builder.parameter("classifier.bias", &[classes], Role::Bias);
        let parameters = [weight, bias.expect("as many numbers as classes")];
        let place = place("classifier");
        let logits = self.builder.node("classifier", Linear, &[pooled], &parameters, place);
        let logits = logits.expect("a row for every class");
        Ok(self.builder.finish(&[logits]).expect("every parameter is read"))
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

//! Tests of whole graphs: channels, cuts and cost, on cases by hand and on random graphs of every
//! operation.

mod channels;
mod cost;
mod cuts;
mod document;
mod operations;
mod random;
mod weights;

use edgesmith_graph::{
    Add, BatchNormalization, Constant, Conv, ConvTranspose, GraphBuilder, GraphError, Groups,
    Linear, Op, Operands, Operation, ParameterId, Place, Role, Shape, ValueId,
};

/// A picture.
fn picture(channels: u32, height: u32, width: u32) -> Shape {
    Shape::new(channels, &[height, width]).unwrap()
}

/// Shorter ways to add nodes, whose parameters are named after them.
struct Net {
    builder: GraphBuilder,
    added: usize,
}

impl Net {
    fn new() -> Self {
        Self { builder: GraphBuilder::new(), added: 0 }
    }

    fn input(&mut self, shape: Shape) -> ValueId {
        self.builder.input("input", shape).unwrap()
    }

    fn try_op(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, GraphError> {
        self.added += 1;
        self.builder.node(format!("n{}", self.added), op, inputs, &[], Place::default())
    }

    fn op(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.try_op(op, inputs).unwrap()
    }

    /// A convolution with a bias and `filters` filters, `kernel` on every axis.
    fn try_conv(
        &mut self,
        input: ValueId,
        conv: Conv,
        filters: u32,
        kernel: u32,
    ) -> Result<ValueId, GraphError> {
        self.added += 1;
        let name = format!("n{}", self.added);
        let channels = self.builder.shape(input).channels();
        let mut shape = vec![filters, channels / conv.parts(channels).max(1)];
        shape.extend(conv.axes.iter().map(|_| kernel));
        let weight = self.builder.parameter(format!("{name}.weight"), &shape, Role::Weight)?;
        let bias = self.builder.parameter(format!("{name}.bias"), &[filters], Role::Bias)?;
        self.builder.node(name, conv, &[input], &[weight, bias], Place::default())
    }

    /// An operation with parameters of these shapes.
    fn with(
        &mut self,
        op: impl Into<Op>,
        inputs: &[ValueId],
        parameters: &[(&str, &[u32], Role)],
    ) -> ValueId {
        self.added += 1;
        let name = format!("n{}", self.added);
        let parameters: Vec<ParameterId> = parameters
            .iter()
            .map(|(part, shape, role)| {
                self.builder.parameter(format!("{name}.{part}"), shape, *role).unwrap()
            })
            .collect();
        self.builder.node(name, op, inputs, &parameters, Place::default()).unwrap()
    }

    /// Whether values are repeated to one shape.
    fn fits(&self, values: &[ValueId]) -> bool {
        let shapes: Vec<&Shape> = values.iter().map(|&value| self.builder.shape(value)).collect();
        Add.infer(&Operands { inputs: &shapes, parameters: &[] }).is_ok()
    }

    fn constant(&mut self, shape: &[u32]) -> ValueId {
        self.with(Constant, &[], &[("value", shape, Role::Constant)])
    }

    fn conv(&mut self, input: ValueId, filters: u32, kernel: u32) -> ValueId {
        self.try_conv(input, Conv::dense(kernel, 1), filters, kernel).unwrap()
    }

    fn grouped(&mut self, input: ValueId, filters: u32, kernel: u32, groups: u32) -> ValueId {
        let conv = Conv { groups: Groups::Equal(groups), ..Conv::dense(kernel, 1) };
        self.try_conv(input, conv, filters, kernel).unwrap()
    }

    fn depthwise(&mut self, input: ValueId, filters: u32, kernel: u32) -> ValueId {
        self.try_conv(input, Conv::depthwise(kernel, 1), filters, kernel).unwrap()
    }

    /// A transposed convolution with a bias.
    fn conv_transpose(
        &mut self,
        input: ValueId,
        conv: ConvTranspose,
        filters: u32,
        kernel: &[u32],
    ) -> ValueId {
        self.added += 1;
        let name = format!("n{}", self.added);
        let channels = self.builder.shape(input).channels();
        let mut shape = vec![filters, channels / conv.groups.parts(channels)];
        shape.extend_from_slice(kernel);
        let weight = self.builder.parameter(format!("{name}.weight"), &shape, Role::Weight);
        let bias = self.builder.parameter(format!("{name}.bias"), &[filters], Role::Bias);
        let parameters = [weight.unwrap(), bias.unwrap()];
        self.builder.node(name, conv, &[input], &parameters, Place::default()).unwrap()
    }

    fn linear(&mut self, input: ValueId, out: u32) -> ValueId {
        self.added += 1;
        let name = format!("n{}", self.added);
        let shape = [out, self.builder.shape(input).channels()];
        let weight = self.builder.parameter(format!("{name}.weight"), &shape, Role::Weight);
        let bias = self.builder.parameter(format!("{name}.bias"), &[out], Role::Bias);
        let parameters = [weight.unwrap(), bias.unwrap()];
        self.builder.node(name, Linear, &[input], &parameters, Place::default()).unwrap()
    }

    fn normalize(&mut self, input: ValueId) -> ValueId {
        self.added += 1;
        let name = format!("n{}", self.added);
        let channels = [self.builder.shape(input).channels()];
        let roles = [
            ("gamma", Role::Scale),
            ("beta", Role::Shift),
            ("mean", Role::Mean),
            ("variance", Role::Variance),
        ];
        let parameters = roles.map(|(part, role)| {
            self.builder.parameter(format!("{name}.{part}"), &channels, role).unwrap()
        });
        let op = BatchNormalization { epsilon: 1e-5 };
        self.builder.node(name, op, &[input], &parameters, Place::default()).unwrap()
    }
}

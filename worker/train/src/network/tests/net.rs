//! Short ways to build a graph, whose parameters are named after their nodes.

use edgesmith_graph::{
    BatchNormalization, Constant, Conv, ConvTranspose, Function, Graph, GraphBuilder, GraphError,
    LayerNormalization, Linear, Map, Op, ParameterId, Place, Prelu, Role, Shape, ValueId,
};

/// A graph that is being built.
pub(crate) struct Net {
    pub(crate) builder: GraphBuilder,
    added: usize,
}

impl Net {
    /// A graph with one input.
    pub(crate) fn new(channels: u32, space: &[u32]) -> (Self, ValueId) {
        let mut builder = GraphBuilder::new();
        let input = builder.input("input", Shape::new(channels, space).unwrap()).unwrap();
        (Self { builder, added: 0 }, input)
    }

    pub(crate) fn op(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.try_op(op, inputs).unwrap()
    }

    pub(crate) fn try_op(
        &mut self,
        op: impl Into<Op>,
        inputs: &[ValueId],
    ) -> Result<ValueId, GraphError> {
        let name = self.name();
        self.builder.node(name, op, inputs, &[], Place::default())
    }

    /// An operation with parameters of these shapes.
    pub(crate) fn with(
        &mut self,
        op: impl Into<Op>,
        inputs: &[ValueId],
        parameters: &[(&str, &[u32], Role)],
    ) -> ValueId {
        let name = self.name();
        let parameters: Vec<ParameterId> = parameters
            .iter()
            .map(|(part, shape, role)| self.parameter(&name, part, shape, *role))
            .collect();
        self.builder.node(name, op, inputs, &parameters, Place::default()).unwrap()
    }

    pub(crate) fn constant(&mut self, shape: &[u32]) -> ValueId {
        self.with(Constant, &[], &[("value", shape, Role::Constant)])
    }

    pub(crate) fn map(&mut self, function: Function, input: ValueId) -> ValueId {
        self.op(Map { function }, &[input])
    }

    /// Layer normalisation with a scale and a shift.
    pub(crate) fn normalize_layer(&mut self, axes: &[u32], input: ValueId) -> ValueId {
        let sizes = self.builder.shape(input).sizes();
        let sizes: Vec<u32> = axes.iter().map(|&axis| sizes[axis as usize]).collect();
        let parameters = [("scale", &*sizes, Role::Scale), ("shift", &*sizes, Role::Shift)];
        let op = LayerNormalization { axes: axes.into(), epsilon: 0.1 };
        self.with(op, &[input], &parameters)
    }

    pub(crate) fn prelu(&mut self, input: ValueId) -> ValueId {
        let channels = [self.builder.shape(input).channels()];
        self.with(Prelu, &[input], &[("slope", &channels, Role::Slope)])
    }

    /// A convolution with `filters` filters of `kernel`.
    pub(crate) fn conv(
        &mut self,
        conv: Conv,
        input: ValueId,
        filters: u32,
        kernel: &[u32],
        bias: bool,
    ) -> Result<ValueId, GraphError> {
        let name = self.name();
        let channels = self.builder.shape(input).channels();
        let mut shape = vec![filters, channels / conv.parts(channels)];
        shape.extend_from_slice(kernel);
        let mut parameters = vec![self.parameter(&name, "weight", &shape, Role::Weight)];
        if bias {
            parameters.push(self.parameter(&name, "bias", &[filters], Role::Bias));
        }
        self.builder.node(name, conv, &[input], &parameters, Place::default())
    }

    /// A transposed convolution with `filters` filters of `kernel`.
    pub(crate) fn conv_transpose(
        &mut self,
        conv: ConvTranspose,
        input: ValueId,
        filters: u32,
        kernel: &[u32],
        bias: bool,
    ) -> ValueId {
        let name = self.name();
        let channels = self.builder.shape(input).channels();
        let mut shape = vec![filters, channels / conv.groups.parts(channels)];
        shape.extend_from_slice(kernel);
        let mut parameters = vec![self.parameter(&name, "weight", &shape, Role::Weight)];
        if bias {
            parameters.push(self.parameter(&name, "bias", &[filters], Role::Bias));
        }
        self.builder.node(name, conv, &[input], &parameters, Place::default()).unwrap()
    }

    /// A dense convolution of one pixel, which makes another value of an input.
    pub(crate) fn pointwise(&mut self, input: ValueId, filters: u32) -> ValueId {
        self.conv(Conv::dense(1, 1), input, filters, &[1, 1], true).unwrap()
    }

    pub(crate) fn linear(&mut self, input: ValueId, outputs: u32, bias: bool) -> ValueId {
        let name = self.name();
        let shape = [outputs, self.builder.shape(input).channels()];
        let mut parameters = vec![self.parameter(&name, "weight", &shape, Role::Weight)];
        if bias {
            parameters.push(self.parameter(&name, "bias", &[outputs], Role::Bias));
        }
        self.builder.node(name, Linear, &[input], &parameters, Place::default()).unwrap()
    }

    pub(crate) fn normalize(&mut self, input: ValueId) -> ValueId {
        let name = self.name();
        let channels = [self.builder.shape(input).channels()];
        let parameters = [
            ("gamma", Role::Scale),
            ("beta", Role::Shift),
            ("mean", Role::Mean),
            ("variance", Role::Variance),
        ];
        let parameters =
            parameters.map(|(part, role)| self.parameter(&name, part, &channels, role));
        let op = BatchNormalization { epsilon: 1e-3 };
        self.builder.node(name, op, &[input], &parameters, Place::default()).unwrap()
    }

    pub(crate) fn finish(self, output: ValueId) -> Graph {
        self.builder.finish(&[output]).unwrap()
    }

    fn parameter(&mut self, owner: &str, part: &str, shape: &[u32], role: Role) -> ParameterId {
        self.builder.parameter(format!("{owner}.{part}"), shape, role).unwrap()
    }

    fn name(&mut self) -> String {
        self.added += 1;
        format!("n{}", self.added)
    }
}

//! The graph as it grows: nodes and parameters under names of their own, and values whose axes are
//! brought into the order that an operation needs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use edgesmith_graph::{
    Array, Constant as ConstantValue, Function, GraphBuilder, Op, ParameterId, Place,
    ReduceFunction, Role, Shape, ValueId, Weights,
};

use super::constant::{Constant, Size};
use super::error::Fault;
use super::view::View;

/// Numbers that may be made or looked at while any file is read, such as a constant that is
/// repeated. For each byte of the file, and each number from a file beside it, there are some more.
const BUDGET: usize = 1 << 24;

/// See [`BUDGET`].
const BUDGET_PER_BYTE: usize = 16;

/// See [`BUDGET`].
const BUDGET_PER_NUMBER_BESIDE: usize = 16;

/// What the file's nodes have become so far.
pub(super) struct Network {
    pub(super) builder: GraphBuilder,
    pub(super) weights: Weights,
    /// Scales of values and parameters that were quantized, by their names.
    /// `None` for a value that has several, which contradict each other.
    pub(super) value_scales: BTreeMap<String, Option<(f32, u8)>>,
    pub(super) parameter_scales: BTreeMap<String, Vec<f64>>,
    /// The number of examples that the file fixes.
    pub(super) batch: Option<u32>,
    /// The tensor that is being computed.
    pub(super) current: String,
    inputs: Vec<ValueId>,
    names: HashSet<String>,
    /// By wish that was taken, the number after it that is tried next.
    numbers: HashMap<String, u32>,
    /// Nodes that only move numbers, by what they read, so that they are made once.
    pub(super) moved: HashMap<ValueId, Vec<(Op, ValueId)>>,
    /// Constants by the value that they are.
    pub(super) constants: HashMap<ValueId, Constant>,
    /// Parameters by what they were made of and what for.
    parameters: HashMap<(String, Role), Vec<ParameterId>>,
    /// Parameters by where the numbers that they were made of are, which stay there.
    sources: HashMap<(usize, Role, Vec<usize>), Source>,
    /// By parameter.
    parameter_names: Vec<String>,
    /// What no number of a value is below, where that is known.
    least: HashMap<ValueId, f32>,
    /// By value.
    value_names: HashMap<ValueId, String>,
    budget: usize,
    /// Numbers of files beside the network that the budget has grown by.
    credited: usize,
}

/// Numbers of the file, and the parameter that was made of them.
type Source = (Rc<Vec<f32>>, ParameterId);

impl Network {
    /// For a file of so many bytes that fixes the number of examples, or does not.
    pub(super) fn new(batch: Option<u32>, bytes: usize) -> Self {
        Self {
            builder: GraphBuilder::new(),
            weights: Weights::default(),
            value_scales: BTreeMap::new(),
            parameter_scales: BTreeMap::new(),
            batch,
            current: String::new(),
            inputs: vec![],
            names: HashSet::new(),
            numbers: HashMap::new(),
            moved: HashMap::new(),
            constants: HashMap::new(),
            parameters: HashMap::new(),
            sources: HashMap::new(),
            parameter_names: vec![],
            least: HashMap::new(),
            value_names: HashMap::new(),
            budget: bytes.saturating_mul(BUDGET_PER_BYTE).saturating_add(BUDGET),
            credited: 0,
        }
    }

    /// Accounts for numbers that are made.
    pub(super) fn spend(&mut self, numbers: usize) -> Result<(), Fault> {
        match self.budget.checked_sub(numbers) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => Err(Fault::unsupported(
                format!("it makes {numbers} constant numbers out of a few"),
                "simplify the network with onnxsim before",
            )),
        }
    }

    /// Lets more numbers be made, after so many were read from files beside the network, which have
    /// so many bytes in all. Reading the same bytes again and again earns nothing.
    pub(super) fn credit(&mut self, numbers: usize, bytes: usize) {
        let numbers = numbers.min(bytes.saturating_sub(self.credited));
        self.credited += numbers;
        let more = numbers.saturating_mul(BUDGET_PER_NUMBER_BESIDE);
        self.budget = self.budget.saturating_add(more);
    }

    pub(super) fn input(&mut self, name: &str, shape: Shape) -> Result<ValueId, Fault> {
        let name = self.claim(name);
        let id = self.builder.input(name.clone(), shape)?;
        self.inputs.push(id);
        self.value_names.insert(id, name);
        Ok(id)
    }

    /// Whether a value is an input.
    pub(super) fn is_input(&self, id: ValueId) -> bool {
        self.inputs.contains(&id)
    }

    /// The sizes of a value's axes, channels first.
    pub(super) fn sizes(&self, id: ValueId) -> Vec<u32> {
        let shape = self.builder.shape(id);
        std::iter::once(shape.channels()).chain(shape.space().iter().copied()).collect()
    }

    /// The name of a value.
    pub(super) fn name(&self, id: ValueId) -> &str {
        &self.value_names[&id]
    }

    /// Adds the node that computes the current tensor.
    pub(super) fn emit(
        &mut self,
        op: impl Into<Op>,
        inputs: &[ValueId],
        parameters: &[ParameterId],
    ) -> Result<ValueId, Fault> {
        self.node(self.current.clone(), op, inputs, parameters)
    }

    /// Adds a node that computes something on the way to the current tensor.
    pub(super) fn step(
        &mut self,
        part: &str,
        op: impl Into<Op>,
        inputs: &[ValueId],
        parameters: &[ParameterId],
    ) -> Result<ValueId, Fault> {
        self.node(format!("{}.{part}", self.current), op, inputs, parameters)
    }

    pub(super) fn node(
        &mut self,
        wish: String,
        op: impl Into<Op>,
        inputs: &[ValueId],
        parameters: &[ParameterId],
    ) -> Result<ValueId, Fault> {
        let name = self.claim(&wish);
        let op = op.into();
        let bound = self.bound_of(&op, inputs);
        let id = self.builder.node(name.clone(), op, inputs, parameters, Place::default())?;
        if let Some(bound) = bound {
            self.least.insert(id, bound);
        }
        self.value_names.insert(id, name);
        Ok(id)
    }

    /// Whether a value is never below 0, as far as that is easily seen.
    pub(super) fn is_above_zero(&self, id: ValueId) -> bool {
        self.least.get(&id).is_some_and(|&least| least >= 0.0)
    }

    /// What no number of the output is below, if that is easily seen.
    fn bound_of(&self, op: &Op, inputs: &[ValueId]) -> Option<f32> {
        let bounds = || inputs.iter().map(|input| self.least.get(input).copied());
        let all = || bounds().collect::<Option<Vec<f32>>>();
        let lowest = || Some(all()?.into_iter().fold(f32::INFINITY, f32::min));
        match op {
            Op::Clip(clip) if clip.low.is_finite() => Some(clip.low),
            Op::Softmax(softmax) if !softmax.log => Some(0.0),
            Op::Map(map) => match map.function {
                Function::Absolute
                | Function::Exponential
                | Function::HardSigmoid { .. }
                | Function::Sigmoid
                | Function::Softplus
                | Function::SquareRoot => Some(0.0),
                Function::Erf | Function::Tanh => Some(-1.0),
                Function::Scale { factor, offset } if factor >= 0.0 => {
                    Some(factor * lowest()? + offset)
                }
                Function::Elu { .. }
                | Function::Gelu
                | Function::GeluTanh
                | Function::HardSwish
                | Function::Logarithm
                | Function::Power { .. }
                | Function::Scale { .. }
                | Function::Silu => None,
            },
            Op::Add(_) => Some(all()?.into_iter().sum()),
            Op::Multiply(_) => lowest().filter(|&low| low >= 0.0).map(|_| 0.0),
            Op::Reduce(reduce) if reduce.function == ReduceFunction::L2 => Some(0.0),
            Op::Reduce(reduce) if reduce.function == ReduceFunction::Sum => {
                lowest().filter(|&low| low >= 0.0).map(|_| 0.0)
            }
            Op::AveragePool(_) => lowest().map(|low| low.min(0.0)),
            Op::Concat(_)
            | Op::Flatten(_)
            | Op::Gather(_)
            | Op::GlobalAveragePool(_)
            | Op::MaxPool(_)
            | Op::Reduce(_)
            | Op::Reshape(_)
            | Op::Resize(_)
            | Op::Transpose(_) => lowest(),
            Op::BatchNormalization(_)
            | Op::Binary(_)
            | Op::Clip(_)
            | Op::Constant(_)
            | Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::LayerNormalization(_)
            | Op::LeakyRelu(_)
            | Op::Linear(_)
            | Op::MatrixProduct(_)
            | Op::Pad(_)
            | Op::Prelu(_)
            | Op::Select(_)
            | Op::Softmax(_) => None,
        }
    }

    /// Declares a parameter with the numbers of a constant, which has the parameter's shape. One
    /// that was made of the same numbers for the same purpose serves again.
    pub(super) fn parameter(
        &mut self,
        part: &str,
        role: Role,
        constant: &Constant,
    ) -> Result<ParameterId, Fault> {
        let numbers = constant.to_floats()?;
        let source = (Rc::as_ptr(&numbers).addr(), role, constant.dims.clone());
        if let Some((_, id)) = self.sources.get(&source) {
            return Ok(*id);
        }
        self.spend(numbers.len())?;
        if let Some(number) = numbers.iter().find(|number| !number.is_finite()) {
            return Err(Fault::unsupported(
                format!("its {part} contains {number}, which is not a finite number"),
                "export the network again after checking its training",
            ));
        }
        if role == Role::Variance && numbers.iter().any(|&number| number < 0.0) {
            return Err(Fault::invalid("its variance is negative"));
        }
        let wish = match &constant.origin {
            Some(origin) => origin.to_string(),
            None => format!("{}.{part}", self.current),
        };
        let same = self.parameters.get(&(wish.clone(), role));
        let same = same.into_iter().flatten().copied().find(|id| {
            let array = &self.weights.arrays[&self.parameter_names[id.index()]];
            array.shape == constant.dims && array.data == **numbers
        });
        if let Some(id) = same {
            return Ok(id);
        }
        let size =
            |&size: &usize| u32::try_from(size).map_err(|_| Fault::invalid("it is too large"));
        let shape: Vec<u32> = constant.dims.iter().map(size).collect::<Result<_, _>>()?;
        let name = self.claim(&wish);
        let id = self.builder.parameter(name.clone(), &shape, role)?;
        if let Some((scales, axis)) = constant.scales.as_deref() {
            self.keep_scales(&name, &shape, scales, *axis);
        }
        let array = Array { shape: constant.dims.clone(), data: numbers.to_vec() };
        self.weights.arrays.insert(name.clone(), array);
        self.parameters.entry((wish, role)).or_default().push(id);
        self.sources.insert(source, (numbers, id));
        self.parameter_names.push(name);
        Ok(id)
    }

    /// Notes the scales of a parameter, if there is one for each index of its first axis.
    fn keep_scales(&mut self, name: &str, shape: &[u32], scales: &[f32], axis: Option<usize>) {
        let first = shape[0] as usize;
        let scales: Vec<f64> = match axis {
            Some(0) if scales.len() == first => scales.iter().map(|&scale| scale.into()).collect(),
            None if scales.len() == 1 => vec![scales[0].into(); first],
            _ => return,
        };
        self.parameter_scales.insert(name.to_owned(), scales);
    }

    /// A name that nothing has yet: the wish, with a number after it if need be.
    fn claim(&mut self, wish: &str) -> String {
        let wish = if wish.is_empty() { "tensor" } else { wish };
        let mut name = wish.to_owned();
        if self.names.contains(wish) {
            let number = self.numbers.entry(name.clone()).or_insert(2);
            while self.names.contains(&name) {
                name = format!("{wish}_{number}");
                *number += 1;
            }
        }
        self.names.insert(name.clone());
        name
    }

    /// A constant as a tensor of the network, the same for every example.
    pub(super) fn constant(&mut self, constant: &Constant) -> Result<View, Fault> {
        let batch = vec![None; constant.dims.len()];
        self.constant_with(constant, &batch)
    }

    /// A constant as a tensor of the network, with the batch in these axes.
    pub(super) fn constant_with(
        &mut self,
        constant: &Constant,
        batch: &[Option<u32>],
    ) -> Result<View, Fault> {
        // The batch is no axis of a value.
        let kept = |&axis: &usize| !(batch[axis].is_some() && constant.dims[axis] == 1);
        let of: Vec<usize> = (0..batch.len()).filter(kept).collect();
        let mut dims: Vec<usize> = of.iter().map(|&axis| constant.dims[axis]).collect();
        if dims.is_empty() {
            dims.push(1);
        }
        let id = self.constant_value(constant.reshaped(dims))?;
        let of: Vec<Option<usize>> = of.into_iter().map(Some).collect();
        Ok(View::new(id, &self.sizes(id), &of, batch))
    }

    /// A value that is a constant.
    pub(super) fn constant_value(&mut self, constant: Constant) -> Result<ValueId, Fault> {
        let parameter = self.parameter("constant", Role::Constant, &constant)?;
        let name = format!("{}.value", self.parameter_names[parameter.index()]);
        let id = self.node(name, ConstantValue, &[], &[parameter])?;
        self.constants.insert(id, constant);
        Ok(id)
    }

    /// Whether a size of the file is that of the batch.
    pub(super) fn is_batch(&self, size: i64) -> bool {
        self.batch.is_some_and(|batch| i64::from(batch) == size)
    }

    /// The shape that a tensor has in the file.
    pub(super) fn describe(&self, sizes: &[Size]) -> String {
        let size = |size: &Size| match (size.batch, self.batch) {
            (true, Some(batch)) => (i64::from(batch) * size.known).to_string(),
            _ => size.to_string(),
        };
        format!("[{}]", sizes.iter().map(size).collect::<Vec<_>>().join(", "))
    }
}

//! The graph as it grows: nodes and parameters under names of their own, and values whose axes are
//! brought into the order that an operation needs.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use edgesmith_graph::{
    Array, Constant as ConstantValue, Flatten, Gather, GraphBuilder, Op, ParameterId, Place,
    Reshape, Role, Shape, Transpose, ValueId, Weights,
};
use smallvec::SmallVec;

use super::constant::{Constant, Size};
use super::error::Fault;
use super::view::{Axis, Element, Part, View};

/// Numbers that may be made while a file is read that are not in it, such as a constant that is
/// repeated.
const BUDGET: usize = 1 << 24;

/// What the file's nodes have become so far.
pub(super) struct Network {
    pub(super) builder: GraphBuilder,
    pub(super) weights: Weights,
    /// Scales of values and parameters that were quantized, by their names.
    pub(super) value_scales: BTreeMap<String, (f32, u8)>,
    pub(super) parameter_scales: BTreeMap<String, Vec<f64>>,
    /// The number of examples that the file fixes.
    pub(super) batch: Option<u32>,
    /// The tensor that is being computed.
    pub(super) current: String,
    names: HashSet<String>,
    /// Nodes that only move numbers, by what they read, so that they are made once.
    moved: HashMap<ValueId, Vec<(Op, ValueId)>>,
    /// Constants by the value that they are.
    constants: HashMap<ValueId, Constant>,
    /// Parameters by what they were made of and what for.
    parameters: HashMap<(String, Role), Vec<ParameterId>>,
    /// By parameter.
    parameter_names: Vec<String>,
    /// By value.
    value_names: HashMap<ValueId, String>,
    budget: usize,
}

impl Network {
    pub(super) fn new(batch: Option<u32>) -> Self {
        Self {
            builder: GraphBuilder::new(),
            weights: Weights::default(),
            value_scales: BTreeMap::new(),
            parameter_scales: BTreeMap::new(),
            batch,
            current: String::new(),
            names: HashSet::new(),
            moved: HashMap::new(),
            constants: HashMap::new(),
            parameters: HashMap::new(),
            parameter_names: vec![],
            value_names: HashMap::new(),
            budget: BUDGET,
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

    pub(super) fn input(&mut self, name: &str, shape: Shape) -> Result<ValueId, Fault> {
        let name = self.claim(name);
        let id = self.builder.input(name.clone(), shape)?;
        self.value_names.insert(id, name);
        Ok(id)
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

    fn node(
        &mut self,
        wish: String,
        op: impl Into<Op>,
        inputs: &[ValueId],
        parameters: &[ParameterId],
    ) -> Result<ValueId, Fault> {
        let name = self.claim(&wish);
        let id = self.builder.node(name.clone(), op, inputs, parameters, Place::default())?;
        self.value_names.insert(id, name);
        Ok(id)
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
        let mut name = Cow::Borrowed(wish);
        let mut number = 2;
        while self.names.contains(&*name) {
            name = Cow::Owned(format!("{wish}_{number}"));
            number += 1;
        }
        let name = name.into_owned();
        self.names.insert(name.clone());
        name
    }

    /// A node that only moves the numbers of a value, made once.
    fn moved(&mut self, id: ValueId, op: impl Into<Op>) -> Result<ValueId, Fault> {
        let op = op.into();
        let before = self.moved.get(&id).into_iter().flatten().find(|(other, _)| *other == op);
        if let Some((_, output)) = before {
            return Ok(*output);
        }
        if let Some(constant) = self.constants.get(&id) {
            // Its numbers are moved right away.
            let constant = moved_constant(constant, &op);
            let output = self.constant_value(constant)?;
            self.moved.entry(id).or_default().push((op, output));
            return Ok(output);
        }
        let part = match &op {
            Op::Transpose(_) => "transposed",
            Op::Gather(_) => "reordered",
            Op::Flatten(_) => "flat",
            _ => "reshaped",
        };
        let name = format!("{}.{part}", self.name(id));
        let output = self.node(name, op.clone(), &[id], &[])?;
        self.moved.entry(id).or_default().push((op, output));
        Ok(output)
    }

    /// The value with axes of these sizes, which are of the same product.
    pub(super) fn reshape(&mut self, id: ValueId, sizes: &[u32]) -> Result<ValueId, Fault> {
        if self.sizes(id) == sizes {
            Ok(id)
        } else if sizes.len() == 1 {
            self.moved(id, Flatten)
        } else {
            self.moved(id, Reshape { sizes: SmallVec::from_slice(sizes) })
        }
    }

    /// The tensor in a value whose axes are these axes of it in this order; `None` stands for an
    /// axis of size 1. Axes of the tensor that are not named have a size of 1, or only the batch.
    /// If `exact` is false, axes of size 1 at the end may be more or fewer.
    pub(super) fn arrange(
        &mut self,
        view: &View,
        order: &[Option<usize>],
        exact: bool,
    ) -> Result<View, Fault> {
        let target: Vec<SmallVec<[usize; 2]>> =
            order.iter().map(|axis| axis.map(|axis| view.wide(axis)).unwrap_or_default()).collect();
        let flat: Vec<usize> = target.iter().flatten().copied().collect();
        let size = |parts: &[usize]| -> u32 { parts.iter().map(|&p| view.parts[p].size).product() };
        let mut wanted: Vec<u32> = target.iter().map(|parts| size(parts)).collect();
        if wanted.is_empty() {
            wanted.push(1);
        }
        let wide = view.parts.iter().filter(|part| part.size > 1).count();
        if flat.len() != wide {
            return Err(Fault::batch("it works on axes of which one is the batch"));
        }
        let current = self.sizes(view.id);
        let trimmed = |sizes: &[u32]| -> Vec<u32> {
            let end = sizes.iter().rposition(|&size| size != 1).map_or(1, |last| last + 1);
            sizes[..end].to_vec()
        };
        let id = if flat.is_sorted() {
            let fits = !exact && trimmed(&current) == trimmed(&wanted);
            if fits {
                wanted = current;
                view.id
            } else {
                self.reshape(view.id, &wanted)?
            }
        } else {
            self.permute(view, &target, &flat, &wanted)?
        };
        let mut parts: Vec<Part> = vec![];
        let mut axes: Vec<Axis> =
            view.axes.iter().map(|axis| Axis { batch: axis.batch, ..Axis::default() }).collect();
        for (of, &size) in wanted.iter().enumerate() {
            let own = target.get(of).map(|own| own.as_slice()).unwrap_or_default();
            let axis = order.get(of).copied().flatten();
            let sizes: Vec<u32> = match own {
                [] => vec![size],
                own => own.iter().map(|&part| view.parts[part].size).collect(),
            };
            for size in sizes {
                if let Some(axis) = axis {
                    axes[axis].parts.push(parts.len());
                }
                parts.push(Part { of, size });
            }
        }
        Ok(View { id, parts, axes, element: view.element }.merged())
    }

    /// Brings the parts of a value into another order. `flat` are the parts of all `target` axes.
    fn permute(
        &mut self,
        view: &View,
        target: &[SmallVec<[usize; 2]>],
        flat: &[usize],
        wanted: &[u32],
    ) -> Result<ValueId, Fault> {
        let axes: Vec<&[usize]> =
            target.iter().map(|parts| parts.as_slice()).filter(|parts| !parts.is_empty()).collect();
        let part_sizes: Vec<usize> = view.parts.iter().map(|part| part.size as usize).collect();
        // Along one axis: so that pruning can follow it.
        if let [axis] = axes[..] {
            let vector = self.reshape(view.id, &[part_sizes.iter().product::<usize>() as u32])?;
            let indices = self.order_along(axis, &part_sizes)?;
            let vector = self.moved(vector, Gather { axis: 0, indices })?;
            return self.reshape(vector, wanted);
        }
        // Within axes of the value, each of which stays where it is.
        let of = |parts: &[usize]| -> Option<usize> {
            let of = view.parts[parts[0]].of;
            let whole = view.parts.iter().filter(|part| part.of == of && part.size > 1).count();
            let same = parts.iter().all(|&part| view.parts[part].of == of);
            (same && parts.len() == whole).then_some(of)
        };
        let whole: Option<Vec<usize>> = axes.iter().map(|parts| of(parts)).collect();
        if let Some(whole) = whole
            && whole.is_sorted()
        {
            let mut id = view.id;
            for (parts, axis) in axes.iter().zip(whole) {
                if !parts.is_sorted() {
                    let first = *parts.iter().min().expect("an axis has parts");
                    let own: Vec<usize> = parts.iter().map(|part| part - first).collect();
                    let last = first + parts.len();
                    // Parts of size 1 would be in between.
                    if own.iter().any(|&part| first + part >= last) {
                        return self.transpose(view, flat, &axes, wanted);
                    }
                    let indices = self.order_along(&own, &part_sizes[first..last])?;
                    id = self.moved(id, Gather { axis: axis as u32, indices })?;
                }
            }
            return self.reshape(id, wanted);
        }
        self.transpose(view, flat, &axes, wanted)
    }

    /// Transposes runs of parts that stay together.
    fn transpose(
        &mut self,
        view: &View,
        flat: &[usize],
        axes: &[&[usize]],
        wanted: &[u32],
    ) -> Result<ValueId, Fault> {
        let wide: Vec<usize> =
            (0..view.parts.len()).filter(|&part| view.parts[part].size > 1).collect();
        let rank = |part: usize| wide.binary_search(&part).expect("a wide part");
        let to = |part: usize| axes.iter().position(|parts| parts.contains(&part));
        let mut blocks: Vec<(usize, u32)> = vec![];
        let mut before: Option<usize> = None;
        for &part in flat {
            let joined = before.is_some_and(|before| {
                let apart = view.parts[before].of != view.parts[part].of && to(before) != to(part);
                rank(before) + 1 == rank(part) && !apart
            });
            let size = view.parts[part].size;
            match blocks.last_mut() {
                Some(block) if joined => block.1 *= size,
                _ => blocks.push((part, size)),
            }
            before = Some(part);
        }
        let mut sorted: Vec<usize> = (0..blocks.len()).collect();
        sorted.sort_by_key(|&block| blocks[block].0);
        let sizes: Vec<u32> = sorted.iter().map(|&block| blocks[block].1).collect();
        let place = |block: usize| sorted.iter().position(|&other| other == block);
        let order = (0..blocks.len()).map(|block| place(block).expect("every block") as u32);
        let order: SmallVec<[u32; 3]> = order.collect();
        let id = self.reshape(view.id, &sizes)?;
        let id = self.moved(id, Transpose { order })?;
        self.reshape(id, wanted)
    }

    /// The indices that read an axis made of these parts with its parts in another order.
    fn order_along(&mut self, order: &[usize], sizes: &[usize]) -> Result<Vec<u32>, Fault> {
        self.spend(sizes.iter().product())?;
        let steps = super::constant::strides(sizes);
        let dims: Vec<usize> = order.iter().map(|&part| sizes[part]).collect();
        let steps: Vec<usize> = order.iter().map(|&part| steps[part]).collect();
        let places = super::constant::places(&dims, &steps, 0);
        Ok(places.into_iter().map(|place| place as u32).collect())
    }

    /// The tensor in a value of which each axis is one of the tensor's, in the order that there is.
    pub(super) fn tidy(&mut self, view: &View) -> Result<View, Fault> {
        if view.layout().is_some() {
            return Ok(view.clone());
        }
        let order: Vec<Option<usize>> = view.order().into_iter().map(Some).collect();
        self.arrange(view, &order, false)
    }

    /// As [`Network::tidy`], and an axis of the value is this axis of the tensor. Returns both.
    pub(super) fn along(&mut self, view: &View, axis: usize) -> Result<(View, u32), Fault> {
        if view.axes[axis].batch.is_some() {
            return Err(Fault::batch("it works along the batch axis"));
        }
        let view = self.tidy(view)?;
        let layout = view.layout().expect("it is tidy");
        if let Some(at) = layout.iter().position(|&of| of == Some(axis)) {
            return Ok((view, at as u32));
        }
        let mut order = layout;
        order.push(Some(axis));
        let view = self.arrange(&view, &order, true)?;
        Ok((view, order.len() as u32 - 1))
    }

    /// As [`Network::tidy`], and the first axis of the value is this axis of the tensor.
    pub(super) fn with_channels(&mut self, view: &View, axis: usize) -> Result<View, Fault> {
        if view.axes[axis].batch.is_some() {
            return Err(Fault::batch("its channels are the batch axis"));
        }
        let view = self.tidy(view)?;
        let layout = view.layout().expect("it is tidy");
        if layout[0] == Some(axis) && layout.iter().all(Option::is_some) {
            return Ok(view);
        }
        let rest = layout.into_iter().filter(|&of| of != Some(axis) && of.is_some());
        let order: Vec<Option<usize>> = std::iter::once(Some(axis)).chain(rest).collect();
        self.arrange(&view, &order, true)
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
    fn constant_value(&mut self, constant: Constant) -> Result<ValueId, Fault> {
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

/// A constant after an operation that only moves the numbers of a value.
fn moved_constant(constant: &Constant, op: &Op) -> Constant {
    match op {
        Op::Transpose(transpose) => {
            let order: Vec<usize> = transpose.order.iter().map(|&axis| axis as usize).collect();
            constant.transposed(&order)
        }
        Op::Reshape(reshape) => {
            constant.reshaped(reshape.sizes.iter().map(|&size| size as usize).collect())
        }
        Op::Gather(gather) => {
            let axis = gather.axis as usize;
            let mut dims = constant.dims.clone();
            dims[axis] = gather.indices.len();
            let inner: usize = constant.dims[axis + 1..].iter().product();
            let block = constant.dims[axis] * inner;
            let places: Vec<usize> = (0..constant.elements() / block)
                .flat_map(|outer| {
                    gather.indices.iter().map(move |&i| outer * block + i as usize * inner)
                })
                .flat_map(|start| start..start + inner)
                .collect();
            constant.pick(dims, &places)
        }
        _ => constant.reshaped(vec![constant.elements()]),
    }
}

impl View {
    /// With neighbouring parts that are always together as one.
    fn merged(mut self) -> Self {
        let mut part = 0;
        while part + 1 < self.parts.len() {
            let together = self.axes.iter_mut().find_map(|axis| {
                let at = axis.parts.iter().position(|&own| own == part)?;
                (axis.parts.get(at + 1) == Some(&(part + 1))).then_some((axis, at))
            });
            match together {
                Some((axis, at)) if self.parts[part].of == self.parts[part + 1].of => {
                    axis.parts.remove(at + 1);
                    self.parts[part].size *= self.parts[part + 1].size;
                    self.parts.remove(part + 1);
                    let after = self.axes.iter_mut().flat_map(|axis| axis.parts.iter_mut());
                    after.filter(|own| **own > part).for_each(|own| *own -= 1);
                }
                _ => part += 1,
            }
        }
        self
    }

    pub(super) fn is_float(&self) -> bool {
        self.element == Element::Float
    }
}

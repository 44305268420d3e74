//! Functions of two or more tensors, number by number, repeated to fit each other.

use std::rc::Rc;

use edgesmith_graph::{
    Add, Binary, BinaryFunction, Clip, Function, Map, Multiply, Op, Select, ValueId,
};

use super::super::call::{Call, Outputs, Tensor, integers};
use super::super::constant::{Constant, Size};
use super::super::error::Fault;
use super::super::network::Network;
use super::super::view::{Axis, Element, View};

/// A function of two numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pair {
    Add,
    Multiply,
    Binary(BinaryFunction),
}

impl Pair {
    fn op(self) -> Op {
        match self {
            Self::Add => Add.into(),
            Self::Multiply => Multiply.into(),
            Self::Binary(function) => Binary { function }.into(),
        }
    }

    fn compares(self) -> bool {
        use BinaryFunction::{Equal, Less, LessOrEqual};
        matches!(self, Self::Binary(Equal | Less | LessOrEqual))
    }
}

pub(super) fn add(call: &Call, network: &mut Network) -> Outputs {
    two(call, network, Pair::Add)
}

pub(super) fn multiply(call: &Call, network: &mut Network) -> Outputs {
    two(call, network, Pair::Multiply)
}

pub(super) fn subtract(call: &Call, network: &mut Network) -> Outputs {
    two(call, network, Pair::Binary(BinaryFunction::Subtract))
}

pub(super) fn divide(call: &Call, network: &mut Network) -> Outputs {
    two(call, network, Pair::Binary(BinaryFunction::Divide))
}

pub(super) fn power(call: &Call, network: &mut Network) -> Outputs {
    two(call, network, Pair::Binary(BinaryFunction::Power))
}

pub(super) fn equal(call: &Call, network: &mut Network) -> Outputs {
    two(call, network, Pair::Binary(BinaryFunction::Equal))
}

pub(super) fn less(call: &Call, network: &mut Network) -> Outputs {
    two(call, network, Pair::Binary(BinaryFunction::Less))
}

pub(super) fn less_or_equal(call: &Call, network: &mut Network) -> Outputs {
    two(call, network, Pair::Binary(BinaryFunction::LessOrEqual))
}

pub(super) fn greater(call: &Call, network: &mut Network) -> Outputs {
    swapped(call, network, BinaryFunction::Less)
}

pub(super) fn greater_or_equal(call: &Call, network: &mut Network) -> Outputs {
    swapped(call, network, BinaryFunction::LessOrEqual)
}

/// `And` of truths that are 1 or 0.
pub(super) fn and(call: &Call, network: &mut Network) -> Outputs {
    truths(call, network, Pair::Multiply)
}

/// `Or` of truths that are 1 or 0.
pub(super) fn or(call: &Call, network: &mut Network) -> Outputs {
    truths(call, network, Pair::Binary(BinaryFunction::Maximum))
}

/// `Xor` of truths that are 1 or 0: whether they differ.
pub(super) fn xor(call: &Call, network: &mut Network) -> Outputs {
    let equal = truths(call, network, Pair::Binary(BinaryFunction::Equal))?;
    not_of(&equal[0].to_view(network)?, network)
}

pub(super) fn not(call: &Call, network: &mut Network) -> Outputs {
    let view = call.view(0, network)?;
    not_of(&view, network)
}

fn not_of(view: &View, network: &mut Network) -> Outputs {
    if view.element != Element::Bool {
        return Err(Fault::invalid("it negates what is not a truth"));
    }
    let not = Map { function: Function::Scale { factor: -1.0, offset: 1.0 } };
    let id = network.emit(not, &[view.id], &[])?;
    Ok(vec![view.of(id).into()])
}

pub(super) fn maximum(call: &Call, network: &mut Network) -> Outputs {
    many(call, network, Pair::Binary(BinaryFunction::Maximum))
}

pub(super) fn minimum(call: &Call, network: &mut Network) -> Outputs {
    many(call, network, Pair::Binary(BinaryFunction::Minimum))
}

pub(super) fn sum(call: &Call, network: &mut Network) -> Outputs {
    many(call, network, Pair::Add)
}

pub(super) fn mean(call: &Call, network: &mut Network) -> Outputs {
    let inputs = call.all()?;
    let sum = many(call, network, Pair::Add)?[0].to_view(network)?;
    let share = Function::Scale { factor: 1.0 / inputs.len() as f32, offset: 0.0 };
    let id = network.emit(Map { function: share }, &[sum.id], &[])?;
    Ok(vec![sum.of(id).into()])
}

/// `Where`
pub(super) fn select(call: &Call, network: &mut Network) -> Outputs {
    let inputs = [call.input(0)?.clone(), call.input(1)?.clone(), call.input(2)?.clone()];
    if inputs[1..].iter().any(|input| matches!(input, Tensor::View(view) if !view.is_float())) {
        return Err(integers());
    }
    let (ids, template) = align(network, &inputs)?;
    let id = network.emit(Select, &ids, &[])?;
    Ok(vec![template.view(network, id).into()])
}

fn two(call: &Call, network: &mut Network, pair: Pair) -> Outputs {
    let (a, b) = (call.input(0)?.clone(), call.input(1)?.clone());
    pair_of(network, pair, &a, &b)
}

fn swapped(call: &Call, network: &mut Network, function: BinaryFunction) -> Outputs {
    let (a, b) = (call.input(0)?.clone(), call.input(1)?.clone());
    pair_of(network, Pair::Binary(function), &b, &a)
}

fn truths(call: &Call, network: &mut Network, pair: Pair) -> Outputs {
    let inputs = [call.input(0)?.clone(), call.input(1)?.clone()];
    if inputs.iter().any(|t| matches!(t, Tensor::View(view) if view.element != Element::Bool)) {
        return Err(Fault::invalid("it combines what is not a truth"));
    }
    let (ids, template) = align(network, &inputs)?;
    let id = network.emit(pair.op(), &ids, &[])?;
    Ok(vec![template.view(network, id).with(Element::Bool).into()])
}

/// One after the other.
fn many(call: &Call, network: &mut Network, pair: Pair) -> Outputs {
    let inputs = call.all()?;
    let mut result = inputs[0].clone();
    for input in &inputs[1..] {
        result = pair_of(network, pair, &result, input)?.swap_remove(0);
    }
    Ok(vec![result])
}

fn pair_of(network: &mut Network, pair: Pair, a: &Tensor, b: &Tensor) -> Outputs {
    let real = |tensor: &Tensor| !matches!(tensor, Tensor::View(view) if !view.is_float());
    let computes = !pair.compares();
    if computes && (!real(a) || !real(b)) {
        return Err(integers());
    }
    for tensor in [a, b] {
        if let Tensor::Constant(constant) = tensor {
            network.spend(constant.elements())?;
        }
    }
    // A number that all of a constant's are needs no parameter.
    let number = |constant: &Constant, view: &View| {
        let fits = Size::known;
        let new = view.rank().checked_sub(constant.dims.len())?;
        let repeated = constant
            .dims
            .iter()
            .enumerate()
            .all(|(axis, &dim)| dim == 1 || fits(dim as i64) == view.sizes()[new + axis]);
        repeated.then(|| constant.uniform()).flatten().filter(|number| number.is_finite())
    };
    let steps = match (a, b) {
        (Tensor::View(view), Tensor::Constant(c)) => {
            number(c, view).and_then(|c| right(pair, c)).map(|steps| (view, steps))
        }
        (Tensor::Constant(c), Tensor::View(view)) => {
            number(c, view).and_then(|c| left(pair, c)).map(|steps| (view, steps))
        }
        _ => None,
    };
    if let Some((view, steps)) = steps {
        let mut id = view.id;
        for (place, step) in steps.iter().enumerate() {
            id = if place + 1 == steps.len() {
                network.emit(step.clone(), &[id], &[])?
            } else {
                network.step("part", step.clone(), &[id], &[])?
            };
        }
        return Ok(vec![view.of(id).into()]);
    }
    let (ids, template) = align(network, &[a.clone(), b.clone()])?;
    let id = network.emit(pair.op(), &ids, &[])?;
    let element = if pair.compares() { Element::Bool } else { Element::Float };
    Ok(vec![template.view(network, id).with(element).into()])
}

fn map(function: Function) -> Op {
    Map { function }.into()
}

fn scale(factor: f32, offset: f32) -> Op {
    map(Function::Scale { factor, offset })
}

/// `x pair c`, one function after the other.
fn right(pair: Pair, c: f32) -> Option<Vec<Op>> {
    use BinaryFunction::{Divide, Equal, Less, LessOrEqual, Maximum, Minimum, Power, Subtract};
    Some(match pair {
        Pair::Add => vec![scale(1.0, c)],
        Pair::Multiply => vec![scale(c, 0.0)],
        Pair::Binary(Subtract) => vec![scale(1.0, -c)],
        Pair::Binary(Divide) if (1.0 / c).is_finite() => vec![scale(1.0 / c, 0.0)],
        Pair::Binary(Power) if c == 0.5 => vec![map(Function::SquareRoot)],
        Pair::Binary(Power) if c == 1.0 => vec![],
        Pair::Binary(Power) => vec![map(Function::Power { exponent: c })],
        Pair::Binary(Maximum) => vec![Clip { low: c, high: f32::INFINITY }.into()],
        Pair::Binary(Minimum) => vec![Clip { low: f32::NEG_INFINITY, high: c }.into()],
        Pair::Binary(Divide | Equal | Less | LessOrEqual) => return None,
    })
}

/// `c pair x`, one function after the other.
fn left(pair: Pair, c: f32) -> Option<Vec<Op>> {
    use BinaryFunction::{Divide, Equal, Less, LessOrEqual, Maximum, Minimum, Power, Subtract};
    Some(match pair {
        Pair::Binary(Subtract) => vec![scale(-1.0, c)],
        Pair::Binary(Divide) => {
            let inverse = map(Function::Power { exponent: -1.0 });
            if c == 1.0 { vec![inverse] } else { vec![inverse, scale(c, 0.0)] }
        }
        Pair::Binary(Power) if c > 0.0 => {
            vec![scale(c.ln(), 0.0), map(Function::Exponential)]
        }
        Pair::Add | Pair::Multiply | Pair::Binary(Maximum | Minimum) => return right(pair, c),
        Pair::Binary(Equal | Less | LessOrEqual | Power) => return None,
    })
}

/// How the result of a function of aligned values is to be read.
pub(super) struct Template {
    order: Vec<Option<usize>>,
    axes: Vec<Axis>,
    /// The view that all operands have, if they have the same.
    same: Option<View>,
}

impl Template {
    /// The result, computed as this value.
    pub(super) fn view(&self, network: &Network, id: ValueId) -> View {
        if let Some(view) = &self.same {
            return view.of(id).with(Element::Float);
        }
        let sizes = network.sizes(id);
        let batch: Vec<Option<u32>> = self.axes.iter().map(|axis| axis.batch).collect();
        let of: Vec<Option<usize>> =
            (0..sizes.len()).map(|axis| self.order.get(axis).copied().flatten()).collect();
        View::new(id, &sizes, &of, &batch)
    }
}

/// Values that the graph repeats to fit each other as ONNX repeats these tensors.
pub(super) fn align(
    network: &mut Network,
    tensors: &[Tensor],
) -> Result<(Vec<ValueId>, Template), Fault> {
    let views: Vec<&View> = tensors
        .iter()
        .filter_map(|tensor| if let Tensor::View(view) = tensor { Some(view) } else { None })
        .collect();
    let Some(first) = views.first() else {
        // Nothing but constants, of which one has to be a value.
        let mut tensors = tensors.to_vec();
        tensors[0] = tensors[0].to_view(network)?.into();
        return align(network, &tensors);
    };
    let alike = |view: &&View| {
        view.parts == first.parts
            && view.axes == first.axes
            && network.sizes(view.id) == network.sizes(first.id)
    };
    if views.len() == tensors.len() && views.iter().all(alike) {
        let template = Template { order: vec![], axes: vec![], same: Some((*first).clone()) };
        return Ok((views.iter().map(|view| view.id).collect(), template));
    }
    let rank = tensors.iter().map(|tensor| tensor.sizes().len()).max().unwrap_or(0);
    let padded: Vec<Tensor> = tensors.iter().map(|tensor| at_rank(tensor, rank)).collect();
    let axes = common_axes(network, &padded, rank)?;
    let of =
        |tensor: &Tensor| if let Tensor::View(view) = tensor { Some(view.clone()) } else { None };
    let views: Vec<View> = padded.iter().filter_map(of).collect();
    let elements =
        |view: &View| view.parts.iter().map(|part| u64::from(part.size)).product::<u64>();
    let lead = views.iter().rev().max_by_key(|view| elements(view)).expect("one is a view");
    let mut order = match lead.layout() {
        Some(layout) => layout,
        None => lead.order().into_iter().map(Some).collect(),
    };
    for axis in 0..rank {
        let wide = padded.iter().any(|tensor| {
            let size = tensor.sizes()[axis];
            size.known > 1
        });
        if wide && !order.contains(&Some(axis)) {
            order.push(Some(axis));
        }
    }
    let mut ids = vec![];
    for tensor in &padded {
        ids.push(match tensor {
            Tensor::View(view) => network.arrange(view, &order, false)?.id,
            Tensor::Constant(constant) => network.constant(&in_order(constant, &order))?.id,
            Tensor::Unknown => return Err(Fault::invalid("it reads what is not known")),
        });
    }
    Ok((ids, Template { order, axes, same: None }))
}

/// With axes of size 1 in front.
fn at_rank(tensor: &Tensor, rank: usize) -> Tensor {
    match tensor {
        Tensor::View(view) => {
            let mut view = view.clone();
            (view.rank()..rank).for_each(|_| view.axes.insert(0, Axis::one()));
            view.into()
        }
        Tensor::Constant(constant) => {
            let mut dims = vec![1; rank - constant.dims.len()];
            dims.extend_from_slice(&constant.dims);
            Tensor::constant(constant.reshaped(dims))
        }
        Tensor::Unknown => Tensor::Unknown,
    }
}

/// Which axes have the batch; all tensors have to agree where one has it.
fn common_axes(network: &Network, tensors: &[Tensor], rank: usize) -> Result<Vec<Axis>, Fault> {
    let axis = |axis: usize| {
        let sizes: Vec<Size> = tensors.iter().map(|tensor| tensor.sizes()[axis]).collect();
        let widest = sizes.iter().copied().find(|&size| size != Size::ONE).unwrap_or(Size::ONE);
        if let Some(other) = sizes.iter().find(|&&size| size != Size::ONE && size != widest) {
            let shapes: Vec<String> =
                tensors.iter().map(|tensor| network.describe(&tensor.sizes())).collect();
            let problem = format!("its inputs have the shapes {}", shapes.join(" and "));
            return Err(if other.batch || widest.batch {
                Fault::batch(problem)
            } else {
                Fault::invalid(format!("{problem}, which do not fit together"))
            });
        }
        // The batch has to be in the same place among the other numbers of an axis.
        let mut places = tensors.iter().filter_map(|tensor| match tensor {
            Tensor::View(view) => view.axes[axis].batch,
            Tensor::Constant(_) | Tensor::Unknown => None,
        });
        let batch = places.next();
        if places.any(|other| Some(other) != batch) {
            return Err(Fault::batch("its inputs have the examples in different orders"));
        }
        Ok(Axis { batch, ..Axis::one() })
    };
    (0..rank).map(axis).collect()
}

/// The constant with its axes in the order of a value's; those of size 1 at the end are left out.
fn in_order(constant: &Rc<Constant>, order: &[Option<usize>]) -> Constant {
    let named: Vec<usize> = order.iter().copied().flatten().collect();
    let rest = (0..constant.dims.len()).filter(|axis| !named.contains(axis));
    let whole: Vec<usize> = named.iter().copied().chain(rest).collect();
    let mut dims: Vec<usize> =
        order.iter().map(|axis| axis.map_or(1, |axis| constant.dims[axis])).collect();
    while dims.len() > 1 && dims.last() == Some(&1) {
        dims.pop();
    }
    constant.transposed(&whole).reshaped(dims)
}

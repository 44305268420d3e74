//! Operators that choose numbers along an axis, or put tensors side by side.

use edgesmith_graph::{Concat, Gather, ValueId};

use super::super::MAX_RANK;
use super::super::call::{Call, Outputs, Tensor, axis, count};
use super::super::constant::Size;
use super::super::error::Fault;
use super::super::network::Network;
use super::super::view::{Element, View};
use super::shape::reshaped;

/// Indices of an axis, evenly spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) count: u32,
}

impl Range {
    pub(crate) fn indices(self) -> impl Iterator<Item = u32> {
        (0..i64::from(self.count)).map(move |place| (self.start + place * self.step) as u32)
    }
}

pub(super) fn slice(call: &Call, network: &mut Network) -> Outputs {
    let mut view = call.view(0, network)?;
    for (axis, range) in slices(call, &view.sizes(), network.batch)?.into_iter().enumerate() {
        if let Some(range) = range {
            view = picked(network, &view, axis, range.indices().collect())?;
        }
    }
    Ok(vec![view.into()])
}

/// What a Slice keeps of each axis; `None` if it is all. Slices of known numbers use it too.
/// `batch` is the number of examples that the file fixes.
pub(crate) fn slices(
    call: &Call,
    sizes: &[Size],
    batch: Option<u32>,
) -> Result<Vec<Option<Range>>, Fault> {
    let list = |input: usize, name: &str| -> Result<Option<Vec<Size>>, Fault> {
        match call.optional(input)? {
            Some(constant) => constant.to_sizes().map(Some),
            None => Ok(call.ints(name)?.map(|ints| ints.into_iter().map(Size::known).collect())),
        }
    };
    let missing = |what: &str| Fault::invalid(format!("it has no {what}"));
    let starts = list(1, "starts")?.ok_or_else(|| missing("starts"))?;
    let ends = list(2, "ends")?.ok_or_else(|| missing("ends"))?;
    let rank = sizes.len();
    let named: Vec<usize> = match call.setting(3, "axes")? {
        Some(listed) => listed.iter().map(|&one| axis(one, rank)).collect::<Result<_, _>>()?,
        None => (0..starts.len()).collect(),
    };
    let steps = match call.optional(4)? {
        Some(steps) => steps.to_ints()?,
        None => vec![1; starts.len()],
    };
    if [ends.len(), named.len(), steps.len()] != [starts.len(); 3] || starts.len() > rank {
        return Err(Fault::invalid("its starts, ends, axes and steps are not as many"));
    }
    let mut ranges = vec![None; rank];
    for (place, axis) in named.into_iter().enumerate() {
        let (start, end, step, size) = (starts[place], ends[place], steps[place], sizes[axis]);
        if size.batch {
            let all = match batch {
                Some(batch) => size.known.saturating_mul(batch.into()),
                None => i32::MAX.into(),
            };
            let beyond = end == size || end.get().is_some_and(|end| end >= all);
            if start == Size::known(0) && step == 1 && beyond {
                continue;
            }
            return Err(Fault::batch("it keeps only some of the examples"));
        }
        let known = |size: Size| {
            size.get()
                .ok_or_else(|| Fault::batch("what it keeps depends on the number of examples"))
        };
        let range = bounded(known(start)?, known(end)?, step, size.known)?;
        ranges[axis] = (i64::from(range.count) != size.known || step < 0).then_some(range);
    }
    Ok(ranges)
}

/// As Python's slices.
fn bounded(start: i64, end: i64, step: i64, size: i64) -> Result<Range, Fault> {
    if step == 0 {
        return Err(Fault::invalid("its step is 0"));
    }
    let from_start = |place: i64| if place < 0 { place.saturating_add(size) } else { place };
    let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
    let (start, end) = (from_start(start).clamp(low, high), from_start(end).clamp(low, high));
    let length = if step > 0 { end - start } else { start - end };
    let count = length.max(0).unsigned_abs().div_ceil(step.unsigned_abs());
    // A single index may come with any step.
    let step = if count <= 1 { step.signum() } else { step };
    Ok(Range { start, step, count: count as u32 })
}

/// These indices of an axis.
pub(super) fn picked(
    network: &mut Network,
    view: &View,
    axis: usize,
    indices: Vec<u32>,
) -> Result<View, Fault> {
    if indices.is_empty() {
        return Err(Fault::unsupported(
            "its result has no numbers in it",
            "remove the node from the network with onnxsim",
        ));
    }
    network.spend(indices.len())?;
    let (view, along) = network.along(view, axis)?;
    let gather = Gather { axis: along, indices };
    let id = network.emit(gather, &[view.id], &[])?;
    Ok(resized(network, &view, id))
}

/// The view of a value with the same axes and other sizes.
pub(super) fn resized(network: &Network, view: &View, id: ValueId) -> View {
    let layout = view.layout().expect("it is tidy");
    let batch = view.batches();
    View::new(id, &network.sizes(id), &layout, &batch).with(view.element)
}

pub(super) fn gather(call: &Call, network: &mut Network) -> Outputs {
    if let Tensor::View(_) = call.input(1)? {
        return Err(Fault::unsupported(
            "it looks numbers up by indices that are computed when the network runs, as for words",
            "export the part of the network after the embedding, which reads real numbers",
        ));
    }
    let indices = call.constant(1)?;
    let view = call.view(0, network)?;
    let along = axis(call.int("axis", 0)?, view.rank())?;
    let dims: Vec<Size> = indices.dims.iter().map(|&dim| Size::known(dim as i64)).collect();
    let indices = indices.to_ints()?;
    let sizes = view.sizes();
    if sizes[along].batch {
        return Err(Fault::batch("it picks some of the examples"));
    }
    let index = |&index: &i64| axis(index, sizes[along].known as usize).map(|i| i as u32);
    let indices = indices.iter().map(index).collect::<Result<Vec<u32>, Fault>>();
    let indices =
        indices.map_err(|_| Fault::invalid("it reads indices that are not in its input"))?;
    let mut target = sizes[..along].to_vec();
    target.extend(dims);
    target.extend(&sizes[along + 1..]);
    if target.len() > MAX_RANK {
        return Err(Fault::invalid("it makes too many axes"));
    }
    let view = picked(network, &view, along, indices)?;
    Ok(vec![reshaped(network, &view, &target)?.into()])
}

pub(super) fn concat(call: &Call, network: &mut Network) -> Outputs {
    let inputs = call.all()?;
    let rank = inputs[0].sizes().len();
    let along = axis(call.int("axis", 0)?, rank)?;
    // The largest one need not be moved.
    let elements = |tensor: &&Tensor| match tensor {
        Tensor::View(view) => {
            1 + view.parts.iter().map(|part| u64::from(part.size)).product::<u64>()
        }
        Tensor::Constant(_) | Tensor::Unknown => 0,
    };
    let whole = inputs.iter().rev().max_by_key(elements).unwrap_or(&inputs[0]);
    let whole = whole.to_view(network)?;
    let sizes = whole.sizes();
    if sizes[along].batch {
        return Err(Fault::batch("it appends examples to the batch"));
    }
    let mut order = match whole.layout() {
        Some(layout) => layout,
        None => whole.order().into_iter().map(Some).collect(),
    };
    if !order.contains(&Some(along)) {
        order.push(Some(along));
    }
    let mut ids = vec![];
    let mut element = whole.element;
    for input in &inputs {
        let own = input.sizes();
        // A constant may stand for each example.
        let fits = own.len() == rank
            && (0..rank).all(|axis| {
                axis == along
                    || own[axis] == sizes[axis]
                    || (own[axis] == Size::ONE && sizes[axis] == Size::batch(1))
            });
        if !fits {
            let (a, b) = (network.describe(&sizes), network.describe(&own));
            return Err(Fault::invalid(format!("its inputs have the shapes {a} and {b}")));
        }
        let view = input.to_view(network)?;
        if view.element != element {
            element = Element::Float;
        }
        ids.push(network.arrange(&view, &order, true)?.id);
    }
    let axis = order.iter().position(|&of| of == Some(along)).expect("it is in the order");
    if let [id] = ids[..] {
        return Ok(vec![resized_in(network, id, &order, &whole).with(element).into()]);
    }
    let id = network.emit(Concat { axis: axis as u32 }, &ids, &[])?;
    Ok(vec![resized_in(network, id, &order, &whole).with(element).into()])
}

/// A value whose axes are those of a tensor in this order.
fn resized_in(network: &Network, id: ValueId, order: &[Option<usize>], like: &View) -> View {
    let batch = like.batches();
    View::new(id, &network.sizes(id), order, &batch)
}

pub(super) fn split(call: &Call, network: &mut Network) -> Outputs {
    let view = call.view(0, network)?;
    let axis = axis(call.int("axis", 0)?, view.rank())?;
    let size = view.sizes()[axis];
    if size.batch {
        return Err(Fault::batch("it splits the batch"));
    }
    let mut start = 0;
    let mut outputs = vec![];
    for (place, size) in split_sizes(call, view.size(axis))?.into_iter().enumerate() {
        network.current = call.node.outputs[place].to_owned();
        let indices = (start..start + size).collect();
        start += size;
        let used = !call.node.outputs[place].is_empty();
        outputs.push(if used {
            picked(network, &view, axis, indices)?.into()
        } else {
            Tensor::Unknown
        });
    }
    Ok(outputs)
}

/// The sizes of the parts of a Split, as many as it has outputs.
pub(crate) fn split_sizes(call: &Call, size: u32) -> Result<Vec<u32>, Fault> {
    let outputs = call.outputs();
    let sizes: Vec<u32> = match call.setting(1, "split")? {
        Some(listed) => listed.iter().map(|&one| count(one, "split")).collect::<Result<_, _>>()?,
        None => {
            let parts = match call.int("num_outputs", 0)? {
                0 => outputs,
                parts => count(parts, "num_outputs")? as usize,
            };
            let part = size.div_ceil(u32::try_from(parts).unwrap_or(u32::MAX).max(1));
            let start = |place: usize| (place as u64 * u64::from(part)).min(size.into()) as u32;
            (0..outputs).map(|place| start(place + 1) - start(place)).collect()
        }
    };
    let sum: u64 = sizes.iter().map(|&size| u64::from(size)).sum();
    if sizes.len() != outputs || sum != u64::from(size) {
        return Err(Fault::invalid(format!("its parts {sizes:?} are not those of {size}")));
    }
    Ok(sizes)
}

//! Brings the axes of a value into the order that an operation needs.

use edgesmith_graph::{Flatten, Gather, Op, Reshape, Transpose, ValueId};
use smallvec::SmallVec;

use super::constant::{Constant, places, strides};
use super::error::Fault;
use super::network::Network;
use super::view::{Axis, Part, View};

/// An operation that only moves the numbers of a value.
enum Move {
    Flatten,
    Gather(Gather),
    Reshape(Reshape),
    Transpose(Transpose),
}

impl Move {
    fn op(&self) -> Op {
        match self {
            Self::Flatten => Flatten.into(),
            Self::Gather(gather) => gather.clone().into(),
            Self::Reshape(reshape) => reshape.clone().into(),
            Self::Transpose(transpose) => transpose.clone().into(),
        }
    }
}

impl Network {
    /// A node that only moves the numbers of a value, made once.
    fn moved(&mut self, id: ValueId, step: Move) -> Result<ValueId, Fault> {
        let op = step.op();
        let before = self.moved.get(&id).into_iter().flatten().find(|(other, _)| *other == op);
        if let Some((_, output)) = before {
            return Ok(*output);
        }
        if let Some(constant) = self.constants.get(&id) {
            // Its numbers are moved right away.
            let constant = moved_constant(constant, &step);
            let output = self.constant_value(constant)?;
            self.moved.entry(id).or_default().push((op, output));
            return Ok(output);
        }
        let part = match step {
            Move::Flatten => "flat",
            Move::Gather(_) => "reordered",
            Move::Reshape(_) => "reshaped",
            Move::Transpose(_) => "transposed",
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
            self.moved(id, Move::Flatten)
        } else {
            self.moved(id, Move::Reshape(Reshape { sizes: SmallVec::from_slice(sizes) }))
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
            let vector = self.moved(vector, Move::Gather(Gather { axis: 0, indices }))?;
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
                    let gather = Gather { axis: axis as u32, indices };
                    id = self.moved(id, Move::Gather(gather))?;
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
        let id = self.moved(id, Move::Transpose(Transpose { order }))?;
        self.reshape(id, wanted)
    }

    /// The indices that read an axis made of these parts with its parts in another order.
    fn order_along(&mut self, order: &[usize], sizes: &[usize]) -> Result<Vec<u32>, Fault> {
        self.spend(sizes.iter().product())?;
        let steps = strides(sizes);
        let dims: Vec<usize> = order.iter().map(|&part| sizes[part]).collect();
        let steps: Vec<usize> = order.iter().map(|&part| steps[part]).collect();
        let all = places(&dims, &steps, 0);
        Ok(all.into_iter().map(|place| place as u32).collect())
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
}

/// A constant after an operation that only moves the numbers of a value.
fn moved_constant(constant: &Constant, step: &Move) -> Constant {
    match step {
        Move::Flatten => constant.reshaped(vec![constant.elements()]),
        Move::Transpose(transpose) => {
            let order: Vec<usize> = transpose.order.iter().map(|&axis| axis as usize).collect();
            constant.transposed(&order)
        }
        Move::Reshape(reshape) => {
            constant.reshaped(reshape.sizes.iter().map(|&size| size as usize).collect())
        }
        Move::Gather(gather) => {
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
    }
}

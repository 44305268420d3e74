//! How a tensor of the file lies in a value of the graph.
//!
//! The file has a batch axis and any order of axes; the graph has no batch and channels first. So a
//! tensor is a [`View`]: a value, and which parts of its axes each axis of the tensor is.
//! Transposing, reshaping and squeezing only change the view. [`super::network`] changes the value
//! where an operation needs its axes in a certain order.

use edgesmith_graph::ValueId;
use smallvec::{SmallVec, smallvec};

use super::constant::Size;
use super::error::Fault;

/// A part of an axis of the graph's value. The parts of an axis, in order, make up the axis, as
/// digits make up a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// The axis of the value.
    pub(super) of: usize,
    pub(super) size: u32,
}

/// An axis of the tensor: these parts in order, and the batch somewhere among them, if it has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Axis {
    /// How many numbers are outside the batch, which is 1 where it comes first.
    pub(super) batch: Option<u32>,
    /// Places in [`View::parts`].
    pub(super) parts: SmallVec<[usize; 2]>,
}

/// What the numbers of a value mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Float,
    /// 1 or 0
    Bool,
    /// Whole numbers, such as bytes of a picture.
    Integer,
    /// Real numbers that the file holds as integers, between QuantizeLinear and DequantizeLinear.
    Quantized,
}

/// A tensor that is computed when the network runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    pub(super) id: ValueId,
    /// All parts of the value's axes, in order; those of size 1 may be in no axis.
    pub(super) parts: Vec<Part>,
    pub(super) axes: Vec<Axis>,
    pub(super) element: Element,
}

impl Axis {
    /// A size of 1.
    pub(super) fn one() -> Self {
        Self::default()
    }
}

impl View {
    /// A value whose axes have these sizes, each with the tensor's axis that it is, if any, and the
    /// tensor's axes that have the batch.
    pub(super) fn new(
        id: ValueId,
        sizes: &[u32],
        of: &[Option<usize>],
        batch: &[Option<u32>],
    ) -> Self {
        let parts = sizes.iter().enumerate().map(|(of, &size)| Part { of, size }).collect();
        let axis = |(axis, &batch): (usize, &Option<u32>)| {
            let part = of.iter().position(|&of| of == Some(axis));
            Axis { batch, parts: part.into_iter().collect() }
        };
        let axes = batch.iter().enumerate().map(axis).collect();
        Self { id, parts, axes, element: Element::Float }
    }

    /// The same view of another value of the same shape.
    pub(super) fn of(&self, id: ValueId) -> Self {
        Self { id, ..self.clone() }
    }

    pub(super) fn with(self, element: Element) -> Self {
        Self { element, ..self }
    }

    pub(super) fn rank(&self) -> usize {
        self.axes.len()
    }

    /// The size of an axis, without the batch.
    pub(super) fn size(&self, axis: usize) -> u32 {
        self.axes[axis].parts.iter().map(|&part| self.parts[part].size).product()
    }

    /// By axis, how many of its numbers are outside the batch, if it has the batch.
    pub(super) fn batches(&self) -> Vec<Option<u32>> {
        self.axes.iter().map(|axis| axis.batch).collect()
    }

    /// How many numbers of the tensor are outside the batch.
    pub(super) fn outside(&self) -> u32 {
        let at = self.axes.iter().position(|axis| axis.batch.is_some());
        let before = |at: usize| (0..at).map(|axis| self.size(axis)).product::<u32>();
        at.map_or(1, |at| before(at) * self.axes[at].batch.unwrap_or(1))
    }

    /// The sizes of all axes.
    pub(super) fn sizes(&self) -> Vec<Size> {
        let size = |axis: usize| Size {
            known: self.size(axis).into(),
            batch: self.axes[axis].batch.is_some(),
        };
        (0..self.rank()).map(size).collect()
    }

    /// The parts of an axis that are more than a size of 1.
    pub(super) fn wide(&self, axis: usize) -> SmallVec<[usize; 2]> {
        let parts = self.axes[axis].parts.iter().copied();
        parts.filter(|&part| self.parts[part].size > 1).collect()
    }

    /// For each axis of the value the tensor's axis that it is, if each is one or none.
    pub(super) fn layout(&self) -> Option<Vec<Option<usize>>> {
        let axes = self.parts.last().map_or(0, |part| part.of + 1);
        // An axis of the value in parts, or an axis of the tensor made of several.
        if self.parts.len() != axes || (0..self.rank()).any(|axis| self.wide(axis).len() > 1) {
            return None;
        }
        let mut layout = vec![None; axes];
        for (axis, Axis { parts, .. }) in self.axes.iter().enumerate() {
            let wide = self.wide(axis).first().copied().or(parts.first().copied());
            if let Some(part) = wide {
                layout[self.parts[part].of] = Some(axis);
            }
        }
        Some(layout)
    }

    /// The tensor's axes that are more than a size of 1, in the order of the value.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> =
            (0..self.rank()).filter(|&axis| !self.wide(axis).is_empty()).collect();
        order.sort_by_key(|&axis| self.wide(axis)[0]);
        order
    }

    pub(super) fn transposed(&self, order: &[usize]) -> Self {
        Self { axes: order.iter().map(|&axis| self.axes[axis].clone()).collect(), ..self.clone() }
    }

    /// Without an axis of size 1.
    pub(super) fn squeezed(&self, axis: usize) -> Result<Self, Fault> {
        if self.axes[axis].batch.is_some() {
            return Err(Fault::batch("it removes the batch axis"));
        }
        if self.size(axis) != 1 {
            let size = self.size(axis);
            return Err(Fault::invalid(format!("it removes axis {axis}, whose size is {size}")));
        }
        let mut squeezed = self.clone();
        squeezed.axes.remove(axis);
        Ok(squeezed)
    }

    /// With an axis of size 1 at this place.
    pub(super) fn unsqueezed(&self, axis: usize) -> Self {
        let mut unsqueezed = self.clone();
        unsqueezed.axes.insert(axis, Axis::one());
        unsqueezed
    }

    /// The same numbers, row by row, in another shape of as many; `None` if parts would have to be
    /// cut at places that are no multiples of each other.
    pub(super) fn regrouped(&self, target: &[Size]) -> Result<Option<Self>, Fault> {
        /// What is left to hand out: the batch, or a part with what is left of its size.
        #[derive(Clone, Copy)]
        enum Atom {
            Batch,
            Part(usize, u32),
        }
        let mut atoms: Vec<Atom> = vec![];
        for axis in &self.axes {
            let mut outer = axis.batch;
            for &part in &axis.parts {
                let size = self.parts[part].size;
                match outer {
                    // The batch may be in the middle of a part.
                    Some(before) if before == 1 || size > before => {
                        atoms.extend((before > 1).then_some(Atom::Part(part, before)));
                        atoms.extend([Atom::Batch, Atom::Part(part, size / before)]);
                        outer = None;
                    }
                    Some(before) => {
                        atoms.push(Atom::Part(part, size));
                        outer = Some(before / size);
                    }
                    None => atoms.push(Atom::Part(part, size)),
                }
            }
            atoms.extend(outer.map(|_| Atom::Batch));
        }
        atoms.reverse();
        // Part, size, and the tensor's axis that gets it.
        let mut pieces: Vec<(usize, u32, Option<usize>)> = vec![];
        let mut outer = vec![None; target.len()];
        for (axis, size) in target.iter().enumerate() {
            let mut left = u32::try_from(size.known).map_err(|_| too_large())?;
            let mut batch = size.batch;
            while left > 1 || batch {
                match atoms.pop() {
                    Some(Atom::Batch) if batch => {
                        batch = false;
                        outer[axis] = Some((size.known as u32) / left);
                    }
                    Some(Atom::Part(part, 1)) => pieces.push((part, 1, None)),
                    Some(Atom::Part(part, size)) if left > 1 && left.is_multiple_of(size) => {
                        pieces.push((part, size, Some(axis)));
                        left /= size;
                    }
                    Some(Atom::Part(part, size)) if left > 1 && size.is_multiple_of(left) => {
                        pieces.push((part, left, Some(axis)));
                        atoms.push(Atom::Part(part, size / left));
                        left = 1;
                    }
                    Some(Atom::Part(..)) if left > 1 => return Ok(None),
                    _ => return Err(Fault::batch("it moves numbers from one example to another")),
                }
            }
            // A size of 1 stays the axis of the value that it was.
            if *size == Size::ONE
                && let Some(Atom::Part(part, 1)) = atoms.last().copied()
            {
                atoms.pop();
                pieces.push((part, 1, Some(axis)));
            }
        }
        while let Some(atom) = atoms.pop() {
            match atom {
                Atom::Part(part, 1) => pieces.push((part, 1, None)),
                _ => return Err(Fault::invalid("its shape has another number of elements")),
            }
        }
        let used: Vec<usize> = self.axes.iter().flat_map(|axis| axis.parts.clone()).collect();
        let loose = (0..self.parts.len()).filter(|part| !used.contains(part));
        pieces.extend(loose.map(|part| (part, 1, None)));
        // The pieces of a part stay in order, because sorting is stable.
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        order.sort_by_key(|&piece| pieces[piece].0);
        let mut axes: Vec<Axis> =
            outer.into_iter().map(|batch| Axis { batch, parts: smallvec![] }).collect();
        let mut place = vec![0; pieces.len()];
        order.iter().enumerate().for_each(|(new, &piece)| place[piece] = new);
        for (piece, &(_, _, axis)) in pieces.iter().enumerate() {
            if let Some(axis) = axis {
                axes[axis].parts.push(place[piece]);
            }
        }
        let part = |&piece: &usize| {
            let (part, size, _) = pieces[piece];
            Part { of: self.parts[part].of, size }
        };
        let parts = order.iter().map(part).collect();
        Ok(Some(Self { parts, axes, ..self.clone() }))
    }

    /// With neighbouring parts that are always together as one.
    pub(super) fn merged(mut self) -> Self {
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

    /// Whether it has real numbers.
    pub(super) fn is_float(&self) -> bool {
        self.element == Element::Float
    }
}

fn too_large() -> Fault {
    Fault::invalid("its shape is too large")
}

//! The product of two values as matrices, as in attention (Vaswani et al. 2017).

use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Slot, axes};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// The product of the matrices that the last two axes of two values are, for each index of the axes
/// before them. Those are equal in both, or 1 in one of them, which is then the same for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MatrixProduct {
    /// For each input: whether its last two axes change places first.
    pub transposed: [bool; 2],
}

impl Operation for MatrixProduct {
    fn kind(&self) -> &'static str {
        "matrix_product"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let [a, b] = operands.two()?;
        if a.space().is_empty() || a.space().len() != b.space().len() {
            return Err(InferError::unlike(a, b));
        }
        let mut sizes = a.sizes();
        let others = b.sizes();
        let outer = sizes.len() - 2;
        for (size, &other) in sizes[..outer].iter_mut().zip(&others[..outer]) {
            if *size != other && *size != 1 && other != 1 {
                return Err(InferError::unlike(a, b));
            }
            *size = other.max(*size);
        }
        let [[rows, inner], [other_inner, columns]] = self.matrices([a, b]);
        if inner != other_inner {
            return Err(InferError::unlike(a, b));
        }
        sizes[outer] = rows;
        sizes[outer + 1] = columns;
        Ok(Shape::of(&sizes)?)
    }

    fn macs(&self, operands: &Operands, output: &Shape) -> u64 {
        let [[_, inner], _] = self.matrices([operands.inputs[0], operands.inputs[1]]);
        output.elements().saturating_mul(inner.into())
    }

    fn multiplications(&self, _: &Operands) -> Option<Multiplications> {
        Some(Multiplications::Pointwise)
    }

    fn absorbs_factors(&self) -> bool {
        false
    }

    fn effect(&self) -> Effect {
        Effect::Combines
    }

    fn is_alike(&self, _: &Self) -> bool {
        true
    }

    fn memory(&self) -> Memory {
        Memory::Separate
    }

    /// Rows and columns mix, and which of them are channels depends on the number of axes.
    fn ties(&self, _: &Operands, _: &Shape) -> Ties {
        Ties::new()
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        _: &[&[S]],
        output: &Shape,
    ) -> Vec<S> {
        let shapes = [operands.inputs[0], operands.inputs[1]];
        let sizes = output.sizes();
        let outer = &sizes[..sizes.len() - 2];
        let starts = shapes.map(|shape| {
            let own = shape.sizes();
            let mut strides = axes::strides(&own);
            // An axis of size 1 is the same for all indices.
            let repeated = strides.iter_mut().zip(&own).filter(|(_, size)| **size == 1);
            repeated.for_each(|(stride, _)| *stride = 0);
            axes::offsets(outer, &strides)
        });
        let [[rows, inner], [_, columns]] = self.matrices(shapes).map(|m| m.map(|n| n as usize));
        // How far apart the rows and the columns of either matrix are.
        let apart = |place: usize, rows, columns| {
            if self.transposed[place] { (1, rows) } else { (columns, 1) }
        };
        let (a_row, a_column) = apart(0, rows, inner);
        let (b_row, b_column) = apart(1, inner, columns);
        let mut values = Vec::with_capacity(output.elements() as usize);
        for (&a, &b) in starts[0].iter().zip(&starts[1]) {
            let (a, b) = (&inputs[0][a..], &inputs[1][b..]);
            for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
                let products = (0..inner)
                    .map(|i| a[row * a_row + i * a_column] * b[i * b_row + column * b_column]);
                values.push(products.fold(S::constant(0.0), |sum, product| sum + product));
            }
        }
        values
    }
}

impl MatrixProduct {
    /// Rows and columns of either matrix, transposed where the settings say so.
    fn matrices(&self, inputs: [&Shape; 2]) -> [[u32; 2]; 2] {
        std::array::from_fn(|place| {
            let sizes = inputs[place].sizes();
            let [.., rows, columns] = sizes[..] else { unreachable!("values of two axes or more") };
            if self.transposed[place] { [columns, rows] } else { [rows, columns] }
        })
    }
}

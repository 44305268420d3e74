//! Tensors whose numbers are known when the file is read: weights, settings, and what is computed
//! from shapes.

use std::rc::Rc;

use super::error::Fault;

/// A size, or an integer computed from sizes: `known`, or `known` times the number of examples in
/// the batch, which nobody knows before the network runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) known: i64,
    pub(super) batch: bool,
}

/// A tensor of known numbers, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant {
    pub(super) dims: Vec<usize>,
    pub(super) data: Data,
    /// ONNX's code of the type that it had in the file.
    pub(super) data_type: i64,
    /// The name of the tensor of the file whose numbers these are, maybe in another order.
    pub(super) origin: Option<Rc<str>>,
    /// If it was behind a DequantizeLinear: the scales, and along which axis there is one for each
    /// index.
    pub(super) scales: Option<Rc<(Vec<f32>, Option<usize>)>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    Float(Rc<Vec<f32>>),
    Int(Rc<Vec<i64>>),
    /// Integers of which some depend on the size of the batch.
    Sizes(Rc<Vec<Size>>),
    Bool(Rc<Vec<bool>>),
}

/// `TensorProto.DataType`
pub(super) mod types {
    pub(crate) const FLOAT: i64 = 1;
    pub(crate) const UINT8: i64 = 2;
    pub(crate) const INT8: i64 = 3;
    pub(crate) const INT32: i64 = 6;
    pub(crate) const INT64: i64 = 7;
    pub(crate) const STRING: i64 = 8;
    pub(crate) const BOOL: i64 = 9;
    pub(crate) const FLOAT16: i64 = 10;
    pub(crate) const DOUBLE: i64 = 11;
    pub(crate) const BFLOAT16: i64 = 16;

    /// Whether numbers of this type are real.
    pub(crate) fn is_float(data_type: i64) -> bool {
        matches!(data_type, FLOAT | FLOAT16 | DOUBLE | BFLOAT16)
    }
}

impl Size {
    pub(super) const ONE: Self = Self::known(1);

    pub(super) const fn known(known: i64) -> Self {
        Self { known, batch: false }
    }

    pub(super) const fn batch(known: i64) -> Self {
        Self { known, batch: true }
    }

    /// The number, if it does not depend on the batch.
    pub(super) fn get(self) -> Option<i64> {
        (!self.batch).then_some(self.known)
    }
}

/// `3`, `batch`, or `4*batch`
impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.batch, self.known) {
            (false, known) => write!(f, "{known}"),
            (true, 1) => write!(f, "batch"),
            (true, known) => write!(f, "{known}*batch"),
        }
    }
}

impl Constant {
    pub(super) fn new(dims: Vec<usize>, data: Data) -> Self {
        let data_type = match data {
            Data::Float(_) => types::FLOAT,
            Data::Int(_) | Data::Sizes(_) => types::INT64,
            Data::Bool(_) => types::BOOL,
        };
        Self { dims, data, data_type, origin: None, scales: None }
    }

    pub(super) fn floats(dims: Vec<usize>, numbers: Vec<f32>) -> Self {
        Self::new(dims, Data::Float(Rc::new(numbers)))
    }

    pub(super) fn ints(dims: Vec<usize>, numbers: Vec<i64>) -> Self {
        Self::new(dims, Data::Int(Rc::new(numbers)))
    }

    pub(super) fn bools(dims: Vec<usize>, numbers: Vec<bool>) -> Self {
        Self::new(dims, Data::Bool(Rc::new(numbers)))
    }

    /// Integers, of which some may depend on the batch.
    pub(super) fn sizes(dims: Vec<usize>, sizes: Vec<Size>) -> Self {
        if sizes.iter().any(|size| size.batch) {
            Self::new(dims, Data::Sizes(Rc::new(sizes)))
        } else {
            Self::ints(dims, sizes.into_iter().map(|size| size.known).collect())
        }
    }

    pub(super) fn of_type(self, data_type: i64) -> Self {
        Self { data_type, ..self }
    }

    pub(super) fn elements(&self) -> usize {
        match &self.data {
            Data::Float(data) => data.len(),
            Data::Int(data) => data.len(),
            Data::Sizes(data) => data.len(),
            Data::Bool(data) => data.len(),
        }
    }

    /// Its numbers as real ones, whatever they are.
    pub(super) fn to_floats(&self) -> Result<Rc<Vec<f32>>, Fault> {
        Ok(match &self.data {
            Data::Float(data) => Rc::clone(data),
            Data::Int(data) => Rc::new(data.iter().map(|&x| x as f32).collect()),
            Data::Bool(data) => Rc::new(data.iter().map(|&x| f32::from(u8::from(x))).collect()),
            Data::Sizes(_) => {
                return Err(Fault::batch("it computes with the number of examples"));
            }
        })
    }

    /// Its integers.
    pub(super) fn to_sizes(&self) -> Result<Vec<Size>, Fault> {
        match &self.data {
            Data::Int(data) => Ok(data.iter().map(|&known| Size::known(known)).collect()),
            Data::Sizes(data) => Ok(data.to_vec()),
            Data::Bool(data) => Ok(data.iter().map(|&x| Size::known(x.into())).collect()),
            Data::Float(_) => Err(Fault::invalid("it takes integers, but has real numbers")),
        }
    }

    /// Its integers, none of which may depend on the batch.
    pub(super) fn to_ints(&self) -> Result<Vec<i64>, Fault> {
        let known = |size: Size| {
            size.get().ok_or_else(|| Fault::batch("it computes with the number of examples"))
        };
        self.to_sizes()?.into_iter().map(known).collect()
    }

    /// Its only number.
    pub(super) fn scalar(&self) -> Option<f32> {
        match (&self.data, self.elements()) {
            (Data::Sizes(_), _) => None,
            (_, 1) => self.to_floats().ok().map(|numbers| numbers[0]),
            _ => None,
        }
    }

    /// The number that all of them are.
    pub(super) fn uniform(&self) -> Option<f32> {
        let numbers = self.to_floats().ok()?;
        let first = *numbers.first()?;
        numbers.iter().all(|number| number.to_bits() == first.to_bits()).then_some(first)
    }

    /// The elements at these places, in another shape.
    pub(super) fn pick(&self, dims: Vec<usize>, places: &[usize]) -> Self {
        fn take<T: Copy>(from: &[T], places: &[usize]) -> Rc<Vec<T>> {
            Rc::new(places.iter().map(|&place| from[place]).collect())
        }
        debug_assert_eq!(dims.iter().product::<usize>(), places.len());
        let data = match &self.data {
            Data::Float(data) => Data::Float(take(data, places)),
            Data::Int(data) => Data::Int(take(data, places)),
            Data::Bool(data) => Data::Bool(take(data, places)),
            Data::Sizes(data) => Data::Sizes(take(data, places)),
        };
        let same = Self { dims, data, scales: None, ..self.clone() };
        // It may be that the known ones were picked.
        match &same.data {
            Data::Sizes(sizes) => Self::sizes(same.dims.clone(), sizes.to_vec()),
            _ => same,
        }
    }

    /// The same numbers in another shape of as many.
    pub(super) fn reshaped(&self, dims: Vec<usize>) -> Self {
        debug_assert_eq!(dims.iter().product::<usize>(), self.elements());
        Self { dims, scales: None, ..self.clone() }
    }

    /// With its axes in another order.
    pub(super) fn transposed(&self, order: &[usize]) -> Self {
        if order.iter().enumerate().all(|(place, &axis)| place == axis) {
            return self.clone();
        }
        let strides = strides(&self.dims);
        let dims: Vec<usize> = order.iter().map(|&axis| self.dims[axis]).collect();
        let steps: Vec<usize> = order.iter().map(|&axis| strides[axis]).collect();
        let scales = self.scales.as_ref().map(|scales| {
            let axis = scales.1.and_then(|axis| order.iter().position(|&from| from == axis));
            Rc::new((scales.0.clone(), axis))
        });
        Self { scales, ..self.pick(dims.clone(), &places(&dims, &steps, 0)) }
    }

    /// Repeated along axes of size 1, and along new axes in front, to this shape.
    pub(super) fn broadcast(&self, dims: &[usize]) -> Option<Self> {
        if self.dims == dims {
            return Some(self.clone());
        }
        let new = dims.len().checked_sub(self.dims.len())?;
        let own = strides(&self.dims);
        let mut steps = vec![0; dims.len()];
        for (axis, &size) in self.dims.iter().enumerate() {
            if size == dims[new + axis] {
                steps[new + axis] = own[axis];
            } else if size != 1 {
                return None;
            }
        }
        Some(self.pick(dims.to_vec(), &places(dims, &steps, 0)))
    }
}

/// The number of elements, where a size of 0 counts as 1: so large are the steps through a tensor
/// that has no numbers in it. `None` if it is too large to count.
pub(super) fn extent(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, &size| n.checked_mul(size.max(1)))
}

/// How far it is from one index of each axis to the next.
pub(super) fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// The places of all elements of a shape, row by row, with these steps from `start`.
pub(super) fn places(dims: &[usize], steps: &[usize], start: usize) -> Vec<usize> {
    let mut places = vec![start];
    if dims.contains(&0) {
        return vec![];
    }
    for (&size, &step) in dims.iter().zip(steps) {
        places = places.iter().flat_map(|place| (0..size).map(move |i| place + i * step)).collect();
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_move_with_their_numbers() {
        let constant = Constant::ints(vec![2, 3], vec![1, 2, 3, 4, 5, 6]);
        let turned = constant.transposed(&[1, 0]);
        assert_eq!(
            (turned.dims.clone(), turned.to_ints().unwrap()),
            (vec![3, 2], vec![1, 4, 2, 5, 3, 6])
        );
        let row = Constant::ints(vec![2, 1], vec![7, 8]).broadcast(&[2, 2, 2]).unwrap();
        assert_eq!(row.to_ints().unwrap(), [7, 7, 8, 8, 7, 7, 8, 8]);
        assert!(constant.broadcast(&[2, 2]).is_none());
    }

    #[test]
    fn sizes_are_known_again_without_the_batch() {
        let sizes = Constant::sizes(vec![2], vec![Size::batch(1), Size::known(5)]);
        assert!(sizes.to_ints().is_err());
        assert_eq!(sizes.pick(vec![1], &[1]), Constant::ints(vec![1], vec![5]));
    }
}

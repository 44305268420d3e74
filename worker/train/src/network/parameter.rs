//! The numbers of one parameter on a device.

use burn::module::{Module, Param, ParamId, RunningState};
use burn::tensor::{Device, Tensor, TensorData};
use edgesmith_graph::{Array, Role, Shape};

use super::simulation::with_numbers;

/// A parameter: trained, observed, or neither.
#[derive(Module, Debug)]
pub(super) enum Parameter {
    /// `[out, in, rows, columns]`. A kernel on a sequence has one row, and the weight of a linear
    /// layer one row and one column.
    Weight(Param<Tensor<4>>),
    /// One number per channel, or per number along the axes that a layer normalisation has.
    Vector(Param<Tensor<1>>),
    /// One number per channel, without a gradient.
    Observed(RunningState<Tensor<1>>),
    /// `[1, channels, rows, columns]`, without a gradient. It stays as it is.
    Constant(RunningState<Tensor<4>>),
}

impl Parameter {
    /// Puts the numbers on a device; with autodiff, those that are trained have gradients.
    pub(super) fn new(role: Role, array: &Array, device: &Device) -> Self {
        match role {
            Role::Weight => {
                let data = TensorData::new(array.data.clone(), picture(&array.shape));
                Self::Weight(Param::from_tensor(Tensor::from_data(data, device)))
            }
            Role::Bias | Role::Scale | Role::Shift | Role::Slope => {
                Self::Vector(Param::from_tensor(vector(array, device)))
            }
            Role::Mean | Role::Variance => {
                Self::Observed(RunningState::new(vector(array, &device.clone().inner())))
            }
            Role::Constant => {
                let sizes: Vec<u32> = array.shape.iter().map(|&size| size as u32).collect();
                let shape = Shape::of(&sizes).expect("the graph has checked it");
                let [channels, rows, columns] = super::layout::picture(&shape);
                let data = TensorData::new(array.data.clone(), [1, channels, rows, columns]);
                Self::Constant(RunningState::new(Tensor::from_data(data, device)))
            }
        }
    }

    /// A weight with four axes.
    ///
    /// # Panics
    /// If it is another parameter. The graph has checked which ones an operation has.
    pub(super) fn weight(&self) -> Tensor<4> {
        match self {
            Parameter::Weight(weight) => weight.val(),
            Parameter::Vector(_) | Parameter::Observed(_) | Parameter::Constant(_) => {
                panic!("not a weight")
            }
        }
    }

    /// A bias, scale, shift or slope.
    ///
    /// # Panics
    /// If it is another parameter.
    pub(super) fn vector(&self) -> Tensor<1> {
        match self {
            Parameter::Vector(vector) => vector.val(),
            Parameter::Weight(_) | Parameter::Observed(_) | Parameter::Constant(_) => {
                panic!("not a vector")
            }
        }
    }

    /// A running mean or variance.
    ///
    /// # Panics
    /// If it is another parameter.
    pub(super) fn observed(&self) -> &RunningState<Tensor<1>> {
        match self {
            Parameter::Observed(state) => state,
            Parameter::Weight(_) | Parameter::Vector(_) | Parameter::Constant(_) => {
                panic!("not a running statistic")
            }
        }
    }

    /// A constant, as a batch of one example with the batch first.
    ///
    /// # Panics
    /// If it is another parameter.
    pub(super) fn constant(&self) -> Tensor<4> {
        match self {
            Parameter::Constant(state) => state.value_sync(),
            Parameter::Weight(_) | Parameter::Vector(_) | Parameter::Observed(_) => {
                panic!("not a constant")
            }
        }
    }

    /// Its numbers, row-major.
    pub(super) fn numbers(&self) -> Vec<f32> {
        match self {
            Parameter::Weight(weight) => numbers(weight.val()),
            Parameter::Vector(vector) => numbers(vector.val()),
            Parameter::Observed(state) => numbers(state.value_sync()),
            Parameter::Constant(state) => numbers(state.value_sync()),
        }
    }

    /// Moves the numbers of a weight that are farther from 0 than the end of their row to this end.
    /// Each entry of the first axis is a row, or all are one.
    pub(super) fn clamp_rows(&mut self, ends: &[f32]) {
        let Parameter::Weight(weight) = self else { return };
        let mut all = numbers(weight.val());
        let row = all.len() / ends.len();
        let mut changed = false;
        for (row, &end) in all.chunks_exact_mut(row).zip(ends) {
            for number in row.iter_mut().filter(|number| number.abs() > end) {
                (*number, changed) = (number.clamp(-end, end), true);
            }
        }
        if changed {
            let old = std::mem::replace(weight, Param::from_tensor(weight.val()));
            *weight = with_numbers(old, all);
        }
    }

    /// burn's id, if it is trained.
    pub(super) fn trained(&self) -> Option<ParamId> {
        match self {
            Parameter::Weight(weight) => Some(weight.id),
            Parameter::Vector(vector) => Some(vector.id),
            Parameter::Observed(_) | Parameter::Constant(_) => None,
        }
    }

    /// The numbers of its gradient, row-major; `None` if there is none.
    #[cfg(test)]
    pub(super) fn gradient(&self, of: &burn::optim::GradientsParams) -> Option<Vec<f32>> {
        match self {
            Parameter::Weight(weight) => of.get::<4>(weight.id).map(numbers),
            Parameter::Vector(vector) => of.get::<1>(vector.id).map(numbers),
            Parameter::Observed(_) | Parameter::Constant(_) => None,
        }
    }
}

/// The four sizes of a weight: those of its kernel come last.
fn picture(sizes: &[usize]) -> [usize; 4] {
    match *sizes {
        [outputs, inputs] => [outputs, inputs, 1, 1],
        [outputs, inputs, columns] => [outputs, inputs, 1, columns],
        [outputs, inputs, rows, columns] => [outputs, inputs, rows, columns],
        _ => panic!("a weight of sizes {sizes:?}, where 2 to 4 are needed"),
    }
}

fn vector(array: &Array, device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(array.data.clone(), [array.data.len()]), device)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("parameters are f32")
}

//! Maps of another size.

use burn::tensor::{Tensor, TensorData};
use edgesmith_graph::Resize;

use super::{Call, Trainable, inputs, select};

impl Trainable for Resize {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [mut value] = inputs(values);
        for (axis, resize) in (1..).zip(&self.axes) {
            let axis = call.axis(axis);
            let taps = resize.taps(self.mode, value.dims()[axis] as u32);
            let lower = select(value.clone(), axis, taps.iter().map(|[(at, _), _]| *at));
            if taps.iter().all(|[_, (_, share)]| *share == 0.0) {
                value = lower;
                continue;
            }
            let upper = select(value, axis, taps.iter().map(|[_, (at, _)]| *at));
            let mut sizes = [1; 4];
            sizes[axis] = taps.len();
            let shares = |place: usize| {
                let shares: Vec<f32> = taps.iter().map(|taps| taps[place].1 as f32).collect();
                Tensor::<4>::from_data(TensorData::new(shares, sizes), &lower.device())
            };
            let [low, high] = [0, 1].map(shares);
            value = lower * low + upper * high;
        }
        value
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[0]
    }
}

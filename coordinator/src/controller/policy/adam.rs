//! Adam on plain vectors (Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015).

/// Decays and epsilon, as recommended in the paper.
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// Moments of the gradients so far.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Adam {
    mean: Vec<f32>,
    variance: Vec<f32>,
    steps: i32,
}

impl Adam {
    /// State for `parameters` parameters before the first step.
    pub(super) fn new(parameters: usize) -> Self {
        Self { mean: vec![0.0; parameters], variance: vec![0.0; parameters], steps: 0 }
    }

    /// One step against `gradient`.
    pub(super) fn step(&mut self, parameters: &mut [f32], gradient: &[f32], learning_rate: f32) {
        self.steps = self.steps.saturating_add(1);
        let unbias1 = 1.0 - BETA1.powi(self.steps);
        let unbias2 = 1.0 - BETA2.powi(self.steps);
        let moments = self.mean.iter_mut().zip(&mut self.variance);
        for ((parameter, (mean, variance)), &g) in parameters.iter_mut().zip(moments).zip(gradient)
        {
            *mean = BETA1 * *mean + (1.0 - BETA1) * g;
            *variance = BETA2 * *variance + (1.0 - BETA2) * g * g;
            *parameter -=
                learning_rate * (*mean / unbias1) / ((*variance / unbias2).sqrt() + EPSILON);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_the_learning_rate_against_the_sign() {
        let mut parameters = [1.0, -2.0, 3.0];
        Adam::new(3).step(&mut parameters, &[0.5, -20.0, 0.0], 0.1);
        for (got, expected) in parameters.iter().zip([0.9, -1.9, 3.0]) {
            assert!((got - expected).abs() < 1e-5, "{parameters:?}");
        }
    }

    #[test]
    fn it_finds_the_bottom_of_a_bowl() {
        let mut parameters = vec![5.0, -3.0];
        let mut adam = Adam::new(2);
        for _ in 0..2000 {
            let gradient = [2.0 * (parameters[0] - 1.0), 20.0 * (parameters[1] - 2.0)];
            adam.step(&mut parameters, &gradient, 0.02);
        }
        assert!((parameters[0] - 1.0).abs() < 1e-2 && (parameters[1] - 2.0).abs() < 1e-2);
    }
}

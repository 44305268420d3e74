//! The gradients of inputs and parameters, compared with central differences of the reference.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use edgesmith_graph::{Graph, Role, Weights};
use edgesmith_testing::{noise, random_weights};

use super::cases;
use super::random;
use super::reference::Reference;
use crate::network::Network;
use crate::tests::sizes;

/// Examples in a batch.
const BATCH: usize = 3;

/// Step of a difference. The reference computes in `f64`, so rounding is far below it, and hardly
/// any kink lies within it.
const STEP: f64 = 1e-6;

/// A linear functional of the outputs: their sum, weighted with `factors`.
fn loss(reference: &mut Reference, inputs: &[Vec<f64>], factors: &[f32]) -> f64 {
    let outputs = reference.outputs(inputs).into_iter().flatten();
    outputs.zip(factors).map(|(output, &factor)| output * f64::from(factor)).sum()
}

/// Asserts that numbers of a network are those of the reference.
fn compare(name: &str, what: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{name}: {what}");
    let size = expected.iter().fold(0.1f64, |size, value| size.max(value.abs()));
    for (got, expected) in got.iter().zip(expected) {
        let error = (f64::from(*got) - expected).abs();
        assert!(error < 1e-3 * size, "{name}: {what} {got} instead of {expected}");
    }
}

/// Whether a parameter is trained.
fn is_trained(role: Role) -> bool {
    match role {
        Role::Weight | Role::Bias | Role::Scale | Role::Shift | Role::Slope => true,
        Role::Mean | Role::Variance | Role::Constant => false,
    }
}

/// Compares the output of a training step and all gradients with the reference.
fn check(name: &str, graph: &Graph, seed: u64, device: &Device, fast: bool) {
    let weights = random_weights(graph, seed);
    let shape = sizes(graph, BATCH);
    let numbers = noise(shape.iter().product(), seed as u8);
    let numbers: Vec<f32> = numbers.into_iter().map(|number| 2.0 * number).collect();
    let inputs: Vec<Vec<f64>> = numbers
        .chunks_exact(numbers.len() / BATCH)
        .map(|input| input.iter().map(|&number| f64::from(number)).collect())
        .collect();
    let factors = noise(BATCH * graph.output().elements() as usize, seed as u8 + 1);

    let network = Network::new(graph, &weights, device);
    let batch = Tensor::<4>::from_data(TensorData::new(numbers, shape), device).require_grad();
    let output = network.forward_on(batch.clone(), fast);
    let mut reference = Reference::new(graph, &weights, true);
    let expected: Vec<f64> = reference.outputs(&inputs).into_iter().flatten().collect();
    let got = output.clone().inner().into_data().try_into_vec::<f32>().unwrap();
    compare(name, "output", &got, &expected);

    let factors_tensor = Tensor::from_data(TensorData::new(factors.clone(), output.dims()), device);
    let mut gradients = (output * factors_tensor).sum().backward();
    let by_input = batch.grad_remove(&mut gradients).expect("the output depends on the input");
    let by_input = by_input.into_data().try_into_vec::<f32>().unwrap();
    let gradients = network.gradients(&GradientsParams::from_grads(gradients, &network));
    compare(
        name,
        "gradient of the input",
        &by_input,
        &by_inputs(graph, &weights, &inputs, &factors),
    );
    for (id, parameter) in graph.parameters().filter(|(_, p)| is_trained(p.role)) {
        let slopes: Vec<f64> = (0..parameter.elements() as usize)
            .map(|index| {
                let mut at = |step: f64| {
                    reference.parameter_mut(id)[index] += step;
                    let loss = loss(&mut reference, &inputs, &factors);
                    reference.parameter_mut(id)[index] -= step;
                    loss
                };
                (at(STEP) - at(-STEP)) / (2.0 * STEP)
            })
            .collect();
        let got = gradients.arrays.get(&*parameter.name);
        let got = got.unwrap_or_else(|| panic!("{name}: no gradient of {}", parameter.name));
        compare(name, &format!("gradient of {}", parameter.name), &got.data, &slopes);
    }
}

/// Slopes by each number of each input.
fn by_inputs(graph: &Graph, weights: &Weights, inputs: &[Vec<f64>], factors: &[f32]) -> Vec<f64> {
    let mut reference = Reference::new(graph, weights, true);
    let mut slopes = Vec::new();
    for example in 0..inputs.len() {
        for index in 0..inputs[example].len() {
            let mut at = |step: f64| {
                let mut moved = inputs.to_vec();
                moved[example][index] += step;
                loss(&mut reference, &moved, factors)
            };
            slopes.push((at(STEP) - at(-STEP)) / (2.0 * STEP));
        }
    }
    slopes
}

/// Checks the gradients where the input is 0 everywhere and all parameters are a quarter. A kink
/// has no slope, but its gradient has to lie between the slopes on both sides of it, along each
/// number of the input and along all of them together.
fn check_at_zero(name: &str, graph: &Graph, device: &Device, fast: bool) {
    let mut weights = random_weights(graph, 5);
    weights.arrays.values_mut().for_each(|array| array.data.fill(0.25));
    let shape = sizes(graph, 1);
    let count = shape.iter().product();
    let network = Network::new(graph, &weights, device);
    let zeros = TensorData::new(vec![0.0f32; count], shape);
    let batch = Tensor::<4>::from_data(zeros, device).require_grad();
    let mut gradients = network.forward_on(batch.clone(), fast).sum().backward();
    let by_input = batch.grad_remove(&mut gradients).expect("the output depends on the input");
    let by_input = by_input.into_data().try_into_vec::<f32>().unwrap();
    let gradients = network.gradients(&GradientsParams::from_grads(gradients, &network));
    for (name, array) in &gradients.arrays {
        assert!(array.data.iter().all(|&gradient| gradient == 0.0), "{name}: {array:?}");
    }

    let mut reference = Reference::new(graph, &weights, true);
    let factors = vec![1.0; graph.output().elements() as usize];
    let mut at = |direction: &[f64], step: f64| {
        let input = direction.iter().map(|part| part * step).collect();
        loss(&mut reference, &[input], &factors)
    };
    let along_one = |place| (0..count).map(|other| f64::from(u8::from(other == place))).collect();
    for direction in (0..count).map(along_one).chain([vec![1.0; count]]) {
        let parts = direction.iter().zip(&by_input);
        let slope: f64 = parts.map(|(part, &gradient)| part * f64::from(gradient)).sum();
        let middle = at(&direction, 0.0);
        let before = (middle - at(&direction, -STEP)) / STEP;
        let after = (at(&direction, STEP) - middle) / STEP;
        let (low, high) = (before.min(after) - 1e-4, before.max(after) + 1e-4);
        assert!((low..=high).contains(&slope), "{name}: {slope} is not in {before}..{after}");
    }
}

#[test]
fn gradients_at_kinks_lie_between_the_slopes_on_both_sides() {
    for case in cases::kinks() {
        for fast in [false, true] {
            check_at_zero(&case.name, &case.graph, &Device::flex().autodiff(), fast);
        }
    }
}

#[test]
fn gradients_of_burns_operations_equal_finite_differences() {
    for case in cases::all() {
        check(&case.name, &case.graph, 5, &Device::flex().autodiff(), false);
    }
}

#[test]
fn gradients_of_the_fast_path_equal_finite_differences() {
    for case in cases::all() {
        check(&case.name, &case.graph, 6, &Device::flex().autodiff(), true);
    }
}

#[test]
fn gradients_of_random_networks_equal_finite_differences() {
    for seed in 0..30 {
        let graph = random::graph(seed, 8);
        for fast in [false, true] {
            check(&format!("network {seed}"), &graph, seed, &Device::flex().autodiff(), fast);
        }
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn gradients_on_wgpu_equal_finite_differences() {
    let Some(device) = crate::tests::wgpu() else { return };
    for case in cases::every_operation() {
        check(&case.name, &case.graph, 5, &device.device().autodiff(), false);
    }
}

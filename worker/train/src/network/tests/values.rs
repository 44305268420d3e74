//! The output of networks in evaluation mode.

use burn::tensor::{Device, Tensor, TensorData};
use edgesmith_graph::Graph;
use edgesmith_testing::{noise, random_weights};

use super::cases;
use super::random;
use super::reference::Reference;
use crate::network::Network;
use crate::tests::sizes;

fn check(name: &str, graph: &Graph, seed: u64, device: &Device, fast: bool) {
    let weights = random_weights(graph, seed);
    let shape = sizes(graph, 3);
    let numbers = noise(shape.iter().product(), seed as u8);
    let examples = numbers.chunks_exact(numbers.len() / 3);
    let examples: Vec<Vec<f64>> =
        examples.map(|input| input.iter().map(|&number| number.into()).collect()).collect();
    let expected = Reference::new(graph, &weights, false).outputs(&examples);
    let network = Network::new(graph, &weights, device);
    let batch = Tensor::<4>::from_data(TensorData::new(numbers, shape), device);
    let output = network.forward_on(batch, fast).into_data().try_into_vec::<f32>().unwrap();
    for (got, expected) in output.iter().zip(expected.iter().flatten()) {
        let error = (f64::from(*got) - expected).abs();
        assert!(error < 1e-4 * expected.abs().max(1.0), "{name}: {got} instead of {expected}");
    }
}

#[test]
fn networks_of_every_operation_equal_the_reference() {
    for case in cases::all() {
        for fast in [false, true] {
            check(&case.name, &case.graph, 3, &Device::flex(), fast);
        }
    }
}

#[test]
fn random_networks_equal_the_reference() {
    for seed in 0..200 {
        let graph = random::graph(seed, 12);
        for fast in [false, true] {
            check(&format!("network {seed}"), &graph, seed, &Device::flex(), fast);
        }
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn networks_on_wgpu_equal_the_reference() {
    let Some(device) = crate::tests::wgpu() else { return };
    for case in cases::every_operation() {
        check(&case.name, &case.graph, 3, &device.device(), false);
    }
}

//! Training on a GPU, where one is found.

use edgesmith_testing::tiny_graph;

use super::*;

/// The first GPU. `None` if there is none and the environment does not ask for one.
pub(crate) fn wgpu() -> Option<TrainDevice> {
    match TrainDevice::parse("wgpu") {
        Ok(device) => Some(device),
        Err(TrainDeviceError::NoAdapter)
            if std::env::var_os("EDGESMITH_REQUIRE_WGPU").is_none() =>
        {
            eprintln!("skipped: {}", TrainDeviceError::NoAdapter);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn wgpu_trains_a_few_steps() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    let Some(device) = wgpu() else { return };
    let trained = run(TrainRequest { device, ..request(&graph, &data, &views, &spec) }).unwrap();
    let flex = run(request(&graph, &data, &views, &spec)).unwrap();
    // The same steps in another order of summation.
    for (gpu, cpu) in trained.losses.iter().zip(&flex.losses) {
        assert!((gpu - cpu).abs() < 1e-2 * cpu.abs().max(1.0), "loss {gpu} on wgpu, {cpu} on flex");
    }
    // The results of tuning are stored where other trainings and processes find them.
    let cache = burn::cubecl::config::cache::CacheConfig::Global.root();
    assert_eq!(burn::cubecl::environment::root(), cache);
    #[cfg(feature = "tuned")]
    {
        let kept = burn::cubecl::environment::namespaces();
        let tuned = |kind: &str| {
            kept.iter().any(|n| n.namespace.starts_with("autotune") && n.namespace.contains(kind))
        };
        assert!(tuned("conv-forward") && tuned("matmul"), "{kept:?}");
    }
}

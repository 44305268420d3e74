//! Compares the computed memory of trainings with what the allocator counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use edgesmith_search_space::{Architecture, DataShape};

use super::*;
use crate::network::{annotation, cases, random_graph};

/// Counts the bytes that are there, and the most that were.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: it hands every call on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), SeqCst) + layout.size();
        MOST.fetch_max(now, SeqCst);
        // SAFETY: the caller keeps to the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), SeqCst);
        // SAFETY: the caller keeps to the contract.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most bytes that `f` had at a time beyond those before it.
fn most<T>(f: impl FnOnce() -> T) -> u64 {
    let before = NOW.load(SeqCst);
    MOST.store(before, SeqCst);
    let result = f();
    let most = MOST.load(SeqCst) - before;
    drop(result);
    most as u64
}

/// Runs an ignored test of this file in a process of its own, where nothing else is counted.
fn alone(test: &str) {
    let name = format!("tests::memory::{test}");
    let line = ["--ignored", "--exact", &name, "--test-threads=1", "--nocapture"];
    let output = Command::new(std::env::current_exe().unwrap()).args(line).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"));
}

#[test]
fn no_training_takes_more_than_was_computed() {
    alone("trainings");
}

#[test]
fn no_operation_takes_more_than_was_computed() {
    alone("operations");
}

#[test]
fn images_that_are_resized_together_are_counted() {
    let graph = residual_graph();
    let Classifier { side, .. } = Classifier::of(&graph).unwrap();
    let (fits, other) = (set_for(&graph, 1000), set_of(&graph, 1000, side + 4));
    let all = (1000 * side * side) as u64;
    let one =
        TrainingSpec { augmentation: Augmentation { shift: 0, flip: false, views: 1 }, ..spec() };
    let grown =
        |of: &dyn Fn(&Dataset) -> Memory| of(&other).bytes(16, 16) - of(&fits).bytes(16, 16);
    for (spec, grows) in [(one, all), (spec(), 0)] {
        // Images of views that differ are resized one by one.
        let views = views(&spec);
        assert_eq!(grown(&|set| Memory::of(&graph, &spec, set, TrainDevice::Flex)), grows);
        assert_eq!(grown(&|set| Memory::answering(&graph, &set.train, &views)), grows);
        // Statistics are renewed without augmentation.
        assert_eq!(grown(&|set| Memory::renewing(&graph, &set.train)), all);
    }
    let renewing = Memory::renewing(&graph, &fits.train).bytes(16, 16);
    assert!(renewing < Memory::of(&graph, &spec(), &fits, TrainDevice::Flex).bytes(16, 16));
}

#[test]
fn the_masks_of_single_weights_are_counted() {
    let graph = residual_graph();
    let masks = masks(&graph);
    let weights: usize = masks.values().map(Vec::len).sum();
    let set = set_for(&graph, 100);
    let without = Memory::of(&graph, &spec(), &set, TrainDevice::Flex);
    let with = without.masked(&graph, &masks, TrainDevice::Flex);
    assert_eq!(with.bytes(16, 16) - without.bytes(16, 16), 2 * 4 * weights as u64);
}

/// Images with the channels, side and classes of a network.
fn set_for(graph: &Graph, count: usize) -> Dataset {
    let Classifier { side, .. } = Classifier::of(graph).unwrap();
    set_of(graph, count, side)
}

/// The same with images of another side.
fn set_of(graph: &Graph, count: usize, side: usize) -> Dataset {
    let Classifier { channels, classes, .. } = Classifier::of(graph).unwrap();
    let set = |count: usize| ImageSet {
        channels,
        height: side,
        width: side,
        pixels: vec![7; count * channels * side * side],
        labels: (0..count).map(|i| (i % classes) as u16).collect(),
    };
    let train = set(count);
    let normalization = Normalization { mean: vec![0.5; channels], std: vec![0.5; channels] };
    let origin = Origin::whole(train.len());
    Dataset { train, validation: set(1), test: set(1), classes, normalization, origin }
}

/// A staged network for colour images of 32x32.
fn staged(operation: Operation, squeeze: u32, widths: [u32; 3]) -> Graph {
    let stages = widths
        .map(|width| edgesmith_search_space::Stage { squeeze, ..stage(operation, width, 2, 2) });
    let data = DataShape { channels: 3, classes: 10 };
    Architecture { resolution: 32, stem_width: 16, stages: stages.to_vec() }.graph(data).unwrap()
}

/// A network of convolutions without normalisation, with a large linear layer.
fn plain() -> Graph {
    let (mut net, mut value) = Net::new(3, &[32, 32]);
    for filters in [16, 32] {
        value = net.with(
            Conv::dense(3, 2),
            &[value],
            &[("weight", &[filters, net.builder.shape(value).channels(), 3, 3], Role::Weight)],
        );
        value = net.op(edgesmith_graph::Clip::RELU, &[value]);
    }
    let flat = net.op(edgesmith_graph::Flatten, &[value]);
    let hidden = net.linear(flat, 256, true);
    let output = net.linear(hidden, 10, true);
    net.finish(output)
}

#[test]
fn a_network_without_normalisation_has_no_statistics_to_renew() {
    let graph = plain();
    let weights = random_weights(&graph, 5);
    // No batch is computed for it.
    let stop = &mut || ControlFlow::Break(());
    let data = set_for(&graph, 8);
    let renewed = renew_statistics((&graph, &weights, None), &data, 4, TrainDevice::Flex, stop);
    assert_eq!(renewed, Ok(weights));
}

#[test]
#[ignore = "it counts all memory of its process; another test runs it"]
fn trainings() {
    let inverted = Operation::InvertedResidual { expansion: 4 };
    for (name, graph) in [
        ("conv", staged(Operation::Conv, 0, [16, 32, 64])),
        ("separable", staged(Operation::Separable, 0, [32, 64, 128])),
        ("inverted residual", staged(inverted, 8, [16, 24, 40])),
        ("without normalisation", plain()),
        ("digits", residual_graph()),
    ] {
        let sgd = OptimizerSpec::Sgd { momentum: 0.9 };
        for (optimizer, batch_size) in
            [(OptimizerSpec::AdamW, 16), (OptimizerSpec::AdamW, 128), (sgd, 50)]
        {
            let spec = TrainingSpec { batch_size, optimizer, ..spec() };
            let (data, views) = (set_for(&graph, 3 * batch_size as usize), views(&spec));
            let computed = Memory::of(&graph, &spec, &data, TrainDevice::Flex);
            let part = if name == "without normalisation" { 16 } else { batch_size };
            for at_once in [batch_size, part] {
                let request = request(&graph, &data, &views, &spec);
                let request = TrainRequest { epochs: 1, until: 1, at_once, ..request };
                let quantization = (!normalizes(&graph)).then(|| annotation(&graph, 1));
                let compare = |request: TrainRequest, computed: Memory, how: &str| {
                    let computed = computed.bytes(batch_size, at_once);
                    let taken = most(|| run(request).unwrap());
                    let ratio = computed as f64 / taken as f64;
                    let what = format!("{name}{how}, {at_once} of {batch_size}");
                    println!("{what}: {taken} taken, {ratio:.2} computed");
                    assert!(ratio >= 1.0, "{what}");
                };
                compare(request.clone(), computed, "");
                let masks = masks(&graph);
                let masked = computed.masked(&graph, &masks, TrainDevice::Flex);
                let kept = Some(&masks);
                compare(TrainRequest { kept, ..request.clone() }, masked, " masked");
                if let Some(quantization) = &quantization {
                    let computed = computed.quantized(&graph, quantization);
                    let quantization = Some(quantization);
                    compare(TrainRequest { quantization, ..request }, computed, " quantized");
                }
            }
        }
    }
}

#[test]
#[ignore = "it counts all memory of its process; another test runs it"]
fn operations() {
    let device = Device::flex().autodiff();
    let graphs = cases()
        .into_iter()
        .chain((0..40).map(|seed| (format!("random {seed}"), random_graph(seed, 8))));
    let graphs = graphs.flat_map(|(name, graph)| {
        let folded = graph.absorbed_normalizations().iter().all(Option::is_none);
        let quantization = folded.then(|| annotation(&graph, 1));
        let quantized =
            quantization.map(|all| (format!("{name} quantized"), graph.clone(), Some(all)));
        [Some((name, graph, None)), quantized].into_iter().flatten()
    });
    let (mut low, mut all) = (Vec::new(), Vec::new());
    for (name, graph, quantization) in graphs {
        let taken = |count: usize| {
            let weights = random_weights(&graph, 5);
            let network = match &quantization {
                None => Network::new(&graph, &weights, &device),
                Some(all) => Network::quantized(&graph, &weights, all, &device),
            };
            let shape = sizes(&graph, count);
            let numbers = vec![0.5f32; shape.iter().product()];
            most(|| {
                // All operations get gradients, as behind a convolution.
                let images = Tensor::<4>::from_data(TensorData::new(numbers, shape), &device);
                network.forward(images.require_grad()).powi_scalar(2).sum().backward()
            })
        };
        // What one image takes, without what does not grow.
        let taken = (taken(4096) as f64 - taken(1024) as f64) / 3072.0;
        let computed = Memory::of_operations(&graph, quantization.as_ref());
        let ratio = computed as f64 / taken.max(1.0);
        println!("{name}: {taken:.0} taken, {ratio:.2} of it computed");
        all.push(ratio);
        if ratio < 1.0 {
            low.push(name);
        }
    }
    all.sort_by(f64::total_cmp);
    println!("median {:.2}, largest {:.2}", all[all.len() / 2], all[all.len() - 1]);
    assert!(low.is_empty(), "{low:?}");
}

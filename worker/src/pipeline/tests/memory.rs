//! Trainings that need more memory than is allowed.

use super::own_network::{on_network, on_own_network};
use super::*;

#[test]
fn a_training_that_does_not_fit_the_memory_says_what_it_needs() {
    let spec = StudySpec::parse(STUDY).unwrap();
    let work = spec.training().unwrap();
    let genotype = spec.space.genotype(vec![0; spec.space.choices().len()]).unwrap();
    let graph = work.space.decode(&genotype).architecture.graph(work.space.data()).unwrap();
    let data = data_of(STUDY);
    let memory = Memory::of(&graph, &work.training, &data, TrainDevice::Flex);
    let batch = work.training.batch_size.min(data.train.len() as u32);
    let needed = memory.bytes(batch, batch);
    let trained = |limit: u64| {
        let worker = worker().with_memory(Some(limit));
        worker.execute(task(None, None), &AttemptContext::offline(Vec::new()))
    };
    trained(needed).unwrap();
    let error = trained(needed - 1).unwrap_err();
    assert_eq!(error.fault, Fault::Memory);
    for part in ["training needs ", "which batch normalisation or relations need", " are allowed"] {
        assert!(error.reason.contains(part), "{error}");
    }
}

#[test]
fn a_teacher_that_only_answers_needs_memory_too() {
    let answered = |limit: fn(u64) -> u64| {
        let (task, file) = on_own_network("");
        let work = task.spec.training().unwrap();
        let views = Views::new(&work.training.augmentation, task.spec.seed);
        let network = edgesmith_testing::residual_graph();
        let (data, seed) = (work.space.data(), task.spec.seed);
        let data = Dataset::load(&work.data, data, seed, Path::new(".")).unwrap();
        let memory = Memory::answering(&network, &data.train, &views);
        // A few images at a time need the least.
        let least = memory.part(Memory::ANSWERED_AT_ONCE, 0).unwrap_err().needed;
        let task = TaskWork { work: Work::TrainTeacher { weights: None }, ..task };
        let worker = worker().with_memory(Some(limit(least)));
        worker.execute(task, &AttemptContext::offline(vec![file]))
    };
    answered(|least| least).unwrap();
    let error = answered(|least| least - 1).unwrap_err();
    assert_eq!(error.fault, Fault::Memory, "{error}");
}

#[test]
fn a_batch_that_does_not_fit_the_memory_is_computed_in_parts() {
    let mut b = GraphBuilder::new();
    let image = b.input("image", Shape::new(1, &[8, 8]).unwrap()).unwrap();
    let weight = b.parameter("conv.weight", &[16, 1, 3, 3], Role::Weight).unwrap();
    let conv = b.node("conv", Conv::dense(3, 1), &[image], &[weight], Place::default()).unwrap();
    let pool = b.node("pool", GlobalAveragePool, &[conv], &[], Place::default()).unwrap();
    let weight = b.parameter("fc.weight", &[10, 16], Role::Weight).unwrap();
    let logits = b.node("fc", Linear, &[pool], &[weight], Place::default()).unwrap();
    let network = b.finish(&[logits]).unwrap();

    let data = data_of(&taught(200));
    let trained = |limit: fn(&Memory) -> Option<u64>| {
        let (task, file) = on_network(network.clone(), "");
        let spec = &task.spec.training().unwrap().training;
        let memory = Memory::of(&network, spec, &data, TrainDevice::Flex);
        let context = AttemptContext::offline(vec![file]);
        let outcome = worker().with_memory(limit(&memory)).execute(task, &context);
        let Ok(Outcome::TrialTrained(trained)) = outcome else { panic!("{outcome:?}") };
        safetensors::from_bytes(&context.fetch(trained.weights).unwrap()).unwrap()
    };
    let whole = trained(|_| None);
    assert_eq!(whole, trained(|memory| Some(memory.bytes(64, 64))));
    let parts = trained(|memory| Some(memory.bytes(64, 64) - 1));
    assert_ne!(whole, parts, "sums are rounded in another order");
    for (name, array) in &whole.arrays {
        for (a, b) in array.data.iter().zip(&parts.arrays[name].data) {
            assert!((a - b).abs() < 1e-2, "{name}: {a} {b}");
        }
    }
}

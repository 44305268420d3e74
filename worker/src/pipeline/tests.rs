//! Tests whole tasks in this worker.

use std::path::Path;

use edgesmith_common::spec::{ModelFile, ModelFiles, OtherFile};
use edgesmith_common::{DIVERGED, DeviceClass, Fault};
use edgesmith_edge_runtime::{Model, Notes, Session};

use edgesmith_data::arrays::{self, NumberArray};
use edgesmith_data::{Dataset, Views};
use edgesmith_graph::{Conv, GlobalAveragePool, GraphBuilder, Linear, Place, Role, Shape};
use edgesmith_train::{Memory, safetensors};

use super::*;

mod budgets;
mod idle;
mod memory;
mod own_network;
mod prune;
mod recipe;
mod references;
mod slower;
mod widths;

const STUDY: &str = r#"
study = { name = "rungs", seed = 3 }
data = { source = "digits", train_limit = 200, test_limit = 50 }
budget.trials = 1
objectives = [{ metric = "validation_accuracy" }]
training = { epochs = 4, fine_tune_epochs = 1, augmentation = { shift = 1, views = 3 } }
fidelity = { rule = "asha", reduction = 2 }
recipe = { prune = 0.25, precision = "int8" }
[space]
resolution = 8
stem_width = 8
[[space.stages]]
width = 8
operation = "inverted-residual"
expansion = 2
"#;

/// A separate worker, which shares nothing with others except what the coordinator passes on.
fn worker() -> Pipeline {
    let info = DeviceInfo {
        class: DeviceClass::local(),
        name: "test".to_owned(),
        cpu: String::new(),
        cpu_flags: Vec::new(),
        cores: 1,
    };
    Pipeline::new(Some(TrainDevice::Flex), Cores::one(), info, PathBuf::from("."))
}

fn task(rung: Option<u32>, checkpoint: Option<ArtifactHash>) -> TaskWork {
    task_of(STUDY, rung, checkpoint)
}

fn task_of(text: &str, rung: Option<u32>, checkpoint: Option<ArtifactHash>) -> TaskWork {
    let spec = Arc::new(StudySpec::parse(text).unwrap());
    let genotype = spec.space.genotype(vec![0; spec.space.choices().len()]).unwrap();
    let number = TrialNumber(7);
    let (soft_targets, donor) = (None, None);
    let work = Work::TrainTrial { number, genotype, soft_targets, rung, checkpoint, donor };
    TaskWork { study: spec.name.clone(), spec, work, data: None }
}

#[test]
fn a_trial_over_rungs_on_several_workers_has_the_same_bits_as_without_rungs() {
    let through = match worker().execute(task(None, None), &AttemptContext::offline(Vec::new())) {
        Ok(Outcome::TrialTrained(trained)) => trained,
        other => panic!("{other:?}"),
    };
    let mut checkpoint = None;
    let mut brought = Vec::new();
    let mut before = 0.0;
    for rung in [1, 2] {
        let context = AttemptContext::offline(brought);
        let report = match worker().execute(task(Some(rung), checkpoint), &context) {
            Ok(Outcome::RungReached(report)) => report,
            other => panic!("{other:?}"),
        };
        // A fifth of the 200 images is for validation.
        let seen = report.figures.images_seen();
        assert_eq!((report.epochs, seen), (rung, Some(u64::from(rung) * 160)));
        assert!(report.figures.validation_accuracy().is_some() && report.figures.check().is_ok());
        let seconds = report.figures.training_seconds();
        assert!(seconds > before);
        before = seconds;
        checkpoint = report.checkpoint;
        brought = vec![context.fetch(checkpoint.unwrap()).unwrap().to_vec()];
    }
    let context = AttemptContext::offline(brought);
    let trained = match worker().execute(task(None, checkpoint), &context) {
        Ok(Outcome::TrialTrained(trained)) => trained,
        other => panic!("{other:?}"),
    };
    assert!(trained.compressed.training_seconds() > before);
    let timeless = |mut trained: TrainedTrial| {
        trained.compressed.remove(&Metric::TRAINING_SECONDS.whole());
        trained
    };
    assert_eq!(timeless(trained), timeless(through));
}

#[test]
fn weights_of_a_trial_name_the_classes_of_its_folders() {
    let directory = tempfile::tempdir().unwrap();
    for (class, value) in [("bee", 10), ("ape", 200)] {
        let folder = directory.path().join("photos").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..10 {
            let image = image::GrayImage::from_pixel(8, 8, image::Luma([value + i]));
            image.save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    let data = "data = { source = \"image-folder\", train = \"photos\", classes = 2, channels = 1, \
                side = 8 }";
    let digits = "data = { source = \"digits\", train_limit = 200, test_limit = 50 }";
    let text = STUDY.replace(digits, data);
    let mut worker = worker();
    worker.data_root = directory.path().to_owned();
    let context = AttemptContext::offline(Vec::new());
    let trained = match worker.execute(task_of(&text, None, None), &context) {
        Ok(Outcome::TrialTrained(trained)) => trained,
        other => panic!("{other:?}"),
    };
    let (_, metadata) = safetensors::read(&context.fetch(trained.weights).unwrap()).unwrap();
    assert_eq!(safetensors::class_names(&metadata), ["ape", "bee"]);
    let model = Model::from_bytes(&context.fetch(trained.model).unwrap()).unwrap();
    assert_eq!(model.notes.classes, ["ape", "bee"]);
}

#[test]
fn a_data_check_counts_the_images_of_each_part() {
    let check = TaskWork { work: Work::CheckData, ..task(None, None) };
    let outcome = worker().execute(check, &AttemptContext::offline(Vec::new()));
    let Ok(Outcome::DataChecked(DataReport { train, validation, test, hash: Some(_) })) = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!((train, validation, test), (160, 40, 50));

    let missing = STUDY.replace(
        "source = \"digits\", train_limit = 200, test_limit = 50",
        "source = \"cifar10\", directory = \"no-such\"",
    );
    let check = TaskWork { work: Work::CheckData, ..task_of(&missing, None, None) };
    let error = worker().execute(check, &AttemptContext::offline(Vec::new())).unwrap_err();
    assert!(error.fault == Fault::Worker && error.reason.contains("no-such"), "{error}");
}

#[test]
fn a_data_check_names_all_damaged_files_as_a_fault_of_the_data() {
    let directory = tempfile::tempdir().unwrap();
    for class in ["0", "1"] {
        std::fs::create_dir(directory.path().join(class)).unwrap();
        for i in 0..12 {
            std::fs::write(directory.path().join(format!("{class}/{i:02}.png")), "no").unwrap();
        }
    }
    let data = format!(
        "data = {{ source = \"image-folder\", train = {:?}, side = 8, classes = 2 }}",
        directory.path().display().to_string()
    );
    let text =
        STUDY.replace("data = { source = \"digits\", train_limit = 200, test_limit = 50 }", &data);
    let check = TaskWork { work: Work::CheckData, ..task_of(&text, None, None) };
    let error = worker().execute(check, &AttemptContext::offline(Vec::new())).unwrap_err();
    assert_eq!(error.fault, Fault::Data, "{error}");
    assert!(error.reason.starts_with("24 things are wrong with the data: "), "{error}");
    assert!(error.reason.contains("0/00.png") && error.reason.contains("1/09.png"), "{error}");
    assert!(error.reason.ends_with("; and 4 more"), "{error}");
}

#[test]
fn a_worker_with_other_files_of_the_same_names_refuses_to_use_them() {
    let folders = [0, 0, 1].map(|changed| {
        let directory = tempfile::tempdir().unwrap();
        for (class, value) in [("ape", 10), ("bee", 200)] {
            let folder = directory.path().join("photos").join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..10 {
                let image = image::GrayImage::from_pixel(8, 8, image::Luma([value + i + changed]));
                image.save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
        directory
    });
    let data = "data = { source = \"image-folder\", train = \"photos\", classes = 2, channels = 1, \
                side = 8 }";
    let digits = "data = { source = \"digits\", train_limit = 200, test_limit = 50 }";
    let text = STUDY.replace(digits, data);
    let run = |folder: &tempfile::TempDir, check, data| {
        let pipeline = Pipeline { data_root: folder.path().to_owned(), ..worker() };
        let task = task_of(&text, None, None);
        let work = if check { Work::CheckData } else { task.work };
        pipeline.execute(TaskWork { work, data, ..task }, &AttemptContext::offline(Vec::new()))
    };
    let hash = |folder| match run(folder, true, None) {
        Ok(Outcome::DataChecked(DataReport { hash: Some(hash), .. })) => hash,
        other => panic!("{other:?}"),
    };
    let [begun, same, other] = &folders;
    let begun_with = Some(hash(begun));
    assert!(hash(same) == hash(begun) && hash(other) != hash(begun));
    assert!(matches!(run(same, false, begun_with), Ok(Outcome::TrialTrained(_))));
    for check in [false, true] {
        let error = run(other, check, begun_with).unwrap_err();
        assert_eq!(error.fault, Fault::Worker);
        let said = format!(
            "the data in {} differ from those that the study began with (hash ",
            other.path().join("photos").display()
        );
        assert!(error.reason.starts_with(&said), "{error}");
    }
    // Replacing or removing a damaged image would make them other data.
    std::fs::write(other.path().join("photos/ape/3.png"), "no").unwrap();
    for check in [false, true] {
        let error = run(other, check, begun_with).unwrap_err();
        assert_eq!(error.fault, Fault::Data);
        assert!(error.reason.contains(": restore the very files that the study"), "{error}");
        assert!(!error.reason.contains("remove it"), "{error}");
    }
}

#[test]
fn a_worker_without_a_training_device_says_so() {
    let none = Pipeline { device: None, ..worker() };
    let error = none.execute(task(None, None), &AttemptContext::offline(Vec::new())).unwrap_err();
    assert!(error.fault == Fault::Worker && error.reason.contains("no device"), "{error}");
}

#[test]
fn a_candidate_is_scored_by_the_proxy_with_its_initial_weights() {
    let score = |proxy: &str, number| {
        let text = format!("{STUDY}[screening]\nproxy = \"{proxy}\"\n");
        let task = task_of(&text, None, None);
        let Work::TrainTrial { genotype, .. } = &task.work else { panic!("{:?}", task.work) };
        let work = Work::ScoreTrial { number: TrialNumber(number), genotype: genotype.clone() };
        match worker().execute(TaskWork { work, ..task }, &AttemptContext::offline(Vec::new())) {
            Ok(Outcome::Scored(score)) => score,
            other => panic!("{other:?}"),
        }
    };
    let macs = score("macs", 0);
    assert!(macs > 1.0);
    for proxy in ["synflow", "naswot"] {
        let one = score(proxy, 0);
        assert_eq!(one, score(proxy, 0));
        // Another trial has other initial weights.
        assert_ne!(one, score(proxy, 1));
        assert_ne!(one, macs);
    }
}

/// Trains the only candidate of a study, and returns the weights and the model file that it
/// uploaded.
fn train(text: &str) -> (TrainedTrial, Weights, Model) {
    let context = AttemptContext::offline(Vec::new());
    match worker().execute(task_of(text, None, None), &context) {
        Ok(Outcome::TrialTrained(trained)) => {
            let weights = safetensors::from_bytes(&context.fetch(trained.weights).unwrap());
            let model = Model::from_bytes(&context.fetch(trained.model).unwrap());
            (trained, weights.unwrap(), model.unwrap())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_compression_the_network_ships_as_trained() {
    let text = STUDY.replace("recipe = { prune = 0.25, precision = \"int8\" }", "");
    let (trained, weights, model) = train(&text);
    assert_eq!(trained.compressed.repeatable(), trained.uncompressed);
    let spec = StudySpec::parse(&text).unwrap();
    let space = &spec.training().unwrap().space;
    let genotype = spec.space.genotype(vec![0; spec.space.choices().len()]).unwrap();
    let graph = space.decode(&genotype).graph(space.data()).unwrap();
    let float = float_model(&graph, &weights, &data_of(&text).normalization).unwrap();
    assert_eq!(Model { notes: Notes::default(), ..model }, float);
}

#[test]
fn a_model_file_says_where_it_comes_from_and_how_to_check_it() {
    let text = STUDY.replace("fine_tune_epochs = 1", "fine_tune_epochs = 0");
    let train = |number| {
        let mut task = task_of(&text, None, None);
        let Work::TrainTrial { number: of, .. } = &mut task.work else { unreachable!() };
        *of = TrialNumber(number);
        let context = AttemptContext::offline(Vec::new());
        match worker().execute(task, &context) {
            Ok(Outcome::TrialTrained(trained)) => {
                Model::from_bytes(&context.fetch(trained.model).unwrap()).unwrap()
            }
            other => panic!("{other:?}"),
        }
    };
    let [model, again, other] = [train(7), train(7), train(8)];
    assert_eq!(model, again, "nothing depends on time");
    let Notes { provenance, preprocessing, tests, tolerances, .. } = &model.notes;
    let spec = StudySpec::parse(&text).unwrap();
    let genotype = spec.space.genotype(vec![0; spec.space.choices().len()]).unwrap();
    let candidate = spec.space.canonical_hash(&genotype).unwrap().to_string();
    let data = data_of(&text).train.hash().to_string();
    let expected = [
        ("study", "rungs"),
        ("trial", "7"),
        ("candidate", &candidate),
        ("training_data", &data),
        ("edgesmith", env!("CARGO_PKG_VERSION")),
    ];
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    };
    assert_eq!(*provenance, pairs(&expected));
    let picture = [("colour", "grey"), ("resize", "stretch"), ("filter", "area")];
    assert_eq!(*preprocessing, pairs(&picture));
    assert_eq!((tests.len(), &tolerances[..]), (4, &[0.0; 4][..]));
    let results = Session::new(&model).unwrap().check(&model.notes).unwrap();
    assert!(results.iter().all(edgesmith_edge_runtime::TestResult::passes), "{results:?}");
    // Networks of one candidate have one hash, and files of their own.
    assert_eq!(other.notes.provenance[1].1, "8");
    assert_eq!(other.notes.provenance[2], provenance[2]);
}

fn data_of(text: &str) -> Dataset {
    let spec = StudySpec::parse(text).unwrap();
    let work = spec.training().unwrap();
    Dataset::load(&work.data, work.space.data(), spec.seed, Path::new(".")).unwrap()
}

#[test]
fn figures_come_from_the_shipped_file() {
    let (trained, _, model) = train(STUDY);
    let data = data_of(STUDY);
    let mut session = Session::new(&model).unwrap();
    let mut share = |set: &edgesmith_data::ImageSet| {
        let right = (0..set.len())
            .filter(|&i| session.classify(set.image(i)).unwrap() == usize::from(set.labels[i]));
        right.count() as f64 / set.len() as f64
    };
    let figures = &trained.compressed;
    assert_eq!(figures.validation_accuracy(), Some(share(&data.validation)));
    assert_eq!(figures.test_accuracy(), Some(share(&data.test)));
    let bytes = model.counted_bytes() as f64;
    assert_eq!(figures.get(&Metric::MODEL_BYTES.whole()), Some(bytes));
}

#[test]
fn a_pruned_network_without_fine_tuning_gets_new_statistics() {
    let text = STUDY.replace("fine_tune_epochs = 1", "fine_tune_epochs = 0");
    let (_, weights, _) = train(&text);
    let spec = StudySpec::parse(&text).unwrap();
    let work = spec.training().unwrap();
    let genotype = spec.space.genotype(vec![0; spec.space.choices().len()]).unwrap();
    let graph = work.space.decode(&genotype).pruned_graph(work.space.data()).unwrap();
    let go_on = &mut || std::ops::ControlFlow::Continue(());
    let (size, device) = (work.training.batch_size, TrainDevice::Flex);
    let again = edgesmith_train::renew_statistics(
        (&graph, &weights, None),
        &data_of(&text),
        size,
        device,
        go_on,
    );
    assert_eq!(again.unwrap(), weights);
}

#[test]
fn a_trial_starts_from_what_its_donor_has_learned() {
    let text = STUDY
        .replace("epochs = 4", "epochs = 40, inherit_epochs = 4, learning_rate = 0.005")
        .replace("fidelity = { rule = \"asha\", reduction = 2 }", "")
        .replace("stem_width = 8", "stem_width = [16, 20]")
        .replace("expansion = 2", "expansion = 2\nkernel = [3, 5]");
    let spec = StudySpec::parse(&text).unwrap();
    let context = AttemptContext::offline(Vec::new());
    let run = |genotype: Vec<u16>, donor: Option<Donor>| {
        let mut task = task_of(&text, None, None);
        task.work = Work::TrainTrial {
            number: TrialNumber(7),
            genotype: spec.space.genotype(genotype).unwrap(),
            soft_targets: None,
            rung: None,
            checkpoint: None,
            donor,
        };
        match worker().execute(task, &context) {
            Ok(Outcome::TrialTrained(trained)) => trained,
            other => panic!("{other:?}"),
        }
    };
    let zeros = vec![0; spec.space.choices().len()];
    let old = run(zeros.clone(), None);
    let donor =
        Donor { genotype: spec.space.genotype(zeros.clone()).unwrap(), weights: old.weights };
    // This candidate has another stem and another kernel.
    let other: Vec<u16> =
        spec.space.choices().iter().map(|choice| u16::from(choice.options.len() > 1)).collect();
    assert_eq!(other.iter().sum::<u16>(), 2);
    let child = run(other.clone(), Some(donor.clone()));
    // Four epochs and one of fine-tuning, with 160 images each.
    let seen = |trial: &TrainedTrial| trial.compressed.images_seen();
    assert_eq!((seen(&old), seen(&child)), (Some(41 * 160), Some(5 * 160)));
    let fresh = run(other.clone(), None);
    let accuracy = |trial: &TrainedTrial| trial.uncompressed.validation_accuracy().unwrap();
    assert!(accuracy(&child) > 0.6, "{} after {}", accuracy(&child), accuracy(&old));
    assert!(fresh.weights != child.weights);
    assert_eq!(run(other, Some(donor)).weights, child.weights);
}

#[test]
fn other_test_images_change_only_the_test_figures() {
    let directory = tempfile::tempdir().unwrap();
    let write = |folder: &str, class: u32, i: u32, noise: u32| {
        let path = directory.path().join(folder).join(class.to_string());
        std::fs::create_dir_all(&path).unwrap();
        let pixel = |x: u32, y: u32| {
            let bright = (x / 4 == class) as u32 * 150;
            image::Luma([(bright + (x * 7 + y * 13 + i * 29 + noise) % 90) as u8])
        };
        image::GrayImage::from_fn(8, 8, pixel).save(path.join(format!("{i:02}.png"))).unwrap();
    };
    for class in [0, 1] {
        for i in 0..30 {
            write("train", class, i, 0);
            write("test", class, i, 5);
            // Images of the other class, under this class's name.
            write("wrong", 1 - class, i, 5);
        }
    }
    for (class, other) in [("0", "1"), ("1", "0")] {
        let wrong = directory.path().join("wrong");
        std::fs::create_dir_all(directory.path().join("swapped")).unwrap();
        std::fs::rename(wrong.join(class), directory.path().join("swapped").join(other)).unwrap();
    }
    let study = |test: &str| {
        let at = |folder: &str| directory.path().join(folder).display().to_string();
        let data = format!(
            "data = {{ source = \"image-folder\", train = {:?}, test = {:?}, side = 8, classes = 2 }}",
            at("train"),
            at(test)
        );
        STUDY.replace("data = { source = \"digits\", train_limit = 200, test_limit = 50 }", &data)
    };
    let (right, right_weights, _) = train(&study("test"));
    let (swapped, swapped_weights, _) = train(&study("swapped"));
    assert_eq!(right_weights, swapped_weights);
    let sum = |of: fn(&TrainedTrial) -> f64| of(&right) + of(&swapped);
    assert!(
        (sum(|t| t.compressed.test_accuracy().unwrap()) - 1.0).abs() < 1e-9,
        "{right:?} {swapped:?}"
    );
    let blind = |mut trial: TrainedTrial| {
        trial.compressed.remove(&Metric::TRAINING_SECONDS.whole());
        for figures in [&mut trial.compressed, &mut trial.uncompressed] {
            let seen = figures.iter().filter(|(of, _)| !of.is_held_out());
            *figures = seen.map(|(of, value)| (of.clone(), value)).collect();
        }
        // The metadata of the weights names the study's data, which differ.
        trial.weights = trial.model;
        trial
    };
    assert_eq!(blind(right), blind(swapped));
}

#[test]
fn a_loss_that_is_not_finite_fails_the_attempt_but_not_the_worker() {
    let worker = worker();
    let wild =
        STUDY.replace("epochs = 4,", "epochs = 4, learning_rate = 1000.0, optimizer = \"sgd\",");
    let failed = worker.execute(task_of(&wild, None, None), &AttemptContext::offline(Vec::new()));
    let error = failed.unwrap_err();
    assert!(error.fault == Fault::Candidate && error.reason.starts_with(DIVERGED), "{error}");
    let well = worker.execute(task(None, None), &AttemptContext::offline(Vec::new()));
    assert!(matches!(well, Ok(Outcome::TrialTrained(_))));
}

const TEACHER: &str = "[teacher.architecture]\nresolution = 8\nstem_width = 8\n\
                       stages = [{ width = 8, kernel = 3, stride = 1 }]\n";

/// A study with distillation from supplied teacher weights.
fn taught(limit: usize) -> String {
    let fidelity = "fidelity = { rule = \"asha\", reduction = 2 }";
    let text = STUDY.replace(fidelity, "teacher = { weights = \"given\" }");
    let text = text.replace("prune = 0.25,", "prune = 0.25, alpha = 0.5,");
    let text = text.replace("teacher = { weights = \"given\" }\n", "");
    let text = text.replace("train_limit = 200", &format!("train_limit = {limit}"));
    format!("{text}[teacher]\nweights = \"given\"\n{TEACHER}")
}

/// Runs the teacher's task with these weights, and returns its result and its soft targets.
fn teach(text: &str, weights: Vec<u8>) -> Result<(TrainedTrial, Vec<u8>), AttemptError> {
    let given = ArtifactHash::of(&weights);
    let context = AttemptContext::offline(vec![weights]);
    let task =
        TaskWork { work: Work::TrainTeacher { weights: Some(given) }, ..task_of(text, None, None) };
    match worker().execute(task, &context)? {
        Outcome::TeacherTrained { trained, soft_targets } => {
            Ok((trained, context.fetch(soft_targets).unwrap().to_vec()))
        }
        other => panic!("{other:?}"),
    }
}

fn teacher_weights(text: &str) -> Weights {
    let spec = StudySpec::parse(text).unwrap();
    let work = spec.training().unwrap();
    let teacher = work.teacher.as_ref().unwrap();
    let graph = teacher.architecture.graph(work.space.data()).unwrap();
    edgesmith_train::fresh_weights(&graph, [7; 32])
}

#[test]
fn a_supplied_teacher_sees_images_normalised_as_in_its_training() {
    let text = taught(200);
    let weights = teacher_weights(&text);
    let file = |metadata: &[(&str, String)]| safetensors::to_bytes(&weights, metadata);
    let of = |metadata: &[(&str, String)]| teach(&text, file(metadata)).unwrap();
    let plain = of(&[]);
    let said = |mean: &str, std: &str| [("mean", mean.to_owned()), ("std", std.to_owned())];
    let other = of(&said("0.9", "0.1"));
    assert_ne!(plain.1, other.1, "the logits are those of other inputs");
    let own = data_of(&text).normalization;
    let same = of(&said(&own.mean[0].to_string(), &own.std[0].to_string()));
    assert_eq!(plain.1, same.1);
    for (mean, std) in [("0.1,0.2", "1"), ("x", "1"), ("0.1", "0")] {
        let error = teach(&text, file(&said(mean, std))).unwrap_err();
        assert!(error.reason.contains("metadata"), "{error}");
    }
}

#[test]
fn soft_targets_of_other_images_may_be_retried_by_another_worker() {
    let (text, other) = (taught(200), taught(190));
    let file = |text: &str| safetensors::to_bytes(&teacher_weights(text), &[]);
    let (_, of_other) = teach(&other, file(&other)).unwrap();
    // The same number of images, but other ones.
    let (_, soft) = teach(&text, file(&text)).unwrap();
    let mut changed = soft.clone();
    changed[24] ^= 1;
    for (bytes, reason) in [
        (of_other, "views, images and classes"),
        (changed, "other training images"),
        (b"else".to_vec(), "soft targets of version"),
    ] {
        let hash = ArtifactHash::of(&bytes);
        let mut task = task_of(&text, None, None);
        let Work::TrainTrial { soft_targets, .. } = &mut task.work else { unreachable!() };
        *soft_targets = Some(hash);
        let error = worker().execute(task, &AttemptContext::offline(vec![bytes])).unwrap_err();
        assert!(error.fault == Fault::Attempt && error.reason.contains(reason), "{error}");
    }
}

/// Trains the trial of a study with this file of logits as its teacher.
fn learn_from(text: &str, file: Vec<u8>) -> Result<TrainedTrial, AttemptError> {
    let mut task = task_of(text, None, None);
    let Work::TrainTrial { soft_targets, .. } = &mut task.work else { unreachable!() };
    *soft_targets = Some(ArtifactHash::of(&file));
    match worker().execute(task, &AttemptContext::offline(vec![file]))? {
        Outcome::TrialTrained(trained) => Ok(trained),
        other => panic!("{other:?}"),
    }
}

#[test]
fn logits_of_a_file_teach_as_the_network_that_computed_them() {
    // Without augmentation both know the same.
    let network = taught(200).replace(", augmentation = { shift = 1, views = 3 }", "");
    let (before, _) = network.split_once("[teacher]").unwrap();
    let given = format!("{before}[teacher]\nlogits = \"logits.npy\"\n");
    let weights = teacher_weights(&network);
    let (_, soft) = teach(&network, safetensors::to_bytes(&weights, &[])).unwrap();
    let computed = SoftTargets::from_bytes(&soft).unwrap();
    let data = data_of(&network);
    // Rows of images that are not trained on count for nothing.
    let mut rows = vec![7.0; data.origin.images * 10];
    for (image, place) in data.origin.places.iter().enumerate() {
        rows[10 * place..][..10].copy_from_slice(computed.of(0, image));
    }
    let file = |rows: &[f32], columns: usize| {
        let shape = vec![rows.len() / columns, columns];
        arrays::write_npy(&NumberArray { shape, numbers: rows.to_vec() })
    };
    let by_file = learn_from(&given, file(&rows, 10)).unwrap();
    assert_eq!(by_file.weights, learn_from(&network, soft).unwrap().weights);
    let mut others = rows.clone();
    others[10 * data.origin.places[5]] += 3.0;
    assert_ne!(learn_from(&given, file(&others, 10)).unwrap().weights, by_file.weights);
    // With augmentation, too, as a row is that of all views.
    learn_from(&given.replace("epochs = 4,", "augmentation = { shift = 1, views = 3 },"), {
        file(&rows, 10)
    })
    .unwrap();

    for (bytes, words) in [
        (file(&rows[10..], 10), "it has 3822 rows, but the data have 3823 training images"),
        (file(&rows, 5), "its shape is [7646, 5], but it needs"),
        (b"else".to_vec(), "it is not a .npy file"),
    ] {
        let error = learn_from(&given, bytes).unwrap_err();
        assert_eq!(error.fault, Fault::Data);
        assert!(error.reason.contains("failed to use the logits in logits.npy: "), "{error}");
        assert!(error.reason.contains(words), "{error}");
    }
}

#[test]
fn a_schedule_of_distillation_reaches_the_training() {
    let (before, after) = STUDY.split_once("recipe = ").unwrap();
    let (_, space) = after.split_once("[space]").unwrap();
    let fidelity = "fidelity = { rule = \"asha\", reduction = 2 }\n";
    let rows = 3823;
    let numbers: Vec<f32> = (0..rows * 10).map(|place| (place * 7 % 31) as f32 / 5.0).collect();
    let file = arrays::write_npy(&NumberArray { shape: vec![rows, 10], numbers });
    let weights = |alpha: &str| {
        let text = format!(
            "{before}teacher = {{ logits = \"l.npy\" }}\n[[recipe.steps]]\npass = \"distil\"\n\
             alpha = {alpha}\n[space]{space}"
        );
        learn_from(&text.replace(fidelity, ""), file.clone()).unwrap().weights
    };
    let (constant, falling) =
        (weights("0.5"), weights("{ from = 0.5, to = 0.0, schedule = \"cosine\" }"));
    assert_ne!(falling, constant);
    assert_ne!(falling, weights("{ from = 0.5, to = 0.0, schedule = \"linear\" }"));
}

#[test]
fn an_unreadable_checkpoint_may_be_retried_by_another_worker() {
    let other = b"something else".to_vec();
    let hash = ArtifactHash::of(&other);
    let context = AttemptContext::offline(vec![other]);
    let error = worker().execute(task(Some(2), Some(hash)), &context).unwrap_err();
    assert!(error.fault == Fault::Attempt, "{error}");
    // A checkpoint that is already past the rung.
    let late = Checkpoint { epochs: 3, ..Checkpoint::default() }.to_bytes();
    let hash = ArtifactHash::of(&late);
    let context = AttemptContext::offline(vec![late]);
    let error = worker().execute(task(Some(2), Some(hash)), &context).unwrap_err();
    assert!(error.fault == Fault::Attempt && error.reason.contains("3 of 4 epochs"), "{error}");
}

#[test]
fn a_rung_of_a_table_study_is_looked_up_in_its_own_column() {
    let directory = tempfile::tempdir().unwrap();
    let mut pipeline = worker();
    pipeline.tables = Tables::new(directory.path().to_owned(), 1 << 20);
    let text = "study.name = \"s\"\nbudget.trials = 1\n\
                objectives = [{ metric = \"validation_accuracy\" }]\n\
                table = { path = \"t.csv\", validation_accuracy = \"late\", epochs = 200, \
                test_accuracies = \"late\", seconds = \"s\", \
                rungs = [{ epochs = 20, validation_accuracy = \"early\" }] }\n\
                fidelity.rule = \"asha\"\n";
    let spec = Arc::new(StudySpec::parse(text).unwrap());
    let genotype = spec.space.genotype(vec![0; spec.space.choices().len()]).unwrap();
    let row = format!("arch,early,late,s\n{},50,75,100\n", spec.space.describe(&genotype));
    std::fs::write(directory.path().join("t.csv"), row).unwrap();
    let look_up = |rung| {
        let work = Work::LookUpTrial { number: TrialNumber(7), genotype: genotype.clone(), rung };
        let (study, spec) = (spec.name.clone(), Arc::clone(&spec));
        let task = TaskWork { study, spec, work, data: None };
        pipeline.execute(task, &AttemptContext::offline(Vec::new()))
    };
    match look_up(Some(20)) {
        Ok(Outcome::RungReached(report)) => {
            let said = "validation_accuracy 0.5, training_seconds 10";
            assert_eq!((report.epochs, report.figures.to_string().as_str()), (20, said));
            assert_eq!(report.checkpoint, None);
        }
        other => panic!("{other:?}"),
    }
    match look_up(None) {
        Ok(Outcome::LookedUp(figures)) => {
            assert_eq!(figures.validation_accuracy(), Some(0.75));
            assert_eq!(figures.training_seconds(), 110.0);
        }
        other => panic!("{other:?}"),
    }
    let error = look_up(Some(3)).unwrap_err();
    assert!(
        error.fault == Fault::Candidate && error.reason.contains("no rung at 3 epochs"),
        "{error}"
    );
}

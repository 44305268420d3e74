//! Networks from files: studies on them, and teachers.

use super::*;

/// A study on a residual network of one's own, and the weights of the network.
pub(super) fn on_own_network(space: &str) -> (TaskWork, Vec<u8>) {
    on_network(edgesmith_testing::residual_graph(), space)
}

pub(super) fn on_network(network: Graph, space: &str) -> (TaskWork, Vec<u8>) {
    let distills = !space.contains("head");
    let alpha = if distills { "[0.0, 0.5]" } else { "0.0" };
    let text = format!(
        r#"
study = {{ name = "own", seed = 3 }}
data = {{ source = "digits", train_limit = 200, test_limit = 50 }}
budget.trials = 1
objectives = [{{ metric = "validation_accuracy" }}]
training = {{ epochs = 2, fine_tune_epochs = 1 }}
recipe = {{ alpha = {alpha} }}
[space]
kind = "model"
model = "net.onnx"
pixels = "unit"
{space}
"#
    );
    let weights = safetensors::to_bytes(&edgesmith_testing::random_weights(&network, 5), &[]);
    let file = ModelFile {
        network,
        weights: ArtifactHash::of(&weights),
        file: ArtifactHash::of(b"net.onnx"),
        inputs: Vec::new(),
        outputs: Vec::new(),
        classes: Vec::new(),
        input_scale: 1.0,
    };
    let files = ModelFiles { space: Some(&file), ..ModelFiles::default() };
    let spec = StudySpec::parse_with_models(&text, files).unwrap();
    let genotype = spec.space.genotype(vec![0; spec.space.choices().len()]).unwrap();
    let (number, rung) = (TrialNumber(7), None);
    let (soft_targets, checkpoint, donor) = (None, None, None);
    let work = Work::TrainTrial { number, genotype, soft_targets, rung, checkpoint, donor };
    (TaskWork { study: spec.name.clone(), spec: Arc::new(spec), work, data: None }, weights)
}

pub(super) fn trained_on(task: TaskWork, weights: Vec<u8>) -> (TrainedTrial, Weights, Graph) {
    let context = AttemptContext::offline(vec![weights]);
    match worker().execute(task, &context) {
        Ok(Outcome::TrialTrained(trained)) => {
            let (weights, notes) =
                safetensors::read(&context.fetch(trained.weights).unwrap()).unwrap();
            let graph = safetensors::network(&notes).expect("its structure is there").unwrap();
            weights.check(&graph).unwrap();
            (trained, weights, graph)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_own_network_is_left_as_it_is_or_trained_further() {
    let (task, file) = on_own_network("train = \"as-it-is\"");
    let given = safetensors::from_bytes(&file).unwrap();
    let (trained, weights, _) = trained_on(task, file);
    assert_eq!(weights, given);
    assert_eq!(trained.compressed.images_seen(), Some(0));
    assert_eq!(
        trained.compressed.validation_accuracy(),
        trained.uncompressed.validation_accuracy()
    );

    let (task, file) = on_own_network("");
    let (trained, weights, _) = trained_on(task, file);
    assert_ne!(weights, given);
    assert_eq!(trained.compressed.images_seen(), Some(320));
}

#[test]
fn an_own_network_is_timed_as_it_came_beside_its_trials() {
    let (task, file) = on_own_network("train = \"as-it-is\"");
    let (context, worker) = (AttemptContext::offline(vec![file]), worker());
    let Ok(Outcome::TrialTrained(trained)) = worker.execute(task.clone(), &context) else {
        panic!("it is a trial");
    };
    let measured = |worker: &Pipeline, number, context: &AttemptContext| {
        let target = Target::on(DeviceClass::local());
        let work = Work::MeasureModel { model: trained.model, number, target };
        match worker.execute(TaskWork { work, ..task.clone() }, context) {
            Ok(Outcome::Measured(measurement)) => measurement,
            other => panic!("{other:?}"),
        }
    };
    let number = Some(TrialNumber(7));
    let original = measured(&worker, number, &context).original.expect("it is timed");
    assert!(original.min_ms > 0.0 && original.min_ms <= original.p50_ms);
    assert!(original.p50_ms <= original.p95_ms);
    // It is timed once, if nothing disturbed that.
    let again = measured(&worker, number, &context).original;
    assert!(original.noisy || again == Some(original), "{original:?} {again:?}");
    // The teacher is no trial.
    assert_eq!(measured(&worker, None, &context).original, None);
    // A worker that cannot have the network times the trial alone.
    let model = context.fetch(trained.model).unwrap().to_vec();
    let other = AttemptContext::offline(vec![model]);
    assert_eq!(measured(&super::worker(), number, &other).original, None);
}

#[test]
fn an_own_network_teaches_as_it_is() {
    let (task, file) = on_own_network("");
    let given = safetensors::from_bytes(&file).unwrap();
    let context = AttemptContext::offline(vec![file]);
    let task = TaskWork { work: Work::TrainTeacher { weights: None }, ..task };
    let Ok(Outcome::TeacherTrained { trained, .. }) = worker().execute(task, &context) else {
        panic!("it teaches");
    };
    let weights = safetensors::from_bytes(&context.fetch(trained.weights).unwrap()).unwrap();
    assert_eq!(weights, given);
    let model = Model::from_bytes(&context.fetch(trained.model).unwrap()).unwrap();
    assert_eq!(origin(&model, "network"), Some("teacher"));
    assert_eq!(origin(&model, "source"), Some(&*ArtifactHash::of(b"net.onnx").to_string()));
    assert_eq!(origin(&model, "weights"), None);
}

#[test]
fn a_teacher_says_which_file_its_weights_came_from() {
    let text = taught(200);
    let file = safetensors::to_bytes(&teacher_weights(&text), &[]);
    let given = ArtifactHash::of(&file);
    let context = AttemptContext::offline(vec![file]);
    let work = Work::TrainTeacher { weights: Some(given) };
    let task = TaskWork { work, ..task_of(&text, None, None) };
    let Ok(Outcome::TeacherTrained { trained, .. }) = worker().execute(task, &context) else {
        panic!("it teaches");
    };
    let model = Model::from_bytes(&context.fetch(trained.model).unwrap()).unwrap();
    assert_eq!(origin(&model, "weights"), Some(&*given.to_string()));
    assert_eq!(origin(&model, "candidate"), None);
}

/// What a model file says of its origin under a name.
fn origin<'a>(model: &'a Model, name: &str) -> Option<&'a str> {
    let found = model.notes.provenance.iter().find(|(key, _)| key == name);
    found.map(|(_, text)| text.as_str())
}

/// A study of stages with another network as its teacher, that network's file, and its weights. It
/// reads larger images than the candidates, and names its classes.
fn taught_by_a_network(classes: &[&str]) -> (StudySpec, ModelFile, Vec<u8>) {
    let network = edgesmith_testing::residual_graph();
    let weights = safetensors::to_bytes(&edgesmith_testing::random_weights(&network, 5), &[]);
    let file = ModelFile {
        network,
        weights: ArtifactHash::of(&weights),
        file: ArtifactHash::of(b"big.onnx"),
        inputs: Vec::new(),
        outputs: Vec::new(),
        classes: classes.iter().map(ToString::to_string).collect(),
        input_scale: 1.0,
    };
    let teacher = "[teacher]\nmodel = \"big.onnx\"\npixels = \"raw\"\nresolution = 16\n";
    let text = STUDY.replace("precision = \"int8\"", "alpha = 0.5") + teacher;
    let files = ModelFiles { teacher: Some(&file), ..ModelFiles::default() };
    (StudySpec::parse_with_models(&text, files).unwrap(), file, weights)
}

#[test]
fn another_network_teaches_as_it_is_with_its_own_pixels() {
    let (spec, file, weights) = taught_by_a_network(&[]);
    let given = safetensors::from_bytes(&weights).unwrap();
    let context = AttemptContext::offline(vec![weights]);
    let (study, spec) = (spec.name.clone(), Arc::new(spec));
    let task = TaskWork { study, spec, work: Work::TrainTeacher { weights: None }, data: None };
    let Ok(Outcome::TeacherTrained { trained, soft_targets }) = worker().execute(task, &context)
    else {
        panic!("it teaches");
    };
    let (weights, notes) = safetensors::read(&context.fetch(trained.weights).unwrap()).unwrap();
    assert_eq!(weights, given);
    assert_eq!(notes["mean"], "0");
    let graph = safetensors::network(&notes).expect("its structure is there").unwrap();
    assert_eq!(graph.input().space(), [16, 16]);
    let targets = SoftTargets::from_bytes(&context.fetch(soft_targets).unwrap()).unwrap();

    // The logits are those of bytes at the teacher's size.
    let data = data_of(&taught(200));
    let image =
        data.train.resized(16).image(0).iter().map(|byte| f32::from(*byte)).collect::<Vec<_>>();
    let expected = edgesmith_testing::reference(&graph, &weights, &image);
    let size = expected.iter().fold(1.0f32, |size, logit| size.max(logit.abs()));
    for (got, expected) in targets.of(0, 0).iter().zip(&expected) {
        assert!((got - expected).abs() < 1e-4 * size, "{got} {expected}");
    }
    assert_eq!(file.network.parameters().len(), graph.parameters().len());
}

/// The soft targets of a study whose teacher's task gets these files.
fn soft_targets_of(spec: StudySpec, work: Work, files: Vec<Vec<u8>>) -> SoftTargets {
    let context = AttemptContext::offline(files);
    let task = TaskWork { study: spec.name.clone(), spec: Arc::new(spec), work, data: None };
    match worker().execute(task, &context) {
        Ok(Outcome::TeacherTrained { soft_targets, .. }) => {
            SoftTargets::from_bytes(&context.fetch(soft_targets).unwrap()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_network_and_logits_of_files_teach_beside_the_first() {
    let text = taught(200);
    let first = safetensors::to_bytes(&teacher_weights(&text), &[]);
    let work = || Work::TrainTeacher { weights: Some(ArtifactHash::of(&first)) };
    let spec = StudySpec::parse(&text).unwrap();
    let alone = soft_targets_of(spec, work(), vec![first.clone()]);
    // The other network as the only teacher, of the same images.
    let (spec, network, weights) = taught_by_a_network(&[]);
    let none = Work::TrainTeacher { weights: None };
    let second = soft_targets_of(spec, none, vec![weights.clone()]);

    let (data, rows) = (data_of(&text), 3823);
    let numbers: Vec<f32> = (0..rows * 10).map(|place| (place * 7 % 31) as f32 / 5.0).collect();
    let row = |image: usize| &numbers[10 * data.origin.places[image]..][..10];
    let shape = vec![rows, 10];
    let logits = arrays::write_npy(&NumberArray { shape, numbers: numbers.clone() });
    let others = "[[teacher.others]]\nmodel = \"big.onnx\"\npixels = \"raw\"\nresolution = 16\n\
                  weight = 0.5\n[[teacher.others]]\nlogits = \"l.npy\"\n";
    let sent = [
        Some(OtherFile::Network(Box::new(network))),
        Some(OtherFile::Logits(ArtifactHash::of(&logits))),
    ];
    let files = ModelFiles { others: &sent, ..ModelFiles::default() };
    let spec = StudySpec::parse_with_models(&format!("{text}{others}"), files).unwrap();
    let all = vec![first.clone(), weights.clone(), logits.clone()];
    let mean = soft_targets_of(spec.clone(), work(), all);
    assert_eq!(mean.views, Some(3));
    let mut moved = 0.0f32;
    for (view, image) in [(0, 0), (1, 7), (2, 159)] {
        let (a, b, c) = (alone.of(view, image), second.of(view, image), row(image));
        for class in 0..10 {
            let expected = (a[class] + 0.5 * b[class] + c[class]) / 2.5;
            let got = mean.of(view, image)[class];
            let size = a[class].abs().max(b[class].abs()).max(10.0);
            assert!((got - expected).abs() < 1e-5 * size, "{got} {expected}");
            moved = moved.max((got - a[class]).abs());
        }
    }
    assert!(moved > 0.1, "{moved}");

    // A file of logits of other data.
    let short = arrays::write_npy(&NumberArray { shape: vec![7, 10], numbers: vec![0.0; 70] });
    let sent = [sent[0].clone(), Some(OtherFile::Logits(ArtifactHash::of(&short)))];
    let files = ModelFiles { others: &sent, ..ModelFiles::default() };
    let spec = StudySpec::parse_with_models(&format!("{text}{others}"), files).unwrap();
    let context = AttemptContext::offline(vec![first.clone(), weights, short]);
    let (study, work) = (spec.name.clone(), work());
    let task = TaskWork { study, spec: Arc::new(spec), work, data: None };
    let error = worker().execute(task, &context).unwrap_err();
    assert_eq!(error.fault, Fault::Data);
    let said = "failed to use the logits in l.npy: it has 7 rows";
    assert!(error.reason.contains(said), "{error}");
}

#[test]
fn a_teacher_of_other_classes_is_refused_with_both() {
    let own = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "x"];
    let (spec, file, weights) = taught_by_a_network(&own);
    let work = spec.training().unwrap();
    let model = spec.teacher_model().unwrap();
    let design = &work.teacher.as_ref().unwrap().architecture;
    let context = AttemptContext::offline(vec![weights.clone()]);
    let study = Study::of(&spec, None).unwrap();
    let given = |classes: &[String]| given_network(model, design, classes, (&study, &context));
    let digits: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
    let error = given(&digits).err().unwrap();
    assert_eq!(error.fault, Fault::Data);
    for part in ["big.onnx are 0, 1", "8, x, but", "8, 9; give a teacher"] {
        assert!(error.reason.contains(part), "{error}");
    }
    // The same ones in another order: the rows of the last layer are put in that order.
    let mut turned = file.classes.clone();
    turned.reverse();
    let (same, turned) = (given(&file.classes).unwrap(), given(&turned).unwrap());
    assert_eq!(same.weights, safetensors::from_bytes(&weights).unwrap());
    let image = edgesmith_testing::noise(16 * 16, 4);
    let logits = |start: &Start| edgesmith_testing::reference(&start.graph, &start.weights, &image);
    let (mut before, after) = (logits(&same), logits(&turned));
    before.reverse();
    assert_eq!(before, after);
    assert_eq!(given(&[]).unwrap().weights, same.weights);
}

#[test]
fn variants_of_an_own_network_are_trained() {
    let space = "width = 0.5\nblocks = \"left-out\"\nhead = \"new\"\nhead_epochs = 1";
    let (task, file) = on_own_network(space);
    let (_, weights, graph) = trained_on(task, file);
    assert!(weights.arrays.contains_key("new_head.weight"));
    let whole = edgesmith_testing::residual_graph();
    assert!(graph.total_macs() < whole.total_macs() / 2);
}

#[test]
fn weights_of_another_network_are_not_trained() {
    let (task, _) = on_own_network("");
    let context = AttemptContext::offline(vec![b"others".to_vec()]);
    let error = worker().execute(task, &context).unwrap_err();
    assert!(error.reason.contains("there is no artifact"), "{error}");
}

/// A convolution with a bias before a linear layer with one, and their weights.
pub(super) fn plain_network() -> (Graph, Weights) {
    let mut b = GraphBuilder::new();
    let image = b.input("image", Shape::new(1, &[8, 8]).unwrap()).unwrap();
    let conv = [
        b.parameter("conv.weight", &[8, 1, 3, 3], Role::Weight).unwrap(),
        b.parameter("conv.bias", &[8], Role::Bias).unwrap(),
    ];
    let linear = [
        b.parameter("fc.weight", &[10, 8], Role::Weight).unwrap(),
        b.parameter("fc.bias", &[10], Role::Bias).unwrap(),
    ];
    let conv = b.node("conv", Conv::dense(3, 1), &[image], &conv, Place::default()).unwrap();
    let pool = b.node("pool", GlobalAveragePool, &[conv], &[], Place::default()).unwrap();
    let classes = b.node("fc", Linear, &[pool], &linear, Place::default()).unwrap();
    let graph = b.finish(&[classes]).unwrap();
    let weights = edgesmith_testing::random_weights(&graph, 7);
    (graph, weights)
}

/// Compresses this network as it is, and gives its weights and its model.
fn compressed(graph: &Graph, weights: &Weights, scale: f32, recipe: &str) -> (Weights, Model) {
    let text = format!(
        "study = {{ name = \"own\", seed = 3 }}\n\
         data = {{ source = \"digits\", train_limit = 200, test_limit = 50 }}\n\
         budget.trials = 1\nobjectives = [{{ metric = \"validation_accuracy\" }}]\n\
         recipe = {{ {recipe} }}\nspace = {{ kind = \"model\", model = \"net.onnx\", \
         pixels = \"raw\", train = \"as-it-is\" }}\n"
    );
    let file = safetensors::to_bytes(weights, &[]);
    let model = ModelFile {
        network: graph.clone(),
        weights: ArtifactHash::of(&file),
        file: ArtifactHash::of(b"net.onnx"),
        inputs: Vec::new(),
        outputs: Vec::new(),
        classes: Vec::new(),
        input_scale: scale,
    };
    let files = ModelFiles { space: Some(&model), ..ModelFiles::default() };
    let spec = StudySpec::parse_with_models(&text, files).unwrap();
    let genotype = spec.space.genotype(vec![0; spec.space.choices().len()]).unwrap();
    let (number, rung) = (TrialNumber(1), None);
    let (soft_targets, checkpoint, donor) = (None, None, None);
    let work = Work::TrainTrial { number, genotype, soft_targets, rung, checkpoint, donor };
    let task = TaskWork { study: spec.name.clone(), spec: Arc::new(spec), work, data: None };
    let context = AttemptContext::offline(vec![file]);
    let Ok(Outcome::TrialTrained(trained)) = worker().execute(task, &context) else {
        panic!("it is compressed");
    };
    let weights = safetensors::from_bytes(&context.fetch(trained.weights).unwrap()).unwrap();
    (weights, Model::from_bytes(&context.fetch(trained.model).unwrap()).unwrap())
}

#[test]
fn layers_without_normalisation_keep_their_means_when_channels_are_pruned() {
    let (graph, weights) = plain_network();
    let half = |group: &edgesmith_graph::ChannelGroup| {
        if group.fixed { group.channels.len() } else { group.channels.len() / 2 }
    };
    let (_, cut) = edgesmith_compress::prune(&graph, &weights, half);
    let (corrected, _) = compressed(&graph, &weights, 1.0, "prune = 0.5");
    assert_eq!(corrected.arrays["conv.weight"], cut.arrays["conv.weight"]);
    // The convolution reads what it read before; the linear layer lost half of its inputs.
    assert_eq!(corrected.arrays["conv.bias"], cut.arrays["conv.bias"]);
    assert_ne!(corrected.arrays["fc.bias"], cut.arrays["fc.bias"]);
}

#[test]
fn weights_that_read_smaller_numbers_compute_the_same_bits() {
    let (graph, weights) = plain_network();
    let mut scaled = weights.clone();
    for id in graph.input_weights().unwrap() {
        scaled.scale(&graph, id, 128.0);
    }
    let answer = |weights: &Weights, scale: f32| {
        let (_, model) = compressed(&graph, weights, scale, "");
        let mut session = edgesmith_edge_runtime::Session::new(&model).unwrap();
        let image: Vec<u8> = (0..64).map(|i| (i * 37 % 256) as u8).collect();
        session.classify(&image).unwrap();
        session.output(0).to_vec()
    };
    let given = answer(&weights, 1.0);
    assert_eq!(answer(&scaled, 128.0), given);
    assert_ne!(answer(&weights, 128.0), given);
}

//! A study on a network of one's own: exported from another study, searched, exported again.

use edgesmith_tests::{TinyStudy, complete, run};

/// A study on the network in `net.onnx`. Exported networks read bytes.
fn study(name: &str, space: &str, more: &str) -> String {
    format!(
        r#"
study = {{ name = "{name}", seed = 6 }}
data = {{ source = "digits", train_limit = 600, test_limit = 200 }}
objectives = [{{ metric = "validation_accuracy" }}, {{ metric = "model_bytes" }}]
algorithm = {{ name = "random" }}
budget = {{ trials = 6 }}
training = {{ epochs = 2, fine_tune_epochs = 1, learning_rate = 0.001 }}
recipe = {{ prune = [0.0, 0.5], precision = ["fp32", "int8"], alpha = [0.0, 0.5] }}
{more}
[space]
kind = "model"
model = "net.onnx"
pixels = "raw"
{space}
"#
    )
}

/// Writes an image of the digits' size, and names its file.
fn image_of_a_digit(at: &std::path::Path) -> String {
    let image = image::GrayImage::from_fn(8, 8, |x, y| image::Luma([(x * 30 + y * 5) as u8]));
    image.save(at.join("digit.png")).unwrap();
    "digit.png".to_owned()
}

#[test]
fn a_network_of_ones_own_is_searched_and_exported_again() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let write = |name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
    let first = TinyStudy { trials: 1, epochs: 5, ..TinyStudy::new("first") };
    first.write(at);
    run(at, &["search", "first.toml"]).ok();
    run(at, &["export", "first/teacher", "--format", "onnx", "-o", "net.onnx"]).ok();

    let text = study("second", "train = [\"further\", \"as-it-is\"]", "");
    write("second.toml", &text);
    let shown = run(at, &["validate", "second.toml"]).ok();
    for said in ["net.onnx, ", "stage 1", "the network itself, as it is"] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    run(at, &["search", "second.toml"]).ok();
    let trials = run(at, &["trials", "second", "--format", "json"]).json();
    let trials = trials["trials"].as_array().unwrap().clone();
    let done = complete(&trials);
    assert_eq!(done.len(), 6, "{trials:?}");
    // The teacher is the network itself, so it is as good as in the study that trained it.
    let accuracy = |study: &str| {
        run(at, &["status", study, "--format", "json"]).json()["teacher"]["validation_accuracy"]
            .clone()
    };
    let both = [accuracy("first"), accuracy("second")].map(|share| share.as_f64().unwrap());
    assert!((both[0] - both[1]).abs() < 0.01, "{both:?}");
    // Trained again on its own, from the same weights.
    let again = run(at, &["trial", "second", "0", "--rerun"]).ok();
    assert!(again.contains("model file") && !again.contains("DIFFERENT"), "{again}");
    for format in ["onnx", "edge", "safetensors"] {
        let file = format!("out.{format}");
        run(at, &["export", "second/0", "--format", format, "-o", &file]).ok();
    }

    // Every command takes the network in each of its forms, and they compute the same.
    let image = image_of_a_digit(at);
    let answer = |model: &str, more: &[&str]| {
        let line = [&["run", model, "--input", &image, "--format", "json"], more].concat();
        let answer = run(at, &line).json();
        assert_eq!(answer["outputs"][0]["shape"].as_array().unwrap().last().unwrap(), 10);
        let numbers = answer["outputs"][0]["numbers"].as_array().unwrap().clone();
        numbers.iter().map(|number| number.as_f64().unwrap()).collect::<Vec<f64>>()
    };
    let [onnx, edge, teacher] =
        ["net.onnx", "second/teacher", "first/teacher"].map(|model| answer(model, &[]));
    for (a, b) in onnx.iter().zip(edge.iter().chain(&teacher)) {
        assert!((a - b).abs() < 1e-3, "{onnx:?} {edge:?} {teacher:?}");
    }
    assert!(onnx.iter().any(|logit| *logit != onnx[0]), "{onnx:?}");
    let shown = run(at, &["inspect", "net.onnx", "--format", "json"]).json();
    let layers = shown["layers"].as_array().unwrap();
    assert_eq!(layers.iter().filter_map(|layer| layer["stage"].as_u64()).min(), Some(1), "{shown}");
    assert!(shown["peak_memory_bytes"].as_u64().unwrap() > 0 && shown.get("not_run").is_none());
    let same = run(at, &["inspect", "second/teacher", "--format", "json"]).json();
    assert_eq!(shown["macs"], same["macs"]);
    for model in ["net.onnx", "out.edge", "second/0"] {
        let timed = run(at, &["measure", model, "--format", "json"]).json();
        let figures = ["min_ms", "p50_ms", "p95_ms"].map(|name| timed[name].as_f64().unwrap());
        assert!(figures[0] > 0.0 && figures.is_sorted(), "{timed}");
    }
    run(at, &["measure", "net.onnx", "--threads", "4"]).fails(1, &["runs on 1 thread"]);
    let evaluated = |model: &str| {
        let line =
            ["evaluate", model, "--study", "second", "--split", "validation", "--format", "json"];
        run(at, &line).json()["figures"]["validation_accuracy"].as_f64().unwrap()
    };
    assert_eq!(evaluated("second/teacher"), both[1]);
    assert!((evaluated("net.onnx") - both[1]).abs() < 0.01);
    let trial = run(at, &["trial", "second", "0", "--format", "json"]).json();
    let trial = trial["trials"][0]["metrics"]["validation_accuracy"].as_f64().unwrap();
    assert_eq!(evaluated("second/0"), trial);
    let line = ["run", "net.onnx", "--input", &image, "--output", "logits.npy"];
    run(at, &line).ok();
    let npy = std::fs::read(at.join("logits.npy")).unwrap();
    assert_eq!(npy[npy.len() - 40..][..4], (onnx[0] as f32).to_le_bytes());
    run(at, &["run", "net.onnx", "--input", "logits.npy"]).fails(2, &["10", "1x8x8"]);
    run(at, &["run", "net.onnx", "--input", &image, "--output", "x.txt"]).fails(2, &["x.txt"]);

    // The same study again is the same; with another network it differs.
    let again = run(at, &["search", "second.toml"]);
    assert!(again.stderr().contains("already"), "{}", again.stderr());
    std::fs::copy(at.join("net.onnx"), at.join("kept.onnx")).unwrap();
    std::fs::copy(at.join("out.onnx"), at.join("net.onnx")).unwrap();
    run(at, &["search", "second.toml"]).fails(2, &["the network of space.model"]);
    std::fs::copy(at.join("kept.onnx"), at.join("net.onnx")).unwrap();

    // A new last layer, which learns alone in the first epoch, at two sizes of images.
    let head = "head = \"new\"\nhead_epochs = 1\nresolution = [8, 12]";
    write("third.toml", &study("third", head, "teacher = { epochs = 2 }"));
    run(at, &["search", "third.toml"]).ok();
    let trials = run(at, &["trials", "third", "--format", "json"]).json();
    assert_eq!(complete(trials["trials"].as_array().unwrap()).len(), 6, "{trials}");

    // What is wrong is told with the place and the mend.
    let wrong = |from: &str, to: &str| {
        write("wrong.toml", &text.replace(from, to).replace("\"second\"", "\"wrong\""));
        run(at, &["search", "wrong.toml"])
    };
    wrong("pixels = \"raw\"", "").fails(2, &["space.pixels", "mean and std"]);
    wrong("net.onnx", "gone.onnx").fails(2, &["failed to read the network", "gone.onnx"]);
    write("broken.onnx", "not a network");
    wrong("net.onnx", "broken.onnx").fails(2, &["failed to read the network", "broken.onnx"]);
    let folder = "source = \"image-folder\", train = \"x\", channels = 1, classes = 3";
    let classes = ["space.model", "gives 10 classes, but the data have 3", "head = \"new\""];
    wrong("source = \"digits\"", folder).fails(2, &classes);
}

/// The same ONNX file with free sizes in place of the height and width of its input, 8×8: an empty
/// name of a size takes as many bytes as the number.
fn with_free_sizes(mut file: Vec<u8>) -> Vec<u8> {
    const FIXED: [u8; 8] = [10, 2, 8, 8, 10, 2, 8, 8];
    const FREE: [u8; 8] = [10, 2, 18, 0, 10, 2, 18, 0];
    let at = file.windows(8).position(|bytes| bytes == FIXED).expect("an input of 8x8");
    file[at..at + 8].copy_from_slice(&FREE);
    file
}

#[test]
fn another_network_teaches_and_free_sizes_are_those_of_the_data() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let write = |name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
    TinyStudy { trials: 1, epochs: 5, ..TinyStudy::new("first") }.write(at);
    run(at, &["search", "first.toml"]).ok();
    run(at, &["export", "first/teacher", "--format", "onnx", "-o", "big.onnx"]).ok();
    let free = with_free_sizes(std::fs::read(at.join("big.onnx")).unwrap());
    std::fs::write(at.join("free.onnx"), free).unwrap();
    let accuracy = |study: &str| {
        let status = run(at, &["status", study, "--format", "json"]).json();
        status["teacher"]["validation_accuracy"].as_f64().unwrap()
    };

    // It teaches stages.
    let given = "[teacher]\nmodel = \"big.onnx\"\npixels = \"raw\"\n";
    let tiny = TinyStudy { trials: 2, ..TinyStudy::new("second") }.text();
    let tiny = tiny.replace("[teacher]\nepochs = 1\n", given);
    let tiny = tiny.replace("alpha = [0.0, 0.5]", "alpha = [0.5]");
    write("second.toml", &tiny);
    let shown = run(at, &["validate", "second.toml"]).ok();
    assert!(shown.contains("big.onnx, ") && shown.contains("as it is, r8"), "{shown}");
    run(at, &["search", "second.toml"]).ok();
    assert!((accuracy("first") - accuracy("second")).abs() < 0.01);
    let trials = run(at, &["trials", "second", "--format", "json"]).json();
    assert_eq!(complete(trials["trials"].as_array().unwrap()).len(), 2, "{trials}");
    run(at, &["export", "second/teacher", "--format", "onnx", "-o", "again.onnx"]).ok();
    let shown = run(at, &["inspect", "again.onnx", "--format", "json"]).json();
    let same = run(at, &["inspect", "big.onnx", "--format", "json"]).json();
    assert_eq!(shown["macs"], same["macs"]);

    // It teaches variants of a network whose file leaves the size of its input free.
    let space = "blocks = \"kept\"";
    let text = study("third", space, given);
    let text = text.replace("net.onnx", "free.onnx").replace("trials = 6", "trials = 2");
    write("third.toml", &text);
    let shown = run(at, &["validate", "third.toml"]).ok();
    assert!(shown.contains("free.onnx, ") && shown.contains("big.onnx, "), "{shown}");
    run(at, &["search", "third.toml"]).ok();
    assert!((accuracy("first") - accuracy("third")).abs() < 0.01);

    // What does not fit the memory says how much it needs.
    write("small.toml", &tiny.replace("\"second\"", "\"small\""));
    let figures = ["the teacher could not be trained", "needs ", "1.0 MiB are allowed", "--memory"];
    run(at, &["search", "small.toml", "--memory", "1MiB"]).fails(1, &figures);

    // Another network under the same name is another study.
    let kept = std::fs::read(at.join("big.onnx")).unwrap();
    run(at, &["export", "second/0", "--format", "onnx", "-o", "big.onnx"]).ok();
    run(at, &["search", "second.toml"]).fails(2, &["the network of teacher.model"]);
    std::fs::write(at.join("big.onnx"), kept).unwrap();

    // What is wrong is told with the place and the mend.
    let wrong = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        write("wrong.toml", &text.replace(from, to).replace("\"third\"", "\"wrong\""));
        run(at, &["search", "wrong.toml"])
    };
    let none = ["teacher.pixels", "mean and std"];
    wrong("model = \"big.onnx\"\npixels = \"raw\"", "model = \"big.onnx\"").fails(2, &none);
    wrong("big.onnx", "gone.onnx").fails(2, &["failed to read the network", "gone.onnx"]);
    let folder = "source = \"image-folder\", train = \"x\", channels = 1, classes = 3";
    let both = ["teacher.model", "gives 10 classes, but the data have 3; a teacher"];
    wrong("source = \"digits\"", folder).fails(2, &both);
    let idx = "source = \"idx\", classes = 10, train_images = \"a\", train_labels = \"b\", \
               test_images = \"c\", test_labels = \"d\"";
    let sizes = ["free sizes (", "1, ?, ?", "write resolution in [space]"];
    wrong("source = \"digits\"", idx).fails(2, &sizes);
}

//! A teacher that is given instead of trained, and damaged artifacts.

use edgesmith_tests::{TinyStudy, run};

/// A study of one architecture; its only trial is trained without pruning, in fp32.
fn one_network(name: &str) -> String {
    TinyStudy { trials: 1, epochs: 10, ..TinyStudy::new(name) }
        .text()
        .replace("stem_width = [4, 8]", "stem_width = [8]")
        .replace("depth = [1, 2]\nwidth = [4, 8]", "depth = [1]\nwidth = [8]")
        .replace("\"conv\", \"separable\", \"inverted-residual\"", "\"conv\"")
        .replace("stride = [1, 2]", "stride = [2]")
        .replace("\"relu\", \"relu6\"", "\"relu\"")
        .replace("prune = [0.0, 0.5]", "prune = [0.0]")
        .replace("\"fp32\", \"int8\"", "\"fp32\"")
        .replace("alpha = [0.0, 0.5]", "alpha = [0.0]")
}

#[test]
fn a_teacher_is_read_from_a_safetensors_file_with_its_architecture() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::write(at.join("first.toml"), one_network("first")).unwrap();
    run(at, &["search", "first.toml"]).ok();
    let export = ["export", "first/0", "--format", "safetensors", "-o", "teacher.safetensors"];
    run(at, &export).ok();
    let first = run(at, &["trials", "first", "--format", "json"]).json();
    let accuracy = first["trials"][0]["uncompressed"]["validation_accuracy"].clone();

    let given = r#"[teacher]
weights = "teacher.safetensors"
[teacher.architecture]
resolution = 8
stem_width = 8
stages = [{ width = 8, kernel = 3, stride = 2 }]
"#;
    let text = TinyStudy::new("second").text().replace("[teacher]\nepochs = 1\n", given);
    std::fs::write(at.join("second.toml"), &text).unwrap();
    run(at, &["search", "second.toml"]).ok();
    let status = run(at, &["status", "second", "--format", "json"]).json();
    assert_eq!(status["teacher"]["validation_accuracy"], accuracy, "it is the given network");

    // `--fresh` discards nothing before everything needed for the new start exists.
    std::fs::rename(at.join("teacher.safetensors"), at.join("elsewhere")).unwrap();
    run(at, &["search", "second.toml", "--fresh"]).fails(2, &["teacher.safetensors"]);
    run(at, &["status", "second"]).ok();
    std::fs::rename(at.join("elsewhere"), at.join("teacher.safetensors")).unwrap();

    // Weights of another network and a missing file are reported.
    let other =
        text.replace("\"second\"", "\"third\"").replace("stem_width = 8\n", "stem_width = 9\n");
    std::fs::write(at.join("third.toml"), other).unwrap();
    run(at, &["search", "third.toml"]).fails(1, &["stage1.block1.conv.weight"]);
    let missing = text.replace("\"second\"", "\"fourth\"").replace("teacher.safetensors", "gone");
    std::fs::write(at.join("fourth.toml"), missing).unwrap();
    run(at, &["search", "fourth.toml"]).fails(2, &["gone"]);
}

/// A NumPy file of float32 zeros.
fn zeros(rows: usize, columns: usize) -> Vec<u8> {
    let text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let header = format!("{text:<117}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.bytes());
    file.resize(file.len() + 4 * rows * columns, 0);
    file
}

#[test]
fn a_file_of_logits_teaches_instead_of_a_network() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let given = "[teacher]\nlogits = \"logits.npy\"\n";
    let study = |name: &str| {
        let study = TinyStudy { trials: 2, ..TinyStudy::new(name) };
        let text = study.text().replace("[teacher]\nepochs = 1\n", given);
        let text = text.replace("alpha = [0.0, 0.5]", "alpha = [0.5]");
        std::fs::write(at.join(format!("{name}.toml")), text).unwrap();
    };
    study("first");
    run(at, &["search", "first.toml"]).fails(2, &["the teacher's logits", "logits.npy"]);
    std::fs::write(at.join("logits.npy"), zeros(3823, 9)).unwrap();
    run(at, &["search", "first.toml"]).fails(2, &["its shape is [3823, 9]", "10 columns"]);
    std::fs::write(at.join("logits.npy"), zeros(3822, 10)).unwrap();
    let rows = ["failed to use the logits in ", "it has 3822 rows", "3823 training images"];
    run(at, &["validate", "first.toml"]).fails(2, &rows);
    run(at, &["search", "first.toml"]).fails(1, &rows);
    std::fs::write(at.join("logits.npy"), zeros(3823, 10)).unwrap();
    assert!(run(at, &["validate", "first.toml"]).ok().contains("the logits in logits.npy"));
    study("second");
    let front = run(at, &["search", "second.toml"]).ok();
    assert!(!front.contains("teacher  "), "{front}");
    let status = run(at, &["status", "second"]).ok();
    assert!(status.contains("the logits in logits.npy (given)"), "{status}");
    let status = run(at, &["status", "second", "--format", "json"]).json();
    assert_eq!(status["trials"]["complete"], 2, "{status}");
    run(at, &["export", "second/teacher", "--format", "edge", "-o", "t.edge"])
        .fails(2, &["has no teacher"]);
}

#[test]
fn files_teach_beside_a_network() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::write(at.join("first.toml"), one_network("first")).unwrap();
    run(at, &["search", "first.toml"]).ok();
    run(at, &["export", "first/0", "--format", "onnx", "-o", "wide.onnx"]).ok();
    let others = "[[teacher.others]]\nmodel = \"wide.onnx\"\npixels = \"raw\"\nweight = 2.0\n\
                  [[teacher.others]]\nlogits = \"logits.npy\"\n";
    let write = |name: &str, teacher: &str| {
        let study = TinyStudy { trials: 2, ..TinyStudy::new(name) };
        let text = study.text().replace("[teacher]\nepochs = 1\n", &format!("{teacher}{others}"));
        let text = text.replace("alpha = [0.0, 0.5]", "alpha = [0.5]");
        std::fs::write(at.join(format!("{name}.toml")), text).unwrap();
    };
    write("second", "[teacher]\nepochs = 1\n");
    run(at, &["search", "second.toml"]).fails(2, &["the teacher's logits", "logits.npy"]);
    std::fs::write(at.join("logits.npy"), zeros(3823, 10)).unwrap();
    let valid = run(at, &["validate", "second.toml"]).ok();
    assert!(valid.contains("wide.onnx, as it is"), "{valid}");
    assert!(valid.contains("the logits in logits.npy, weight 1"), "{valid}");
    run(at, &["search", "second.toml"]).ok();
    let status = run(at, &["status", "second", "--format", "json"]).json();
    assert_eq!(status["trials"]["complete"], 2, "{status}");
    // The same files are the same study, and others are not.
    run(at, &["search", "second.toml"]).ok();
    let mut changed = zeros(3823, 10);
    *changed.last_mut().unwrap() = 0x40;
    std::fs::write(at.join("logits.npy"), changed).unwrap();
    run(at, &["search", "second.toml"]).fails(2, &["the file of teacher.others[1].logits"]);

    // Beside the teacher of a compression, whose paths start at the study file.
    std::fs::create_dir(at.join("data")).unwrap();
    for name in ["wide.onnx", "logits.npy"] {
        std::fs::copy(at.join(name), at.join("data").join(name)).unwrap();
    }
    write("data/third", "[teacher]\nmodel = \"wide.onnx\"\npixels = \"raw\"\n");
    let named = std::fs::read_to_string(at.join("data/third.toml")).unwrap();
    std::fs::write(at.join("data/third.toml"), named.replace("data/third", "third")).unwrap();
    std::fs::write(at.join("answers.toml"), steps("alpha = 0.5")).unwrap();
    let compress =
        ["compress", "wide.onnx", "--data", "data/third.toml", "--recipe", "answers.toml"];
    let shown = run(at, &compress).ok();
    assert!(shown.contains("fine-tune, distilled"), "{shown}");
}

/// Steps that distil and train on.
fn steps(settings: &str) -> String {
    format!(
        "[[recipe.steps]]\npass = \"distil\"\n{settings}\n[[recipe.steps]]\npass = \"fine-tune\"\n\
         epochs = 1\n"
    )
}

#[test]
fn features_are_copied_in_a_search_and_by_compress() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let write = |name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
    let study = TinyStudy { trials: 3, ..TinyStudy::new("copies") };
    let (before, rest) = study.text().split_once("[recipe]").map(own).unwrap();
    let (_lists, after) = rest.split_once("\n[[objectives]]").unwrap();
    let falling = "alpha = { from = 0.9, to = 0.1, schedule = \"linear\" }";
    let searched = steps(&format!("{falling}\nfeatures = [\"attention\", \"relations\"]"));
    // Strides decide which sizes both networks have.
    let before = before.replace("stride = [1, 2]", "stride = [1]");
    write("copies.toml", &format!("{before}{searched}\n[[objectives]]{after}"));
    run(at, &["search", "copies.toml"]).ok();
    let trials = run(at, &["trials", "copies", "--format", "json"]).json();
    for trial in trials["trials"].as_array().unwrap() {
        assert_eq!(trial["state"], "complete", "{trial}");
        let distillation = &trial["recipe"]["distillation"];
        assert_eq!(distillation["alpha"]["schedule"], "linear", "{trial}");
        assert_eq!(distillation["feature_weight"], 10.0, "{trial}");
    }

    // The network itself teaches, then a file of logits, which has no features.
    run(at, &["export", "copies/teacher", "--format", "onnx", "-o", "net.onnx"]).ok();
    write("attention.toml", &steps("features = \"attention\""));
    let compress = ["compress", "net.onnx", "--data", "copies.toml", "--recipe", "attention.toml"];
    let shown = run(at, &compress).ok();
    assert!(shown.contains("attention x10"), "{shown}");
    std::fs::write(at.join("logits.npy"), zeros(3823, 10)).unwrap();
    let given = "[teacher]\nlogits = \"logits.npy\"\n";
    write("given.toml", &study.text().replace("[teacher]\nepochs = 1\n", given));
    let with = |recipe| ["compress", "net.onnx", "--data", "given.toml", "--recipe", recipe];
    run(at, &with("attention.toml")).fails(2, &["may copy features of the teacher (attention)"]);
    write("answers.toml", &steps(falling));
    let shown = run(at, &with("answers.toml")).ok();
    assert!(shown.contains("kd a0.9-to-0.1-linear"), "{shown}");
}

fn own((before, after): (&str, &str)) -> (String, String) {
    (before.to_owned(), after.to_owned())
}

#[test]
fn a_damaged_model_file_is_refused_by_its_checksum() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::write(at.join("one.toml"), one_network("one")).unwrap();
    run(at, &["search", "one.toml"]).ok();
    let trial = run(at, &["trial", "one", "0", "--format", "json"]).json();
    let hash = trial["trials"][0]["training"]["model_hash"].as_str().unwrap().to_owned();
    let file = at.join("edgesmith-data/artifacts").join(&hash[..2]).join(&hash);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let export = ["export", "one/0", "--format", "edge", "-o", "m.edge"];
    run(at, &export).fails(1, &[&hash, "damaged"]);
    assert!(!at.join("m.edge").exists());
}

//! Networks in files of other programs: they do not say how they read pixels, and may leave sizes
//! open.

use edgesmith_tests::{TinyStudy, run, workspace};

/// The same file as another program would have written it.
fn of_another_program(file: &[u8]) -> Vec<u8> {
    // Field 2 of a model in ONNX, with its length.
    let (own, other) = (b"\x12\x09edgesmith", b"\x12\x09elsewhere");
    let place = file.windows(own.len()).position(|bytes| bytes == own).expect("the producer");
    let mut changed = file.to_vec();
    changed[place..place + other.len()].copy_from_slice(other);
    changed
}

#[test]
fn a_foreign_file_is_told_how_it_reads_pixels() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    TinyStudy { trials: 1, epochs: 1, ..TinyStudy::new("first") }.write(at);
    run(at, &["search", "first.toml"]).ok();
    run(at, &["export", "first/0", "--format", "onnx", "-o", "own.onnx"]).ok();
    let own = std::fs::read(at.join("own.onnx")).unwrap();
    std::fs::write(at.join("foreign.onnx"), of_another_program(&own)).unwrap();
    let image = image::GrayImage::from_fn(8, 8, |x, y| image::Luma([(x * 30 + y * 5) as u8]));
    image.save(at.join("digit.png")).unwrap();

    let logits = |model: &str, more: &[&str]| -> Vec<f64> {
        let line = [&["run", model, "--input", "digit.png", "--format", "json"], more].concat();
        let answer = run(at, &line).json();
        let numbers = answer["outputs"][0]["numbers"].as_array().unwrap().clone();
        numbers.iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let expected = logits("own.onnx", &[]);
    run(at, &["run", "foreign.onnx", "--input", "digit.png"])
        .fails(2, &["foreign.onnx", "--mean and --std", "--raw-pixels"]);
    assert_eq!(logits("foreign.onnx", &["--raw-pixels"]), expected);
    // (pixel / 255 - 0) / (1 / 255) is the pixel, up to rounding.
    let scaled = logits("foreign.onnx", &["--mean", "0", "--std", "0.00392156862745098"]);
    for (a, b) in scaled.iter().zip(&expected) {
        assert!((a - b).abs() < 1e-4, "{scaled:?} {expected:?}");
    }
    let unit = logits("foreign.onnx", &["--mean", "0", "--std", "1"]);
    assert!(unit.iter().zip(&expected).any(|(a, b)| (a - b).abs() > 1e-3), "{unit:?}");
    let two = ["run", "foreign.onnx", "--input", "digit.png", "--mean", "0,0", "--std", "1,1"];
    run(at, &two).fails(2, &["--mean has 2 numbers", "1 channel"]);

    let accuracy = |line: &[&str]| {
        let line = [&["evaluate"], line, &["--data", "first.toml", "--format", "json"]].concat();
        run(at, &line).json()["figures"]["test_accuracy"].as_f64().unwrap()
    };
    let same = accuracy(&["own.onnx", "--output", "logits"]);
    assert_eq!(accuracy(&["foreign.onnx", "--raw-pixels"]), same);
    run(at, &["evaluate", "foreign.onnx", "--data", "first.toml"]).fails(2, &["--raw-pixels"]);
    // Pixels that are read in another way leave nothing but chance.
    std::fs::write(at.join("r.toml"), "[[recipe.steps]]\npass = \"quantize\"\n").unwrap();
    let line = ["compress", "foreign.onnx", "--data", "first.toml", "--recipe", "r.toml"];
    let ran = run(at, &[&line[..], &["--mean", "0", "--std", "1000"]].concat());
    let said = "of the validation images correctly, and chance 10.00 %: check --mean and --std";
    assert!(ran.stderr().contains(said), "{}", ran.stderr());
    run(at, &["evaluate", "own.onnx", "--data", "first.toml", "--output", "classes"])
        .fails(2, &["no output \"classes\"", "it has logits"]);
    run(at, &["inspect", "own.onnx", "--input-shape", "image=1,1,9,9"])
        .fails(2, &["\"image\"", "8 in the file, not 9"]);
}

#[test]
fn open_sizes_are_given_on_the_command_line() {
    let file = workspace().join("../shared/data/onnx-real/text_orientation_cls.onnx");
    if !file.exists() {
        println!("skipped: {} is not here", file.display());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let file = file.to_str().unwrap();
    run(at, &["inspect", file]).fails(2, &["\"x\" has free sizes", "--input-shape x=1,3,"]);
    let shape = |sizes: &str| {
        let line = ["inspect", file, "--input-shape", sizes, "--format", "json"];
        run(at, &line).json()["macs"].as_u64().unwrap()
    };
    assert!(shape("x=1,3,48,192") > shape("x=1,3,48,96"));
}

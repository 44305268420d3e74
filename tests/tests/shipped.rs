//! Networks that left edgesmith as files, in the programs of docs/shipping.md: both answer what
//! `edgesmith run` answers.

use std::path::Path;
use std::process::Command;

use edgesmith_tests::{TinyStudy, built_example, run, workspace};
use serde_json::Value;

/// The number of the class that `edgesmith run` finds likeliest.
fn class(at: &Path, model: &str, image: &str) -> String {
    let answer = run(at, &["run", model, "--input", image, "--format", "json"]).json();
    let logits = answer["outputs"][0]["numbers"].as_array().unwrap().iter();
    let logits: Vec<f64> = logits.map(|logit| logit.as_f64().unwrap()).collect();
    let best = |best, class| if logits[class] > logits[best] { class } else { best };
    (0..logits.len()).fold(0, best).to_string()
}

/// An image file, and its pixels.
fn image(at: &Path, name: &str, side: u32, pixel: impl Fn(u32, u32) -> u32) -> Vec<u8> {
    let image = image::GrayImage::from_fn(side, side, |x, y| image::Luma([pixel(x, y) as u8]));
    image.save(at.join(name)).unwrap();
    image.into_raw()
}

#[test]
fn the_programs_of_the_documents_answer_what_edgesmith_does() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let text = TinyStudy { trials: 6, ..TinyStudy::new("shipped") }.text();
    std::fs::write(at.join("shipped.toml"), text.replace("nsga2", "random")).unwrap();
    run(at, &["search", "shipped.toml"]).ok();
    let trials = run(at, &["trials", "shipped", "--format", "json"]).json();
    let trials = trials["trials"].as_array().unwrap();
    let mut names = Vec::new();
    for precision in ["fp32", "int8"] {
        let of = |trial: &&Value| trial["recipe"]["precision"] == precision;
        let found = trials.iter().find(of).unwrap_or_else(|| panic!("no {precision} trial"));
        let (model, edge) = (format!("shipped/{}", found["trial"]), format!("{precision}.edge"));
        run(at, &["export", &model, "--format", "edge", "-o", &edge]).ok();
        run(at, &["inspect", &edge, "--check"]).ok();
        names.push(edge);
        let (format, file) =
            if precision == "fp32" { ("onnx", "net.onnx") } else { ("onnx-int8", "int8.onnx") };
        run(at, &["export", &model, "--format", format, "-o", file]).ok();
    }
    // A stroke, a frame, noise, and a picture that has to be made smaller.
    let strokes = [
        image(at, "stroke.png", 8, |x, _| if x == 4 { 255 } else { 0 }),
        image(at, "frame.png", 8, |x, y| if x.min(y) == 1 || x.max(y) == 6 { 200 } else { 10 }),
        image(at, "noise.png", 8, |x, y| (x * 71 + y * y * 37) % 251),
    ];
    image(at, "large.png", 16, |x, y| (x / 2 * 30 + y / 2 * 5) % 256);
    let classify = built_example("edgesmith-edge-runtime", "classify");
    for (name, pixels) in ["stroke", "frame", "noise"].iter().zip(&strokes) {
        std::fs::write(at.join("image.raw"), pixels).unwrap();
        for edge in &names {
            let ran = Command::new(&classify).args([edge, "image.raw"]).current_dir(at).output();
            let ran = ran.unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
            let said = String::from_utf8(ran.stdout).unwrap();
            assert_eq!(said.trim(), class(at, edge, &format!("{name}.png")), "{edge} on {name}");
        }
    }
    // The quantized ONNX file has all scales, so in integers it is the network that was measured.
    let logits = |model: &str, more: &[&str]| -> Value {
        let asked = ["run", model, "--input", "noise.png", "--format", "json"];
        run(at, &[&asked, more].concat()).json()["outputs"][0]["numbers"].clone()
    };
    let [edge, int8, real] =
        [("int8.edge", &[][..]), ("int8.onnx", &["--int8"]), ("int8.onnx", &[])]
            .map(|(model, more)| logits(model, more));
    assert_eq!(int8, edge);
    assert_ne!(real, edge, "without the option it runs in fp32");
    run(at, &["measure", "net.onnx", "--int8"]).fails(2, &["net.onnx", "--int8"]);
    run(at, &["measure", "int8.edge", "--int8"]).fails(2, &["leave out --int8"]);
    let images = ["stroke.png", "frame.png", "noise.png", "large.png"];
    let Some(python) = python() else { return };
    let ran = Command::new(python)
        .arg(workspace().join("examples/run_onnx.py"))
        .arg("net.onnx")
        .args(images)
        .current_dir(at)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let expected = images.map(|name| format!("{name} {}\n", class(at, "fp32.edge", name)));
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), expected.concat());
}

/// A Python that has what the example needs.
fn python() -> Option<String> {
    let python = std::env::var("EDGESMITH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = |modules: &str| {
        let asked = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
        asked.is_ok_and(|answer| answer.status.success())
    };
    if has("numpy, onnxruntime, PIL") {
        return Some(python);
    }
    let required = std::env::var_os("EDGESMITH_REQUIRE_ONNX").is_some();
    assert!(
        !required || has("numpy, onnxruntime"),
        "{python} has no onnxruntime, and EDGESMITH_REQUIRE_ONNX asks for it"
    );
    eprintln!("skipped: {python} has no onnxruntime or no pillow to run examples/run_onnx.py with");
    None
}

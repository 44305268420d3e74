//! Exported files: the measured model itself, its weights, and ONNX files that ONNX Runtime
//! accepts. Files are made of files, too.

use std::process::Command;

use edgesmith_tests::{TinyStudy, run, workspace};

#[test]
fn every_format_is_written_and_onnx_runtime_accepts_onnx() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    // Random search: its proposals do not depend on measurements, so they are always the same.
    let study = TinyStudy { trials: 12, ..TinyStudy::new("exported") };
    std::fs::write(at.join("exported.toml"), study.text().replace("nsga2", "random")).unwrap();
    run(at, &["search", "exported.toml"]).ok();
    let all = run(at, &["trials", "exported", "--format", "json"]).json();
    let all = all["trials"].as_array().unwrap().clone();
    let with = |precision: &str| {
        let found = all.iter().find(|t| t["recipe"]["precision"] == precision);
        found.unwrap_or_else(|| panic!("no {precision} trial among twelve"))
    };
    let number = |precision: &str| with(precision)["trial"].to_string();
    let (float, int8) = (number("fp32"), number("int8"));
    let export = |number: &str, format: &str, file: &str| {
        let model = format!("exported/{number}");
        run(at, &["export", &model, "--format", format, "-o", file])
    };
    export(&float, "edge", "m.edge").ok();
    let size = std::fs::metadata(at.join("m.edge")).unwrap().len();
    // What is measured is what ships. Its notes do not count.
    let inspected = |file: &str| run(at, &["inspect", file, "--check", "--format", "json"]).json();
    let shipped = inspected("m.edge");
    assert_eq!(shipped["counted_bytes"], with("fp32")["metrics"]["model_bytes"]);
    assert_eq!(shipped["file_bytes"].as_u64(), Some(size));
    let origin = &shipped["provenance"];
    assert_eq!([&origin["study"], &origin["trial"]], ["exported", &float]);
    assert_eq!(shipped["preprocessing"]["colour"], "grey");
    let results = shipped["tests"]["results"].as_array().unwrap();
    assert!(results.len() == 4 && results.iter().all(|result| result["passes"] == true));
    export(&float, "safetensors", "m.safetensors").ok();
    let bytes = std::fs::read(at.join("m.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    assert!(header["stem.weight"].is_object(), "{header}");
    export(&float, "onnx", "float.onnx").ok();
    export(&int8, "onnx", "of-int8.onnx").ok();
    export(&int8, "onnx-int8", "int8.onnx").ok();
    export(&float, "onnx-int8", "no.onnx").fails(2, &["fp32", "--format onnx"]);
    // `-` is standard output, which gets the file and nothing else.
    for (number, format, file) in [
        (&float, "edge", "m.edge"),
        (&float, "safetensors", "m.safetensors"),
        (&float, "onnx", "float.onnx"),
        (&int8, "onnx-int8", "int8.onnx"),
    ] {
        let piped = export(number, format, "-");
        assert_eq!(piped.code(), 0, "{}", piped.stderr());
        assert_eq!(piped.0.stdout, std::fs::read(at.join(file)).unwrap(), "{format}");
    }
    export("77", "edge", "no.edge").fails(2, &["77"]);
    export("best", "edge", "no.edge").fails(2, &["exported/best", "STUDY/NUMBER"]);
    // The form that earlier versions had.
    run(at, &["export", "exported", &float, "--format", "edge", "-o", "old.edge"]).ok();
    let read = |file: &str| std::fs::read(at.join(file)).unwrap();
    assert_eq!(read("old.edge"), read("m.edge"));
    // The teacher is a network like the others.
    export("teacher", "edge", "teacher.edge").ok();
    let status = run(at, &["status", "exported", "--format", "json"]).json();
    let teacher = inspected("teacher.edge");
    assert_eq!(status["teacher"]["model_bytes"], teacher["counted_bytes"], "{status}");
    assert_eq!(teacher["provenance"]["network"], "teacher");
    export("teacher", "safetensors", "teacher.safetensors").ok();
    export("teacher", "onnx", "teacher.onnx").ok();
    export("teacher", "onnx-int8", "no.onnx").fails(2, &["the teacher of exported is fp32"]);

    // Files become files of the other kind, which compute the same.
    image::GrayImage::from_fn(8, 8, |x, y| image::Luma([(x * 30 + y * 5) as u8]))
        .save(at.join("digit.png"))
        .unwrap();
    let convert = |from: &str, format: &str, to: &str| {
        run(at, &["export", from, "--format", format, "-o", to])
    };
    convert("teacher.onnx", "onnx", "again.onnx").ok();
    convert("teacher.onnx", "edge", "again.edge").ok();
    convert("teacher.edge", "onnx", "lifted.onnx").ok();
    convert("again.edge", "edge", "copy.edge").ok();
    assert_eq!(read("again.edge"), read("copy.edge"));
    let answer = |model: &str| -> Vec<f64> {
        let said = run(at, &["run", model, "--input", "digit.png", "--format", "json"]).json();
        let numbers = said["outputs"][0]["numbers"].as_array().unwrap().clone();
        numbers.iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let expected = answer("exported/teacher");
    assert_eq!(expected.len(), 10);
    for file in ["again.onnx", "again.edge", "lifted.onnx"] {
        let near = answer(file).iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(near, "{file}");
    }
    convert("m.edge", "onnx-int8", "no.onnx").fails(2, &["m.edge is fp32", "--format onnx"]);
    convert("teacher.onnx", "safetensors", "no").fails(2, &["teacher.onnx is a file"]);
    convert("gone.onnx", "edge", "no.edge").fails(2, &["gone.onnx"]);

    let python = std::env::var("EDGESMITH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_onnx = Command::new(&python).args(["-c", "import onnxruntime, numpy"]).output();
    if !has_onnx.is_ok_and(|o| o.status.success()) {
        let required = std::env::var_os("EDGESMITH_REQUIRE_ONNX").is_some();
        assert!(!required, "{python} has no onnxruntime, and EDGESMITH_REQUIRE_ONNX asks for it");
        eprintln!("skipped: {python} has no onnxruntime to compare with");
        return;
    }
    let check = Command::new(python)
        .arg(workspace().join("tests/onnx_loads.py"))
        .args(["float.onnx", "of-int8.onnx", "int8.onnx", "teacher.onnx", "again.onnx"])
        .current_dir(at)
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

//! What `export` makes of a network in a file. Inputs and outputs keep their names and axes. If it
//! is known how the network reads the pixels of images, they are normalised inside.

use std::path::Path;

use edgesmith_console::invalid;
use edgesmith_edge_runtime::{Array, Model, Normalization};
use edgesmith_train::safetensors;
use edgesmith_worker::export::onnx::{self, PIXELS_KEY, PIXELS_UNKNOWN};
use edgesmith_worker::export::{Lifted, imported_integer_model, imported_model};

use super::{Args, ExportFormat, Exported, lifted, no_integers};
use crate::model::{EdgeFile, FileKind, OnnxFile, Pixels, Port, refuse_shapes};

/// The file to write.
pub fn export(path: &Path, kind: FileKind, args: &Args) -> anyhow::Result<Exported> {
    let words = path.display().to_string();
    match kind {
        FileKind::Onnx => of_onnx(&words, OnnxFile::read(path, &args.input_shapes)?, args),
        FileKind::Edge => {
            refuse_shapes(&args.input_shapes)?;
            of_edge(&words, EdgeFile::read(path)?, args)
        }
    }
}

fn of_onnx(words: &str, file: OnnxFile, args: &Args) -> anyhow::Result<Exported> {
    let OnnxFile { imported, mut class_names, pixels: said, .. } = file;
    let pixels = Pixels::known(words, said.as_ref(), &args.pixels)?;
    let values = imported.inputs.iter().zip(imported.graph.inputs());
    let ports: Vec<Port> =
        values.map(|(port, value)| Port::of_file(port, imported.graph.shape(value))).collect();
    let answers = Port::of_file(&imported.outputs[0], imported.graph.output()).elements();
    if class_names.len() != answers {
        // They are not about what the network answers.
        class_names.clear();
    }
    let inside = || match &pixels {
        None | Some(Pixels::Raw) => Ok(None),
        Some(pixels @ Pixels::Normalized { .. }) => {
            image(words, &ports).and_then(|port| pixels.normalization(port)).map(Some)
        }
    };
    let about = imported.about.metadata.iter().filter(|(key, _)| key != PIXELS_KEY);
    let mut metadata: Vec<(&str, String)> =
        about.map(|(key, value)| (&**key, value.clone())).collect();
    metadata.extend(pixels_entry(pixels.as_ref()));
    let bytes = match args.format {
        ExportFormat::Onnx => onnx::of_imported(&imported, inside()?.as_ref(), &metadata),
        ExportFormat::OnnxInt8 => {
            let quantized = onnx::of_quantized(&imported, inside()?.as_ref(), &metadata);
            quantized.ok_or_else(|| {
                invalid(format!(
                    "{words} has no scales of integers; quantize it first, or export it with \
                     --format onnx"
                ))
            })?
        }
        ExportFormat::Edge => {
            let model = if args.int8 {
                imported_integer_model(&imported).ok_or_else(|| {
                    invalid(format!(
                        "{words} has no scales of integers; quantize it first, or leave out --int8"
                    ))
                })?
            } else {
                imported_model(&imported)
            };
            let mut model = model
                .map_err(|error| invalid(format!("the engine does not run {words}: {error}")))?;
            match &pixels {
                // It is not an image, whatever the file says of its pixels.
                Some(_) if said.is_some() && !is_image(&ports) => {}
                Some(pixels) => read_pixels(&mut model, pixels, image(words, &ports)?)?,
                None => {}
            }
            model.notes.classes.clone_from(&class_names);
            model.validate()?;
            model.to_bytes()
        }
        ExportFormat::Safetensors => return Err(no_float_weights(words)),
    };
    Ok(Exported { bytes, class_names })
}

fn of_edge(words: &str, file: EdgeFile, args: &Args) -> anyhow::Result<Exported> {
    let EdgeFile { bytes, mut model, class_names } = file;
    let values = model.inputs.iter();
    let ports: Vec<Port> = values
        .map(|input| {
            let bytes = matches!(input.array, Array::Bytes(_));
            Port::of_model(&input.name, input.shape.sizes(), &input.order, bytes)
        })
        .collect();
    let said = ports.iter().any(|port| port.bytes).then_some(Pixels::Raw);
    let pixels = Pixels::known(words, said.as_ref(), &args.pixels)?;
    if let (None, Some(pixels)) = (&said, &pixels) {
        read_pixels(&mut model, pixels, image(words, &ports)?)?;
    }
    let mut metadata: Vec<(&str, String)> = pixels_entry(pixels.as_ref()).into_iter().collect();
    metadata.extend(safetensors::class_names_entry(&class_names));
    let provenance = model.notes.provenance.iter();
    metadata.extend(provenance.map(|(name, text)| (&**name, text.clone())));
    let bytes = match args.format {
        // Nothing was changed.
        ExportFormat::Edge if said.is_some() || pixels.is_none() => bytes,
        ExportFormat::Edge => {
            model.validate()?;
            model.to_bytes()
        }
        ExportFormat::Onnx => {
            onnx::of_lifted(&Lifted { quantization: None, ..lifted(&model)? }, &metadata)
        }
        ExportFormat::OnnxInt8 if model.has_integers() => {
            onnx::of_lifted(&lifted(&model)?, &metadata)
        }
        ExportFormat::OnnxInt8 => {
            let is_fp32 = no_integers(words, &model);
            return Err(invalid(format!("{is_fp32}; export it with --format onnx")));
        }
        ExportFormat::Safetensors => return Err(no_float_weights(words)),
    };
    Ok(Exported { bytes, class_names })
}

/// What an ONNX file says of pixels. Without a word it reads them from 0 to 255.
fn pixels_entry(pixels: Option<&Pixels>) -> Option<(&'static str, String)> {
    pixels.is_none().then(|| (PIXELS_KEY, PIXELS_UNKNOWN.to_owned()))
}

/// Makes a model with one input in fp32 read the bytes of images.
fn read_pixels(model: &mut Model, pixels: &Pixels, port: &Port) -> anyhow::Result<()> {
    let constants = pixels.normalization(port)?;
    let input = &mut model.inputs[0];
    let normalization = Normalization::new(constants.mean, constants.std, input.element);
    input.array = Array::Bytes(normalization);
    // They are for arrays in fp32. A file with tolerances and no tests cannot be read.
    model.notes.tests.clear();
    model.notes.tolerances.clear();
    Ok(())
}

/// The only input of a network, which is an image.
fn image<'a>(words: &str, ports: &'a [Port]) -> anyhow::Result<&'a Port> {
    let refused = match ports {
        [port] if is_image(ports) => return Ok(port),
        [port] => format!("{port} is not a picture of 1 or 3 channels"),
        _ => format!("{words} reads {} inputs, and images are one", ports.len()),
    };
    Err(invalid(format!("{refused}; leave out --mean, --std and --raw-pixels")))
}

/// Whether the network reads one image.
fn is_image(ports: &[Port]) -> bool {
    matches!(ports, [port] if Pixels::Raw.picture(port).is_ok())
}

fn no_float_weights(words: &str) -> anyhow::Error {
    invalid(format!(
        "{words} is a file, and --format safetensors is for networks of studies, whose trained \
         weights are kept; choose onnx or edge"
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use edgesmith_edge_runtime::{Session, Tensor};
    use edgesmith_graph::{
        Affine, Array as Numbers, Conv, GlobalAveragePool, GraphBuilder, Place, Quantization, Role,
        Shape, Weights,
    };
    use edgesmith_onnx::{Input, Output, PortAxis, ReadOptions, write};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// What `export` makes of a file of a folder.
    fn exported(folder: &Path, words: &str) -> anyhow::Result<Vec<u8>> {
        let mut words = words.split(' ');
        let path = folder.join(words.next().unwrap());
        let line = ["export", path.to_str().unwrap(), "-o", "out", "--format"];
        let args = Line::parse_from(line.into_iter().chain(words)).args;
        let kind =
            if path.extension().unwrap() == "onnx" { FileKind::Onnx } else { FileKind::Edge };
        Ok(export(&path, kind, &args)?.bytes)
    }

    fn network() -> Vec<u8> {
        network_with(false, "[\"ape\", \"bee\"]")
    }

    /// Two classes of a picture of 2 rows and 3 columns, whose file has the 3 channels last;
    /// quantized or not, with the names of these classes.
    fn network_with(quantized: bool, classes: &str) -> Vec<u8> {
        let mut builder = GraphBuilder::new();
        let x = builder.input("x", Shape::new(3, &[2, 3]).unwrap()).unwrap();
        let w = builder.parameter("w", &[2, 3, 2, 2], Role::Weight).unwrap();
        let conv = Conv::dense(2, 1);
        let maps = builder.node("maps", conv, &[x], &[w], Place::default()).unwrap();
        let pool = GlobalAveragePool;
        let scores = builder.node("y", pool, &[maps], &[], Place::default()).unwrap();
        let graph = builder.finish(&[scores]).unwrap();
        let mut weights = Weights::default();
        let data = (0..24).map(|i| (i as f32 * 0.7).sin()).collect();
        weights.arrays.insert("w".to_owned(), Numbers { shape: vec![2, 3, 2, 2], data });
        let (batch, of) = (PortAxis::Batch(None), PortAxis::Of);
        let port = |name: &str, axes: &[PortAxis]| edgesmith_onnx::Port {
            name: name.to_owned(),
            axes: axes.to_vec(),
        };
        let doc = String::new;
        let axes = [batch, of(1), of(2), of(0)];
        let input = Input { port: port("pixels", &axes), doc: doc(), scales: None };
        let output = Output { port: port("scores", &[batch, of(0)]), doc: doc(), bytes: false };
        let metadata = [
            (PIXELS_KEY, PIXELS_UNKNOWN.to_owned()),
            ("classes", classes.to_owned()),
            ("made", "here".to_owned()),
        ];
        let mut quantization = Quantization::none(&graph);
        quantization.set_value(x, Affine { scale: 0.02, zero_point: 128 });
        quantization.set_parameter(w, vec![0.01; 2]);
        let quantization = quantized.then_some(&quantization);
        write(&graph, &weights, quantization, &[input], &[output], &metadata)
    }

    /// The scores of a model of the engine.
    fn scores(file: &[u8], input: Tensor<'_>) -> Vec<f32> {
        let mut session = Session::new(&Model::from_bytes(file).unwrap()).unwrap();
        session.run_on(&[input]).unwrap();
        session.output(0).to_vec()
    }

    fn assert_near(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4), "{a:?} {b:?}");
    }

    #[test]
    fn files_become_files_that_compute_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let keep = |name: &str, bytes: &[u8]| std::fs::write(at.join(name), bytes).unwrap();
        let made = |words: &str| exported(at, words).unwrap_or_else(|e| panic!("{words}: {e}"));
        keep("net.onnx", &network());
        let edge = made("net.onnx edge");
        keep("net.edge", &edge);
        let numbers: Vec<f32> = (0..18).map(|i| i as f32 / 17.0).collect();
        let expected = scores(&edge, Tensor::Fp32(&numbers));
        // Every way round, with the tensors that the file had.
        for words in ["net.onnx onnx", "net.edge onnx"] {
            let file = made(words);
            let imported = edgesmith_onnx::read(&file, &ReadOptions::default()).unwrap();
            assert_eq!(
                (&*imported.inputs[0].name, &*imported.outputs[0].name),
                ("pixels", "scores")
            );
            assert_eq!(imported.inputs[0].axes.len(), 4);
            keep("again.onnx", &file);
            assert_near(&scores(&made("again.onnx edge"), Tensor::Fp32(&numbers)), &expected);
            let again = OnnxFile::read(&at.join("again.onnx"), &[]).unwrap();
            assert_eq!((again.class_names, again.pixels), (vec!["ape".into(), "bee".into()], None));
        }
        let about = edgesmith_onnx::read(&made("net.onnx onnx"), &ReadOptions::default()).unwrap();
        assert!(about.about.metadata.contains(&("made".to_owned(), "here".to_owned())));
        assert_eq!(made("net.edge edge"), edge, "a copy");
    }

    #[test]
    fn pixels_are_normalised_inside() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let keep = |name: &str, bytes: &[u8]| std::fs::write(at.join(name), bytes).unwrap();
        let made = |words: &str| exported(at, words).unwrap_or_else(|e| panic!("{words}: {e}"));
        keep("net.onnx", &network());
        keep("net.edge", &made("net.onnx edge"));
        let bytes: Vec<u8> = (0..18u32).map(|i| (i * i * 31 % 256) as u8).collect();
        // The array has the channels last.
        let real = |mean: [f32; 3], std: [f32; 3]| -> Vec<f32> {
            let numbers = bytes.iter().enumerate();
            numbers.map(|(i, &b)| (f32::from(b) / 255.0 - mean[i % 3]) / std[i % 3]).collect()
        };
        let plain = std::fs::read(at.join("net.edge")).unwrap();
        for (options, numbers) in [
            ("--mean 0.5 --std 0.25", real([0.5; 3], [0.25; 3])),
            ("--mean 0,0.5,1 --std 1,2,4", real([0.0, 0.5, 1.0], [1.0, 2.0, 4.0])),
            ("--raw-pixels", real([0.0; 3], [1.0 / 255.0; 3])),
        ] {
            let expected = scores(&plain, Tensor::Fp32(&numbers));
            for from in ["net.onnx", "net.edge"] {
                let file = made(&format!("{from} edge {options}"));
                assert_near(&scores(&file, Tensor::Bytes(&bytes)), &expected);
                keep("inside.onnx", &made(&format!("{from} onnx {options}")));
                let inside = OnnxFile::read(&at.join("inside.onnx"), &[]).unwrap();
                assert_eq!(inside.pixels, Some(Pixels::Raw), "{from} {options}");
                // What is known of the pixels stays known.
                let file = made("inside.onnx edge");
                assert_near(&scores(&file, Tensor::Bytes(&bytes)), &expected);
                let error = exported(at, "inside.onnx onnx --raw-pixels").unwrap_err().to_string();
                assert!(error.contains("says itself how it reads pixels"), "{error}");
            }
        }
    }

    #[test]
    fn a_model_that_comes_to_read_pixels_has_no_test_vectors() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        std::fs::write(at.join("net.onnx"), network()).unwrap();
        let mut model = Model::from_bytes(&exported(at, "net.onnx edge").unwrap()).unwrap();
        model.add_tests(1 << 20).unwrap();
        assert!(!model.notes.tests.is_empty());
        std::fs::write(at.join("tested.edge"), model.to_bytes()).unwrap();
        let file = exported(at, "tested.edge edge --mean 0.5 --std 0.25").unwrap();
        let notes = Model::from_bytes(&file).unwrap().notes;
        assert!(notes.tests.is_empty() && notes.tolerances.is_empty());
    }

    #[test]
    fn scales_and_where_a_model_is_from_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        std::fs::write(at.join("int8.onnx"), network_with(true, "[]")).unwrap();
        let read = |bytes: &[u8]| edgesmith_onnx::read(bytes, &ReadOptions::default()).unwrap();
        let scales = read(&network_with(true, "[]")).quantization;
        assert!(scales.is_some());
        assert_eq!(read(&exported(at, "int8.onnx onnx-int8").unwrap()).quantization, scales);
        assert_eq!(read(&exported(at, "int8.onnx onnx").unwrap()).quantization, None);
        let integers = Model::from_bytes(&exported(at, "int8.onnx edge --int8").unwrap()).unwrap();
        assert!(integers.has_integers());
        let mut model = Model::from_bytes(&exported(at, "int8.onnx edge").unwrap()).unwrap();
        assert!(!model.has_integers());
        model.notes.provenance.push(("study".to_owned(), "photos".to_owned()));
        std::fs::write(at.join("net.edge"), model.to_bytes()).unwrap();
        // Names of three classes are not those of two.
        std::fs::write(at.join("odd.onnx"), network_with(false, "[\"a\", \"b\", \"c\"]")).unwrap();
        let odd = Model::from_bytes(&exported(at, "odd.onnx edge").unwrap()).unwrap();
        assert!(odd.notes.classes.is_empty());
        let metadata = read(&exported(at, "net.edge onnx").unwrap()).about.metadata;
        assert!(metadata.contains(&("study".to_owned(), "photos".to_owned())), "{metadata:?}");
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        std::fs::write(at.join("net.onnx"), network()).unwrap();
        std::fs::write(at.join("net.edge"), exported(at, "net.onnx edge").unwrap()).unwrap();
        std::fs::write(at.join("broken.edge"), b"edge").unwrap();
        let error = |words: &str| exported(at, words).unwrap_err().to_string();
        for (words, said) in [
            ("net.onnx onnx-int8", "has no scales of integers"),
            ("net.onnx edge --int8", "has no scales of integers"),
            ("net.edge onnx-int8", "is fp32; export it with --format onnx"),
            ("net.onnx safetensors", "is for networks of studies"),
            ("net.edge safetensors", "is for networks of studies"),
            ("net.edge onnx --input-shape pixels=1,2,3,3", "leave out --input-shape pixels"),
            ("net.onnx onnx --mean 0,0 --std 1,1", "--mean has 2 numbers"),
            ("gone.onnx onnx", "gone.onnx"),
            ("broken.edge onnx", "broken.edge"),
        ] {
            let error = error(words);
            assert!(error.contains(said), "{words}: {error}");
        }
    }
}

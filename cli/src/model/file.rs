//! A network in a file, as it is read.

use std::path::Path;
use std::str::FromStr;

use edgesmith_console::invalid;
use edgesmith_data::files;
use edgesmith_edge_runtime::Model;
use edgesmith_onnx::{Imported, ReadOptions};
use edgesmith_train::safetensors;
use edgesmith_worker::export::onnx::{PIXELS_KEY, PIXELS_UNKNOWN};
use serde::Deserialize;

use super::Pixels;

/// Largest size of a network's file, and of the files beside it, bytes.
const MAX_FILE: u64 = 4 << 30;

/// The sizes of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputShape {
    /// The input's name.
    pub name: String,
    sizes: Vec<u32>,
}

/// An ONNX file.
pub struct OnnxFile {
    /// Its size, bytes.
    pub bytes: u64,
    /// What it holds.
    pub imported: Imported,
    /// The names of its classes; empty if it does not say them.
    pub class_names: Vec<String>,
    /// How it reads the pixels of images; `None` if it does not say.
    pub pixels: Option<Pixels>,
}

/// A model file of the edge runtime.
pub struct EdgeFile {
    /// The file itself.
    pub bytes: Vec<u8>,
    /// What it holds.
    pub model: Model,
    /// The names of its classes, in it or beside it; empty if it has none.
    pub class_names: Vec<String>,
}

impl OnnxFile {
    /// Reads a file whose inputs have these sizes where it leaves them open.
    pub fn read(path: &Path, shapes: &[InputShape]) -> anyhow::Result<Self> {
        let bytes = read(path)?;
        let beside = |name: &str| {
            let path = path.parent().unwrap_or(Path::new("")).join(name);
            files::read(&path, MAX_FILE).map_err(|error| error.to_string())
        };
        let options = ReadOptions {
            input_shapes: shapes.iter().map(|s| (s.name.clone(), s.sizes.clone())).collect(),
            external: Some(&beside),
            ..ReadOptions::default()
        };
        let imported = edgesmith_onnx::read(&bytes, &options)
            .map_err(|errors| invalid(format!("failed to read {}: {errors}", path.display())))?;
        let about = &imported.about;
        let entry = |wanted: &str| about.metadata.iter().find(|(key, _)| key == wanted);
        let class_names = entry(safetensors::CLASSES_KEY);
        let class_names = class_names.and_then(|(_, names)| serde_json::from_str(names).ok());
        // Files of this program normalise the pixels inside, unless they say otherwise.
        let unknown = entry(PIXELS_KEY).is_some_and(|(_, value)| value == PIXELS_UNKNOWN);
        let pixels = (about.producer == "edgesmith" && !unknown).then_some(Pixels::Raw);
        let class_names = class_names.unwrap_or_default();
        Ok(Self { bytes: bytes.len() as u64, imported, class_names, pixels })
    }
}

impl EdgeFile {
    /// Reads a file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = read(path)?;
        let model = Model::from_bytes(&bytes)
            .map_err(|error| invalid(format!("failed to read {}: {error}", path.display())))?;
        let mut class_names = model.notes.classes.clone();
        if class_names.is_empty() {
            class_names = names_beside(path)?;
        }
        Ok(Self { bytes, model, class_names })
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    files::read(path, MAX_FILE)
        .map_err(|error| invalid(format!("failed to read the network: {error}")))
}

/// The names of the classes in the file that `export` writes beside an edge file; none without it.
fn names_beside(edge: &Path) -> anyhow::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Names {
        classes: Vec<String>,
    }
    let mut beside = edge.as_os_str().to_owned();
    beside.push(".json");
    let beside = Path::new(&beside);
    if !beside.exists() {
        return Ok(Vec::new());
    }
    let text = files::read_text(beside, MAX_FILE).map_err(|error| invalid(error.to_string()))?;
    let names: Names = serde_json::from_str(&text).map_err(|error| {
        invalid(format!("failed to read the names of the classes in {}: {error}", beside.display()))
    })?;
    Ok(names.classes)
}

impl FromStr for InputShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = || "write the name of an input and its sizes, as x=1,3,224,224".to_owned();
        let (name, sizes) = text.rsplit_once('=').ok_or_else(wanted)?;
        let sizes: Vec<u32> = sizes
            .split([',', 'x'])
            .map(|size| size.trim().parse().ok().filter(|&size| size > 0).ok_or_else(wanted))
            .collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), sizes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_inputs_are_read() {
        let shape: InputShape = "x=1,3,224,224".parse().unwrap();
        assert_eq!((&*shape.name, &shape.sizes[..]), ("x", &[1, 3, 224, 224][..]));
        assert_eq!("input:0=1x8".parse::<InputShape>().unwrap().name, "input:0");
        for wrong in ["x", "x=", "x=1,0", "x=1,-1", "x=a"] {
            assert!(wrong.parse::<InputShape>().unwrap_err().contains("x=1,3,224,224"));
        }
    }

    #[test]
    fn names_of_classes_are_read_beside_an_edge_file() {
        let directory = tempfile::tempdir().unwrap();
        let edge = directory.path().join("m.edge");
        assert_eq!(names_beside(&edge).unwrap(), Vec::<String>::new());
        let beside = directory.path().join("m.edge.json");
        std::fs::write(&beside, r#"{"version": 1, "classes": ["ape", "bee"]}"#).unwrap();
        assert_eq!(names_beside(&edge).unwrap(), ["ape", "bee"]);
        std::fs::write(&beside, "{}").unwrap();
        assert!(names_beside(&edge).unwrap_err().to_string().contains("m.edge.json"));
    }
}

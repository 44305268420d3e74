//! MODEL on the command line: a file, a trial (`digits/26`), or the teacher of a study
//! (`digits/teacher`).

mod computed;
mod file;
mod form;
mod opened;
mod pixels;
mod port;
mod stored;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use computed::{Computed, arithmetic};
pub use file::{EdgeFile, InputShape, OnnxFile};
pub use form::{Form, Why, named};
pub use opened::{Opened, Reading, refuse_shapes};
pub use pixels::{PixelArgs, Pixels};
pub use port::{Examples, Port};
pub use stored::Stored;

/// A network, as it is named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelName {
    /// A file.
    File(PathBuf, FileKind),
    /// A network in the results of a study.
    Stored {
        /// The study's name.
        study: String,
        /// Which of its networks.
        network: StoredName,
    },
}

/// What a file holds, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// `.onnx`
    Onnx,
    /// `.edge`, a model file of the edge runtime.
    Edge,
}

/// Which network of a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredName {
    /// A trial, by its number.
    Trial(u32),
    /// The teacher.
    Teacher,
}

/// As it is written on the command line.
impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelName::File(path, _) => write!(f, "{}", path.display()),
            ModelName::Stored { study, network: StoredName::Trial(number) } => {
                write!(f, "{study}/{number}")
            }
            ModelName::Stored { study, network: StoredName::Teacher } => {
                write!(f, "{study}/teacher")
            }
        }
    }
}

impl FromStr for ModelName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "name a file that ends in .onnx or .edge, a trial as STUDY/NUMBER, or \
                              the teacher of a study as STUDY/teacher";
        let path = Path::new(text);
        match path.extension().and_then(|end| end.to_str()) {
            Some("onnx") => return Ok(ModelName::File(path.to_owned(), FileKind::Onnx)),
            Some("edge") => return Ok(ModelName::File(path.to_owned(), FileKind::Edge)),
            _ => {}
        }
        let (study, network) = text.rsplit_once('/').ok_or(WANTED)?;
        let network = match network {
            "teacher" => StoredName::Teacher,
            number => StoredName::Trial(number.parse().map_err(|_| WANTED)?),
        };
        // A directory and not a study.
        if study.is_empty() || study.contains('/') {
            return Err(WANTED);
        }
        Ok(ModelName::Stored { study: study.to_owned(), network })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_trials_and_teachers_are_told_apart() {
        let file = |name: &str, kind| ModelName::File(name.into(), kind);
        let stored = |study: &str, network| ModelName::Stored { study: study.to_owned(), network };
        for (text, name) in [
            ("net.onnx", file("net.onnx", FileKind::Onnx)),
            ("../out/net.edge", file("../out/net.edge", FileKind::Edge)),
            ("digits/26", stored("digits", StoredName::Trial(26))),
            ("digits/teacher", stored("digits", StoredName::Teacher)),
        ] {
            assert_eq!(text.parse(), Ok(name));
        }
        for text in ["net", "net.tflite", "a/b/3", "/3", "digits/-1", "digits/best", "digits/"] {
            let said = text.parse::<ModelName>().unwrap_err();
            assert!(said.contains("STUDY/NUMBER"), "{text}");
        }
    }
}

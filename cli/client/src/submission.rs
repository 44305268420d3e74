//! Submits a study file to a coordinator, with the weights of its teacher and the networks that it
//! names.

use std::path::{Path, PathBuf};

use edgesmith_common::spec::{
    DataFile, ModelFiles, NamedModel, NamedOther, OtherFile, OtherSource, SpecError, SpecErrors,
    TeacherSource,
};
use edgesmith_common::{ArtifactHash, StudySpec};
use edgesmith_console::invalid;
use edgesmith_data::{Logits, files};
use edgesmith_proto::v1;
use edgesmith_worker::session::artifacts;

use crate::Coordinator;
use crate::network::Network;

/// Largest size of a study file, bytes.
const MAX_STUDY: u64 = 16 << 20;
/// A file with no more mistakes than this gets them listed, of whatever kind it is.
const MANY_MISTAKES: usize = 20;
/// Largest size of a file of weights, bytes.
pub const MAX_WEIGHTS: u64 = 4 << 30;

/// Says of a mistake in a study what has it, such as the name of a file, and how it is told there.
pub type Placing<'a> = &'a dyn Fn(&SpecError) -> (String, SpecError);

/// Reads and checks a study file, with the networks that it names. A byte-order mark is left out.
pub fn read_study(file: &Path) -> anyhow::Result<StudySpec> {
    read_with_networks(file).map(|(spec, _)| spec)
}

/// Reads and checks what a study file says of its data, and of training and measuring on them. The
/// rest of it is neither needed nor checked.
pub fn read_data(file: &Path) -> anyhow::Result<DataFile> {
    let text = read_text(file)?;
    let place = |error: &SpecError| (file.display().to_string(), error.clone());
    DataFile::parse(&text).map_err(|errors| refused(&text, &errors, &place))
}

/// The networks and logits that a study names, but for the logits of the first teacher.
#[derive(Default)]
struct Networks {
    space: Option<Network>,
    teacher: Option<Network>,
    /// By teacher beside the first.
    others: Vec<Option<Other>>,
}

/// A file of a teacher beside the first.
enum Other {
    Network(Box<Network>),
    /// The file of its logits, and where that is.
    Logits(Vec<u8>, PathBuf),
}

impl Other {
    /// Reads what the teacher of this place in the list names.
    fn read(named: NamedOther, folder: &Path, place: usize) -> anyhow::Result<Self> {
        match named {
            NamedOther::Network(named) => {
                let network = Network::read(&named, folder, &others_table(place))?;
                Ok(Self::Network(Box::new(network)))
            }
            NamedOther::Logits(path) => {
                let path = folder.join(path);
                Ok(Self::Logits(read_logits(&path)?, path))
            }
        }
    }

    fn file(&self) -> OtherFile {
        match self {
            Self::Network(network) => OtherFile::Network(Box::new(network.file.clone())),
            Self::Logits(bytes, _) => OtherFile::Logits(ArtifactHash::of(bytes)),
        }
    }
}

/// What messages call the table of a teacher beside the first.
fn others_table(place: usize) -> String {
    format!("teacher.others[{place}]")
}

fn read_logits(path: &Path) -> anyhow::Result<Vec<u8>> {
    files::read(path, MAX_WEIGHTS)
        .map_err(|e| invalid(format!("failed to read the teacher's logits: {e}")))
}

/// Reads logits of so many classes. How many rows there have to be, only those know who have the
/// images.
fn logits_of(bytes: &[u8], path: &Path, classes: u32) -> anyhow::Result<Logits> {
    Logits::read(bytes, classes as usize).map_err(|error| useless_logits(path, error))
}

fn useless_logits(path: &Path, error: impl std::fmt::Display) -> anyhow::Error {
    invalid(format!("failed to use the logits in {}: {error}", path.display()))
}

fn read_with_networks(file: &Path) -> anyhow::Result<(StudySpec, Networks)> {
    let text = read_text(file)?;
    let place = |error: &SpecError| (file.display().to_string(), error.clone());
    parse_with_networks(&text, &place, folder(file))
}

fn read_text(file: &Path) -> anyhow::Result<String> {
    files::read_text(file, MAX_STUDY)
        .map_err(|e| invalid(format!("failed to read the study file: {e}")))
}

/// Reads the networks that a study names, relative to `folder`, and checks the study.
fn parse_with_networks(
    text: &str,
    placing: Placing<'_>,
    folder: &Path,
) -> anyhow::Result<(StudySpec, Networks)> {
    let named = StudySpec::named_models(text);
    let read = |named: Option<NamedModel>, table: &str| {
        named.map(|named| Network::read(&named, folder, table)).transpose()
    };
    let others = named.others.into_iter().enumerate();
    let other = |(place, named): (usize, Option<NamedOther>)| {
        named.map(|named| Other::read(named, folder, place)).transpose()
    };
    let mut networks = Networks {
        space: read(named.space, "space")?,
        teacher: read(named.teacher, "teacher")?,
        others: others.map(other).collect::<anyhow::Result<_>>()?,
    };
    let spec = parse(placing, text, &networks)?;
    // Only the study file says what the networks read for a pixel.
    if let (Some(network), Some(model)) = (&mut networks.space, spec.model()) {
        network.scale_inputs(&model.pixels, "space")?;
    }
    if let (Some(network), Some(model)) = (&mut networks.teacher, spec.teacher_model()) {
        network.scale_inputs(&model.pixels, "teacher")?;
    }
    let others = networks.others.iter_mut().zip(spec.other_teachers());
    for (place, (sent, named)) in others.enumerate() {
        if let (Some(Other::Network(network)), OtherSource::Network { model, .. }) =
            (sent, &named.source)
        {
            network.scale_inputs(&model.pixels, &others_table(place))?;
        }
    }
    Ok((parse(placing, text, &networks)?, networks))
}

/// Parses a study.
fn parse(placing: Placing<'_>, text: &str, networks: &Networks) -> anyhow::Result<StudySpec> {
    let others: Vec<_> =
        networks.others.iter().map(|other| other.as_ref().map(Other::file)).collect();
    let files = ModelFiles {
        space: networks.space.as_ref().map(|network| &network.file),
        teacher: networks.teacher.as_ref().map(|network| &network.file),
        others: &others,
    };
    StudySpec::parse_with_models(text, files).map_err(|errors| refused(text, &errors, placing))
}

/// The mistakes of a file, or that it is of another kind.
fn refused(text: &str, errors: &SpecErrors, placing: Placing<'_>) -> anyhow::Error {
    if is_no_toml(text, errors) {
        let (source, first) = placing(&errors.listed[0]);
        return invalid(format!(
            "{source} is not a study file: its first line is already not TOML ({first})"
        ));
    }
    invalid(told(errors, placing))
}

/// Mistakes, each below what has it.
fn told(errors: &SpecErrors, placing: Placing<'_>) -> String {
    let mut sources: Vec<(String, Vec<SpecError>)> = Vec::new();
    for error in &errors.listed {
        let (source, error) = placing(error);
        match sources.iter_mut().find(|(known, _)| *known == source) {
            Some((_, mistakes)) => mistakes.push(error),
            None => sources.push((source, vec![error])),
        }
    }
    let alone = sources.len() == 1;
    let texts = sources.iter().map(|(source, mistakes)| {
        // Whose the others are is not known.
        let count = if alone { errors.count() } else { mistakes.len() };
        let s = if count == 1 { "" } else { "s" };
        let lines: Vec<String> = mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect();
        format!("{source} has {count} mistake{s}:{}", lines.concat())
    });
    let mut text = texts.collect::<Vec<_>>().join("\n");
    if errors.more > 0 {
        text.push_str(&format!("\n  and {} more", errors.more));
    }
    text
}

/// The folder that paths in a study file are relative to.
fn folder(study: &Path) -> &Path {
    study.parent().unwrap_or(Path::new(""))
}

/// Whether the text is of another kind: it breaks TOML's syntax from its first line on, and in most
/// of the lines. The single mistakes would not help then.
fn is_no_toml(text: &str, errors: &SpecErrors) -> bool {
    let first = errors.listed.first();
    let from_the_start = first.is_some_and(|first| first.line == 1 && first.field.is_empty());
    from_the_start && errors.count() > MANY_MISTAKES && errors.count() > text.lines().count() / 2
}

/// A study and everything that is sent with it, read and checked. All files are read first, so that
/// a missing one cannot fail the submission after the coordinator has changed anything.
pub struct Submission {
    /// The study.
    pub spec: StudySpec,
    /// The teacher's weights or logits, if the study names a file of them.
    teacher_weights: Option<Vec<u8>>,
    /// The networks that the study names.
    networks: Networks,
}

impl Submission {
    /// Reads a study file, the networks and the teacher's weights that it names.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let (spec, networks) = read_with_networks(file)?;
        Self::of(spec, networks, folder(file))
    }

    /// The same of a study that is not in a file of its own, whose mistakes are told as
    /// `placing` says. Paths are relative to the current folder.
    pub fn parse(text: &str, placing: Placing<'_>) -> anyhow::Result<Self> {
        let folder = Path::new("");
        let (spec, networks) = parse_with_networks(text, placing, folder)?;
        Self::of(spec, networks, folder)
    }

    fn of(spec: StudySpec, networks: Networks, folder: &Path) -> anyhow::Result<Self> {
        let teacher = spec.training().and_then(|work| work.teacher.as_ref());
        let mut teacher_weights =
            match teacher.map(|teacher| &teacher.source) {
                Some(TeacherSource::File { path }) => {
                    let path = folder.join(path);
                    Some(files::read(&path, MAX_WEIGHTS).map_err(|e| {
                        invalid(format!("failed to read the teacher's weights: {e}"))
                    })?)
                }
                _ => None,
            };
        if let Some(work) = spec.training()
            && let Some(path) = &work.logits
        {
            let path = folder.join(path);
            let bytes = read_logits(&path)?;
            let mut mean = logits_of(&bytes, &path, work.space.data().classes)?;
            let mut weight = 1.0;
            for (beside, file) in work.logits_beside.iter().zip(&networks.others) {
                if let Some(Other::Logits(bytes, path)) = file {
                    let logits = logits_of(bytes, path, work.space.data().classes)?;
                    let added = mean.average(weight, &logits, beside.weight);
                    added.map_err(|error| useless_logits(path, error))?;
                    weight += beside.weight;
                }
            }
            let alone = work.logits_beside.is_empty();
            teacher_weights = Some(if alone { bytes } else { mean.to_npy() });
        }
        for other in networks.others.iter().flatten() {
            if let (Other::Logits(bytes, path), Some(work)) = (other, spec.training()) {
                logits_of(bytes, path, work.space.data().classes)?;
            }
        }
        Ok(Self { spec, teacher_weights, networks })
    }

    /// Sends it to the coordinator.
    pub async fn submit(
        self,
        coordinator: &Coordinator,
    ) -> anyhow::Result<v1::SubmitStudyResponse> {
        let teacher_weights = match self.teacher_weights {
            Some(bytes) => {
                let hash = artifacts::upload(&mut coordinator.artifacts(), bytes).await;
                hash.map_err(|status| coordinator.failed(status))?.as_bytes().to_vec()
            }
            None => Vec::new(),
        };
        let send = async |network: Option<Network>| -> anyhow::Result<String> {
            let Some(network) = network else { return Ok(String::new()) };
            let weights = network.weights();
            let uploaded = artifacts::upload(&mut coordinator.artifacts(), weights).await;
            uploaded.map_err(|status| coordinator.failed(status))?;
            Ok(network.file.to_text())
        };
        let model = send(self.networks.space).await?;
        let teacher_model = send(self.networks.teacher).await?;
        let averaged = self.spec.training().is_some_and(|work| work.logits.is_some());
        let mut other_teachers = Vec::new();
        for other in self.networks.others {
            other_teachers.push(match other {
                Some(Other::Network(network)) => {
                    let model = send(Some(*network)).await?;
                    v1::OtherTeacherFile { model, ..Default::default() }
                }
                // The mean of these was sent.
                Some(Other::Logits(bytes, _)) if averaged => {
                    let logits = ArtifactHash::of(&bytes).as_bytes().to_vec();
                    v1::OtherTeacherFile { logits, ..Default::default() }
                }
                Some(Other::Logits(bytes, _)) => {
                    let hash = artifacts::upload(&mut coordinator.artifacts(), bytes).await;
                    let logits =
                        hash.map_err(|status| coordinator.failed(status))?.as_bytes().to_vec();
                    v1::OtherTeacherFile { logits, ..Default::default() }
                }
                None => v1::OtherTeacherFile::default(),
            });
        }
        let spec_toml = self.spec.source().to_owned();
        let request = v1::SubmitStudyRequest {
            spec_toml,
            teacher_weights,
            model,
            teacher_model,
            other_teachers,
        };
        coordinator.change(coordinator.studies().submit_study(request)).await
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_data::arrays::{NumberArray, write_npy};

    use super::*;

    const STUDY: &str = "study.name = \"s\"\nbudget.trials = 1\n\
                         objectives = [{ metric = \"validation_accuracy\" }]\n\
                         data = { source = \"digits\" }\n\
                         training = { epochs = 1 }\n\
                         [space]\nresolution = 8\nstem_width = 8\n\
                         [[space.stages]]\nwidth = 8\n";

    #[test]
    fn a_file_of_another_kind_is_told_in_one_sentence() {
        let directory = tempfile::tempdir().unwrap();
        let said = |text: &str| {
            let file = directory.path().join("study");
            std::fs::write(&file, text).unwrap();
            read_study(&file).unwrap_err().to_string()
        };
        let row = "  {\"trial\": 1, \"state\": \"complete\"},\n";
        let json = said(&format!("{{\"trials\": [\n{}]}}\n", row.repeat(50)));
        assert!(json.contains("its first line is already not TOML (line 1: "), "{json}");
        assert_eq!(json.lines().count(), 1, "{json}");
        // One mistake in the first line of a study is listed as always.
        let study = said(&format!("[study\n{}", "seed = 1\n".repeat(50)));
        assert!(study.contains("mistake") && study.contains("\n  line 1: "), "{study}");
    }

    #[test]
    fn mistakes_stand_below_what_has_them() {
        let error = |line: usize, field: &str| {
            let (field, message) = (field.to_owned(), "is wrong".to_owned());
            SpecError { line, field, message }
        };
        let place = |error: &SpecError| match error.line {
            0 => ("the command line".to_owned(), error.clone()),
            _ => ("r.toml".to_owned(), error.clone()),
        };
        let listed = vec![error(0, "--mean"), error(3, "a"), error(0, "--std"), error(4, "")];
        let several = SpecErrors { listed: listed.clone(), more: 0 };
        let said = "the command line has 2 mistakes:\n  --mean: is wrong\n  --std: is wrong\n\
                    r.toml has 2 mistakes:\n  line 3: a: is wrong\n  line 4: is wrong";
        assert_eq!(told(&several, &place), said);
        let many = SpecErrors { listed, more: 7 };
        assert_eq!(told(&many, &place), format!("{said}\n  and 7 more"));
        let alone = SpecErrors { listed: vec![error(3, "a")], more: 0 };
        assert_eq!(told(&alone, &place), "r.toml has 1 mistake:\n  line 3: a: is wrong");
        let more = SpecErrors { more: 7, ..alone };
        let said = "r.toml has 8 mistakes:\n  line 3: a: is wrong\n  and 7 more";
        assert_eq!(told(&more, &place), said);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_study() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("study.toml");
        std::fs::write(&file, format!("\u{feff}{STUDY}")).unwrap();
        assert_eq!(read_study(&file).unwrap().source(), STUDY);
        let utf16: Vec<u8> = STUDY.encode_utf16().flat_map(u16::to_be_bytes).collect();
        std::fs::write(&file, utf16).unwrap();
        let error = read_study(&file).unwrap_err().to_string();
        assert!(error.contains("study.toml is UTF-16 text: save it as UTF-8"), "{error}");
    }

    /// Seven rows of logits, in `l.npy`.
    fn write_logits(directory: &Path, columns: usize) {
        let numbers = vec![0.5; 7 * columns];
        let array = NumberArray { shape: vec![7, columns], numbers };
        std::fs::write(directory.join("l.npy"), write_npy(&array)).unwrap();
    }

    #[test]
    fn logits_are_read_before_anything_is_sent() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("study.toml");
        let taught = format!("{STUDY}[recipe]\nalpha = 0.5\n[teacher]\nlogits = \"l.npy\"\n");
        std::fs::write(&file, taught).unwrap();
        let submitted = || Submission::read(&file);
        let said = || submitted().err().unwrap().to_string();
        assert!(said().contains("failed to read the teacher's logits: "), "{}", said());
        let write = |columns| write_logits(directory.path(), columns);
        write(9);
        let wide = "l.npy: its shape is [7, 9], but it needs a row for each";
        assert!(said().contains(wide), "{}", said());
        write(10);
        let read = std::fs::read(directory.path().join("l.npy")).unwrap();
        assert_eq!(submitted().unwrap().teacher_weights, Some(read));
    }

    #[test]
    fn the_mean_of_several_files_of_logits_is_sent() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("study.toml");
        let taught = format!(
            "{STUDY}[recipe]\nalpha = 0.5\n[teacher]\nlogits = \"a.npy\"\n\
             [[teacher.others]]\nlogits = \"b.npy\"\nweight = 3.0\n"
        );
        std::fs::write(&file, taught).unwrap();
        let write = |name: &str, rows: usize, number: f32| {
            let array = NumberArray { shape: vec![rows, 10], numbers: vec![number; 10 * rows] };
            std::fs::write(directory.path().join(name), write_npy(&array)).unwrap();
        };
        write("a.npy", 7, 1.0);
        write("b.npy", 7, 3.0);
        let Submission { spec, teacher_weights, .. } = Submission::read(&file).unwrap();
        let mean = write_npy(&NumberArray { shape: vec![7, 10], numbers: vec![2.5; 70] });
        assert_eq!(teacher_weights, Some(mean));
        assert_eq!(spec.training().unwrap().logits_beside[0].weight, 3.0);
        write("b.npy", 6, 3.0);
        let error = Submission::read(&file).err().unwrap().to_string();
        assert!(error.contains("b.npy: it has 6 rows, but the first file has 7"), "{error}");
    }

    #[test]
    fn logits_beside_a_teacher_are_read_before_anything_is_sent() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("study.toml");
        let taught = format!(
            "{STUDY}[recipe]\nalpha = 0.5\n[teacher]\nepochs = 1\n[[teacher.others]]\nepochs = 1\n\
             [[teacher.others]]\nlogits = \"l.npy\"\n"
        );
        std::fs::write(&file, taught).unwrap();
        let submitted = || Submission::read(&file);
        let said = || submitted().err().unwrap().to_string();
        assert!(said().contains("failed to read the teacher's logits: "), "{}", said());
        let write = |columns| write_logits(directory.path(), columns);
        write(9);
        let wide = "l.npy: its shape is [7, 9], but it needs a row for each";
        assert!(said().contains(wide), "{}", said());
        write(10);
        let read = std::fs::read(directory.path().join("l.npy")).unwrap();
        let Submission { spec, networks, teacher_weights } = submitted().unwrap();
        assert_eq!(teacher_weights, None);
        let OtherSource::Logits(given) = &spec.other_teachers()[1].source else { panic!("logits") };
        assert_eq!(given.file, ArtifactHash::of(&read));
        assert!(networks.others[0].is_none());
        assert!(matches!(&networks.others[1], Some(Other::Logits(bytes, _)) if *bytes == read));
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_neither_studies_nor_weights() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("study.toml");
        let error = read_study(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.contains("study file: /dev/zero is a device, not a regular file"), "{error}");
        let teacher = "[teacher]\nweights = \"/dev/zero\"\n[teacher.architecture]\n\
                       resolution = 8\nstem_width = 8\nstages = [{ width = 8 }]\n";
        std::fs::write(&file, format!("{STUDY}{teacher}")).unwrap();
        let error = Submission::read(&file).err().unwrap().to_string();
        assert!(error.contains("weights: /dev/zero is a device"), "{error}");
    }
}

//! A user's network in a study: what travels with the study file, and `[space]` with
//! `kind = "model"`.
//!
//! The structure of the network travels with the study, so that the coordinator, workers and users
//! know every candidate without the file that it came from. Its numbers are an artifact, named by
//! hash in the study and so in every lease.

use edgesmith_graph::Graph;
use edgesmith_search_space::{
    BlockOption, DataShape, Design, Further, Head, ModelDefinition, ModelSpace, Variant,
};
use serde::{Deserialize, Serialize};

use super::reader::{Mistakes, Table};
use super::recipe::read_recipe;
use super::space::{names, places_of, report};
use super::{TeacherSource, TeacherSpec};
use crate::ArtifactHash;

/// Largest [`ModelFile`] as text, bytes.
pub const MAX_MODEL_BYTES: usize = 2 << 20;

/// A user's network as it travels with a study: everything but its numbers. It is written as it
/// stands here, so names and meanings of fields never change, and fields that are added later get
/// defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Its structure.
    pub network: Graph,
    /// Its numbers: a safetensors file.
    pub weights: ArtifactHash,
    /// The bytes that it was read from, as provenance; nothing reads them again.
    pub file: ArtifactHash,
    /// The tensors that the file reads and gives, in order.
    pub inputs: Vec<PortName>,
    /// See `inputs`.
    pub outputs: Vec<PortName>,
    /// Names of its classes, if the file has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// `weights` read inputs that are divided by this, a power of two, so that the numbers which a
    /// training sees are near 1. The file's own weights read them as they are.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub input_scale: f32,
}

fn one() -> f32 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_one(scale: &f32) -> bool {
    *scale == 1.0
}

/// A tensor at the border of a file: its name, and which axes of the graph's value its axes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortName {
    /// As in the file.
    pub name: String,
    /// By axis of the tensor: an axis of the value, 0 for channels; `None` for the examples and for
    /// axes of size 1 that the value does not have.
    pub axes: Vec<Option<u32>>,
}

/// What a study says of its network, apart from the space.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// The file as the user wrote it, relative to the study file.
    pub path: String,
    /// What travels with the study.
    pub file: ModelFile,
    /// The numbers that the network reads for a pixel.
    pub pixels: Pixels,
    /// Epochs at the beginning in which only a new last layer is trained.
    pub head_epochs: u32,
}

/// A network that teaches as it is, from a file of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct TeacherModel {
    /// The file as the user wrote it, relative to the study file.
    pub path: String,
    /// What travels with the study.
    pub file: ModelFile,
    /// The numbers that the network reads for a pixel.
    pub pixels: Pixels,
    /// Side of the images that it reads, in pixels; `None`: the size that it has.
    pub resolution: Option<u32>,
}

/// What comes with a study file; `None` where it names no file.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelFiles<'a> {
    /// The network of `space.model`.
    pub space: Option<&'a ModelFile>,
    /// The network of `teacher.model`.
    pub teacher: Option<&'a ModelFile>,
    /// What each of `teacher.others` names, in order.
    pub others: &'a [Option<OtherFile>],
}

/// What comes with a study for a teacher beside the first.
#[derive(Debug, Clone, PartialEq)]
pub enum OtherFile {
    /// A network.
    Network(Box<ModelFile>),
    /// A file of logits, by its hash.
    Logits(ArtifactHash),
}

/// The files that a study file names, before they are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamedModels {
    /// `space.model`.
    pub space: Option<NamedModel>,
    /// `teacher.model`.
    pub teacher: Option<NamedModel>,
    /// What each of `teacher.others` names, in order.
    pub others: Vec<Option<NamedOther>>,
}

/// A file that a study file names for a teacher beside the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedOther {
    /// `model`
    Network(NamedModel),
    /// `logits`, as written there.
    Logits(String),
}

/// A network that a study file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedModel {
    /// As written there.
    pub path: String,
    /// The images that it gets, where it reads any size.
    pub image: ImageSize,
}

/// The size of images, as far as a study file says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageSize {
    /// Channels.
    pub channels: Option<u32>,
    /// Side of a square, in pixels.
    pub side: Option<u32>,
}

/// How a network reads pixels: `(byte / 255 - mean) / std`, channel by channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// One for each channel.
    pub mean: Vec<f64>,
    /// One for each channel, above 0.
    pub std: Vec<f64>,
}

impl ModelSpec {
    /// What the study's weights read for a pixel: [`ModelSpec::pixels`] divided by
    /// [`ModelFile::input_scale`].
    pub fn read_pixels(&self) -> Pixels {
        self.pixels.divided_by(self.file.input_scale)
    }
}

impl TeacherModel {
    /// What its weights read for a pixel, as [`ModelSpec::read_pixels`].
    pub fn read_pixels(&self) -> Pixels {
        self.pixels.divided_by(self.file.input_scale)
    }
}

impl Pixels {
    fn divided_by(&self, scale: f32) -> Self {
        let Self { mean, std } = self;
        let std = std.iter().map(|std| std * f64::from(scale)).collect();
        Self { mean: mean.clone(), std }
    }

    /// The power of two next to the root of the mean square of what the network reads for a pixel,
    /// if pixels are as bright and vary as much as those of photographs: about half of 255, and a
    /// quarter of it. 1 for an image that is normalised by its mean and standard deviation; 128 for
    /// bytes.
    pub fn magnitude(&self) -> f64 {
        let squares = self.mean.iter().zip(&self.std).map(|(mean, std)| {
            let (bright, spread) = ((0.5 - mean) / std, 0.25 / std);
            bright * bright + spread * spread
        });
        let mean = squares.sum::<f64>() / self.std.len() as f64;
        // Within what fp32 can divide by; nothing that was trained is beyond it.
        mean.sqrt().log2().round().clamp(-64.0, 64.0).exp2()
    }
}

impl ModelFile {
    /// The text that is sent with a study.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|e| unreachable!("it has text keys and finite numbers: {e}"))
    }

    /// Whether both are the same network. One that was sent before its weights were scaled differs
    /// in its weights and the scale alone.
    pub fn is_same(&self, other: &Self) -> bool {
        let Self { network, weights, file, inputs, outputs, classes, input_scale } = self;
        let was_scaled = *input_scale != other.input_scale;
        (network, file, inputs, outputs, classes)
            == (&other.network, &other.file, &other.inputs, &other.outputs, &other.classes)
            && (*weights == other.weights || was_scaled)
    }

    /// Reads the text that was sent with a study.
    ///
    /// # Errors
    /// One sentence, if it is too long or is not such a text.
    pub fn from_text(text: &str) -> Result<Self, String> {
        if text.len() > MAX_MODEL_BYTES {
            let bytes = text.len();
            return Err(format!(
                "the network's structure has {bytes} bytes; at most {MAX_MODEL_BYTES} are allowed"
            ));
        }
        let file: Self = serde_json::from_str(text)
            .map_err(|e| format!("it is not the structure of a network: {e}"))?;
        if !file.input_scale.is_normal() || file.input_scale < 0.0 {
            let scale = file.input_scale;
            return Err(format!("its weights read inputs divided by {scale}; it must be above 0"));
        }
        Ok(file)
    }
}

/// Kinds of spaces in study files.
pub const KINDS: [&str; 2] = ["staged", "model"];

/// Reads `[space]` with `kind = "model"`, whose kind is read already, and `[recipe]`.
pub fn read_model_space(
    mut table: Table,
    root: &mut Table,
    data: DataShape,
    file: Option<&ModelFile>,
    m: &mut Mistakes,
) -> Option<(ModelSpace, ModelSpec)> {
    let before = m.count();
    let mut places =
        places_of(&table, &["model", "head", "resolution", "width", "blocks", "train"]);
    let path: Option<String> = table.required("model", m);
    if path.is_some() && file.is_none() {
        not_sent(&table, m);
    }
    // Where the images have others, that is said of the network and not of its pixels, too.
    let channels = file.and_then(image_channels).unwrap_or(data.channels);
    let pixels = read_pixels(&mut table, Some(channels), true, m);
    let head = table.parsed("head", m).unwrap_or(Head::Kept);
    let head_span = table.span_of("head_epochs");
    let head_epochs = table.within("head_epochs", 0, (0, 100_000), m);
    if head_epochs > 0 && head == Head::Kept {
        let text = "is only for a new last layer; add head = \"new\" or leave it out";
        m.add(&head_span, table.path("head_epochs"), text);
    }
    let resolution = table.list("resolution", m).unwrap_or_default();
    let width = table.list("width", m).unwrap_or_else(|| vec![1.0]);
    let blocks = names(&mut table, "blocks", m).unwrap_or_else(|| vec![BlockOption::Kept]);
    let train = names(&mut table, "train", m).unwrap_or_else(|| vec![Further::Trained]);
    table.finish(m);
    let recipe = read_recipe(root, &mut places, m);
    let (path, file) = (path?, file?.clone());
    let (network, weights) = (file.network.clone(), *file.weights.as_bytes());
    let definition =
        ModelDefinition { network, weights, head, resolution, width, blocks, train, recipe };
    let sound = m.count() == before;
    let space = if m.accepted() {
        ModelSpace::recorded(definition, data)
    } else {
        ModelSpace::new(definition, data)
    };
    match space {
        Ok(space) => {
            let pixels = pixels?;
            sound.then_some((space, ModelSpec { path, file, pixels, head_epochs }))
        }
        Err(errors) => {
            report(errors, &places, m);
            None
        }
    }
}

/// The channels of the images that a network reads; `None` if it reads something else.
fn image_channels(file: &ModelFile) -> Option<u32> {
    let mut inputs = file.network.inputs();
    let shape = file.network.shape(inputs.next()?);
    (inputs.next().is_none() && shape.space().len() == 2).then(|| shape.channels())
}

fn not_sent(table: &Table, m: &mut Mistakes) {
    let text = "the network was not sent with the study; submit it with a program that reads \
                networks";
    m.add(&table.span_of("model"), table.path("model"), text);
}

/// Reads a teacher from a file of its own: `model`, and the fields that belong to it. `None` if
/// there is none, or it has mistakes. Without `data`, which have mistakes, nothing is compared with
/// them.
pub fn read_teacher_model(
    table: &mut Table,
    data: Option<DataShape>,
    file: Option<&ModelFile>,
    m: &mut Mistakes,
) -> Option<(Design, TeacherModel)> {
    let path: Option<String> = table.optional("model", m);
    let channels = data.map(|data| data.channels);
    let pixels = read_pixels(table, channels, path.is_some(), m);
    let rule = |side: u32| match side {
        1..=4096 => Ok(side),
        side => Err(format!("{side} is out of range; use 1 to 4096")),
    };
    let resolution = table.obeying("resolution", m, rule);
    if !table.knew("model") {
        for name in ["pixels", "mean", "std", "resolution"].into_iter().filter(|n| table.knew(n)) {
            let text = "is only for a teacher from a file of its own; name it as model, or leave \
                        this out";
            m.add(&table.span_of(name), table.path(name), text);
        }
        return None;
    }
    for (name, why) in [
        ("architecture", "the network says it itself"),
        ("weights", "the network has its own"),
        ("epochs", "the network teaches as it is"),
    ] {
        if table.knew(name) {
            m.add(&table.span_of(name), table.path(name), format!("{why}; leave it out"));
        }
    }
    let path = path?;
    let Some(file) = file else {
        not_sent(table, m);
        return None;
    };
    let data = data?;
    let gives = file.network.output().channels();
    if gives != data.classes {
        let have = data.classes;
        let text = format!(
            "it gives {gives} classes, but the data have {have}; a teacher has those of the data"
        );
        m.refuse(&table.span_of("model"), table.path("model"), text);
        return None;
    }
    let (network, weights) = (file.network.clone(), *file.weights.as_bytes());
    match Variant::alone(network, weights, resolution, data) {
        Ok(alone) => {
            let model = TeacherModel { path, file: file.clone(), pixels: pixels?, resolution };
            Some((Design::Model(alone), model))
        }
        Err(error) => {
            m.refuse(&table.span_of(&error.field), table.path(&error.field), error.message);
            None
        }
    }
}

/// Names of pixel ranges in study files.
const RANGES: [&str; 2] = ["raw", "unit"];

/// Reads `pixels`, or `mean` and `std`, of images with so many channels, if that is known. It is a
/// mistake if they are `needed` and not there.
fn read_pixels(
    table: &mut Table,
    channels: Option<u32>,
    needed: bool,
    m: &mut Mistakes,
) -> Option<Pixels> {
    let expected = channels.map(|channels| channels as usize);
    let channels = expected.unwrap_or(1);
    let span = table.span_of("pixels");
    let known = |name: String| match name.as_str() {
        "raw" => Ok(Pixels { mean: vec![0.0; channels], std: vec![1.0 / 255.0; channels] }),
        "unit" => Ok(Pixels { mean: vec![0.0; channels], std: vec![1.0; channels] }),
        _ => Err(format!("unknown pixels {name:?}; use one of {}", RANGES.join(", "))),
    };
    let has_range = table.has("pixels");
    let range = table.checked("pixels", m, known);
    let before = m.count();
    let mut one = |name: &'static str, sound: fn(f64) -> bool, rule: &str| {
        let span = table.span_of(name);
        let values: Vec<f64> = table.list(name, m)?;
        if expected.is_some_and(|channels| values.len() != channels) {
            let s = |count: usize| if count == 1 { "" } else { "s" };
            let (count, numbers) = (values.len(), s(values.len()));
            let text = format!(
                "has {count} number{numbers}; give one for each of {channels} channel{}",
                s(channels)
            );
            m.add(&span, table.path(name), text);
        } else if let Some(wrong) = values.iter().find(|value| !sound(**value)) {
            m.refuse(&span, table.path(name), format!("{wrong} is not allowed; use {rule}"));
        }
        Some(values)
    };
    // Workers compute with them in fp32.
    let mean = one("mean", |mean| (mean as f32).is_finite(), "a number that fp32 has");
    let std = |std: f64| (std as f32).is_finite() && std as f32 > 0.0;
    let std = one("std", std, "numbers above 0 that fp32 has");
    let has = [table.knew("mean") && mean.is_some(), table.knew("std") && std.is_some()];
    match (has_range, mean, std) {
        (true, None, None) => range,
        (true, ..) => {
            let text = "pixels or mean and std say what the network reads; leave one of them out";
            m.add(&span, table.path("pixels"), text);
            None
        }
        (false, Some(mean), Some(std)) => (m.count() == before).then_some(Pixels { mean, std }),
        (false, ..) => {
            if needed && (has != [false, false] || m.count() == before) {
                let text = "is missing; say what the network reads for a pixel: mean and std (of \
                            pixel / 255, as it was trained), or pixels = \"raw\" (0 to 255) or \
                            \"unit\" (0 to 1)";
                m.add(&table.span(), table.path("pixels"), text);
            }
            None
        }
    }
}

/// The teacher of a study on a user's network without a `[teacher]` table: the network itself, if
/// candidates learn from one.
pub fn teacher_itself(root: &Table, space: &ModelSpace, m: &mut Mistakes) -> Option<TeacherSpec> {
    if !space.definition().recipe.learns() {
        return None;
    }
    if space.definition().head == Head::New {
        let text = "candidates may distill, but a network with a new last layer cannot teach before \
                    it is trained; add [teacher] with epochs, or take values of alpha above 0 \
                    out of [recipe]";
        m.add(&root.span_of("recipe"), "recipe", text);
    }
    let architecture = Design::Model(space.original());
    Some(TeacherSpec::alone(architecture, TeacherSource::Itself))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StudySpec;
    use crate::spec::resolved::golden::network;

    const STUDY: &str = r#"
study = { name = "s" }
objectives = [{ metric = "validation_accuracy" }]
budget = { trials = 7 }
data = { source = "image-folder", train = "t", classes = 5 }
training = { epochs = 9 }
recipe = { alpha = 0.5 }
[space]
kind = "model"
model = "net.onnx"
mean = [0.5, 0.4, 0.3]
std = [0.2, 0.2, 0.2]
"#;

    fn parse_files(
        text: &str,
        space: &ModelFile,
        teacher: Option<&ModelFile>,
    ) -> Result<StudySpec, crate::spec::SpecErrors> {
        let files = ModelFiles { space: Some(space), teacher, others: &[] };
        StudySpec::parse_with_models(text, files)
    }

    fn parse(text: &str) -> Result<StudySpec, String> {
        parse_files(text, &network(), None).map_err(|errors| errors.to_string())
    }

    #[test]
    fn the_network_teaches_itself_and_the_file_is_named() {
        let spec = parse(STUDY).unwrap();
        let named = StudySpec::named_models(STUDY);
        let image = ImageSize { channels: Some(3), side: Some(32) };
        assert_eq!(named.space, Some(NamedModel { path: "net.onnx".to_owned(), image }));
        assert_eq!(named.teacher, None);
        for none in ["space.kind = \"staged\"\nspace.model = \"x\"", "not a study"] {
            assert_eq!(StudySpec::named_models(none), NamedModels::default());
        }
        let work = spec.training().unwrap();
        let (teacher, model) = (work.teacher.as_ref().unwrap(), spec.model().unwrap());
        assert_eq!(teacher.source, TeacherSource::Itself);
        assert_eq!((model.path.as_str(), &model.file), ("net.onnx", &network()));
        assert_eq!(model.pixels.mean, [0.5, 0.4, 0.3]);
        let without = parse(&STUDY.replace("alpha = 0.5", "alpha = 0.0")).unwrap();
        assert_eq!(without.training().unwrap().teacher, None);
        let trained = parse(&format!("teacher = {{ epochs = 3 }}{STUDY}")).unwrap();
        let source = &trained.training().unwrap().teacher.as_ref().unwrap().source;
        assert_eq!(*source, TeacherSource::Train { epochs: 3 });
    }

    #[test]
    fn weights_read_pixels_of_magnitude_one() {
        let magnitude =
            |mean: f64, std: f64| Pixels { mean: vec![mean; 3], std: vec![std; 3] }.magnitude();
        assert_eq!(magnitude(0.0, 1.0 / 255.0), 128.0);
        assert_eq!([magnitude(0.45, 0.225), magnitude(0.5, 0.25)], [1.0; 2]);
        assert_eq!(magnitude(0.0, 1e-300), 64f64.exp2());
        let file = ModelFile { input_scale: 128.0, ..network() };
        let spec = parse_files(STUDY, &file, None).unwrap();
        let model = spec.model().unwrap();
        assert_eq!(model.read_pixels().std, [25.6; 3]);
        assert_eq!(
            (&model.read_pixels().mean, &model.pixels.std[..]),
            (&model.pixels.mean, &[0.2; 3][..])
        );
    }

    #[test]
    fn mistakes_are_told_with_the_mend() {
        for (from, to, said) in [
            ("mean = [0.5, 0.4, 0.3]", "mean = 0.5", "has 1 number; give one for each of 3"),
            ("std = [0.2, 0.2, 0.2]", "std = [0.2, 0.0, 0.2]", "0 is not allowed; use numbers"),
            ("std = [0.2, 0.2, 0.2]", "", "say what the network reads for a pixel"),
            ("std = [0.2, 0.2, 0.2]", "pixels = \"raw\"", "leave one of them out"),
            ("\"model\"\n", "\"modle\"\n", "unknown kind \"modle\"; use one of staged, model"),
            ("model = \"net.onnx\"", "", "space.model"),
            ("classes = 5", "classes = 6", "it gives 5 classes, but the data have 6"),
            ("epochs = 9", "epochs = 9, inherit_epochs = 2", "not for studies on a network"),
            (
                "mean = [0.5, 0.4, 0.3]",
                "mean = [0.5, 0.4]",
                "has 2 numbers; give one for each of 3",
            ),
            ("[space]", "[space]\nhead_epochs = 2", "add head = \"new\" or leave it out"),
            ("[space]", "[space]\nhead = \"new\"", "add [teacher] with epochs"),
            ("[space]", "[space]\nwidth = [1.5]", "1.5 is not allowed"),
            ("[space]", "[space]\nstages = [{ width = 8 }]", "stages"),
        ] {
            assert!(STUDY.contains(from), "{from}");
            let error = parse(&STUDY.replacen(from, to, 1)).expect_err(to);
            assert!(error.contains(said), "{to}: {error}");
        }
        // Images of other channels are a mistake about the network, and not about its pixels.
        let gray = |text: &str| text.replace("classes = 5", "classes = 5, channels = 1");
        let said = "space.model: it reads images of 3 channels, but the data have 1";
        let error = parse(&gray(STUDY)).unwrap_err();
        assert!(error.ends_with(said) && error.lines().count() == 1, "{error}");
        let error =
            parse(&gray(STUDY).replace("mean = [0.5, 0.4, 0.3]", "mean = 0.5")).unwrap_err();
        assert!(error.contains(said) && error.contains("each of 3 channels"), "{error}");
        // There is no first training to go back to.
        let steps = "steps = [{ pass = \"prune\", share = 0.5, rewind = \"weights\" }]";
        let rewound = STUDY.replace("alpha = 0.5", steps);
        parse(&rewound).unwrap();
        let error = parse(&format!("{rewound}train = [\"further\", \"as-it-is\"]")).unwrap_err();
        let said = "recipe.steps[0].rewind: \"weights\" goes back to weights of the first training, \
                    but a network that is taken as it is has none";
        assert!(error.contains(said), "{error}");
        let error = StudySpec::parse(STUDY).unwrap_err().to_string();
        assert!(error.contains("space.model: the network was not sent"), "{error}");
        // A mistake in the data leaves nothing to compare with.
        let error = parse(&STUDY.replace("classes = 5", "classes = 0")).unwrap_err();
        assert!(error.contains("data.classes") && !error.contains("space."), "{error}");
    }

    #[test]
    fn another_network_is_one_difference() {
        let spec = parse(STUDY).unwrap();
        let other = ModelFile { weights: ArtifactHash::of(b"others"), ..network() };
        let other = parse_files(STUDY, &other, None).unwrap();
        let [difference] = &spec.differences(&other)[..] else { panic!("one difference") };
        assert_eq!(difference.field, "the network of space.model");
        // Sent before and after its weights were scaled.
        let weights = ArtifactHash::of(b"scaled");
        let scaled = ModelFile { weights, input_scale: 128.0, ..network() };
        let scaled = parse_files(STUDY, &scaled, None).unwrap();
        assert_eq!(spec.differences(&scaled), []);
        let wider = parse(&STUDY.replace("[space]", "[space]\nwidth = [1.0, 0.5]")).unwrap();
        let found: Vec<String> = spec.differences(&wider).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["space.width: [1.0] -> [1.0,0.5]"]);
    }

    /// [`STUDY`] with a teacher from a file of its own.
    fn taught(fields: &str) -> String {
        format!("teacher = {{ model = \"big.onnx\", {fields} }}{STUDY}")
    }

    #[test]
    fn another_network_teaches_at_its_own_size_and_pixels() {
        let text = taught("pixels = \"raw\", resolution = 16");
        let spec = parse_files(&text, &network(), Some(&network())).unwrap();
        let teacher = spec.training().unwrap().teacher.as_ref().unwrap();
        let Design::Model(variant) = &teacher.architecture else { panic!("a network") };
        assert_eq!((variant.resolution, variant.trained), (16, false));
        let model = spec.teacher_model().unwrap();
        assert_eq!((model.path.as_str(), model.pixels.std[0]), ("big.onnx", 1.0 / 255.0));
        assert_eq!(StudySpec::from_resolved(&spec.to_resolved()).unwrap(), spec);
        let named = StudySpec::named_models(&text);
        assert_eq!(named.teacher.unwrap().image.side, Some(16));
        assert_eq!(named.space.unwrap().image.side, Some(32));

        let other = ModelFile { weights: ArtifactHash::of(b"others"), ..network() };
        let other = parse_files(&text, &network(), Some(&other)).unwrap();
        let [difference] = &spec.differences(&other)[..] else { panic!("one difference") };
        assert_eq!(difference.field, "the network of teacher.model");
    }

    #[test]
    fn mistakes_about_a_teacher_are_told_with_the_mend() {
        for (fields, said) in [
            ("", "teacher.pixels: is missing; say what the network reads"),
            ("pixels = \"raw\", epochs = 3", "teacher.epochs: the network teaches as it is; leave"),
            ("pixels = \"raw\", weights = \"w\"", "teacher.weights: the network has its own"),
            ("pixels = \"raw\", architecture = \"largest\"", "teacher.architecture: the network"),
            ("pixels = \"raw\", resolution = 9999", "9999 is out of range; use 1 to 4096"),
            ("mean = 0.5, std = 1.0", "has 1 number; give one for each of 3 channels"),
        ] {
            let error = parse_files(&taught(fields), &network(), Some(&network())).unwrap_err();
            assert!(error.to_string().contains(said), "{fields}: {error}");
        }
        let text = taught("pixels = \"raw\"").replace("classes = 5", "classes = 6");
        let text = text.replace("[space]", "[space]\nhead = \"new\"");
        let error = parse_files(&text, &network(), Some(&network())).unwrap_err().to_string();
        assert!(error.contains("it gives 5 classes, but the data have 6; a teacher"), "{error}");
        let error = parse_files(&taught("pixels = \"raw\""), &network(), None).unwrap_err();
        assert!(error.to_string().contains("teacher.model: the network was not sent"), "{error}");
        // A mistake in the data leaves nothing to compare with.
        let text = taught("mean = [0.5, 0.5, 0.5], std = [0.2, 0.2, 0.2]");
        let text = text.replace("classes = 5", "classes = 0");
        let error = parse_files(&text, &network(), Some(&network())).unwrap_err().to_string();
        assert!(error.contains("data.classes") && !error.contains("teacher."), "{error}");
        let alone = format!("teacher = {{ epochs = 3, pixels = \"raw\" }}{STUDY}");
        let error = parse(&alone).unwrap_err();
        assert!(error.contains("is only for a teacher from a file of its own"), "{error}");
    }

    #[test]
    fn what_is_sent_is_read_back_and_hostile_texts_are_refused() {
        let text = network().to_text();
        assert_eq!(ModelFile::from_text(&text), Ok(network()));
        let long = " ".repeat(MAX_MODEL_BYTES + 1);
        assert!(ModelFile::from_text(&long).unwrap_err().contains("at most 2097152"));
        let deep = "[".repeat(100_000);
        assert!(ModelFile::from_text(&deep).unwrap_err().contains("not the structure"));
        let scaled = ModelFile { input_scale: 0.0, ..network() }.to_text();
        assert!(ModelFile::from_text(&scaled).unwrap_err().contains("must be above 0"));
        let wrong = text.replace("\"inputs\":[0]", "\"inputs\":[9]");
        assert!(ModelFile::from_text(&wrong).unwrap_err().contains("does not stand before it"));
    }
}

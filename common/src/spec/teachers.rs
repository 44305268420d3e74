//! Teachers beside the first, and assistants between teachers and students, in a study file. The
//! first teacher is read with `[teacher]` itself.

use edgesmith_search_space::DataShape;

use super::model::{OtherFile, read_teacher_model};
use super::reader::{Mistakes, Table};
use super::space::read_architecture;
use super::{
    Assistant, GivenLogits, NetworkSpace, OtherSource, OtherTeacher, TeacherSource, TeacherSpec,
};

impl TeacherSpec {
    /// One without others or assistants.
    pub fn alone(architecture: edgesmith_search_space::Design, source: TeacherSource) -> Self {
        Self { architecture, source, others: Vec::new(), assistants: Vec::new() }
    }
}

/// Reads `[[teacher.others]]`. `files` are what came with the study for each of them. Without
/// `data`, which have mistakes, nothing is compared with them.
pub fn read_others(
    teacher: &mut Table,
    space: Option<&NetworkSpace>,
    (data, files): (Option<DataShape>, &[Option<OtherFile>]),
    m: &mut Mistakes,
) -> Vec<OtherTeacher> {
    let mut others = Vec::new();
    for (place, mut table) in teacher.tables("others", m).into_iter().enumerate() {
        let file = files.get(place).and_then(Option::as_ref);
        let source = read_other(&mut table, space, (data, file), m);
        let weight = table.obeying("weight", m, above_zero_to(1_000_000.0)).unwrap_or(1.0);
        table.finish(m);
        others.extend(source.map(|source| OtherTeacher { source, weight }));
    }
    others
}

/// Where the logits of one come from.
fn read_other(
    table: &mut Table,
    space: Option<&NetworkSpace>,
    (data, file): (Option<DataShape>, Option<&OtherFile>),
    m: &mut Mistakes,
) -> Option<OtherSource> {
    let architecture = read_architecture(table, space, m);
    let epochs = table.within("epochs", 20, (1, 100_000), m);
    let logits: Option<String> = table.optional("logits", m);
    let network = match file {
        Some(OtherFile::Network(file)) => Some(&**file),
        Some(OtherFile::Logits(_)) | None => None,
    };
    let model = read_teacher_model(table, data, network, m);
    if table.knew("logits") {
        for name in ["architecture", "epochs", "model"].into_iter().filter(|n| table.knew(n)) {
            let text = "logits teach without a network; leave this or logits out";
            m.add(&table.span_of(name), table.path(name), text);
        }
        let path = logits?;
        let Some(OtherFile::Logits(file)) = file else {
            let text = "the file was not sent with the study; submit it with a program that reads \
                        files of logits";
            m.add(&table.span_of("logits"), table.path("logits"), text);
            return None;
        };
        return Some(OtherSource::Logits(GivenLogits { path, file: *file }));
    }
    if table.knew("model") {
        let (architecture, model) = model?;
        return Some(OtherSource::Network { architecture, model: Box::new(model) });
    }
    architecture.map(|architecture| OtherSource::Train { architecture, epochs })
}

/// Reads `[[teacher.assistants]]`.
pub fn read_assistants(
    teacher: &mut Table,
    space: Option<&NetworkSpace>,
    m: &mut Mistakes,
) -> Vec<Assistant> {
    let mut assistants = Vec::new();
    for mut table in teacher.tables("assistants", m) {
        let architecture = read_architecture(&mut table, space, m);
        let epochs = table.within("epochs", 20, (1, 100_000), m);
        let alpha = table.obeying("alpha", m, above_zero_to(1.0)).unwrap_or(0.5);
        let temperature = table.obeying("temperature", m, above_zero_to(100.0)).unwrap_or(4.0);
        table.finish(m);
        let assistant = |architecture| Assistant { architecture, epochs, alpha, temperature };
        assistants.extend(architecture.map(assistant));
    }
    assistants
}

fn above_zero_to(most: f64) -> impl Fn(f64) -> Result<f64, String> {
    move |number| {
        if number > 0.0 && number <= most {
            Ok(number)
        } else {
            Err(format!("{number:?} is not above 0 and at most {most}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::spec::resolved::golden::network;
    use crate::spec::{
        ModelFile, ModelFiles, NamedModels, NamedOther, OtherFile, OtherSource, OtherTeacher,
        TeacherSource,
    };
    use crate::{ArtifactHash, StudySpec};

    const STUDY: &str = r#"
study.name = "s"
data.source = "digits"
space = { resolution = 8, stem_width = 8, stages = [{ width = 8 }] }
recipe = { alpha = 0.5 }
objectives = [{ metric = "validation_accuracy" }]
budget.trials = 3
"#;
    const SMALL: &str =
        "architecture = { resolution = 8, stem_width = 4, stages = [{ width = 16 }] }";

    fn parse(teacher: &str) -> Result<StudySpec, String> {
        StudySpec::parse(&format!("{STUDY}{teacher}")).map_err(|errors| errors.to_string())
    }

    #[test]
    fn several_teachers_and_assistants_are_read_in_order() {
        let text = format!(
            "[teacher]\nepochs = 3\n[[teacher.others]]\nweight = 0.25\n[[teacher.others]]\n\
             {SMALL}\nepochs = 7\n[[teacher.assistants]]\n{SMALL}\nalpha = 0.75\n"
        );
        let spec = parse(&text).unwrap();
        let teacher = spec.training().unwrap().teacher.clone().unwrap();
        assert_eq!(teacher.source, TeacherSource::Train { epochs: 3 });
        let trained = |other: &OtherTeacher| match &other.source {
            OtherSource::Train { architecture, epochs } => (architecture.clone(), *epochs),
            others => panic!("{others:?}"),
        };
        let [(first, epochs), (second, more)] =
            [&teacher.others[0], &teacher.others[1]].map(trained);
        assert_eq!((epochs, teacher.others[0].weight), (20, 0.25));
        assert_eq!((more, teacher.others[1].weight), (7, 1.0));
        assert_eq!(first, teacher.architecture);
        assert_ne!(second, teacher.architecture);
        let [assistant] = &teacher.assistants[..] else { panic!("{:?}", teacher.assistants) };
        assert_eq!(assistant.architecture, second);
        assert_eq!((assistant.epochs, assistant.alpha, assistant.temperature), (20, 0.75, 4.0));
        let again = StudySpec::from_resolved(&spec.to_resolved()).unwrap();
        assert_eq!(again.training().unwrap().teacher.as_ref(), Some(&teacher));
    }

    #[test]
    fn mistakes_name_the_field() {
        for (teacher, said) in [
            (
                "teacher = { others = [{ weight = 0 }] }",
                "teacher.others[0].weight: 0.0 is not above",
            ),
            (
                "teacher = { assistants = [{ alpha = 1.5 }] }",
                "teacher.assistants[0].alpha: 1.5 is not above 0 and at most 1",
            ),
            (
                "teacher = { logits = \"l.npy\", others = [{ epochs = 2 }] }",
                "teacher.others: logits teach without a network",
            ),
            (
                "teacher = { others = [{ weights = \"x\" }] }",
                "teacher.others[0].weights: is unknown",
            ),
            (
                "teacher = { others = [{ logits = \"l.npy\", epochs = 3 }] }",
                "teacher.others[0].epochs: logits teach without a network",
            ),
            (
                "teacher = { others = [{ logits = \"l.npy\" }] }",
                "teacher.others[0].logits: the file was not sent",
            ),
            (
                "teacher = { others = [{ model = \"x.onnx\", pixels = \"raw\" }] }",
                "teacher.others[0].model: the network was not sent",
            ),
            (
                "teacher = { others = [{ pixels = \"raw\" }] }",
                "teacher.others[0].pixels: is only for a teacher from a file",
            ),
        ] {
            let error = parse(teacher).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    /// A study of pictures that [`network`] fits, with teachers from files.
    const FILES: &str = r#"
study.name = "s"
data = { source = "image-folder", train = "t", classes = 5 }
space = { resolution = 8, stem_width = 8, stages = [{ width = 8 }] }
recipe = { alpha = 0.5 }
objectives = [{ metric = "validation_accuracy" }]
budget.trials = 3
[[teacher.others]]
model = "b.onnx"
pixels = "raw"
resolution = 16
weight = 2.0
[[teacher.others]]
epochs = 7
[[teacher.others]]
logits = "c.npy"
"#;

    fn parse_files(text: &str, others: &[Option<OtherFile>]) -> Result<StudySpec, String> {
        let files = ModelFiles { others, ..ModelFiles::default() };
        StudySpec::parse_with_models(text, files).map_err(|errors| errors.to_string())
    }

    #[test]
    fn files_of_logits_teach_together() {
        let sent = |bytes: &[u8]| Some(OtherFile::Logits(ArtifactHash::of(bytes)));
        let text = format!(
            "{STUDY}teacher = {{ logits = \"a.npy\", others = [{{ logits = \"b.npy\" }}, \
             {{ logits = \"c.npy\", weight = 2.0 }}] }}"
        );
        let others = [sent(b"b"), sent(b"c")];
        let spec = parse_files(&text, &others).unwrap();
        let work = spec.training().unwrap();
        assert_eq!((work.logits.as_deref(), &work.teacher), (Some("a.npy"), &None));
        let beside: Vec<_> =
            work.logits_beside.iter().map(|b| (&*b.given.path, b.given.file, b.weight)).collect();
        let hash = |bytes: &[u8]| ArtifactHash::of(bytes);
        assert_eq!(beside, [("b.npy", hash(b"b"), 1.0), ("c.npy", hash(b"c"), 2.0)]);
        assert_eq!(StudySpec::from_resolved(&spec.to_resolved()).unwrap(), spec);
        let other = parse_files(&text.replace("2.0", "3.0"), &others).unwrap();
        let found: Vec<String> = spec.differences(&other).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["teacher.others[1].weight: 2.0 -> 3.0"]);
    }

    #[test]
    fn networks_and_logits_of_files_teach_beside_the_first() {
        let NamedModels { teacher, others, .. } = StudySpec::named_models(FILES);
        assert_eq!(teacher, None);
        let [Some(NamedOther::Network(named)), None, Some(NamedOther::Logits(path))] = &others[..]
        else {
            panic!("{others:?}")
        };
        assert_eq!((&*named.path, named.image.side, &**path), ("b.onnx", Some(16), "c.npy"));

        let file = ArtifactHash::of(b"c");
        let sent = |weights: &[u8]| {
            let file = ModelFile { weights: ArtifactHash::of(weights), ..network() };
            OtherFile::Network(Box::new(file))
        };
        let sent = [Some(sent(b"b")), None, Some(OtherFile::Logits(file)), Some(sent(b"others"))];
        let spec = parse_files(FILES, &sent[..3]).unwrap();
        let teacher = spec.training().unwrap().teacher.as_ref().unwrap();
        assert_eq!(teacher.source, TeacherSource::Train { epochs: 20 });
        let [one, two, three] = &teacher.others[..] else { panic!("{:?}", teacher.others) };
        let OtherSource::Network { architecture, model } = &one.source else { panic!("{one:?}") };
        assert_eq!((&*model.path, one.weight, model.pixels.std[0]), ("b.onnx", 2.0, 1.0 / 255.0));
        assert_eq!(model.file.weights, ArtifactHash::of(b"b"));
        assert_ne!(*architecture, teacher.architecture);
        assert!(matches!(two.source, OtherSource::Train { epochs: 7, .. }));
        let OtherSource::Logits(given) = &three.source else { panic!("{three:?}") };
        assert_eq!((&*given.path, given.file), ("c.npy", file));
        assert_eq!(StudySpec::from_resolved(&spec.to_resolved()).unwrap(), spec);

        // Another file of the same name is another study.
        let mut other = sent.clone();
        other.swap(0, 3);
        let other = parse_files(FILES, &other[..3]).unwrap();
        let [difference] = &spec.differences(&other)[..] else { panic!("one difference") };
        assert_eq!(difference.field, "the network of teacher.others[0].model");
        let mut other = sent.clone();
        other[2] = Some(OtherFile::Logits(ArtifactHash::of(b"d")));
        let other = parse_files(FILES, &other[..3]).unwrap();
        let [difference] = &spec.differences(&other)[..] else { panic!("one difference") };
        assert_eq!(difference.field, "the file of teacher.others[2].logits");
        let moved = parse_files(&FILES.replace("b.onnx", "x/b.onnx"), &sent[..3]).unwrap();
        assert_eq!(spec.differences(&moved), []);

        // A network of other classes, and one that is sent for a file of logits.
        let classes = FILES.replace("classes = 5", "classes = 4");
        let error = parse_files(&classes, &sent[..3]).unwrap_err();
        assert!(error.contains("teacher.others[0].model: it gives 5 classes"), "{error}");
        let error = parse_files(FILES, &[sent[2].clone(), None, sent[0].clone()]).unwrap_err();
        assert!(error.contains("others[0].model: the network was not sent"), "{error}");
        assert!(error.contains("others[2].logits: the file was not sent"), "{error}");
    }
}

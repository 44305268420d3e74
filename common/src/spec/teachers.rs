//! Teachers beside the first, and assistants between teachers and students, in a study file. They
//! are networks that a worker trains; teachers from files are read with `[teacher]` itself.

use super::reader::{Mistakes, Table};
use super::space::read_architecture;
use super::{Assistant, NetworkSpace, OtherTeacher, TeacherSource, TeacherSpec};

impl TeacherSpec {
    /// One without others or assistants.
    pub fn alone(architecture: edgesmith_search_space::Design, source: TeacherSource) -> Self {
        Self { architecture, source, others: Vec::new(), assistants: Vec::new() }
    }
}

/// Reads `[[teacher.others]]`.
pub fn read_others(
    teacher: &mut Table,
    space: Option<&NetworkSpace>,
    m: &mut Mistakes,
) -> Vec<OtherTeacher> {
    let mut others = Vec::new();
    for mut table in teacher.tables("others", m) {
        let architecture = read_architecture(&mut table, space, m);
        let epochs = table.within("epochs", 20, (1, 100_000), m);
        let weight = table.obeying("weight", m, above_zero_to(1_000_000.0)).unwrap_or(1.0);
        table.finish(m);
        let other = |architecture| OtherTeacher { architecture, epochs, weight };
        others.extend(architecture.map(other));
    }
    others
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
    use crate::StudySpec;
    use crate::spec::TeacherSource;

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
        let others: Vec<_> = teacher.others.iter().map(|o| (o.epochs, o.weight)).collect();
        assert_eq!(others, [(20, 0.25), (7, 1.0)]);
        assert_eq!(teacher.others[0].architecture, teacher.architecture);
        assert_ne!(teacher.others[1].architecture, teacher.architecture);
        let [assistant] = &teacher.assistants[..] else { panic!("{:?}", teacher.assistants) };
        assert_eq!(assistant.architecture, teacher.others[1].architecture);
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
            ("teacher = { others = [{ model = \"x\" }] }", "teacher.others[0].model: is unknown"),
        ] {
            let error = parse(teacher).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}

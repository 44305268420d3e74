//! The search space and the teacher's network in a study file.

use std::collections::HashMap;
use std::ops::Range;
use std::str::FromStr;

use edgesmith_search_space::{
    Activation, Architecture, DataShape, Design, NetworkSpace, Operation, Skip, SpaceDefinition,
    SpaceError, Stage, StageSpace, StagedSpace,
};

use super::model::{KINDS, ModelFile, ModelSpec, read_model_space};
use super::reader::{Mistakes, Scalar, Table};
use super::recipe::read_recipe;

/// Reads `[space]` of either kind with its tables, and `[recipe]`. `file` is the network that came
/// with the study.
pub fn read_space(
    root: &mut Table,
    data: DataShape,
    file: Option<&ModelFile>,
    m: &mut Mistakes,
) -> Option<(NetworkSpace, Option<ModelSpec>)> {
    let mend =
        "give a [space] table with resolution, stem_width and stages, or with kind = \"model\"";
    let Some(mut table) = root.required_table("space", mend, m) else {
        // A recipe is known without it, and its own mistakes are told.
        read_recipe(root, &mut Places::new(), m);
        return None;
    };
    let known = |name: String| {
        let unknown = || format!("unknown kind {name:?}; use one of {}", KINDS.join(", "));
        if KINDS.contains(&name.as_str()) { Ok(name.clone()) } else { Err(unknown()) }
    };
    match table.checked("kind", m, known).as_deref() {
        Some("model") => {
            let (space, model) = read_model_space(table, root, data, file, m)?;
            Some((space.into(), Some(model)))
        }
        _ => Some((read_staged_space(table, root, data, m)?.into(), None)),
    }
}

/// Reads the rest of `[space]` and `[[space.stages]]`, and `[recipe]`.
fn read_staged_space(
    mut table: Table,
    root: &mut Table,
    data: DataShape,
    m: &mut Mistakes,
) -> Option<StagedSpace> {
    let before = m.count();
    let mut places = places_of(&table, &["stages", "resolution", "stem_width"]);
    let resolution = required(&mut table, "resolution", m);
    let stem_width = required(&mut table, "stem_width", m);
    let mut stages = Vec::new();
    for mut stage in table.tables("stages", m) {
        places.extend(places_of(&stage, &STAGE_FIELDS));
        stages.push(read_stage(&mut stage, m));
        stage.finish(m);
    }
    table.finish(m);
    let recipe = read_recipe(root, &mut places, m);
    let sound = m.count() == before;
    let definition = SpaceDefinition { resolution, stem_width, stages, recipe };
    let space = if m.accepted() {
        StagedSpace::recorded(definition, data)
    } else {
        StagedSpace::new(definition, data)
    };
    match space {
        Ok(space) => sound.then_some(space),
        Err(errors) => {
            report(errors, &places, m);
            None
        }
    }
}

/// The places of fields, so that errors from a space can be reported there.
pub type Places = HashMap<String, Range<usize>>;

/// The places of these fields of a table.
pub fn places_of(table: &Table, names: &[&str]) -> Places {
    names.iter().map(|name| (table.path(name), table.span_of(name))).collect()
}

/// Reports the errors of a space.
pub fn report(errors: Vec<SpaceError>, places: &Places, m: &mut Mistakes) {
    for error in errors {
        let span = places.get(&error.field).cloned().unwrap_or(0..0);
        // If a list could not be read, that is reported already. The error here would be about the
        // stand-in value, which the user did not write.
        if !m.has_error_at(&span) {
            m.refuse(&span, error.field, error.message);
        }
    }
}

const STAGE_FIELDS: [&str; 9] = [
    "depth",
    "width",
    "kernel",
    "operation",
    "expansion",
    "stride",
    "activation",
    "squeeze",
    "skip",
];

fn read_stage(table: &mut Table, m: &mut Mistakes) -> StageSpace {
    StageSpace {
        depth: table.list("depth", m).unwrap_or_else(|| vec![1]),
        width: required(table, "width", m),
        kernel: table.list("kernel", m).unwrap_or_else(|| vec![3]),
        operation: table.list("operation", m).unwrap_or_else(|| vec!["conv".to_owned()]),
        expansion: table.list("expansion", m).unwrap_or_else(|| vec![4]),
        stride: table.list("stride", m).unwrap_or_else(|| vec![1]),
        activation: names(table, "activation", m).unwrap_or_else(|| vec![Activation::Relu]),
        squeeze: table.list("squeeze", m).unwrap_or_else(|| vec![0]),
        skip: names(table, "skip", m).unwrap_or_else(|| vec![Skip::Add]),
    }
}

/// A required list. If it is missing, returns a stand-in that is valid everywhere.
fn required(table: &mut Table, name: &'static str, m: &mut Mistakes) -> Vec<u32> {
    if !table.has(name) {
        m.refuse(&table.span(), table.path(name), "is missing; give a list of whole numbers");
    }
    table.list(name, m).unwrap_or_else(|| vec![1])
}

/// A list of names from a closed set.
pub fn names<T: FromStr<Err: std::fmt::Display>>(
    table: &mut Table,
    name: &'static str,
    m: &mut Mistakes,
) -> Option<Vec<T>> {
    let span = table.span_of(name);
    let texts: Vec<String> = table.list(name, m)?;
    let before = m.count();
    let mut values = Vec::new();
    for text in texts {
        match text.parse() {
            Ok(value) => values.push(value),
            Err(error) => m.refuse(&span, table.path(name), format!("{error}")),
        }
    }
    (m.count() == before).then_some(values)
}

/// Reads `architecture` of a teacher: `"largest"`, or a table with one value for each field.
pub fn read_architecture(
    teacher: &mut Table,
    space: Option<&NetworkSpace>,
    m: &mut Mistakes,
) -> Option<Design> {
    let (span, path) = (teacher.span_of("architecture"), teacher.path("architecture"));
    if !teacher.has("architecture") || teacher.is_text("architecture") {
        let known = |name: String| {
            if name == "largest" {
                Ok(())
            } else {
                Err(format!("{name:?} is unknown; use \"largest\" or a table of its stages"))
            }
        };
        teacher.checked("architecture", m, known);
        // Mistakes in the space are reported already, and without a space there is no largest
        // network.
        let space = space?;
        let space = match space {
            NetworkSpace::Staged(space) => space,
            NetworkSpace::Model(space) => return Some(Design::Model(space.original())),
        };
        return match space.largest() {
            Ok(largest) => Some(space.decode(&largest).architecture),
            Err(error) => {
                m.refuse(&span, path.clone(), format!("the space has no network: {error}"));
                None
            }
        };
    }
    let before = m.count();
    let mut table = teacher.table("architecture", m)?;
    let resolution = one(&mut table, "resolution", (1, 4096), m);
    let stem_width = one(&mut table, "stem_width", (1, 4096), m);
    let mut stages = Vec::new();
    for mut stage in table.tables("stages", m) {
        let activation = stage.parsed("activation", m).unwrap_or(Activation::Relu);
        let depth = stage.within("depth", 1, (1, 64), m);
        let width = one(&mut stage, "width", (1, 4096), m);
        let odd = |k: u32| match k {
            k if k % 2 == 1 && k <= 31 => Ok(k),
            k => Err(format!("{k} is not an odd number from 1 to 31")),
        };
        let kernel = stage.obeying("kernel", m, odd).unwrap_or(3);
        let expansion = stage.within("expansion", 4, (1, 16), m);
        let operation = |name: String| {
            Operation::from_name(&name, expansion).ok_or_else(|| {
                let known = Operation::NAMES.join(", ");
                format!("unknown operation {name:?}; use one of {known}")
            })
        };
        let operation = stage.checked("operation", m, operation).unwrap_or(Operation::Conv);
        let stride = stage.within("stride", 1, (1, 2), m);
        let squeeze = stage.within("squeeze", 0, (0, 64), m);
        let skip = stage.parsed("skip", m).unwrap_or(Skip::Add);
        stages.push(Stage { depth, width, kernel, operation, stride, activation, squeeze, skip });
        stage.finish(m);
    }
    if stages.is_empty() && m.count() == before {
        m.add(&table.span(), table.path("stages"), "is missing; give at least one stage");
    }
    table.finish(m);
    let architecture = Architecture { resolution, stem_width, stages };
    let data = DataShape { channels: 1, classes: 2 };
    if m.accepted()
        && let Err(errors) = architecture.check_recorded(data)
    {
        for error in errors {
            m.refuse(&span, path.clone(), error.to_string());
        }
    }
    if m.count() == before
        && let Err(error) = architecture.graph(data)
    {
        m.add(&span, path.clone(), error.to_string());
    }
    Some(Design::Staged(architecture))
}

/// A required whole number.
fn one(table: &mut Table, name: &'static str, range: (u32, u32), m: &mut Mistakes) -> u32 {
    if !table.has(name) {
        let text = format!("is missing; {}", <u32 as Scalar>::EXPECTED_FIELD);
        m.refuse(&table.span(), table.path(name), text);
    }
    table.within(name, 1, range, m)
}

//! The sections of a file of version 2.

use super::read::{Reader, malformed};
use super::write::{Writer, section};
use crate::error::{FormatProblem, ModelError};
use crate::layers::Layer;
use crate::model::{
    Array, Input, Model, Node, Normalization, Notes, Numbers, Output, Rounding, Section,
    TestVector, ValueId,
};
use crate::shape::Shape;

const INPUTS: [u8; 4] = *b"INPT";
const GRAPH: [u8; 4] = *b"GRPH";
const OUTPUTS: [u8; 4] = *b"OUTP";
const CLASSES: [u8; 4] = *b"clas";
const PREPROCESSING: [u8; 4] = *b"prep";
const PROVENANCE: [u8; 4] = *b"prov";
const TESTS: [u8; 4] = *b"test";
const TOLERANCES: [u8; 4] = *b"tole";

/// The sections that a reader may skip and that this engine knows, in the order of their tags.
pub(crate) const KNOWN_NOTES: [[u8; 4]; 5] =
    [CLASSES, PREPROCESSING, PROVENANCE, TESTS, TOLERANCES];

/// Reads all sections.
pub(super) fn read(mut file: Reader) -> Result<Model, ModelError> {
    let inputs = required(&mut file, INPUTS, |section| section.list(8, input))?;
    let (rounding, nodes) = required(&mut file, GRAPH, |section| {
        let rounding = section.code("rounding", |code| match code {
            1 => Some(Rounding::Once),
            2 => Some(Rounding::Twice),
            _ => None,
        })?;
        Ok((rounding, section.list(3, node)?))
    })?;
    let outputs = required(&mut file, OUTPUTS, |section| section.list(3, output))?;
    let notes = notes(&mut file)?;
    Ok(Model { inputs, nodes, outputs, rounding, notes })
}

/// Reads a section that must be here.
fn required<T>(
    file: &mut Reader,
    expected: [u8; 4],
    read: impl FnOnce(&mut Reader) -> Result<T, ModelError>,
) -> Result<T, ModelError> {
    let offset = file.at();
    let (found, mut section) = file.section()?;
    if found != expected {
        return Err(malformed(offset, FormatProblem::WrongSection { expected, found }));
    }
    let content = read(&mut section)?;
    section.end()?;
    Ok(content)
}

/// Reads the sections that a reader may skip, in the order of their tags.
fn notes(file: &mut Reader) -> Result<Notes, ModelError> {
    let mut notes = Notes::default();
    let mut last = None;
    while !file.is_empty() {
        let offset = file.at();
        let (tag, mut section) = file.section()?;
        if !tag[0].is_ascii_lowercase() {
            return Err(malformed(offset, FormatProblem::UnknownSection(tag)));
        }
        if last.is_some_and(|last| tag <= last) {
            return Err(malformed(offset, FormatProblem::SectionOutOfOrder(tag)));
        }
        last = Some(tag);
        match tag {
            CLASSES => notes.classes = full(offset, section.list(1, Reader::text)?)?,
            PREPROCESSING => notes.preprocessing = full(offset, section.list(2, pair)?)?,
            PROVENANCE => notes.provenance = full(offset, section.list(2, pair)?)?,
            TESTS => notes.tests = full(offset, section.list(2, test)?)?,
            TOLERANCES => notes.tolerances = full(offset, section.floats()?)?,
            _ => notes.others.push(Section { tag, bytes: section.rest().to_vec() }),
        }
        section.end()?;
    }
    Ok(notes)
}

/// A list that is not empty; an empty one is not written at all.
fn full<T>(offset: usize, list: Vec<T>) -> Result<Vec<T>, ModelError> {
    if list.is_empty() { Err(malformed(offset, FormatProblem::EmptySection)) } else { Ok(list) }
}

fn input(section: &mut Reader) -> Result<Input, ModelError> {
    let name = section.text()?;
    let sizes = section.list(1, Reader::size)?;
    let shape =
        Shape::new(&sizes).map_err(|problem| ModelError::Input { name: name.clone(), problem })?;
    let order = section.list(1, Reader::size)?;
    let float = section.code("array", |code| (code <= 1).then_some(code == 0))?;
    let array = if float {
        Array::Fp32
    } else {
        Array::Bytes(Normalization {
            mean: section.floats()?,
            std: section.floats()?,
            tables: section.bytes()?,
        })
    };
    Ok(Input { name, shape, order, array, element: section.element()? })
}

fn node(section: &mut Reader) -> Result<Node, ModelError> {
    let at = section.at();
    let code = section.byte()?;
    let inputs = section.list(1, |reader| reader.size().map(ValueId))?;
    let unknown = || malformed(at, FormatProblem::UnknownCode { what: "layer", code });
    let layer = Layer::read(code, section)?.ok_or_else(unknown)?;
    Ok(Node { inputs, layer, output: section.element()? })
}

fn output(section: &mut Reader) -> Result<Output, ModelError> {
    Ok(Output {
        name: section.text()?,
        value: ValueId(section.size()?),
        order: section.list(1, Reader::size)?,
    })
}

fn pair(section: &mut Reader) -> Result<(String, String), ModelError> {
    Ok((section.text()?, section.text()?))
}

fn test(section: &mut Reader) -> Result<TestVector, ModelError> {
    let inputs = section.list(2, |section| {
        let float = section.code("array", |code| (code <= 1).then_some(code == 0))?;
        Ok(if float { Numbers::Fp32(section.floats()?) } else { Numbers::Bytes(section.bytes()?) })
    })?;
    Ok(TestVector { inputs, outputs: section.list(1, Reader::floats)? })
}

/// Appends all sections.
pub(super) fn write(model: &Model, out: &mut Vec<u8>) {
    write_network(model, out);
    write_notes(&model.notes, out);
}

/// Appends all sections that a network needs, and the names of its classes.
pub(super) fn write_counted(model: &Model, out: &mut Vec<u8>) {
    write_network(model, out);
    let classes = model.notes.classes.clone();
    write_notes(&Notes { classes, ..Notes::default() }, out);
}

/// Appends the sections that a reader may not skip.
fn write_network(model: &Model, out: &mut Vec<u8>) {
    section(INPUTS, out, |section| section.list(&model.inputs, write_input));
    section(GRAPH, out, |section| {
        section.byte(match model.rounding {
            Rounding::Once => 1,
            Rounding::Twice => 2,
        });
        section.list(&model.nodes, |section, node| {
            section.byte(node.layer.code());
            section.list(&node.inputs, |section, value| section.size(value.0));
            node.layer.write(section);
            section.element(node.output);
        });
    });
    section(OUTPUTS, out, |section| {
        section.list(&model.outputs, |section, output| {
            section.text(&output.name);
            section.size(output.value.0);
            section.list(&output.order, |section, &axis| section.size(axis));
        });
    });
}

fn write_input(section: &mut Writer, input: &Input) {
    section.text(&input.name);
    section.list(input.shape.sizes(), |section, &size| section.size(size));
    section.list(&input.order, |section, &axis| section.size(axis));
    match &input.array {
        Array::Fp32 => section.byte(0),
        Array::Bytes(Normalization { mean, std, tables }) => {
            section.byte(1);
            section.floats(mean);
            section.floats(std);
            section.bytes(tables);
        }
    }
    section.element(input.element);
}

/// The notes that are not empty, in the order of their tags.
fn write_notes(notes: &Notes, out: &mut Vec<u8>) {
    let Notes { classes, preprocessing, provenance, tests, tolerances, others } = notes;
    let mut others = others.iter().peekable();
    let mut note = |tag: [u8; 4], empty: bool, write: &dyn Fn(&mut Writer)| {
        while let Some(other) = others.next_if(|other| other.tag < tag) {
            section(other.tag, out, |section| section.raw(&other.bytes));
        }
        if !empty {
            section(tag, out, write);
        }
    };
    note(CLASSES, classes.is_empty(), &|section| section.list(classes, |s, name| s.text(name)));
    note(PREPROCESSING, preprocessing.is_empty(), &|s| s.list(preprocessing, write_pair));
    note(PROVENANCE, provenance.is_empty(), &|s| s.list(provenance, write_pair));
    note(TESTS, tests.is_empty(), &|section| section.list(tests, write_test));
    note(TOLERANCES, tolerances.is_empty(), &|section| section.floats(tolerances));
    for other in others {
        section(other.tag, out, |section| section.raw(&other.bytes));
    }
}

fn write_pair(section: &mut Writer, (name, text): &(String, String)) {
    section.text(name);
    section.text(text);
}

fn write_test(section: &mut Writer, test: &TestVector) {
    section.list(&test.inputs, |section, input| match input {
        Numbers::Fp32(values) => {
            section.byte(0);
            section.floats(values);
        }
        Numbers::Bytes(bytes) => {
            section.byte(1);
            section.bytes(bytes);
        }
    });
    section.list(&test.outputs, |section, output| section.floats(output));
}

//! The operator of the function; a comparison is cast to numbers

use edgesmith_graph::{Binary, BinaryFunction};

use super::{Name, Site, Write};
use crate::proto::FLOAT;
use crate::write::file::int;

impl Write for Binary {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let [a, b] = [0, 1].map(|place| site.aligned(place));
        let operands: [&str; 2] = [&a, &b];
        match self.function {
            BinaryFunction::Divide => site.finish("Div", &operands, vec![]),
            BinaryFunction::Equal => compared(site, "Equal", &operands),
            BinaryFunction::Less => compared(site, "Less", &operands),
            BinaryFunction::LessOrEqual => compared(site, "LessOrEqual", &operands),
            BinaryFunction::Maximum => site.finish("Max", &operands, vec![]),
            BinaryFunction::Minimum => site.finish("Min", &operands, vec![]),
            BinaryFunction::Power => site.finish("Pow", &operands, vec![]),
            BinaryFunction::Subtract => site.finish("Sub", &operands, vec![]),
        }
    }
}

fn compared(site: &mut Site<'_>, op_type: &str, operands: &[&str; 2]) -> Name {
    let holds = site.step("holds", op_type, operands, vec![]);
    site.finish("Cast", &[&holds], vec![int("to", FLOAT.into())])
}

//! A function of each byte, as a table, so that every device computes the same bytes and none
//! computes an exponential.

use super::map::Function;
use super::prelude::*;

/// Looks every byte up.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// What the tables were made with, where that is one function. The engine does not use it.
    pub function: Option<Function>,
    /// The output byte for each input byte: 256 for all channels together, or 256 per channel. They
    /// include the scales and zero points of both.
    pub tables: Vec<u8>,
}

impl Settings for Table {
    const CODE: u8 = 8;
    const NAME: &'static str = "table";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let some = file.code("flag", |code| (code <= 1).then_some(code == 1))?;
        let function = if some { Some(Function::read(file)?) } else { None };
        Ok(Self { function, tables: file.bytes()? })
    }

    fn write(&self, file: &mut Writer) {
        file.byte(u8::from(self.function.is_some()));
        if let Some(function) = self.function {
            function.write(file);
        }
        file.bytes(&self.tables);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        bytes(inputs, element)?;
        self.function.map_or(Ok(()), Function::check)?;
        if self.tables.len() != 256 {
            let expected = u64::from(input.shape.channels()) * 256;
            check_size("the table", expected, self.tables.len())?;
        }
        Ok(input.shape)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, _: &Site) -> Box<dyn Prepared> {
        Box::new(PreparedTable { tables: self.tables.clone() })
    }
}

struct PreparedTable {
    tables: Vec<u8>,
}

impl Prepared for PreparedTable {
    fn run(&self, operands: Operands) {
        let (tables, _) = self.tables.as_chunks::<256>();
        let input = operands.inputs.of::<u8>(0);
        if let [table] = tables {
            for (output, &byte) in operands.output.iter_mut().zip(input) {
                *output = table[usize::from(byte)];
            }
            return;
        }
        for ((output, &byte), table) in
            operands.output.iter_mut().zip(input).zip(tables.iter().cycle())
        {
            *output = table[usize::from(byte)];
        }
    }
}

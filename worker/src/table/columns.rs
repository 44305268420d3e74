//! One CSV file, gzipped or plain, by column.

use std::path::{Path, PathBuf};

use edgesmith_search_space::{Cell, ParseCellError};

use crate::data::{DataError, read_decompressed};

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The file itself.
    #[error("{0}")]
    File(#[from] DataError),
    /// A file that is no CSV.
    #[error("{} is no CSV table: {source}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What the reader said, with the line.
        source: csv::Error,
    },
    /// A column that the study names and the file does not have.
    #[error("{} has no column {column:?}; it has {known}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// As asked.
        column: String,
        /// Those there are.
        known: String,
    },
    /// A cell that does not read as one.
    #[error("{} line {line}: {source}", path.display())]
    Cell {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        source: ParseCellError,
    },
    /// A figure that is no number.
    #[error("{} line {line}: {column} is {value:?}, which is no number", path.display())]
    Number {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column.
        column: String,
        /// As it stands.
        value: String,
    },
    /// Two files that do not belong together.
    #[error("{} has {rows} rows, but {} has {expected}: name two files of one table",
        path.display(), table.display())]
    Rows {
        /// The latencies.
        path: PathBuf,
        /// Their rows.
        rows: usize,
        /// The table.
        table: PathBuf,
        /// Its rows.
        expected: usize,
    },
    /// A network that nobody trained for it.
    #[error("{path} does not hold {cell}")]
    Absent {
        /// The table.
        path: String,
        /// As asked.
        cell: Cell,
    },
    /// A rung of another study.
    #[error("the study has no rung at {epochs} epochs")]
    NoRung {
        /// As asked.
        epochs: u32,
    },
    /// Latencies of a study that names no file of them.
    #[error("the study names no file of latencies; add table.latencies")]
    NoLatencies,
}

/// A file's cells as text, column by column.
#[derive(Debug)]
pub struct Columns {
    path: PathBuf,
    names: Vec<String>,
    cells: Vec<Vec<String>>,
}

impl Columns {
    /// Reads a file with a header.
    ///
    /// # Errors
    /// When it cannot be read or is no CSV.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let bytes = read_decompressed(path)?;
        let failed = |source| TableError::Csv { path: path.to_owned(), source };
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let names: Vec<String> =
            reader.headers().map_err(failed)?.iter().map(|name| name.trim().to_owned()).collect();
        let mut cells = vec![Vec::new(); names.len()];
        for record in reader.records() {
            // The reader has checked that every record has as many cells as the header.
            for (column, cell) in cells.iter_mut().zip(&record.map_err(failed)?) {
                column.push(cell.to_owned());
            }
        }
        Ok(Self { path: path.to_owned(), names, cells })
    }

    /// Names of all columns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.cells.first().map_or(0, Vec::len)
    }

    /// Whether a column is there.
    ///
    /// # Errors
    /// When it is not.
    pub fn has(&self, column: &str) -> Result<(), TableError> {
        self.text(column).map(|_| ())
    }

    /// A column as text.
    ///
    /// # Errors
    /// When it is not there.
    pub fn text(&self, column: &str) -> Result<&[String], TableError> {
        let place = self.names.iter().position(|name| name == column);
        place.map(|place| self.cells[place].as_slice()).ok_or_else(|| TableError::Column {
            path: self.path.clone(),
            column: column.to_owned(),
            known: self.names.join(", "),
        })
    }

    /// One figure of a row, from 0.
    ///
    /// # Errors
    /// When the column is not there, or the figure is no finite number.
    pub fn number(&self, column: &str, row: usize) -> Result<f64, TableError> {
        let value = &self.text(column)?[row];
        let number = value.trim().parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| TableError::Number {
            path: self.path.clone(),
            line: row + 2,
            column: column.to_owned(),
            value: value.clone(),
        })
    }
}

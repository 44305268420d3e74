//! Reads a CSV file, gzipped or plain, by column.

use std::path::{Path, PathBuf};

use edgesmith_common::Fault;
use edgesmith_data::files::BYTE_ORDER_MARK;
use edgesmith_data::{DataError, read_decompressed};
use edgesmith_search_space::{Cell, ParseCellError};

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The file cannot be read.
    #[error("{0}")]
    File(#[from] DataError),
    /// The file is not valid CSV.
    #[error("{} is not a valid CSV table: {source}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// The error of the CSV reader, with the line.
        source: csv::Error,
    },
    /// The study names a column that the file does not have.
    #[error("{} has no column {column:?}; it has {known}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The requested one.
        column: String,
        /// The columns of the file.
        known: String,
    },
    /// A cell in the column `arch` cannot be parsed.
    #[error("{} line {line}: {source}{}", path.display(), too(others))]
    Cell {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        source: ParseCellError,
        /// The other lines whose cell cannot be parsed.
        others: Vec<usize>,
    },
    /// A figure is not a finite number.
    #[error("{} line {line}: {column} is {value:?}, which is not a finite number", path.display())]
    Number {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column.
        column: String,
        /// The text in the file.
        value: String,
    },
    /// The two files have different numbers of rows.
    #[error("{} has {rows} rows, but {} has {expected}; both must have the same rows",
        path.display(), table.display())]
    Rows {
        /// The file of latencies.
        path: PathBuf,
        /// Its number of rows.
        rows: usize,
        /// The table.
        table: PathBuf,
        /// The number of rows of the table.
        expected: usize,
    },
    /// The table does not have this network.
    #[error("{path} has no row for {cell}")]
    Absent {
        /// The table.
        path: String,
        /// The requested one.
        cell: Cell,
    },
    /// The study has no rung at these epochs.
    #[error("the study has no rung at {epochs} epochs")]
    NoRung {
        /// The requested one.
        epochs: u32,
    },
    /// Latencies are requested, but the study names no file of them.
    #[error("the study names no file of latencies; add latencies to [table]")]
    NoLatencies,
}

impl TableError {
    /// Where the cause lies: in this worker, which lacks the file; in the table; or in the
    /// candidate, whose row the table does not have or has without a figure.
    pub fn fault(&self) -> Fault {
        match self {
            TableError::File(error) => error.fault(),
            TableError::Csv { .. }
            | TableError::Column { .. }
            | TableError::Cell { .. }
            | TableError::Rows { .. }
            | TableError::NoLatencies => Fault::Data,
            TableError::Number { .. } | TableError::Absent { .. } | TableError::NoRung { .. } => {
                Fault::Candidate
            }
        }
    }
}

/// Most lines that an error names.
const MOST_NAMED: usize = 20;

fn too(lines: &[usize]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let named: Vec<String> = lines.iter().take(MOST_NAMED).map(ToString::to_string).collect();
    let rest = match lines.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("; lines {}{rest} too", named.join(", "))
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
    /// When it cannot be read or is not valid CSV.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let bytes = read_decompressed(path)?;
        let failed = |source| TableError::Csv { path: path.to_owned(), source };
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
        let mut reader = csv::Reader::from_reader(text);
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

    /// About the number of bytes that it has in memory.
    pub fn bytes(&self) -> u64 {
        let of = |cell: &String| (size_of::<String>() + cell.capacity()) as u64;
        self.cells.iter().flatten().map(of).sum()
    }

    /// Names of all columns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.cells.first().map_or(0, Vec::len)
    }

    /// Checks that a column exists.
    ///
    /// # Errors
    /// When the column does not exist.
    pub fn has(&self, column: &str) -> Result<(), TableError> {
        self.text(column).map(|_| ())
    }

    /// A column as text.
    ///
    /// # Errors
    /// When the column does not exist.
    pub fn text(&self, column: &str) -> Result<&[String], TableError> {
        let place = self.names.iter().position(|name| name == column);
        place.map(|place| self.cells[place].as_slice()).ok_or_else(|| TableError::Column {
            path: self.path.clone(),
            column: column.to_owned(),
            known: self.names.join(", "),
        })
    }

    /// One figure of a row; rows count from 0.
    ///
    /// # Errors
    /// When the column does not exist, or the figure is not a finite number.
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

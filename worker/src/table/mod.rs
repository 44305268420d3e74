//! Tables of networks that others have trained: CSV files that are read once, with rows that are
//! found by network. Nothing is trained or timed here; the figures of the table are passed on
//! unchanged.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgesmith_common::spec::TableSpec;
use edgesmith_common::{Figures, Metric, RungReport, ScopedMetric, Split, Target};
use edgesmith_search_space::Cell;

mod columns;

pub use columns::{Columns, TableError};

use crate::lru::Lru;

/// A table counts MACs and parameters in millions.
const MILLION: f64 = 1e6;

/// A study's table: its columns, with the row of each cell.
#[derive(Debug)]
pub struct CellTable {
    rows: HashMap<Cell, usize>,
    columns: Columns,
    latencies: Option<Columns>,
}

impl CellTable {
    /// Reads the files of `spec`; relative paths start from `root`.
    ///
    /// # Errors
    /// When a file does not exist, is not a valid table, or lacks a column that the study names.
    pub fn load(spec: &TableSpec, root: &Path) -> Result<Self, TableError> {
        let path = root.join(&spec.path);
        let columns = Columns::read(&path)?;
        let mut needed = vec![spec.validation_accuracy.as_str(), spec.seconds.as_str()];
        needed.extend(spec.test_accuracies.iter().map(String::as_str));
        needed.extend(spec.rungs.iter().map(|rung| rung.validation_accuracy.as_str()));
        needed.iter().try_for_each(|name| columns.has(name))?;
        let mut rows = HashMap::new();
        let mut wrong = VecDeque::new();
        for (row, name) in columns.text("arch")?.iter().enumerate() {
            match name.parse() {
                Ok(cell) => drop(rows.insert(cell, row)),
                Err(source) => wrong.push_back((row + 2, source)),
            }
        }
        if let Some((line, source)) = wrong.pop_front() {
            let others = wrong.into_iter().map(|(line, _)| line).collect();
            return Err(TableError::Cell { path, line, source, others });
        }
        let latencies = match &spec.latencies {
            Some(file) => {
                let latencies = Columns::read(&root.join(file))?;
                if latencies.rows() != columns.rows() {
                    return Err(TableError::Rows {
                        path: root.join(file),
                        rows: latencies.rows(),
                        table: path,
                        expected: columns.rows(),
                    });
                }
                Some(latencies)
            }
            None => None,
        };
        Ok(Self { rows, columns, latencies })
    }

    /// About the number of bytes that it has in memory.
    fn bytes(&self) -> u64 {
        self.columns.bytes() + self.latencies.as_ref().map_or(0, Columns::bytes)
    }

    /// Every cell of the table.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.rows.keys()
    }

    /// The device classes with latencies, in the order of the file.
    pub fn devices(&self) -> Vec<String> {
        let Some(latencies) = &self.latencies else { return Vec::new() };
        latencies.names().filter_map(|name| name.strip_suffix("_ms")).map(str::to_owned).collect()
    }

    /// The figures of `cell` in the columns that `spec` names, with the latencies on `targets`. The
    /// table has one latency per device class.
    ///
    /// # Errors
    /// When the cell is not in the table, a device class has no column, or a figure is not a finite
    /// number.
    pub fn look_up<'d>(
        &self,
        spec: &TableSpec,
        cell: &Cell,
        targets: impl IntoIterator<Item = &'d Target>,
    ) -> Result<Figures, TableError> {
        let row = self.row(spec, cell)?;
        let share = |name: &str| self.share(name, row);
        let mut figures = Figures::new()
            .with(ScopedMetric::VALIDATION_ACCURACY, share(&spec.validation_accuracy)?)
            // A trial that ends has passed every rung, so their seconds count too.
            .with(
                Metric::TRAINING_SECONDS.whole(),
                self.seconds(spec, row)? + self.seconds_up_to(spec, u32::MAX, row)?,
            );
        for (metric, column) in [(Metric::MACS, "flops_m"), (Metric::PARAMETERS, "params_m")] {
            if self.columns.has(column).is_ok() {
                let millions = self.columns.number(column, row)?;
                figures.set(metric.whole(), (millions * MILLION).round());
            }
        }
        for target in targets {
            let columns = self.latencies.as_ref().ok_or(TableError::NoLatencies)?;
            let ms = columns.number(&format!("{}_ms", target.device), row)?;
            figures.set(Metric::LATENCY_MS.at(target.clone()), ms);
        }
        for (place, name) in spec.test_accuracies.iter().enumerate() {
            let accuracy = share(name)?;
            if place == 0 {
                figures.set(ScopedMetric::TEST_ACCURACY, accuracy);
            }
            figures.set(Metric::ACCURACY.on(Split::HeldOut(name.as_str().into())), accuracy);
        }
        Ok(figures)
    }

    /// The figures of `cell` at the rung of `spec` with these epochs.
    ///
    /// # Errors
    /// When the study has no such rung, the cell is not in the table, or a figure is not a finite
    /// number.
    pub fn look_up_rung(
        &self,
        spec: &TableSpec,
        cell: &Cell,
        epochs: u32,
    ) -> Result<RungReport, TableError> {
        let rung = spec.rungs.iter().find(|rung| rung.epochs == epochs);
        let rung = rung.ok_or(TableError::NoRung { epochs })?;
        let row = self.row(spec, cell)?;
        let accuracy = self.share(&rung.validation_accuracy, row)?;
        let figures = Figures::new()
            .with(ScopedMetric::VALIDATION_ACCURACY, accuracy)
            .with(Metric::TRAINING_SECONDS.whole(), self.seconds_up_to(spec, epochs, row)?);
        Ok(RungReport { epochs, figures, checkpoint: None })
    }

    fn row(&self, spec: &TableSpec, cell: &Cell) -> Result<usize, TableError> {
        let row = self.rows.get(cell).copied();
        row.ok_or_else(|| TableError::Absent { path: spec.path.clone(), cell: *cell })
    }

    fn share(&self, column: &str, row: usize) -> Result<f64, TableError> {
        self.columns.number(column, row).map(|percent| percent / 100.0)
    }

    /// Simulated seconds of the whole training.
    fn seconds(&self, spec: &TableSpec, row: usize) -> Result<f64, TableError> {
        self.columns.number(&spec.seconds, row).map(|seconds| seconds * spec.seconds_share)
    }

    /// Simulated seconds of all rungs up to the one at `epochs`. Each rung is a separate training
    /// from the first epoch, so they add up.
    fn seconds_up_to(&self, spec: &TableSpec, epochs: u32, row: usize) -> Result<f64, TableError> {
        let Some(whole) = spec.epochs else { return Ok(0.0) };
        let passed = spec.rungs.iter().map(|rung| rung.epochs).filter(|rung| *rung <= epochs);
        let spent: f64 = passed.map(f64::from).sum();
        Ok(self.seconds(spec, row)? * spent / f64::from(whole))
    }
}

/// A cache of tables.
#[derive(Debug)]
pub struct Tables {
    root: PathBuf,
    cache: Lru<TableSpec, CellTable>,
}

impl Tables {
    /// An empty cache for tables of up to `limit` bytes together. Relative paths of studies start
    /// from `root`.
    pub fn new(root: PathBuf, limit: u64) -> Self {
        Self { root, cache: Lru::new(limit) }
    }

    /// The table of `spec`, read once.
    ///
    /// # Errors
    /// As [`CellTable::load`].
    pub fn get(&self, spec: &TableSpec) -> Result<Arc<CellTable>, TableError> {
        self.cache.get(spec.clone(), 0, || {
            let table = CellTable::load(spec, &self.root)?;
            let bytes = table.bytes();
            Ok((table, bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use edgesmith_common::Fault;
    use edgesmith_common::spec::TableRung;
    use edgesmith_search_space::CellIdentity;

    const CELL: &str = "|none~0|+|skip_connect~0|none~1|+|none~0|none~1|nor_conv_3x3~2|";

    fn spec() -> TableSpec {
        TableSpec {
            path: "table.csv".to_owned(),
            latencies: Some("latency.csv".to_owned()),
            validation_accuracy: "valid".to_owned(),
            test_accuracies: vec!["test".to_owned()],
            epochs: None,
            rungs: Vec::new(),
            seconds: "train_s".to_owned(),
            seconds_share: 0.5,
            identity: CellIdentity::Network,
        }
    }

    fn load(table: &str, latency: &str) -> Result<CellTable, TableError> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("table.csv"), table).unwrap();
        std::fs::write(directory.path().join("latency.csv"), latency).unwrap();
        CellTable::load(&spec(), directory.path())
    }

    #[test]
    fn a_row_is_found_by_its_cell_and_converted_to_the_studys_units() {
        let table = format!("index,arch,flops_m,valid,test,train_s\n0,{CELL},2.5,90.5,80,100\n");
        let table = load(&table, "index,pixel3_ms,raspi4_ms\n0,1.5,20\n").unwrap();
        let [pixel3, absent] = ["pixel3", "titan"].map(|class| Target::on(class.parse().unwrap()));
        let figures = table.look_up(&spec(), &CELL.parse().unwrap(), [&pixel3]).unwrap();
        let said = "validation_accuracy 0.905, test_accuracy 0.8, accuracy@test 0.8, \
                    latency_ms@pixel3 1.5, macs 2500000, training_seconds 50";
        assert_eq!(figures.to_string(), said);
        assert_eq!(table.devices(), ["pixel3", "raspi4"]);
        let error = table.look_up(&spec(), &CELL.parse().unwrap(), [&absent]).unwrap_err();
        assert!(error.to_string().contains("titan_ms"), "{error}");
        let other = CELL.replace("3x3~2", "1x1~2").parse().unwrap();
        let error = table.look_up(&spec(), &other, []).unwrap_err();
        assert!(matches!(error, TableError::Absent { .. }), "{error}");
    }

    #[test]
    fn rungs_have_their_own_columns_and_their_seconds_add_up() {
        let rung =
            |epochs, column: &str| TableRung { epochs, validation_accuracy: column.to_owned() };
        let rungs = vec![rung(10, "valid_10"), rung(25, "valid_25")];
        let spec = TableSpec { latencies: None, epochs: Some(200), rungs, ..spec() };
        let cell = CELL.parse().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(directory.path().join("table.csv"), text).unwrap();
        write(&format!("arch,valid_10,valid_25,valid,test,train_s\n{CELL},40,60.5,90,80,1600\n"));
        let table = CellTable::load(&spec, directory.path()).unwrap();
        // A look-up costs half of the column, 800 seconds. A rung costs its share of the 200
        // epochs.
        let report = |epochs, accuracy, seconds| RungReport {
            epochs,
            figures: Figures::new()
                .with(ScopedMetric::VALIDATION_ACCURACY, accuracy)
                .with(Metric::TRAINING_SECONDS.whole(), seconds),
            checkpoint: None,
        };
        let at = |epochs| table.look_up_rung(&spec, &cell, epochs);
        assert_eq!(at(10).unwrap(), report(10, 0.4, 40.0));
        assert_eq!(at(25).unwrap(), report(25, 0.605, 40.0 + 100.0));
        assert_eq!(table.look_up(&spec, &cell, []).unwrap().training_seconds(), 140.0 + 800.0);
        let error = at(12).unwrap_err().to_string();
        assert_eq!(error, "the study has no rung at 12 epochs");
        let other = CELL.replace("3x3~2", "1x1~2").parse().unwrap();
        let error = table.look_up_rung(&spec, &other, 10).unwrap_err();
        assert!(matches!(error, TableError::Absent { .. }), "{error}");
        write(&format!("arch,valid_10,valid,test,train_s\n{CELL},40,90,80,1600\n"));
        let error = CellTable::load(&spec, directory.path()).unwrap_err().to_string();
        assert!(error.contains("no column \"valid_25\""), "{error}");
    }

    #[test]
    fn invalid_tables_are_reported_with_their_place() {
        let good = format!("arch,valid,test,train_s\n{CELL},1,2,3\n");
        let latency = "pixel3_ms\n1\n";
        for (table, latency, said) in [
            (good.replace("valid", "accuracy"), latency, "no column \"valid\""),
            (good.replace("skip_connect", "hop"), latency, "line 2"),
            (good.clone(), "pixel3_ms\n1\n2\n", "2 rows"),
            ("arch,valid\na,b,c\n".to_owned(), latency, "line: 2"),
        ] {
            let error = load(&table, latency).unwrap_err().to_string();
            assert!(error.contains(said), "{said:?} is not in: {error}");
        }
        let three = format!("{}a,1,2,3\nb,1,2,3\nc,1,2,3\n", good);
        let error = load(&three, latency).unwrap_err().to_string();
        assert!(error.contains("line 3: ") && error.contains("lines 4, 5 too"), "{error}");
        let marked = format!("\u{feff}{good}");
        load(&marked, latency).unwrap();
        let table = load(&good.replace(",1,2,3", ",1,x,3"), latency).unwrap();
        let error = table.look_up(&spec(), &CELL.parse().unwrap(), []).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("\"x\""), "{error}");
        let error = CellTable::load(&spec(), Path::new("no-such")).unwrap_err().to_string();
        assert!(error.contains("table.csv") && error.contains("--data-root"), "{error}");
    }

    #[test]
    fn tables_of_studies_that_alternate_are_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let table = format!("arch,valid,test,train_s\n{CELL},1,2,3\n");
        std::fs::write(directory.path().join("table.csv"), table).unwrap();
        let spec = TableSpec { latencies: None, ..spec() };
        let other = TableSpec { seconds_share: 0.25, ..spec.clone() };
        let tables = Tables::new(directory.path().to_owned(), 1 << 20);
        let [first, second] = [&spec, &other].map(|spec| tables.get(spec).unwrap());
        std::fs::remove_file(directory.path().join("table.csv")).unwrap();
        for _ in 0..2 {
            assert!(Arc::ptr_eq(&first, &tables.get(&spec).unwrap()));
            assert!(Arc::ptr_eq(&second, &tables.get(&other).unwrap()));
        }
    }

    #[test]
    fn a_fault_lies_in_the_worker_the_table_or_the_candidate() {
        let directory = tempfile::tempdir().unwrap();
        let spec = TableSpec { latencies: None, ..spec() };
        let fault = |table: Option<&str>| {
            if let Some(table) = table {
                std::fs::write(directory.path().join("table.csv"), table).unwrap();
            }
            CellTable::load(&spec, directory.path()).unwrap_err().fault()
        };
        assert_eq!(fault(None), Fault::Worker);
        assert_eq!(fault(Some("arch,valid\n")), Fault::Data);
        assert_eq!(fault(Some("arch,valid,test,train_s\nx,1,2,3\n")), Fault::Data);
        let table = load(&format!("arch,valid,test,train_s\n{CELL},1,2,x\n"), "pixel3_ms\n1\n");
        let error = table.unwrap().look_up(&spec, &CELL.parse().unwrap(), []).unwrap_err();
        assert_eq!(error.fault(), Fault::Candidate);
    }
}

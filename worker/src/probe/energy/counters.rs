//! Counters of energy, which are read before and after. Those of the processors are zones of
//! powercap on Linux (RAPL).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Counting, EnergySource, NoEnergy, entries, number, text};

/// Counters by where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counters(BTreeMap<PathBuf, Counter>);

/// One counter, microjoules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counter {
    value: u64,
    /// It begins at 0 again after this value; `None` if it does not say.
    most: Option<u64>,
}

impl Counters {
    /// Files that hold a counter each, and do not say where it begins again.
    pub(super) fn of_files(files: &[PathBuf]) -> Result<Self, NoEnergy> {
        let counter =
            |file: &PathBuf| Ok((file.clone(), Counter { value: number(file)?, most: None }));
        files.iter().map(counter).collect::<Result<_, _>>().map(Self)
    }

    /// Microjoules that were counted since `before`. A counter that wrapped around is taken to have
    /// done so once: at full load that takes minutes.
    fn since(&self, before: &Self) -> Result<u64, NoEnergy> {
        if !self.0.keys().eq(before.0.keys()) {
            return Err(NoEnergy::Changed);
        }
        let used = |(now, before): (&Counter, &Counter)| {
            if now.value >= before.value {
                Some(now.value - before.value)
            } else {
                before.most?.checked_sub(before.value)?.checked_add(now.value)
            }
        };
        let all = self.0.values().zip(before.0.values());
        let sum = all.map(used).try_fold(0u64, |sum, used| sum.checked_add(used?));
        sum.ok_or(NoEnergy::Changed)
    }
}

/// Counters as they were, and how to read them again.
struct Since<R> {
    before: Counters,
    read: R,
}

/// Begins with what `read` reads now.
pub(super) fn count(
    read: impl Fn() -> Result<Counters, NoEnergy> + 'static,
) -> Result<Box<dyn Counting>, NoEnergy> {
    Ok(Box::new(Since { before: read()?, read }))
}

impl<R: Fn() -> Result<Counters, NoEnergy>> Counting for Since<R> {
    fn used(self: Box<Self>) -> Result<u64, NoEnergy> {
        (self.read)()?.since(&self.before)
    }
}

/// A directory of powercap zones.
pub(super) struct Powercap(PathBuf);

impl Powercap {
    /// In this directory.
    pub(super) fn at(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }
}

impl EnergySource for Powercap {
    fn begin(&self) -> Result<Box<dyn Counting>, NoEnergy> {
        let directory = self.0.clone();
        count(move || processors(&directory))
    }
}

/// The zones of whole processors, `intel-rapl:N`; AMD's have the same name. A part of one, such as
/// `intel-rapl:0:1`, is counted in it. A zone of the whole machine (`psys`) would count all of them
/// again.
fn processors(directory: &Path) -> Result<Counters, NoEnergy> {
    let mut counters = BTreeMap::new();
    for zone in entries(directory) {
        let name = zone.file_name().unwrap_or_default().to_string_lossy();
        let processor = name.strip_prefix("intel-rapl:").is_some_and(|n| !n.contains(':'));
        if processor && text(&zone.join("name"))?.starts_with("package") {
            let most = Some(number(&zone.join("max_energy_range_uj"))?);
            let counter = Counter { value: number(&zone.join("energy_uj"))?, most };
            counters.insert(zone, counter);
        }
    }
    if counters.is_empty() { Err(NoEnergy::NoSensor) } else { Ok(Counters(counters)) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{forbid, write};
    use super::*;

    fn zone(at: &Path, zone: &str, name: &str, energy_uj: u64) {
        let energy_uj = energy_uj.to_string();
        let range = ("max_energy_range_uj", "1000");
        write(&at.join(zone), &[("name", name), ("energy_uj", &energy_uj), range]);
    }

    #[test]
    fn processors_are_added_up_and_their_parts_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        zone(at, "intel-rapl:0", "package-0", 100);
        zone(at, "intel-rapl:1", "package-1", 200);
        zone(at, "intel-rapl:0:0", "core", 50);
        zone(at, "intel-rapl:2", "psys", 400);
        zone(at, "intel-rapl-mmio:0", "package-0", 100);
        fs::create_dir(at.join("intel-rapl")).unwrap();
        let begun = Powercap::at(at).begin().unwrap();
        zone(at, "intel-rapl:0", "package-0", 130);
        zone(at, "intel-rapl:1", "package-1", 207);
        zone(at, "intel-rapl:2", "psys", 999);
        assert_eq!(begun.used(), Ok(37));
    }

    #[test]
    fn a_counter_that_wraps_around_goes_on_from_zero() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        zone(at, "intel-rapl:0", "package-0", 990);
        let begun = Powercap::at(at).begin().unwrap();
        zone(at, "intel-rapl:0", "package-0", 5);
        assert_eq!(begun.used(), Ok(15));
        // A counter beyond its own range says nothing, nor one that went back and has no range.
        for most in [Some(5), None] {
            let counters = |value| Counters([("a".into(), Counter { value, most })].into());
            assert_eq!(counters(1).since(&counters(9)), Err(NoEnergy::Changed));
        }
    }

    #[test]
    fn a_machine_without_counters_that_can_be_read_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let none = Some(NoEnergy::NoSensor);
        assert_eq!(Powercap::at(at.join("none")).begin().err(), none);
        assert_eq!(Powercap::at(at).begin().err(), none);
        zone(at, "intel-rapl:0", "package-0", 100);
        let one = Powercap::at(at).begin().unwrap();
        zone(at, "intel-rapl:1", "package-1", 100);
        assert_eq!(one.used(), Err(NoEnergy::Changed), "others than before");
        let energy = at.join("intel-rapl:1/energy_uj");
        let unreadable = Some(NoEnergy::Unreadable(energy.clone()));
        fs::write(&energy, "no number").unwrap();
        assert_eq!(Powercap::at(at).begin().err(), unreadable);
        forbid(&energy);
        assert_eq!(Powercap::at(at).begin().err(), unreadable);
    }
}

//! Energy counters of the processors, as Linux exposes them (RAPL, under `powercap`). Says nothing
//! about what used the energy: a counter covers a whole processor, with its idle power and with
//! other work. Where a machine has no counters, or does not let this process read them, there are
//! none.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What counts energy.
pub(super) trait EnergySource {
    /// The counters as they are now; `None` if there are none.
    fn read(&self) -> Option<Counters>;
}

/// Counters by the name of their zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counters(BTreeMap<String, Counter>);

/// The counter of one processor, microjoules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counter {
    value: u64,
    /// It begins at 0 again after this value.
    most: u64,
}

impl Counters {
    /// One counter that never wraps around.
    #[cfg(test)]
    pub(super) fn of(value: u64) -> Self {
        Self([("intel-rapl:0".to_owned(), Counter { value, most: u64::MAX })].into())
    }

    /// Microjoules that were counted since `before`. A counter that wrapped around is taken to have
    /// done so once: at full load that takes minutes. `None` if the counters are not the same ones.
    pub(super) fn since(&self, before: &Self) -> Option<u64> {
        if !self.0.keys().eq(before.0.keys()) {
            return None;
        }
        let used = |(now, before): (&Counter, &Counter)| {
            if now.value >= before.value {
                Some(now.value - before.value)
            } else {
                before.most.checked_sub(before.value)?.checked_add(now.value)
            }
        };
        let all = self.0.values().zip(before.0.values());
        all.map(used).try_fold(0u64, |sum, used| sum.checked_add(used?))
    }
}

/// A directory of powercap zones.
pub(super) struct Powercap(PathBuf);

impl Powercap {
    /// That of this machine.
    pub(super) fn of_this_machine() -> Self {
        Self::at("/sys/class/powercap")
    }

    /// In this directory.
    pub(super) fn at(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }
}

impl EnergySource for Powercap {
    /// The zones of whole processors, `intel-rapl:N`; AMD's have the same name. A part of one, such
    /// as `intel-rapl:0:1`, is counted in it. A zone of the whole machine (`psys`) would count all
    /// of them again.
    fn read(&self) -> Option<Counters> {
        let mut counters = BTreeMap::new();
        for entry in fs::read_dir(&self.0).ok()?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let processor = name.strip_prefix("intel-rapl:").is_some_and(|n| !n.contains(':'));
            if processor && text(&entry.path(), "name")?.starts_with("package") {
                counters.insert(name, counter(&entry.path())?);
            }
        }
        (!counters.is_empty()).then_some(Counters(counters))
    }
}

fn counter(zone: &Path) -> Option<Counter> {
    let number = |file: &str| text(zone, file)?.parse().ok();
    Some(Counter { value: number("energy_uj")?, most: number("max_energy_range_uj")? })
}

fn text(zone: &Path, file: &str) -> Option<String> {
    Some(fs::read_to_string(zone.join(file)).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(at: &Path, zone: &str, name: &str, energy_uj: u64) {
        let folder = at.join(zone);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("name"), format!("{name}\n")).unwrap();
        fs::write(folder.join("energy_uj"), format!("{energy_uj}\n")).unwrap();
        fs::write(folder.join("max_energy_range_uj"), "1000\n").unwrap();
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
        let powercap = Powercap::at(at);
        let before = powercap.read().unwrap();
        zone(at, "intel-rapl:0", "package-0", 130);
        zone(at, "intel-rapl:1", "package-1", 207);
        zone(at, "intel-rapl:2", "psys", 999);
        assert_eq!(powercap.read().unwrap().since(&before), Some(37));
    }

    #[test]
    fn a_counter_that_wraps_around_goes_on_from_zero() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        zone(at, "intel-rapl:0", "package-0", 990);
        let powercap = Powercap::at(at);
        let before = powercap.read().unwrap();
        zone(at, "intel-rapl:0", "package-0", 5);
        assert_eq!(powercap.read().unwrap().since(&before), Some(15));
        // A counter beyond its own range says nothing.
        let broken = Counters([("a".to_owned(), Counter { value: 9, most: 5 })].into());
        let lower = Counters([("a".to_owned(), Counter { value: 1, most: 5 })].into());
        assert_eq!(lower.since(&broken), None);
    }

    #[test]
    fn a_machine_without_counters_that_can_be_read_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        assert_eq!(Powercap::at(at.join("none")).read(), None);
        assert_eq!(Powercap::at(at).read(), None);
        zone(at, "intel-rapl:0", "package-0", 100);
        let one = Powercap::at(at).read().unwrap();
        zone(at, "intel-rapl:1", "package-1", 100);
        assert_eq!(Powercap::at(at).read().unwrap().since(&one), None, "others than before");
        fs::write(at.join("intel-rapl:1/energy_uj"), "no number").unwrap();
        assert_eq!(Powercap::at(at).read(), None);
    }
}

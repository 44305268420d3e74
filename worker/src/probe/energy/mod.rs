//! Energy of the timed runs, by the sensors that Linux exposes: counters of whole processors (RAPL,
//! `amd_energy`), or the power monitor of a board. Says nothing about what used the energy: a
//! sensor covers all that it supplies, with its idle power and with other work. Where a machine has
//! no sensor that is known to cover all, or does not let this process read it, there is no figure.

mod counters;
mod hwmon;
mod power;

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use self::counters::Powercap;
use self::hwmon::Hwmon;

/// What counts energy.
pub(super) trait EnergySource {
    /// Begins to count.
    ///
    /// # Errors
    /// When there is nothing that can be read.
    fn begin(&self) -> Result<Box<dyn Counting>, NoEnergy>;
}

/// A count that has begun.
pub(super) trait Counting {
    /// Microjoules since it began.
    ///
    /// # Errors
    /// When what was read does not say.
    fn used(self: Box<Self>) -> Result<u64, NoEnergy>;
}

/// Why the energy is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoEnergy {
    /// The machine has no sensor that counts.
    #[error("this machine exposes no sensor of energy or power that is known")]
    NoSensor,
    /// This process may not read it, it has gone, or it holds no number.
    #[error("{0} cannot be read as a figure")]
    Unreadable(PathBuf),
    /// Rails of a board feed each other, so they cannot be added up.
    #[error("none of {rails} rails is labelled as the input of the board, and rails overlap")]
    NoInput {
        /// How many there are.
        rails: usize,
    },
    /// More than one rail is labelled as the input.
    #[error("{rails} rails are labelled as the input of the board")]
    Inputs {
        /// How many are.
        rails: usize,
    },
    /// What feeds a running machine has power: this sensor is not connected, or another way around.
    #[error("{0} shows no power")]
    NoPower(PathBuf),
    /// Other counters than before, or one that went back and does not say where it begins again.
    #[error("the counters of energy changed")]
    Changed,
    /// The runs were too short for the sensor.
    #[error("{samples} samples of the power are too few")]
    TooFew {
        /// How many there are.
        samples: usize,
    },
    /// The system gives no thread that could read the power meanwhile.
    #[error("no thread samples the power")]
    NoThread,
}

/// The sensors of a machine.
pub(super) struct Sensors {
    powercap: Powercap,
    hwmon: Hwmon,
}

impl Sensors {
    /// Those of this machine.
    pub(super) fn of_this_machine() -> Self {
        let began = Instant::now();
        Self {
            powercap: Powercap::at("/sys/class/powercap"),
            hwmon: Hwmon::at("/sys/class/hwmon", move || began.elapsed()),
        }
    }
}

impl EnergySource for Sensors {
    /// By RAPL where it exists. If this process may not read it, nothing else takes its place: the
    /// figures of a machine should not depend on who measures.
    fn begin(&self) -> Result<Box<dyn Counting>, NoEnergy> {
        match self.powercap.begin() {
            Err(NoEnergy::NoSensor) => self.hwmon.begin(),
            begun => begun,
        }
    }
}

/// The figure, or `None` with the reason in the log.
pub(super) fn known<T>(figure: Result<T, NoEnergy>) -> Option<T> {
    figure.inspect_err(|why| tracing::debug!("no energy per run: {why}")).ok()
}

/// The number in a file of sysfs.
fn number<T: FromStr>(file: &Path) -> Result<T, NoEnergy> {
    text(file)?.parse().map_err(|_| NoEnergy::Unreadable(file.to_owned()))
}

/// The text in a file of sysfs.
fn text(file: &Path) -> Result<String, NoEnergy> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(_) => Err(NoEnergy::Unreadable(file.to_owned())),
    }
}

/// What is in a directory of sysfs, in order; none if there is no such directory.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = found.map(|entry| entry.path()).collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Writes files of sysfs into a folder.
    pub(super) fn write(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (file, text) in files {
            fs::write(folder.join(file), format!("{text}\n")).unwrap();
        }
    }

    /// Makes a file one that cannot be read, for root as well.
    pub(super) fn forbid(file: &Path) {
        let _ = fs::remove_file(file);
        fs::create_dir(file).unwrap();
    }

    #[test]
    fn boards_count_only_where_the_processors_have_no_counters() {
        let directory = tempfile::tempdir().unwrap();
        let (rapl, chip) = (directory.path().join("powercap"), directory.path().join("hwmon"));
        let sensors =
            Sensors { powercap: Powercap::at(&rapl), hwmon: Hwmon::at(&chip, || Duration::ZERO) };
        assert_eq!(sensors.begin().err(), Some(NoEnergy::NoSensor));
        write(&chip.join("hwmon0"), &[("name", "ina228"), ("energy1_input", "100")]);
        let begun = sensors.begin().unwrap();
        write(&chip.join("hwmon0"), &[("energy1_input", "130")]);
        assert_eq!(begun.used(), Ok(30));
        // The counters of the processors come first, even if they cannot be read.
        let zone = rapl.join("intel-rapl:0");
        let range = ("max_energy_range_uj", "1000");
        write(&zone, &[("name", "package-0"), ("energy_uj", "5"), range]);
        let begun = sensors.begin().unwrap();
        write(&zone, &[("energy_uj", "12")]);
        assert_eq!(begun.used(), Ok(7));
        forbid(&zone.join("energy_uj"));
        let error = sensors.begin().err();
        assert_eq!(error, Some(NoEnergy::Unreadable(zone.join("energy_uj"))));
    }
}

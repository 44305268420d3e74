//! The sensors of Linux' hwmon that count for a whole machine. Names and units of the files are
//! those of the kernel's `Documentation/hwmon/sysfs-interface.rst`: `energyN_input` is microjoules
//! since some moment, `powerN_input` and `powerN_average` microwatts, `inN_input` millivolts,
//! `currN_input` milliamperes, `update_interval` and `powerN_average_interval` milliseconds.
//!
//! Most of these sensors are of a fan, a battery, a graphics card or one rail of many. Two kinds
//! count here. `amd_energy` has a counter for each processor, as RAPL has. Else the one rail that
//! feeds the board counts, as a power monitor shows it: the rail that is labelled as the input, or
//! the only rail of all monitors if it has no label. Rails are never added up: one feeds another.

use std::path::{Path, PathBuf};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use super::counters::{Counters, count};
use super::power::{Clock, INTERVAL, Power, sample};
use super::{Counting, EnergySource, NoEnergy, entries, number, text};

/// Labels of the rail that feeds all others, in lower case. `VDD_IN` and `POM_5V_IN` are those of
/// NVIDIA's Jetson modules; `VDD_CPU_GPU_CV`, `VDD_SOC`, `VIN_SYS_5V0` and others are parts. The
/// sum of an INA3221 is one of shunt voltages, with another label.
const INPUTS: [&str; 5] = ["vdd_in", "pom_5v_in", "vin", "total", "total power"];

/// Number of rails that a power monitor measures, by the name of its chip; `None` for other chips.
/// These are the drivers `ina2xx`, `ina238` and `ina3221`: what monitors a supply (a charger or a
/// voltage regulator, which may have such files too, feeds a part).
fn rails(chip: &str) -> Option<u32> {
    match chip {
        "ina219" | "ina220" | "ina226" | "ina230" | "ina231" | "ina234" | "ina260" | "sy24655" => {
            Some(1)
        }
        "ina228" | "ina237" | "ina238" | "ina700" | "ina780" | "sq52206" => Some(1),
        "ina3221" => Some(3),
        _ => None,
    }
}

/// A directory of hwmon chips.
pub(super) struct Hwmon {
    directory: PathBuf,
    clock: Clock,
}

impl Hwmon {
    /// In this directory, with a monotonic clock for what has to be sampled.
    pub(super) fn at(
        directory: impl Into<PathBuf>,
        clock: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self { directory: directory.into(), clock: Arc::new(clock) }
    }
}

impl EnergySource for Hwmon {
    fn begin(&self) -> Result<Box<dyn Counting>, NoEnergy> {
        let mut all = Vec::new();
        for chip in entries(&self.directory) {
            // A chip without a name is none of these.
            let Ok(name) = text(&chip.join("name")) else { continue };
            if name == "amd_energy" {
                let sockets = sockets(&chip)?;
                return count(move || Counters::of_files(&sockets));
            }
            let rails = rails(&name).unwrap_or(0);
            all.extend((1..=rails).filter_map(|rail| Rail::of(&chip, rail, rails == 1)));
        }
        let Rail { reading, .. } = input(all)?;
        match reading {
            Reading::Counter(file) => count(move || Counters::of_files(slice::from_ref(&file))),
            Reading::Power(power, interval) => sample(power, interval, Arc::clone(&self.clock)),
        }
    }
}

/// The counters of whole processors of `amd_energy`; it has one for each core besides.
fn sockets(chip: &Path) -> Result<Vec<PathBuf>, NoEnergy> {
    let mut sockets = Vec::new();
    for file in entries(chip) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let counter = name.strip_prefix("energy").and_then(|name| name.strip_suffix("_input"));
        let Some(counter) = counter else { continue };
        if text(&chip.join(format!("energy{counter}_label")))?.starts_with("Esocket") {
            sockets.push(file);
        }
    }
    if sockets.is_empty() { Err(NoEnergy::Unreadable(chip.to_owned())) } else { Ok(sockets) }
}

/// What a power monitor measures.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rail {
    label: Option<String>,
    reading: Reading,
}

/// How a rail shows its energy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reading {
    /// In a file that counts it.
    Counter(PathBuf),
    /// Only by its power, and how often that may be sampled.
    Power(Power, Duration),
}

impl Rail {
    /// The rail of this number, counted from 1. `only`: whether the chip has no other, so that a
    /// label of the chip is one of the rail. `None` without any file for it.
    fn of(chip: &Path, rail: u32, only: bool) -> Option<Self> {
        let reading = Reading::of(chip, rail)?;
        let labels = ["energy", "power", "in", "curr"].map(|of| format!("{of}{rail}_label"));
        let of_chip = only.then(|| "label".to_owned());
        let label = labels.into_iter().chain(of_chip).find_map(|file| text(&chip.join(file)).ok());
        Some(Self { label, reading })
    }

    fn is_input(&self) -> bool {
        self.label.as_ref().is_some_and(|label| INPUTS.contains(&&*label.to_lowercase()))
    }
}

impl Reading {
    fn of(chip: &Path, rail: u32) -> Option<Self> {
        let file = |file: String| Some(chip.join(file)).filter(|file| file.exists());
        if let Some(counter) = file(format!("energy{rail}_input")) {
            return Some(Self::Counter(counter));
        }
        // Sampled more often than it changes, a figure would look finer than it is.
        let interval = |file: &str| {
            let millis = number(&chip.join(file)).unwrap_or(0);
            Duration::from_millis(millis).max(INTERVAL)
        };
        let update = interval("update_interval");
        if let Some(power) = file(format!("power{rail}_input")) {
            return Some(Self::Power(Power::Microwatts(power), update));
        }
        if let Some(power) = file(format!("power{rail}_average")) {
            let average = interval(&format!("power{rail}_average_interval"));
            return Some(Self::Power(Power::Microwatts(power), average.max(update)));
        }
        // In these chips, input N is the voltage of the rail of current N. Inputs 0 and from 4 on
        // are voltages over shunts.
        let (volts, amperes) = (format!("in{rail}_input"), format!("curr{rail}_input"));
        Some(Self::Power(Power::Product(file(volts)?, file(amperes)?), update))
    }
}

/// The rail that feeds the board.
fn input(rails: Vec<Rail>) -> Result<Rail, NoEnergy> {
    let number = rails.len();
    let mut inputs: Vec<Rail> = rails.iter().filter(|rail| rail.is_input()).cloned().collect();
    match inputs.len() {
        0 => {}
        1 => return Ok(inputs.remove(0)),
        rails => return Err(NoEnergy::Inputs { rails }),
    }
    match <[Rail; 1]>::try_from(rails) {
        Ok([rail]) if rail.label.is_none() => Ok(rail),
        _ if number == 0 => Err(NoEnergy::NoSensor),
        _ => Err(NoEnergy::NoInput { rails: number }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::tests::{forbid, write};
    use super::*;

    const AT: Duration = Duration::ZERO;

    /// A rail by its power, which may be sampled every `millis`.
    fn power(power: PathBuf, millis: u64) -> Reading {
        Reading::Power(Power::Microwatts(power), Duration::from_millis(millis))
    }

    /// Why the chips do not say what a machine uses.
    fn why(directory: &Path) -> NoEnergy {
        Hwmon::at(directory, || AT).begin().err().expect("no figure")
    }

    /// An INA3221 as the kernel shows it, with labels of its three rails.
    fn ina3221(chip: &Path, labels: [&str; 3]) {
        write(chip, &[("name", "ina3221"), ("in7_label", "sum of shunt voltages")]);
        for (rail, label) in (1..).zip(labels) {
            write(
                chip,
                &[
                    (&format!("in{rail}_label"), label),
                    (&format!("in{rail}_input"), "5000"),
                    (&format!("curr{rail}_input"), &(100 * rail).to_string()),
                    // The voltage over the shunt, microvolts.
                    (&format!("in{}_input", rail + 3), "77"),
                ],
            );
        }
        write(chip, &[("curr4_input", "600"), ("in7_input", "99")]);
    }

    #[test]
    fn other_chips_do_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        assert_eq!(why(&at.join("none")), NoEnergy::NoSensor);
        // A graphics card, a battery, a fan, and something without a name.
        write(&at.join("hwmon0"), &[("name", "i915"), ("energy1_input", "1000")]);
        write(&at.join("hwmon1"), &[("name", "BAT0"), ("power1_input", "1000")]);
        write(&at.join("hwmon2"), &[("name", "pwmfan"), ("fan1_input", "1000")]);
        write(&at.join("hwmon3"), &[("power1_input", "1000"), ("power1_label", "VDD_IN")]);
        assert_eq!(why(at), NoEnergy::NoSensor);
    }

    #[test]
    fn sockets_are_added_up_and_their_cores_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let chip = directory.path().join("hwmon1");
        let board = directory.path().join("hwmon0");
        write(&board, &[("name", "ina228"), ("energy1_input", "1000")]);
        write(
            &chip,
            &[
                ("name", "amd_energy"),
                ("energy1_label", "Ecore000"),
                ("energy1_input", "10"),
                ("energy2_label", "Esocket0"),
                ("energy2_input", "100"),
                ("energy3_label", "Esocket1"),
                ("energy3_input", "200"),
            ],
        );
        let begun = || Hwmon::at(directory.path(), || AT).begin();
        let count = begun().unwrap();
        write(&chip, &[("energy1_input", "90"), ("energy2_input", "130")]);
        write(&chip, &[("energy3_input", "207")]);
        assert_eq!(count.used(), Ok(37));
        // It does not say where it begins again.
        let count = begun().unwrap();
        write(&chip, &[("energy3_input", "5")]);
        assert_eq!(count.used(), Err(NoEnergy::Changed));
        // Where only root may read it, the board does not take its place.
        for file in ["energy2_input", "energy2_label"] {
            forbid(&chip.join(file));
            assert_eq!(why(directory.path()), NoEnergy::Unreadable(chip.join(file)));
        }
    }

    #[test]
    fn the_labelled_input_of_a_board_counts() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        // The second of its rails, beside a chip of other rails and one without a label.
        ina3221(&at.join("hwmon0"), ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]);
        ina3221(&at.join("hwmon1"), ["VDD_SOC", "VDD_IN", "VDD_CPU_GPU_CV"]);
        write(&at.join("hwmon2"), &[("name", "ina226"), ("power1_input", "1000")]);
        let read = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&read);
        let clock = move || Duration::from_millis(500 * clock.fetch_add(1, Ordering::SeqCst));
        let begun = Hwmon::at(at, clock).begin().unwrap();
        while read.load(Ordering::SeqCst) < 6 {
            std::thread::sleep(INTERVAL);
        }
        let used = begun.used().unwrap();
        // 5 V, 0.2 A, half a second between samples.
        assert_eq!(used, (read.load(Ordering::SeqCst) - 1) * 500_000);
        // Two inputs do not say which of them feeds the other.
        let label = at.join("hwmon2");
        write(&label, &[("label", "VIN")]);
        assert_eq!(why(at), NoEnergy::Inputs { rails: 2 });
    }

    #[test]
    fn rails_are_not_added_up() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        ina3221(&at.join("hwmon0"), ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]);
        assert_eq!(why(at), NoEnergy::NoInput { rails: 3 });
        // A label of a chip says nothing of its rails.
        write(&at.join("hwmon0"), &[("label", "VIN")]);
        for rail in 1..=3 {
            std::fs::remove_file(at.join(format!("hwmon0/in{rail}_label"))).unwrap();
        }
        assert_eq!(why(at), NoEnergy::NoInput { rails: 3 });
        // A second chip without a label may measure anything, too.
        write(&at.join("hwmon1"), &[("name", "ina238"), ("power1_input", "1000")]);
        assert_eq!(why(at), NoEnergy::NoInput { rails: 4 });
        write(&at.join("hwmon1"), &[("label", "VIN")]);
        assert!(Hwmon::at(at, || AT).begin().is_ok());
    }

    #[test]
    fn the_only_rail_counts_unless_it_is_labelled_as_a_part() {
        let directory = tempfile::tempdir().unwrap();
        let chip = directory.path().join("hwmon0");
        write(&chip, &[("name", "ina219"), ("power1_input", "1000")]);
        assert!(Hwmon::at(directory.path(), || AT).begin().is_ok());
        write(&chip, &[("label", "USB hub")]);
        assert_eq!(why(directory.path()), NoEnergy::NoInput { rails: 1 });
        write(&chip, &[("label", "Total power")]);
        assert!(Hwmon::at(directory.path(), || AT).begin().is_ok());
        forbid(&chip.join("power1_input"));
        assert_eq!(why(directory.path()), NoEnergy::Unreadable(chip.join("power1_input")));
    }

    #[test]
    fn a_counter_is_better_than_power_and_power_than_its_factors() {
        let directory = tempfile::tempdir().unwrap();
        let chip = directory.path();
        assert_eq!(Reading::of(chip, 1), None);
        write(chip, &[("in0_input", "2"), ("in1_input", "5000")]);
        assert_eq!(Reading::of(chip, 1), None, "a voltage alone");
        write(chip, &[("curr1_input", "400")]);
        let product = Power::Product(chip.join("in1_input"), chip.join("curr1_input"));
        assert_eq!(Reading::of(chip, 1), Some(Reading::Power(product, INTERVAL)));
        // What a chip takes its time for is not sampled more often.
        write(chip, &[("update_interval", "35"), ("power1_average", "1000")]);
        let average = chip.join("power1_average");
        assert_eq!(Reading::of(chip, 1), Some(power(average.clone(), 35)));
        write(chip, &[("power1_average_interval", "1000")]);
        assert_eq!(Reading::of(chip, 1), Some(power(average, 1000)));
        write(chip, &[("power1_input", "1000")]);
        assert_eq!(Reading::of(chip, 1), Some(power(chip.join("power1_input"), 35)));
        write(chip, &[("update_interval", "1")]);
        assert_eq!(Reading::of(chip, 1), Some(power(chip.join("power1_input"), 20)));
        write(chip, &[("energy1_input", "1000")]);
        let counter = Reading::Counter(chip.join("energy1_input"));
        assert_eq!(Reading::of(chip, 1), Some(counter));
        assert_eq!(Reading::of(chip, 2), None);
    }
}

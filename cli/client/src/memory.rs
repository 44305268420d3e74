//! The memory that trainings in this process may use: an option of commands, and what the machine
//! has.

use std::fmt;
use std::str::FromStr;

/// A size in bytes, written with a unit: `4GiB`, `512MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySize(pub u64);

/// As it is read: `4GiB`, in the largest unit that keeps it whole.
impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        let (bits, unit) = match bytes.trailing_zeros() {
            30.. => (30, "GiB"),
            20..30 => (20, "MiB"),
            _ => (10, "KiB"),
        };
        write!(f, "{}{unit}", bytes as f64 / f64::from(1u32 << bits))
    }
}

impl FromStr for MemorySize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "write a number above 0 with KiB, MiB or GiB, such as 4GiB";
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
        let known =
            units.into_iter().find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, bits)));
        let (number, bits) = known.ok_or(WANTED)?;
        let number: f64 = number.trim_end().parse().map_err(|_| WANTED)?;
        let bytes = number * f64::from(1u32 << bits);
        // `as` of what is too large gives the largest number.
        if bytes.is_finite() && bytes >= 1.0 { Ok(Self(bytes as u64)) } else { Err(WANTED) }
    }
}

/// What trainings on the processor may use without `--memory`: seven eighths of the memory of the
/// machine, or of the control group that limits the process. `None` where the system does not say
/// it.
pub fn usual() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    // Of the two versions of control groups. Without a limit they have a word or a huge number.
    let group = |path: &str| read(path)?.trim().parse().ok();
    let groups =
        ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"].map(group);
    let machine = read("/proc/meminfo").and_then(|text| total(&text));
    let least = groups.into_iter().chain([machine]).flatten().min()?;
    Some(least / 8 * 7)
}

/// Bytes of the machine, in Linux's `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let size = |text: &str| text.parse::<MemorySize>().map(|size| size.0);
        assert_eq!(size("4GiB"), Ok(4 << 30));
        assert_eq!(size("1.5 MiB"), Ok(3 << 19));
        assert_eq!(size("64KiB"), Ok(64 << 10));
        for text in ["4GiB", "1536MiB", "64KiB"] {
            assert_eq!(text.parse::<MemorySize>().unwrap().to_string(), text);
        }
        for wrong in ["4", "4GB", "GiB", "-1GiB", "0GiB", "nanGiB", "infGiB"] {
            assert!(size(wrong).unwrap_err().contains("such as 4GiB"), "{wrong}");
        }
    }

    #[test]
    fn the_machine_says_what_it_has() {
        let text = "MemTotal:       16318484 kB\nMemFree:         1234 kB\n";
        assert_eq!(total(text), Some(16_318_484 * 1024));
        assert_eq!(total("MemFree: 1 kB"), None);
    }
}

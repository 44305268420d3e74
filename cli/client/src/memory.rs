//! The memory that trainings in this process may use: an option of commands, and what the machine
//! has.

use std::fmt;
use std::path::Path;
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
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let group = least_of_groups(&groups, Path::new("/sys/fs/cgroup"));
    let machine = read("/proc/meminfo").and_then(|text| total(&text));
    let least = [group, machine].into_iter().flatten().min()?;
    Some(least / 8 * 7)
}

/// Bytes that the control groups of a process allow, in Linux's `/proc/self/cgroup`: the least
/// limit of its groups and of all that they are in. `mount` is where the groups are files, of both
/// versions. `None` if none of them is limited.
fn least_of_groups(groups: &str, mount: &Path) -> Option<u64> {
    let limits = |line: &str| {
        // Such as `0::/user.slice` for version 2, and `4:memory:/jobs` for version 1.
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (top, file) = match (number, controllers) {
            ("0", "") => (mount.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (mount.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let limit = |group: &Path| -> Option<u64> {
            let inside = group.strip_prefix("/").ok()?;
            let text = std::fs::read_to_string(top.join(inside).join(file)).ok()?;
            // Without a limit it is a word, or a huge number.
            text.trim().parse().ok()
        };
        // In a container the path may name a group outside, which is not there. The top one is.
        Path::new(path).ancestors().filter_map(limit).min()
    };
    groups.lines().filter_map(limits).min()
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
    fn the_least_limit_of_the_control_groups_counts() {
        let mount = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = mount.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let least = |groups: &str| least_of_groups(groups, mount.path());
        assert_eq!(least("0::/system.slice/edge.service\n"), None);
        // A service with a limit, in a slice with none.
        write("system.slice/memory.max", "max\n");
        write("system.slice/edge.service/memory.max", "4294967296\n");
        assert_eq!(least("0::/system.slice/edge.service\n"), Some(4 << 30));
        // A group within it cannot have more.
        write("system.slice/edge.service/inner/memory.max", "8589934592\n");
        assert_eq!(least("0::/system.slice/edge.service/inner\n"), Some(4 << 30));
        assert_eq!(least("0::/other\n"), None);
        // Version 1, and both together. A group that is not to be seen leaves the top one.
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/job/step/memory.limit_in_bytes", "1073741824\n");
        let both = "9:cpu,memory:/job/step\n3:cpuset:/\n0::/system.slice/edge.service\n";
        assert_eq!(least(both), Some(1 << 30));
        assert_eq!(least("9:memory:/gone\n"), Some(9_223_372_036_854_771_712));
        write("memory.max", "2147483648\n");
        assert_eq!(least("0::/../../outside\n"), Some(2 << 30));
        assert_eq!(least(""), None);
    }

    #[test]
    fn the_machine_says_what_it_has() {
        let text = "MemTotal:       16318484 kB\nMemFree:         1234 kB\n";
        assert_eq!(total(text), Some(16_318_484 * 1024));
        assert_eq!(total("MemFree: 1 kB"), None);
    }
}

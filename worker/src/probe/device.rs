//! Describes this machine, as Linux reports it. On other systems the names are empty and only the
//! number of cores is known.

use std::fs;

use edgesmith_common::{DeviceClass, DeviceInfo};

/// Instruction sets that change the speed of the engine's kernels, as `/proc/cpuinfo` spells them:
/// first x86, then ARM.
const FLAGS: [&str; 21] = [
    "sse4_1",
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "amx_int8",
    "neon",
    "vfpv4",
    "asimd",
    "asimdhp",
    "asimddp",
    "i8mm",
    "fphp",
    "sve",
    "sve2",
];

/// The description of this machine for a worker of class `class`.
pub fn device_info(class: DeviceClass) -> DeviceInfo {
    let read = |path: &str| fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).ok();
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    let board = read("/proc/device-tree/model").unwrap_or_default();
    DeviceInfo {
        class,
        name: read("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
        cpu: cpu_model(&cpuinfo, &board),
        cpu_flags: cpu_flags(&cpuinfo),
        cores: std::thread::available_parallelism()
            .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
    }
}

/// The processor's model. On x86 it is `model name`. On ARM it is the board (from the device tree,
/// else from the `Model` line) with the name of the core, because that says more than `model name`
/// there. Empty if nothing is known.
fn cpu_model(cpuinfo: &str, device_tree_model: &str) -> String {
    // Strings in the device tree end with NUL.
    let tree = device_tree_model.trim_matches(['\0', '\n', ' ']);
    let board = if tree.is_empty() { field(cpuinfo, "Model").unwrap_or_default() } else { tree };
    let arm = field(cpuinfo, "CPU part").map(|part| {
        let implementer = field(cpuinfo, "CPU implementer").unwrap_or_default();
        match arm_core(implementer, part) {
            Some(core) => core.to_owned(),
            None => format!("ARM {implementer} {part}"),
        }
    });
    match (arm, board) {
        (Some(core), "") => core,
        (Some(core), board) => format!("{board} ({core})"),
        (None, board) => field(cpuinfo, "model name").unwrap_or(board).to_owned(),
    }
}

/// Names of the cores of common edge boards, by MIDR implementer and part number.
fn arm_core(implementer: &str, part: &str) -> Option<&'static str> {
    if implementer != "0x41" {
        return None;
    }
    Some(match part {
        "0xb76" => "ARM1176",
        "0xc07" => "Cortex-A7",
        "0xc08" => "Cortex-A8",
        "0xc09" => "Cortex-A9",
        "0xc0f" => "Cortex-A15",
        "0xd03" => "Cortex-A53",
        "0xd04" => "Cortex-A35",
        "0xd05" => "Cortex-A55",
        "0xd07" => "Cortex-A57",
        "0xd08" => "Cortex-A72",
        "0xd09" => "Cortex-A73",
        "0xd0a" => "Cortex-A75",
        "0xd0b" => "Cortex-A76",
        "0xd0c" => "Neoverse-N1",
        "0xd42" => "Cortex-A78AE",
        _ => return None,
    })
}

/// The flags of the first processor that are in [`FLAGS`], in that order.
fn cpu_flags(cpuinfo: &str) -> Vec<String> {
    let line = field(cpuinfo, "flags").or_else(|| field(cpuinfo, "Features")).unwrap_or_default();
    let present: Vec<&str> = line.split_whitespace().collect();
    FLAGS.iter().filter(|flag| present.contains(flag)).map(|&flag| flag.to_owned()).collect()
}

/// The value of the first `name : value` line with this name.
fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86: &str = "\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 106
model name\t: Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz
flags\t\t: fpu vme sse sse2 ssse3 fma cx16 sse4_1 sse4_2 avx f16c avx2 avx512f avx512bw avx512vl avx512_vnni
bugs\t\t: spectre_v1

processor\t: 1
model name\t: something else
flags\t\t: fpu
";

    const RPI4: &str = "\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

Hardware\t: BCM2835
Revision\t: c03111
Serial\t\t: 10000000abcdef00
Model\t\t: Raspberry Pi 4 Model B Rev 1.1
";

    #[test]
    fn x86_has_its_model_name_and_flags() {
        assert_eq!(cpu_model(X86, ""), "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz");
        assert_eq!(
            cpu_flags(X86).join(" "),
            "sse4_1 sse4_2 avx avx2 fma f16c avx512f avx512bw avx512vl avx512_vnni"
        );
    }

    #[test]
    fn a_raspberry_pi_has_its_board_and_core() {
        let expected = "Raspberry Pi 4 Model B Rev 1.1 (Cortex-A72)";
        assert_eq!(cpu_model(RPI4, ""), expected);
        assert_eq!(cpu_model(RPI4, "Raspberry Pi 4 Model B Rev 1.1\0"), expected);
        assert_eq!(cpu_flags(RPI4), ["asimd"]);
    }

    #[test]
    fn unknown_cores_keep_their_numbers_and_unknown_models_are_empty() {
        let unknown = "CPU implementer : 0x61\nCPU part : 0x022\n";
        assert_eq!(cpu_model(unknown, ""), "ARM 0x61 0x022");
        assert_eq!(cpu_model("", ""), "");
        assert_eq!(cpu_model("", "VisionFive 2\0"), "VisionFive 2");
        assert!(cpu_flags("").is_empty());
    }

    #[test]
    fn this_machine_has_a_core() {
        let info = device_info(DeviceClass::local());
        assert_eq!(info.class, DeviceClass::local());
        assert!(info.cores >= 1);
    }
}

//! The machines that measured a study's latencies. Machines that differ may offer the same device
//! class; latencies on them cannot be compared, and users are told so.

use std::collections::BTreeMap;

use edgesmith_common::{DeviceClass, DeviceInfo};

/// One machine of each kind, by device class, in the order of their first measurements. Kinds
/// differ in the processor's model, its instruction sets, or the number of cores.
#[derive(Debug, Default)]
pub struct Machines(BTreeMap<DeviceClass, Vec<DeviceInfo>>);

/// Machines that differ, although their workers offer the same device class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnlikeMachines {
    /// The device class.
    pub class: DeviceClass,
    /// One machine of each kind, at least two, in the order of their first measurements.
    pub machines: Vec<DeviceInfo>,
}

impl Machines {
    /// Notes a machine that measured.
    pub fn note(&mut self, machine: &DeviceInfo) {
        let DeviceInfo { class, name: _, cpu, cpu_flags, cores } = machine;
        let known = self.0.entry(class.clone()).or_default();
        let same =
            |of: &DeviceInfo| of.cpu == *cpu && of.cpu_flags == *cpu_flags && of.cores == *cores;
        if !known.iter().any(same) {
            known.push(machine.clone());
        }
    }

    /// All that were noted.
    pub fn all(&self) -> impl Iterator<Item = &DeviceInfo> {
        self.0.values().flatten()
    }

    /// The classes with machines that differ.
    pub fn unlike(&self) -> Vec<UnlikeMachines> {
        let unlike = self.0.iter().filter(|(_, machines)| machines.len() > 1);
        let unlike = unlike.map(|(class, machines)| UnlikeMachines {
            class: class.clone(),
            machines: machines.clone(),
        });
        unlike.collect()
    }
}

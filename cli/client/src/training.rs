//! Chooses what trains in this process, and how many trainings run at once, from a command's
//! options.

use std::path::PathBuf;

use clap::ValueEnum;
use edgesmith_common::DeviceClass;
use edgesmith_console::invalid;
use edgesmith_train::{Cores, TrainDevice};
use edgesmith_worker::pipeline::Pipeline;
use edgesmith_worker::probe;
use edgesmith_worker::slots::{self, Slots};

use crate::memory::{self, MemorySize};

/// The device that trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// burn's CPU device.
    Flex,
    /// A GPU through wgpu; needs a build with `--features wgpu`.
    Wgpu,
}

impl Backend {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Flex => "flex",
            Backend::Wgpu => "wgpu",
        }
    }

    /// The device.
    ///
    /// # Errors
    /// When this build or this machine does not have it.
    pub fn device(self) -> anyhow::Result<TrainDevice> {
        TrainDevice::parse(self.name()).map_err(|error| invalid(error.to_string()))
    }
}

/// The real executor on this machine. `backend` is `None` if it never trains. Its trainings may use
/// `memory` together; with `None` most of the machine's on a processor, and any on a GPU, whose
/// memory is its own.
///
/// # Errors
/// When the device class is not a valid name, or the backend is not available.
pub fn pipeline(
    backend: Option<Backend>,
    device_class: &str,
    data_root: Option<PathBuf>,
    memory: Option<MemorySize>,
) -> anyhow::Result<Pipeline> {
    let class: DeviceClass = device_class.parse().map_err(|e| invalid(format!("{e}")))?;
    let device = backend.map(Backend::device).transpose()?;
    let cores = match device {
        Some(_) => Cores::new(slots::cores())?,
        None => Cores::one(),
    };
    let data_root = data_root.unwrap_or_else(|| PathBuf::from("."));
    let limit = match (memory, device) {
        (Some(MemorySize(bytes)), _) => Some(bytes),
        (None, Some(TrainDevice::Flex)) => memory::usual(),
        (None, _) => None,
    };
    let pipeline = Pipeline::new(device, cores, probe::device_info(class), data_root);
    Ok(pipeline.with_memory(limit))
}

/// How many tasks run at once: the given number, the measured one, or one per core. `backend` is
/// `None` if nothing is trained. Prints measurements to standard error.
///
/// # Errors
/// When a timed training fails.
pub async fn slots(given: Option<Slots>, backend: Option<Backend>) -> anyhow::Result<u32> {
    let device = backend.map(Backend::device).transpose()?;
    let decided = tokio::task::spawn_blocking(move || slots::decide(given, device)).await??;
    if let Some(measured) = decided.measured {
        eprintln!("slots: {measured}");
    }
    Ok(decided.slots)
}

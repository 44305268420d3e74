//! What trains in this process, and how many at once, as a command's options say.

use std::path::PathBuf;

use clap::ValueEnum;
use edgesmith_common::DeviceClass;
use edgesmith_console::invalid;
use edgesmith_worker::pipeline::Pipeline;
use edgesmith_worker::probe;
use edgesmith_worker::slots::{self, Slots};
use edgesmith_worker::train::{Cores, TrainDevice};

/// What trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// burn's CPU device.
    Flex,
    /// A GPU through wgpu; needs a build with `--features wgpu`.
    Wgpu,
}

impl Backend {
    /// As options name it.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Flex => "flex",
            Backend::Wgpu => "wgpu",
        }
    }

    /// The device itself.
    ///
    /// # Errors
    /// When this build or this machine has none.
    pub fn device(self) -> anyhow::Result<TrainDevice> {
        TrainDevice::parse(self.name()).map_err(|error| invalid(error.to_string()))
    }
}

/// The real executor on this machine; `backend` is `None` where it never trains.
///
/// # Errors
/// When the class is no name, or there is nothing to train on.
pub fn pipeline(
    backend: Option<Backend>,
    device_class: &str,
    data_root: Option<PathBuf>,
) -> anyhow::Result<Pipeline> {
    let class: DeviceClass = device_class.parse().map_err(|e| invalid(format!("{e}")))?;
    let device = backend.map(Backend::device).transpose()?;
    let cores = match device {
        Some(_) => Cores::new(slots::cores())?,
        None => Cores::one(),
    };
    let data_root = data_root.unwrap_or_else(|| PathBuf::from("."));
    Ok(Pipeline::new(device, cores, probe::device_info(class), data_root))
}

/// How many tasks at once: what was given, measured, or one a core. `backend` is `None` where
/// nothing is trained. Says on standard error what was measured.
///
/// # Errors
/// When a training that is timed fails.
pub async fn slots(given: Option<Slots>, backend: Option<Backend>) -> anyhow::Result<u32> {
    let device = backend.map(Backend::device).transpose()?;
    let decided = tokio::task::spawn_blocking(move || slots::decide(given, device)).await??;
    if let Some(measured) = decided.measured {
        eprintln!("slots: {measured}");
    }
    Ok(decided.slots)
}

//! The training device: the processor, or a GPU if the program is built for it.

use std::fmt;

use burn::tensor::Device;

/// A device to train on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainDevice {
    /// The processor, through burn's `flex`. [`super::Cores`] decides the number of threads.
    Flex,
    /// The first GPU that wgpu finds (Vulkan, Metal).
    #[cfg(feature = "wgpu")]
    Wgpu,
}

/// Settings that make training fast on a device. They affect results only through rounding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Number of steps, at least 1, that are submitted before their losses are read, which waits
    /// for all of them. A GPU runs them while the next ones are prepared. On the processor a step
    /// is complete when the call returns.
    pub(super) steps_ahead: usize,
    /// Channel counts are padded to multiples of this, at least 1; see [`super::padding`].
    pub(super) channel_multiple: u32,
}

/// The device is unknown or not available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrainDeviceError {
    /// There is no device with this name.
    #[error("unknown backend {0:?}; use flex or wgpu")]
    Unknown(String),
    /// The device needs another build of the program.
    #[error("this program is built without wgpu; build it again with --features wgpu")]
    NotBuilt,
    /// The machine has no GPU that wgpu can use.
    #[error(
        "wgpu finds no adapter on this machine; install a driver for Vulkan or Metal (Mesa's software \
         Vulkan is enough for tests), or use flex"
    )]
    NoAdapter,
}

impl TrainDevice {
    /// The device with this name: `flex` or `wgpu`.
    ///
    /// # Errors
    /// If the name is unknown, or the device is not available in this build or on this machine.
    pub fn parse(name: &str) -> Result<Self, TrainDeviceError> {
        match name {
            "flex" => Ok(TrainDevice::Flex),
            #[cfg(feature = "wgpu")]
            "wgpu" => {
                keep_tuning();
                // Checked here, because burn panics when it first uses a missing adapter.
                if Device::enumerate(burn::tensor::DeviceType::Wgpu).is_empty() {
                    Err(TrainDeviceError::NoAdapter)
                } else {
                    Ok(TrainDevice::Wgpu)
                }
            }
            #[cfg(not(feature = "wgpu"))]
            "wgpu" => Err(TrainDeviceError::NotBuilt),
            other => Err(TrainDeviceError::Unknown(other.to_owned())),
        }
    }

    /// The name that [`TrainDevice::parse`] takes.
    pub fn name(self) -> &'static str {
        match self {
            TrainDevice::Flex => "flex",
            #[cfg(feature = "wgpu")]
            TrainDevice::Wgpu => "wgpu",
        }
    }

    /// The settings for fast training.
    pub(super) fn manner(self) -> Manner {
        match self {
            TrainDevice::Flex => Manner { steps_ahead: 1, channel_multiple: 1 },
            // WebGPU vectors have four lanes.
            #[cfg(feature = "wgpu")]
            TrainDevice::Wgpu => Manner { steps_ahead: 16, channel_multiple: 4 },
        }
    }

    /// burn's device, without autodiff.
    pub fn device(self) -> Device {
        match self {
            TrainDevice::Flex => Device::flex(),
            #[cfg(feature = "wgpu")]
            TrainDevice::Wgpu => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        }
    }
}

/// Makes cubecl store which kernels are the fastest in the user's cache directory, so that later
/// trainings and other processes do not have to measure it again. By default it is stored in the
/// `target` directory of the Cargo project that the program is started in. Another location in a
/// `cubecl.toml` there is respected.
#[cfg(feature = "wgpu")]
fn keep_tuning() {
    use burn::cubecl::config::cache::CacheConfig;
    use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig as _};

    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    if matches!(config.environment.path, CacheConfig::Target) {
        config.environment.path = CacheConfig::Global;
    }
    // The first call sets the configuration; later calls have no effect.
    CubeClRuntimeConfig::try_set(config);
}

impl fmt::Display for TrainDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_select_devices() {
        assert_eq!(TrainDevice::parse("flex"), Ok(TrainDevice::Flex));
        assert_eq!(TrainDevice::Flex.to_string(), "flex");
        let error = TrainDevice::parse("cuda").unwrap_err();
        assert_eq!(error.to_string(), "unknown backend \"cuda\"; use flex or wgpu");
    }

    #[cfg(not(feature = "wgpu"))]
    #[test]
    fn a_build_without_wgpu_says_how_to_get_it() {
        let error = TrainDevice::parse("wgpu").unwrap_err();
        assert!(error.to_string().ends_with("--features wgpu"));
    }
}

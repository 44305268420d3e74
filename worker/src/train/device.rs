//! What trains: the processor, or a GPU where the program is built for it.

use std::fmt;

use burn::tensor::Device;

/// A device to train on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainDevice {
    /// The processor, through burn's `flex`; on how many threads, [`super::Cores`] say.
    Flex,
    /// The first GPU that wgpu finds (Vulkan, Metal).
    #[cfg(feature = "wgpu")]
    Wgpu,
}

/// How a device likes its work. What comes of it does not depend on this, but for rounding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Steps, at least 1, that are handed over before their losses are read, which waits for all of them.
    /// A GPU works through them while the next ones are prepared; the processor has done a step when the
    /// call returns.
    pub(super) steps_ahead: usize,
    /// Numbers of channels are padded to multiples of this, at least 1; see [`super::padding`].
    pub(super) channel_multiple: u32,
}

/// A device that nobody knows, or that this program is not built for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrainDeviceError {
    /// Not a device's name.
    #[error("unknown backend {0:?}; use flex or wgpu")]
    Unknown(String),
    /// The name of a device that needs another build.
    #[error("this program is built without wgpu; build it again with --features wgpu")]
    NotBuilt,
    /// A build for GPUs on a machine without one.
    #[error(
        "wgpu finds no adapter on this machine; install a driver for Vulkan or Metal (Mesa's \
         software Vulkan will do for tests), or use flex"
    )]
    NoAdapter,
}

impl TrainDevice {
    /// The device of a name: `flex` or `wgpu`.
    ///
    /// # Errors
    /// When there is none of that name in this build or on this machine.
    pub fn parse(name: &str) -> Result<Self, TrainDeviceError> {
        match name {
            "flex" => Ok(TrainDevice::Flex),
            #[cfg(feature = "wgpu")]
            "wgpu" => {
                keep_tuning();
                // Asked for here: burn panics when it first uses an adapter that is not there.
                match Device::enumerate(burn::tensor::DeviceType::Wgpu).is_empty() {
                    true => Err(TrainDeviceError::NoAdapter),
                    false => Ok(TrainDevice::Wgpu),
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

    /// How it likes its work.
    pub(super) fn manner(self) -> Manner {
        match self {
            TrainDevice::Flex => Manner { steps_ahead: 1, channel_multiple: 1 },
            // WebGPU's vectors have four lanes.
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

/// Lets what cubecl finds out, which kernels are the fastest, be kept in the user's cache directory, so that no
/// later training and no other process has to find it out again. By default it would be kept in the
/// `target` of whatever Cargo project the program is started in. A `cubecl.toml` there has its way, where it
/// names any other place.
#[cfg(feature = "wgpu")]
fn keep_tuning() {
    use burn::cubecl::config::cache::CacheConfig;
    use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig as _};

    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    if matches!(config.environment.path, CacheConfig::Target) {
        config.environment.path = CacheConfig::Global;
    }
    // Whoever was first, perhaps an earlier call, has set it for good.
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
    fn names_mean_devices() {
        assert_eq!(TrainDevice::parse("flex"), Ok(TrainDevice::Flex));
        assert_eq!(TrainDevice::Flex.to_string(), "flex");
        let error = TrainDevice::parse("cuda").unwrap_err();
        assert_eq!(error.to_string(), "unknown backend \"cuda\"; use flex or wgpu");
    }

    #[cfg(not(feature = "wgpu"))]
    #[test]
    fn wgpu_says_how_to_get_it() {
        let error = TrainDevice::parse("wgpu").unwrap_err();
        assert!(error.to_string().ends_with("--features wgpu"));
    }
}

//! `edgesmith worker`, and the executor that other commands share with it.

use std::path::PathBuf;
use std::sync::Arc;

use edgesmith_common::{DeviceClass, DeviceInfo};
use edgesmith_worker::pipeline::Pipeline;
use edgesmith_worker::probe;
use edgesmith_worker::session::{self, WorkerConfig, WorkerRole};
use edgesmith_worker::train::TrainDevice;

use crate::args::{Backend, Role, WorkerArgs};
use crate::failure::invalid;
use crate::setup;

/// Works until Ctrl-C.
pub async fn run(args: WorkerArgs) -> anyhow::Result<()> {
    let shutdown = setup::shutdown_on_signal();
    let trains = args.roles.contains(&Role::Train);
    let executor = pipeline(trains.then_some(args.backend), &args.device, args.data_root)?;
    let slots = args.slots.unwrap_or_else(|| if trains { cores() } else { 1 });
    let name = args.name.unwrap_or_else(|| executor.info().name.clone());
    let tls_ca_pem = match &args.tls_ca {
        Some(file) => Some(
            std::fs::read(file)
                .map_err(|e| invalid(format!("failed to read {}: {e}", file.display())))?,
        ),
        None => None,
    };
    let mut roles = Vec::new();
    for role in &args.roles {
        let role = match role {
            Role::Train => WorkerRole::Train,
            Role::Measure => WorkerRole::Measure,
            Role::Table => WorkerRole::Table,
        };
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    let config = WorkerConfig {
        coordinator: args.coordinator.clone(),
        token: args.token,
        tls_ca_pem,
        name,
        device_class: executor.info().class.clone(),
        roles,
        slots,
        backend: if trains { args.backend.name().to_owned() } else { String::new() },
    };
    crate::output::print(&format!(
        "worker {} of class {} takes {slots} task(s) at once from {}\n",
        config.name, config.device_class, args.coordinator
    ))?;
    session::run(config, Arc::new(executor), shutdown).await?;
    Ok(())
}

/// The real executor on this machine; `backend` is `None` where it never trains.
pub fn pipeline(
    backend: Option<Backend>,
    device_class: &str,
    data_root: Option<PathBuf>,
) -> anyhow::Result<Pipeline> {
    let class: DeviceClass = device_class.parse().map_err(|e| invalid(format!("{e}")))?;
    let info: DeviceInfo = probe::device_info(class);
    let device = match backend {
        Some(backend) => {
            Some(TrainDevice::parse(backend.name()).map_err(|e| invalid(e.to_string()))?)
        }
        None => None,
    };
    Ok(Pipeline::new(device, info, data_root.unwrap_or_else(|| PathBuf::from("."))))
}

/// Logical cores of this machine.
pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

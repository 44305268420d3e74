//! `edgesmith worker`, and the executor that other commands share with it.

use std::path::PathBuf;
use std::sync::Arc;

use edgesmith_common::spec::Workload;
use edgesmith_common::{DeviceClass, DeviceInfo};
use edgesmith_worker::pipeline::Pipeline;
use edgesmith_worker::probe;
use edgesmith_worker::session::{self, WorkerConfig, WorkerRole};
use edgesmith_worker::train::{Cores, TrainDevice};

use super::slots;
use crate::args::{Backend, Role, Slots, WorkerArgs};
use crate::failure::invalid;
use crate::setup;

/// Works until Ctrl-C.
pub async fn run(args: WorkerArgs) -> anyhow::Result<()> {
    let shutdown = setup::shutdown_on_signal();
    let trains = args.roles.contains(&Role::Train);
    let executor = pipeline(trains.then_some(args.backend), &args.device, args.data_root)?;
    let given = args.slots.or((!trains).then_some(Slots::Count(1)));
    let slots = slots::decide(given, trains.then_some(args.backend)).await?;
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

/// A worker in the coordinator's own process, which does all that a study needs.
pub fn local(
    coordinator: &str,
    executor: &Pipeline,
    work: &Workload,
    slots: u32,
    backend: Backend,
) -> WorkerConfig {
    WorkerConfig {
        coordinator: coordinator.to_owned(),
        token: None,
        tls_ca_pem: None,
        name: executor.info().name.clone(),
        device_class: executor.info().class.clone(),
        roles: match work {
            Workload::Train(_) => vec![WorkerRole::Train, WorkerRole::Measure],
            Workload::Table(_) => vec![WorkerRole::Table],
        },
        slots,
        backend: backend.name().to_owned(),
    }
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
    let cores = match device {
        Some(_) => Cores::new(slots::cores())?,
        None => Cores::one(),
    };
    Ok(Pipeline::new(device, cores, info, data_root.unwrap_or_else(|| PathBuf::from("."))))
}

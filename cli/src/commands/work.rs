//! `edgesmith worker`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use edgesmith_client::{Backend, DEFAULT_COORDINATOR, MemorySize, TokenOptions};
use edgesmith_common::{Role, WorkerInfo};
use edgesmith_console::{invalid, number, print_text, start};
use edgesmith_worker::pipeline::DATA_MEMORY;
use edgesmith_worker::session::{self, WorkerConfig};
use edgesmith_worker::slots::Slots;

/// Arguments: the coordinator, and what this worker does with which device.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The coordinator's address
    #[arg(
        long,
        env = "EDGESMITH_COORDINATOR",
        value_name = "URL",
        default_value = DEFAULT_COORDINATOR
    )]
    pub coordinator: String,
    #[command(flatten)]
    pub token: TokenOptions,
    /// PEM file with the certificate authority of an https coordinator
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Device class of this machine, as objectives name it
    #[arg(long, default_value = "local", value_name = "CLASS")]
    pub device: String,
    /// What this worker does: train teachers and candidates, measure the latency of compressed
    /// models, or look candidates up in a table
    #[arg(long, value_delimiter = ',', default_value = "train,measure",
          value_parser = PossibleValuesParser::new(Role::ALL.map(Role::name)).try_map(|name| name.parse::<Role>()))]
    pub roles: Vec<Role>,
    /// Device that trains
    #[arg(long, default_value = "flex", value_enum)]
    pub backend: Backend,
    /// Number of tasks that run at once and share the cores, or `auto`: measure whether one task
    /// per core or one task on all cores is faster [default: number of cores, or 1 if the worker
    /// does not train]
    #[arg(long, value_name = "N|auto", allow_negative_numbers = true)]
    pub slots: Option<Slots>,
    /// Name shown by `workers` [default: the machine's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Base directory of relative data paths in studies [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
    /// Memory that trainings may use together, such as 4GiB; larger batches are computed in parts
    /// where that is possible, and what does not fit is left to other workers [default: most of the
    /// machine's; on a GPU not limited]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory: Option<MemorySize>,
    /// Data sets of several studies that are kept in memory between tasks, MiB together; as much
    /// again for soft targets, and for tables
    #[arg(long, value_name = "MIB", default_value_t = DATA_MEMORY >> 20,
          allow_negative_numbers = true, value_parser = number::whole(0..=u64::MAX))]
    pub data_memory: u64,
}

/// Works until Ctrl-C.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = start::shutdown_on_signal()?;
    let trains = args.roles.contains(&Role::Train);
    let backend = trains.then_some(args.backend);
    let executor = edgesmith_client::pipeline(backend, &args.device, args.data_root, args.memory)?
        .with_data_memory(args.data_memory.saturating_mul(1 << 20));
    let given = args.slots.or((!trains).then_some(Slots::Count(1)));
    let slots = edgesmith_client::slots(given, backend).await?;
    let name = args.name.unwrap_or_else(|| executor.info().name.clone());
    let tls_ca_pem = match &args.tls_ca {
        Some(file) => Some(
            std::fs::read(file)
                .map_err(|e| invalid(format!("failed to read {}: {e}", file.display())))?,
        ),
        None => None,
    };
    let config = WorkerConfig {
        coordinator: args.coordinator.clone(),
        token: args.token.read()?,
        tls_ca_pem,
        info: WorkerInfo {
            name,
            class: executor.info().class.clone(),
            engines: executor.engines(),
            roles: args.roles.into_iter().collect(),
            slots,
            backend: if trains { args.backend.name().to_owned() } else { String::new() },
        },
    };
    let ready = format!(
        "worker {} of class {} takes {slots} task(s) at once from {}\n",
        config.info.name, config.info.class, args.coordinator
    );
    let called = config.info.name.clone();
    let say_ready = || {
        // The worker works all the same if nobody reads this.
        let _ = print_text(&ready);
    };
    session::run_telling(config, Arc::new(executor), shutdown, say_ready).await?;
    eprintln!("worker {called} has stopped; its unfinished tasks go to others");
    Ok(())
}

//! The one binary, `edgesmith`: parses the command line, talks to a coordinator over gRPC, and
//! prints what it answers. `search`, `coordinator` and `worker` start those parts in this process.
//!
//! Exit codes: 0 done, 1 failed, 2 usage or invalid input.

use std::process::ExitCode;

use clap::Parser as _;

mod args;
mod bench;
mod commands;
mod connect;
mod failure;
mod local;
mod output;
mod setup;

/// Training allocates and frees a tensor for every operation; the system allocator gives pages back
/// and faults them in again each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = args::Args::parse();
    setup::tracing(args.verbose);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to start the async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(commands::run(args));
    // Blocking attempts that were told to stop end within a step; do not wait longer for them.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    match result {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}

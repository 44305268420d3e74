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

/// mimalloc's option of how long freed memory stays with the process, and milliseconds of it. By default
/// it is 10: a training step of a large network gives its feature maps back to the system and faults them
/// in again, which took a tenth of the time (`perf stat -e page-faults edgesmith bench train`).
const PURGE_DELAY: (libmimalloc_sys::mi_option_t, std::ffi::c_long) = (15, 10_000);

fn main() -> ExitCode {
    // SAFETY: the option exists, and nothing else of the allocator is asked meanwhile.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY.0, PURGE_DELAY.1) };
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

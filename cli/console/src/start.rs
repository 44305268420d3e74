//! Starts and stops a program: its allocator, its log, its async runtime, and Ctrl-C. Unix only.

use std::ffi::c_long;
use std::future::Future;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure;

/// mimalloc, because training allocates and frees a tensor for every operation, and the system
/// allocator returns the pages to the system and faults them in again each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// mimalloc's option for how long freed memory stays with the process, and its value in
/// milliseconds. With a delay of 10, a training step of a large network returns its feature
/// maps to the system and faults them in again, which took a tenth of the time (`perf stat -e
/// page-faults edgesmith-bench train`).
///
/// The option has a name only as an environment variable, which mimalloc reads before `main`. So it
/// is set by number, and `Cargo.toml` pins the exact version whose number this is.
const PURGE_DELAY: (libmimalloc_sys::mi_option_t, c_long) = (15, 10_000);

/// Runs a program's command to its end and returns the exit code: 0 for success, 1 for failure, 2
/// for wrong usage or invalid input, or the code that the command returns. `verbose` counts the
/// `-v` options.
pub fn run(verbose: u8, command: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    run_without(verbose, &[], command)
}

/// As [`run`], but without the warnings of some `targets` of the log, which the command tells in
/// its own words. With `-v` they are logged.
pub fn run_without(
    verbose: u8,
    targets: &[&str],
    command: impl Future<Output = anyhow::Result<ExitCode>>,
) -> ExitCode {
    // SAFETY: the option exists, and nothing else calls the allocator's options at this time.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY.0, PURGE_DELAY.1) };
    tracing(verbose, targets);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to start the async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(command);
    // Blocking attempts that were told to stop end within a training step. Do not wait longer.
    runtime.shutdown_timeout(Duration::from_secs(5));
    match result {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}

/// A token that Ctrl-C or SIGTERM cancels. A second signal ends the process at once with code 130.
///
/// # Errors
/// When the system refuses the signal handlers.
pub fn shutdown_on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let cancel = token.clone();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        next().await;
        cancel.cancel();
        next().await;
        std::process::exit(130);
    });
    Ok(token)
}

/// Logs to standard error. `RUST_LOG` sets the level; without it, `-v` does.
fn tracing(verbose: u8, without: &[&str]) {
    let default = default_filter(verbose, without);
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

fn default_filter(verbose: u8, without: &[&str]) -> String {
    match verbose {
        0 => {
            let silent = without.iter().map(|target| format!(",{target}=error"));
            format!("warn,sled=error{}", silent.collect::<String>())
        }
        1 => "info,sled=warn".to_owned(),
        _ => "debug,h2=info,sled=info".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set for the test's child process, which prints its value.
    const NAME: &str = "MIMALLOC_PURGE_DELAY";

    #[test]
    fn what_a_command_tells_itself_is_logged_only_if_asked_for() {
        assert_eq!(default_filter(0, &["a::b"]), "warn,sled=error,a::b=error");
        assert_eq!(default_filter(1, &["a::b"]), "info,sled=warn");
    }

    #[test]
    fn the_option_with_this_number_is_the_one_with_this_name() {
        // SAFETY: the option exists, and reading it changes nothing.
        let value = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY.0) };
        if std::env::var_os(NAME).is_some() {
            println!("purge delay {value}");
            return;
        }
        let test = "start::tests::the_option_with_this_number_is_the_one_with_this_name";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(NAME, "4321")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(said.contains("purge delay 4321"), "{said}");
    }
}

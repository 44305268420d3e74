//! The program `edgesmith`: parses the command line, talks to a coordinator over gRPC, and prints
//! the answers. `search`, `coordinator` and `worker` run those parts in this process.

use std::process::ExitCode;

use clap::Parser as _;
use edgesmith_console::start;

mod commands;
mod limits;
mod model;
mod output;

fn main() -> ExitCode {
    let args = commands::Args::parse();
    let verbose = args.verbose.max(args.command.least_verbose());
    let told = args.command.told_otherwise();
    start::run_without(verbose, told, commands::run(args.command))
}

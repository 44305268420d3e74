//! End-to-end tests: they run the real programs as processes with real sockets, all on loopback.
//!
//! This library starts and stops those processes; the tests are in `tests/`. Every process belongs
//! to a guard that kills it through its handle when the test ends. Unit tests are in their crates.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

pub mod proxy;

/// How long a test waits before it gives up. Far longer than needed, so that a loaded machine does
/// not fail a test.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The program under test, built with the tests' own profile and features.
pub fn edgesmith() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build(&["--package", "edgesmith"]))
}

/// The benchmarks' program, built likewise.
pub fn edgesmith_bench() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build(&["--package", "edgesmith-bench"]))
}

/// Builds an example of a package likewise, and gives its path.
pub fn built_example(package: &str, example: &str) -> PathBuf {
    build(&["--package", package, "--example", example])
}

/// Builds the one program that `what` selects, and gives its path.
fn build(what: &[&str]) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--message-format=json"]).args(what);
    // What cargo tells this test about its own package would make build scripts that watch those
    // variables run again, and rebuild much of the tree.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            build.env_remove(&name);
        }
    }
    let built =
        build.stderr(Stdio::inherit()).current_dir(workspace()).output().expect("cargo runs");
    assert!(built.status.success(), "the binary does not build");
    let messages = String::from_utf8(built.stdout).expect("cargo prints UTF-8");
    let executable = messages.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executable.expect("cargo names the binary")
}

/// The root of the repository.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace")
}

/// Commands that talk to a coordinator.
const CLIENTS: [&str; 19] = [
    "cancel", "delete", "export", "extend", "gc", "import", "pareto", "pause", "rename", "report",
    "resume", "retry", "status", "studies", "submit", "trial", "trials", "watch", "workers",
];

/// A command of the binary under test that cannot reach anything by accident. It starts in
/// `directory` and takes no address from the environment. A command that talks to a coordinator and
/// has no address given uses the one of `edgesmith-data` in `directory`, not one that happens to
/// listen at the default address.
pub fn command(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(edgesmith());
    command.args(args).current_dir(directory).stdin(Stdio::null());
    let told = ["--coordinator", "--data-dir", "--help"].iter().any(|option| args.contains(option));
    if args.first().is_some_and(|name| CLIENTS.contains(name)) && !told {
        command.args(["--data-dir", "edgesmith-data"]);
    }
    without_addresses(command)
}

/// Runs a benchmark to its end, with nothing that comes from the environment.
pub fn bench(directory: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(edgesmith_bench());
    command.args(args).current_dir(directory).stdin(Stdio::null());
    Ran(without_addresses(command).output().expect("the binary starts"))
}

fn without_addresses(mut command: Command) -> Command {
    for name in ["EDGESMITH_COORDINATOR", "EDGESMITH_TOKEN", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

/// Runs a command and waits for its end.
pub fn run(directory: &Path, args: &[&str]) -> Ran {
    Ran(command(directory, args).output().expect("the binary starts"))
}

/// A command that ended.
#[derive(Debug)]
pub struct Ran(pub Output);

impl Ran {
    /// Exit code.
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    /// Standard output.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// Standard error.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Asserts success and returns standard output.
    pub fn ok(self) -> String {
        assert_eq!(self.code(), 0, "stderr: {}\nstdout: {}", self.stderr(), self.stdout());
        self.stdout()
    }

    /// Asserts success and reads standard output as JSON.
    pub fn json(self) -> Value {
        serde_json::from_str(&self.ok()).expect("valid JSON")
    }

    /// Asserts that it failed with this code, did not panic, and printed every one of these texts
    /// to standard error.
    pub fn fails(&self, code: i32, texts: &[&str]) {
        let stderr = self.stderr();
        assert_eq!(self.code(), code, "stderr: {stderr}");
        assert!(!stderr.contains("panicked"), "it panicked: {stderr}");
        for text in texts {
            assert!(stderr.contains(text), "{text:?} is not in: {stderr}");
        }
    }
}

/// A process that is killed when this guard is dropped.
#[derive(Debug)]
pub struct Process(Child);

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Process {
    /// Starts it and discards its output.
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("the binary starts"))
    }

    /// Starts it and writes its standard error to a file.
    pub fn start_with_log(mut command: Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).expect("the directory is the test's");
        command.stdout(Stdio::null()).stderr(log);
        Self(command.spawn().expect("the binary starts"))
    }

    /// Sends SIGKILL, so it cannot leave properly.
    pub fn kill(mut self) {
        self.0.kill().expect("the process is ours");
        self.0.wait().expect("the process is ours");
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        let sent = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end and returns the exit code.
    pub fn wait(mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.0.try_wait().expect("the process is ours") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the process does not end");
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("the process is ours").is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if the process has already ended, as it usually has.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A coordinator on a loopback port, with its data directory inside the test's directory.
#[derive(Debug)]
pub struct Coordinator {
    process: Process,
    /// Where it listens.
    pub url: String,
    directory: PathBuf,
    /// Its options without the address.
    options: Vec<String>,
}

impl Coordinator {
    /// Starts one on a free port.
    pub fn start(directory: &Path, lease_seconds: u32) -> Self {
        Self::with_options(directory, &["--lease-seconds", &lease_seconds.to_string()])
    }

    /// Starts one on a free port with additional options.
    pub fn with_options(directory: &Path, options: &[&str]) -> Self {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Self::listen(directory, "127.0.0.1:0", options)
    }

    fn listen(directory: &Path, address: &str, options: Vec<String>) -> Self {
        let mut args = vec!["coordinator", "--listen", address];
        args.extend(options.iter().map(String::as_str));
        let mut starting = command(directory, &args);
        starting.stderr(Stdio::inherit());
        Self::of(starting, directory, options)
    }

    /// The one that a command starts, with its data directory inside `directory`.
    pub fn of(mut command: Command, directory: &Path, options: Vec<String>) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let stdout = child.stdout.take().expect("piped");
        let process = Process(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let url = line.split_whitespace().find(|word| word.contains("://127.0.0.1:"));
        let url = url.unwrap_or_else(|| panic!("no address in {line:?}")).to_owned();
        Self { process, url, directory: directory.to_owned(), options }
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Kills it and starts it again with the same data and port.
    pub fn kill_and_restart(self) -> Self {
        let (_, address) = self.url.split_once("://").expect("a URL");
        self.process.kill();
        Self::listen(&self.directory, address, self.options)
    }

    /// Starts a worker that joins it.
    pub fn worker(&self, extra: &[&str]) -> Process {
        let mut args = vec!["worker", "--coordinator", &self.url];
        args.extend(extra);
        Process::start(command(&self.directory, &args))
    }

    /// Runs a client command against it.
    pub fn ask(&self, args: &[&str]) -> Ran {
        let mut all = args.to_vec();
        all.extend(["--coordinator", &self.url]);
        run(&self.directory, &all)
    }

    /// The study's status as JSON.
    pub fn status(&self, study: &str) -> Value {
        self.ask(&["status", study, "--format", "json"]).json()
    }

    /// All trials as JSON.
    pub fn trials(&self, study: &str) -> Vec<Value> {
        let document = self.ask(&["trials", study, "--format", "json"]).json();
        document["trials"].as_array().expect("a list").clone()
    }

    /// Submits a study.
    pub fn submit(&self, study: &TinyStudy) {
        let file = study.write(&self.directory);
        self.ask(&["submit", file.to_str().expect("a plain path")]).ok();
    }

    /// Waits until a study is complete.
    pub fn wait_until_complete(&self, study: &str) -> Value {
        self.wait_until(study, "complete", |status| status["state"] == "complete")
    }

    /// Waits until `done` is true for the study's status.
    pub fn wait_until(&self, study: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status(study);
            if done(&status) {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "never {what}: {status}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A study on the embedded digits that trains `trials` tiny networks, each in a moment.
#[derive(Debug, Clone)]
pub struct TinyStudy {
    /// Its name.
    pub name: String,
    /// Trials of its budget.
    pub trials: u32,
    /// Device class of its latency objective.
    pub device: String,
    /// Epochs per trial.
    pub epochs: u32,
    /// More text at the end of the file.
    pub more: String,
}

impl TinyStudy {
    /// Four trials on device `local`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            trials: 4,
            device: "local".to_owned(),
            epochs: 1,
            more: String::new(),
        }
    }

    /// The study file's text.
    pub fn text(&self) -> String {
        let Self { name, trials, device, epochs, more } = self;
        format!(
            r#"[study]
name = "{name}"
seed = 6

[data]
source = "digits"
train_limit = 600
test_limit = 200

[space]
resolution = [8]
stem_width = [4, 8]

[[space.stages]]
depth = [1, 2]
width = [4, 8]
kernel = [3]
operation = ["conv", "separable", "inverted-residual"]
expansion = [2]
stride = [1, 2]
activation = ["relu", "relu6"]

[recipe]
prune = [0.0, 0.5]
precision = ["fp32", "int8"]
alpha = [0.0, 0.5]
temperature = [2.0]

[[objectives]]
metric = "validation_accuracy"

[[objectives]]
metric = "latency_ms"
device = "{device}"

[algorithm]
name = "nsga2"

[budget]
trials = {trials}

[training]
epochs = {epochs}
fine_tune_epochs = 1
batch_size = 32

[teacher]
epochs = 1
{more}"#
        )
    }

    /// Writes the study file and returns its path.
    pub fn write(&self, directory: &Path) -> PathBuf {
        let file = directory.join(format!("{}.toml", self.name));
        std::fs::write(&file, self.text()).expect("the directory is the test's");
        file
    }
}

/// The complete trials of a list as (number, metrics), without values that differ between runs.
pub fn complete(trials: &[Value]) -> Vec<(u64, Value)> {
    trials
        .iter()
        .filter(|t| t["state"] == "complete")
        .map(|t| (t["trial"].as_u64().expect("a number"), t["metrics"].clone()))
        .collect()
}

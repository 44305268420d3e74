//! `edgesmith measure`: how long a network takes on this machine, as a study measures it.

use edgesmith_client::Connection;
use edgesmith_common::spec::MeasurementSpec;
use edgesmith_common::{DeviceClass, Measurement};
use edgesmith_console::{ListFormat, Output, invalid, number, print, start, table};
use edgesmith_worker::probe::{device_info, measure};
use serde::Serialize;

use crate::model::{Opened, Reading};
use crate::output::json;

/// Arguments: the network, and how it runs.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub reading: Reading,
    /// Threads that the engine uses; edge-runtime runs on 1
    #[arg(long, default_value_t = 1, allow_negative_numbers = true,
          value_parser = number::whole(1..=1024u32))]
    pub threads: u32,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub connection: Connection,
}

/// Times a network and prints how long it takes.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let opened = Opened::open(&args.reading, &args.connection).await?;
    let model = opened.engine_model()?.clone();
    if model.runs_by_reference() {
        return Err(invalid(format!(
            "{} has no latency: it runs by reference, because no engine on a device computes with \
             its bits",
            opened.words
        )));
    }
    let shutdown = start::shutdown_on_signal()?;
    let threads = args.threads;
    let timing = tokio::task::spawn_blocking(move || {
        let (spec, device) = (MeasurementSpec::default(), device_info(DeviceClass::local()));
        // Nothing else runs in this process.
        measure(&model, &spec, threads, &device, || Some(()), || shutdown.is_cancelled())
    });
    let measured = timing.await??;
    print(&Timing { words: opened.words, measured }, args.format)
}

struct Timing {
    words: String,
    measured: Measurement,
}

impl Output for Timing {
    fn table(&self) -> String {
        let Measurement { device, p50_ms, p95_ms, min_ms, samples, threads, .. } = &self.measured;
        let mut text = String::new();
        let mut say = |name: &str, what: String| text.push_str(&format!("{name:<12}{what}\n"));
        say("network", self.words.clone());
        say("median", table::milliseconds(*p50_ms));
        say("95 %", format!("at most {}", table::milliseconds(*p95_ms)));
        say("fastest", table::milliseconds(*min_ms));
        say("runs", format!("{samples} of one example, on {threads} thread(s)"));
        if let Some(energy_mj) = self.measured.energy_mj {
            let text = "by the machine's own sensors, idle power not subtracted";
            say("energy", format!("{energy_mj:.3} mJ per run, {text}"));
        }
        say("device", format!("{}, {}", device.name, device.cpu));
        if self.measured.is_noisy() {
            text.push_str("\nthe machine did other work meanwhile, so the times may be too high\n");
        }
        text
    }

    fn json(&self) -> impl Serialize {
        #[derive(Serialize)]
        struct Document<'a> {
            version: u32,
            model: &'a str,
            #[serde(flatten)]
            measured: &'a Measurement,
        }
        Document { version: json::VERSION, model: &self.words, measured: &self.measured }
    }
}

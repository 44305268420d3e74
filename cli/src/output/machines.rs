//! Device classes whose machines differ, in words and in JSON.

use edgesmith_proto::v1;
use serde_json::{Value, json};

/// One sentence per device class.
pub fn sentences(unlike: &[v1::UnlikeMachines]) -> impl Iterator<Item = String> {
    unlike.iter().map(|of| {
        let machines: Vec<String> = of.machines.iter().map(|m| machine(m, of)).collect();
        format!(
            "device class {} was measured on unlike machines: {}; their latencies cannot be \
             compared, so give each kind of machine its own class",
            of.device_class,
            machines.join(", ")
        )
    })
}

/// The same as JSON, one object per device class.
pub fn json(unlike: &[v1::UnlikeMachines]) -> Value {
    let machine = |m: &v1::DeviceInfo| {
        json!({
            "class": m.class, "name": m.name, "cpu": m.cpu, "cpu_flags": m.cpu_flags,
            "cores": m.cores,
        })
    };
    let class = |of: &v1::UnlikeMachines| {
        let machines: Vec<Value> = of.machines.iter().map(machine).collect();
        json!({ "device_class": of.device_class, "machines": machines })
    };
    unlike.iter().map(class).collect()
}

/// A machine with its processor and cores, and with its instruction sets if only they tell it from
/// another one.
fn machine(m: &v1::DeviceInfo, of: &v1::UnlikeMachines) -> String {
    let same = |other: &&v1::DeviceInfo| (&other.cpu, other.cores) == (&m.cpu, m.cores);
    let cpu = if m.cpu.is_empty() { "unknown processor" } else { &m.cpu };
    let flags = if of.machines.iter().filter(same).count() > 1 {
        match m.cpu_flags.as_slice() {
            [] => ", no known instruction sets".to_owned(),
            flags => format!(", {}", flags.join(" ")),
        }
    } else {
        String::new()
    };
    format!("{} ({cpu}, {} cores{flags})", m.name, m.cores)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A class of two boards with different processors.
    pub fn two_boards() -> v1::UnlikeMachines {
        let board = |name: &str, cpu: &str, flags: &[&str]| v1::DeviceInfo {
            class: "rpi4".to_owned(),
            name: name.to_owned(),
            cpu: cpu.to_owned(),
            cpu_flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            cores: 4,
        };
        let machines = vec![board("A", "Cortex-A72", &["asimd"]), board("B", "Cortex-A53", &[])];
        v1::UnlikeMachines { device_class: "rpi4".to_owned(), machines }
    }

    #[test]
    fn machines_that_differ_are_named_with_what_differs() {
        let mut unlike = two_boards();
        let said = |unlike: &v1::UnlikeMachines| {
            sentences(std::slice::from_ref(unlike)).next().unwrap_or_default()
        };
        assert_eq!(
            said(&unlike),
            "device class rpi4 was measured on unlike machines: A (Cortex-A72, 4 cores), B \
             (Cortex-A53, 4 cores); their latencies cannot be compared, so give each kind of \
             machine its own class"
        );
        unlike.machines[1].cpu = "Cortex-A72".to_owned();
        let both = "A (Cortex-A72, 4 cores, asimd), B (Cortex-A72, 4 cores, no known";
        assert!(said(&unlike).contains(both), "{}", said(&unlike));
        let document = json(&[unlike]);
        assert_eq!(document[0]["device_class"], "rpi4");
        assert_eq!(document[0]["machines"][0]["cpu_flags"], json!(["asimd"]));
    }
}

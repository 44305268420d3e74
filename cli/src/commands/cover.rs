//! `edgesmith pareto --cover K`: the fewest models such that each named device has one within its
//! limits.

use edgesmith_client::Coordinator;
use edgesmith_common::{
    DeviceClass, Filter, Metric, ScopedMetric, StudySpec, Target, TrialValues, cover,
};
use edgesmith_console::table::{self, Align};
use edgesmith_console::{Format, Output, invalid, print};
use serde::Serialize;

use crate::commands::front;
use crate::output::columns::{Columns, noisy_legend, right};
use crate::output::{TrialRow, json};

/// Prints the models.
pub async fn run(
    coordinator: &Coordinator,
    spec: &StudySpec,
    filters: &[String],
    most: u32,
    format: Format,
) -> anyhow::Result<()> {
    if format == Format::Csv {
        return Err(invalid("--cover prints a table or JSON, not CSV"));
    }
    let demands = Demands::read(filters)?;
    let trials = coordinator.trials(spec.name.as_str()).await?;
    let rows = trials.into_iter().map(|trial| TrialRow::new(trial, spec));
    let rows: Vec<TrialRow> = rows.collect::<anyhow::Result<_>>()?;
    let chosen = choose(&rows, spec, &demands, most as usize)?;
    let named = chosen
        .iter()
        .map(|(row, devices)| (devices.iter().map(ToString::to_string).collect(), *row))
        .collect();
    print(&Models { spec, chosen, named }, format)
}

/// The chosen models, each with its devices.
struct Models<'a> {
    spec: &'a StudySpec,
    chosen: Vec<(&'a TrialRow, Vec<DeviceClass>)>,
    /// The same with the names of the devices.
    named: Vec<(Vec<String>, &'a TrialRow)>,
}

impl Output for Models<'_> {
    fn table(&self) -> String {
        table(&self.chosen, self.spec)
    }

    fn json(&self) -> impl Serialize {
        json::Cover::new(self.spec.name.as_str(), &self.named)
    }
}

/// The limits of each device, and the limits that apply on all devices.
#[derive(Debug)]
struct Demands {
    devices: Vec<(DeviceClass, Vec<(String, Filter)>)>,
    everywhere: Vec<Filter>,
}

impl Demands {
    fn read(texts: &[String]) -> anyhow::Result<Self> {
        let mut demands = Self { devices: Vec::new(), everywhere: Vec::new() };
        for text in texts {
            let filter: Filter = text.parse().map_err(|e| invalid(format!("{e}")))?;
            let Some(device) = filter.device().cloned() else {
                demands.everywhere.push(filter);
                continue;
            };
            match demands.devices.iter_mut().find(|(known, _)| *known == device) {
                Some((_, limits)) => limits.push((text.clone(), filter)),
                None => demands.devices.push((device, vec![(text.clone(), filter)])),
            }
        }
        let count = demands.devices.len();
        if count == 0 {
            let text = "--cover needs a limit for each device, such as --where \
                        'latency_ms@rpi4<=5' --where 'latency_ms@phone<=2'";
            return Err(invalid(text));
        }
        if count > cover::MAX_DEMANDS {
            let most = cover::MAX_DEMANDS;
            return Err(invalid(format!(
                "--cover takes up to {most} devices, but --where names {count}"
            )));
        }
        Ok(demands)
    }

    /// One bit per device: whether the trial is within that device's limits.
    fn met_by(&self, values: &TrialValues) -> u32 {
        if !self.everywhere.iter().all(|filter| filter.admits(values.figures())) {
            return 0;
        }
        let within =
            |limits: &[(String, Filter)]| limits.iter().all(|(_, f)| f.admits(values.figures()));
        let devices = self.devices.iter().enumerate();
        devices.map(|(bit, (_, limits))| u32::from(within(limits)) << bit).sum()
    }

    /// A device's limits as the user wrote them.
    fn limits(&self, device: usize) -> String {
        let texts: Vec<&str> = self.devices[device].1.iter().map(|(text, _)| &**text).collect();
        texts.join(" and ")
    }
}

/// Chooses the models, each with the devices that it serves.
fn choose<'a>(
    rows: &'a [TrialRow],
    spec: &StudySpec,
    demands: &Demands,
    most: usize,
) -> anyhow::Result<Vec<(&'a TrialRow, Vec<DeviceClass>)>> {
    let complete: Vec<(&TrialRow, &TrialValues)> = rows
        .iter()
        .filter(|row| row.state == edgesmith_common::TrialState::Complete)
        .filter_map(|row| Some((row, row.values.as_ref()?)))
        .filter(|(_, values)| {
            spec.constraints.iter().all(|constraint| {
                let value = values.get(&constraint.of);
                value.is_none_or(|value| constraint.bound.violation(value) == 0.0)
            })
        })
        .collect();
    let meets: Vec<u32> = complete.iter().map(|(_, values)| demands.met_by(values)).collect();
    let best = spec.training_metric();
    let worth = |values: &TrialValues| {
        let value = values.get(&best).map(|value| -best.metric.definition().goal.oriented(value));
        value.unwrap_or(f64::NEG_INFINITY)
    };
    let accuracies: Vec<f64> = complete.iter().map(|(_, values)| worth(values)).collect();
    let count = demands.devices.len();
    let found = cover::cover(&meets, &accuracies, count, most).map_err(|missing| {
        if missing.len() == count && meets.iter().any(|met| *met > 0) && most < count {
            let models = if most == 1 { "no one model is" } else { "no choice of models is" };
            anyhow::anyhow!("{models} within all limits with --cover {most}; allow more models")
        } else {
            let values: Vec<&TrialValues> = complete.iter().map(|(_, values)| *values).collect();
            let limits = missing.iter().flat_map(|device| &demands.devices[*device].1);
            let mut unknown =
                limits.filter(|(_, f)| !values.iter().any(|v| f.concerns(v.figures())));
            if let Some((bound, _)) = unknown.next()
                && !values.is_empty()
            {
                return anyhow::anyhow!(front::no_figure(bound, &values));
            }
            let texts: Vec<String> = missing.into_iter().map(|d| demands.limits(d)).collect();
            anyhow::anyhow!(
                "no complete trial of {} is within {}",
                complete.len(),
                texts.join("; none within ")
            )
        }
    })?;
    let named =
        |devices: Vec<usize>| devices.iter().map(|d| demands.devices[*d].0.clone()).collect();
    Ok(found.models.into_iter().map(|(m, devices)| (complete[m].0, named(devices))).collect())
}

fn table(chosen: &[(&TrialRow, Vec<DeviceClass>)], spec: &StudySpec) -> String {
    let mut first = vec![ScopedMetric::VALIDATION_ACCURACY, ScopedMetric::TEST_ACCURACY];
    let devices = chosen.iter().flat_map(|(_, devices)| devices);
    first.extend(devices.map(|device| Metric::LATENCY_MS.at(Target::on(device.clone()))));
    let rows = chosen.iter().map(|(row, _)| *row);
    let columns = Columns::new(first, spec, rows, vec![Metric::MODEL_BYTES.whole()]);
    let headings = columns.headings();
    let mut all = vec![("trial", Align::Right), ("for", Align::Left)];
    all.extend(right(&headings));
    all.extend([("recipe", Align::Left), ("architecture", Align::Left)]);
    let row = |(row, devices): &(&TrialRow, Vec<DeviceClass>)| {
        let names: Vec<String> = devices.iter().map(ToString::to_string).collect();
        let mut cells = vec![row.number.to_string(), names.join(", ")];
        cells.extend(columns.marked(row.values.as_ref()?));
        cells.extend([row.recipe(), row.architecture.clone()]);
        Some(cells)
    };
    let legend = noisy_legend(chosen.iter().filter_map(|(row, _)| row.values.as_ref()));
    table::render(&all, &chosen.iter().filter_map(row).collect::<Vec<_>>()) + legend
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::marks::tests::{row, spec};

    fn chosen(filters: &[&str], most: usize) -> Result<Vec<(u32, String)>, String> {
        let rows = [
            row(0, 0.90, (1.0, 1.0), (1.0, 1.0)),
            row(1, 0.99, (9.0, 9.0), (2.0, 2.0)),
            row(2, 0.95, (3.0, 3.0), (3.0, 3.0)),
        ];
        let texts: Vec<String> = filters.iter().map(|f| (*f).to_owned()).collect();
        let demands = Demands::read(&texts).map_err(|e| e.to_string())?;
        let chosen = choose(&rows, &spec(), &demands, most).map_err(|e| e.to_string())?;
        let names = |devices: Vec<DeviceClass>| {
            devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        Ok(chosen.into_iter().map(|(row, devices)| (row.number, names(devices))).collect())
    }

    #[test]
    fn each_device_gets_the_most_accurate_model_within_its_limits() {
        let limits = ["latency_ms@board<=3", "latency_ms@phone<=2"];
        let of = |number: u32, devices: &str| (number, devices.to_owned());
        assert_eq!(chosen(&limits, 2).unwrap(), [of(1, "phone"), of(2, "board")]);
        assert_eq!(chosen(&limits, 1).unwrap(), [of(0, "board phone")]);
        let loose = ["latency_ms@board<=9", "latency_ms@phone<=2", "model_bytes<=1000"];
        assert_eq!(chosen(&loose, 2).unwrap(), [of(1, "board phone")]);
    }

    #[test]
    fn limits_that_no_trial_meets_are_reported() {
        let none = chosen(&["latency_ms@board<=0.5", "latency_ms@phone<=2"], 2).unwrap_err();
        assert_eq!(none, "no complete trial of 3 is within latency_ms@board<=0.5");
        let unknown = chosen(&["latency_ms@board<=3", "latency_ms@pi<=2"], 2).unwrap_err();
        let text = "no complete trial has the figure of the bound 'latency_ms@pi<=2'";
        assert!(unknown.starts_with(text), "{unknown}");
        let apart = ["latency_ms@board<=1", "validation_accuracy>=0.9", "latency_ms@phone>=3"];
        assert!(chosen(&apart, 1).unwrap_err().contains("allow more models"));
        assert_eq!(chosen(&apart, 2).unwrap().len(), 2);
        assert!(chosen(&["model_bytes<=5"], 2).unwrap_err().contains("latency_ms@rpi4<=5"));
        assert!(chosen(&["speed<=5"], 2).unwrap_err().contains("speed"));
    }
}

//! Figures, targets and measurements. Checks names and scopes, but not values: whether a value can
//! be right is for whoever takes it in to say, and answers show what is recorded.

use edgesmith_common::{
    DeviceClass, DeviceInfo, EngineName, Figures, Fp32Timing, LayerTimes, Measurement, Metric,
    Noise, Scope, ScopedMetric, Split, Target, Waiting, one_line,
};

use super::{ConvertError, MAX_FIGURES, MAX_LIST, MAX_NAME, MAX_WORDS, at_most, missing, wrong};
use crate::v1;

impl From<&Figures> for v1::Figures {
    fn from(figures: &Figures) -> Self {
        let figure = |(of, value): (&ScopedMetric, f64)| v1::Figure {
            metric: of.metric.name().to_owned(),
            value,
            scope: scope_message(&of.scope),
        };
        Self { figures: figures.iter().map(figure).collect() }
    }
}

impl TryFrom<v1::Figures> for Figures {
    type Error = ConvertError;

    fn try_from(message: v1::Figures) -> Result<Self, Self::Error> {
        at_most(MAX_FIGURES, message.figures.len(), "figures")?;
        let mut figures = Figures::new();
        for v1::Figure { metric, value, scope } in message.figures {
            let known = Metric::named(&metric);
            let metric = known.ok_or_else(|| wrong("metric", format!("{metric:?} is unknown")))?;
            let of = ScopedMetric { metric, scope: read_scope(scope)? };
            if !of.fits() {
                let text = format!("{of}: {} is not measured in this scope", of.metric);
                return Err(wrong("figures", text));
            }
            if figures.get(&of).is_some() {
                return Err(wrong("figures", format!("{of} is given twice")));
            }
            figures.set(of, value);
        }
        Ok(figures)
    }
}

fn scope_message(scope: &Scope) -> Option<v1::figure::Scope> {
    use v1::figure::Scope as Wire;
    match scope {
        Scope::Whole => None,
        Scope::Split(Split::Validation) => Some(Wire::Split(v1::Split::Validation.into())),
        Scope::Split(Split::Test) => Some(Wire::Split(v1::Split::Test.into())),
        Scope::Split(Split::HeldOut(name)) => Some(Wire::HeldOut(name.to_string())),
        Scope::Target(target) => Some(Wire::Target((&**target).into())),
    }
}

fn read_scope(scope: Option<v1::figure::Scope>) -> Result<Scope, ConvertError> {
    use v1::figure::Scope as Wire;
    Ok(match scope {
        None => Scope::Whole,
        Some(Wire::Split(split)) => Scope::Split(match v1::Split::try_from(split) {
            Ok(v1::Split::Validation) => Split::Validation,
            Ok(v1::Split::Test) => Split::Test,
            Ok(v1::Split::Unspecified) | Err(_) => return Err(wrong("split", split)),
        }),
        Some(Wire::HeldOut(name)) if name.is_empty() => return Err(missing("held_out")),
        Some(Wire::HeldOut(name)) => {
            Scope::Split(Split::HeldOut(one_line(&name, MAX_WORDS).into()))
        }
        Some(Wire::Target(target)) => Scope::Target(Target::try_from(target)?.into()),
    })
}

impl From<&Target> for v1::Target {
    fn from(target: &Target) -> Self {
        Self {
            device_class: target.device.to_string(),
            engine: target.engine.to_string(),
            threads: target.threads,
        }
    }
}

impl TryFrom<v1::Target> for Target {
    type Error = ConvertError;

    fn try_from(target: v1::Target) -> Result<Self, Self::Error> {
        let v1::Target { device_class, engine, threads } = target;
        Ok(Self {
            device: device_class.parse().map_err(|e| wrong("device_class", e))?,
            engine: match engine.as_str() {
                "" => EngineName::edge_runtime(),
                name => name.parse().map_err(|e| wrong("engine", e))?,
            },
            threads: threads.max(1),
        })
    }
}

impl From<&DeviceInfo> for v1::DeviceInfo {
    fn from(info: &DeviceInfo) -> Self {
        Self {
            class: info.class.to_string(),
            name: info.name.clone(),
            cpu: info.cpu.clone(),
            cpu_flags: info.cpu_flags.clone(),
            cores: info.cores,
        }
    }
}

impl TryFrom<v1::DeviceInfo> for DeviceInfo {
    type Error = ConvertError;

    fn try_from(info: v1::DeviceInfo) -> Result<Self, Self::Error> {
        let v1::DeviceInfo { class, name, cpu, cpu_flags, cores } = info;
        let class: DeviceClass = class.parse().map_err(|e| wrong("class", e))?;
        at_most(MAX_LIST, cpu_flags.len(), "cpu_flags")?;
        let (name, cpu) = (one_line(&name, MAX_WORDS), one_line(&cpu, MAX_WORDS));
        let cpu_flags = cpu_flags.iter().map(|flag| one_line(flag, MAX_NAME)).collect();
        Ok(Self { class, name, cpu, cpu_flags, cores })
    }
}

impl From<&Noise> for v1::Noise {
    fn from(noise: &Noise) -> Self {
        let Noise { noisy, spread, waiting, timings } = *noise;
        let waiting = waiting.map(|Waiting { share, per_run }| v1::Waiting { share, per_run });
        Self { noisy, spread, waiting, timings }
    }
}

impl From<v1::Noise> for Noise {
    fn from(noise: v1::Noise) -> Self {
        let v1::Noise { noisy, spread, waiting, timings } = noise;
        let waiting = waiting.map(|v1::Waiting { share, per_run }| Waiting { share, per_run });
        Self { noisy, spread, waiting, timings }
    }
}

impl From<&Fp32Timing> for v1::OriginalTiming {
    fn from(timing: &Fp32Timing) -> Self {
        let Fp32Timing { p50_ms, p95_ms, min_ms, noisy, energy_mj } = *timing;
        Self { p50_ms, p95_ms, min_ms, noisy, energy_mj }
    }
}

impl From<v1::OriginalTiming> for Fp32Timing {
    fn from(timing: v1::OriginalTiming) -> Self {
        let v1::OriginalTiming { p50_ms, p95_ms, min_ms, noisy, energy_mj } = timing;
        Self { p50_ms, p95_ms, min_ms, noisy, energy_mj }
    }
}

impl From<&Measurement> for v1::Measurement {
    fn from(m: &Measurement) -> Self {
        Self {
            device: Some((&m.device).into()),
            engine: m.engine.to_string(),
            engine_version: m.engine_version.clone(),
            threads: m.threads,
            batch: m.batch,
            warmup_runs: m.warmup_runs,
            samples: m.samples,
            p50_ms: m.p50_ms,
            p95_ms: m.p95_ms,
            min_ms: m.min_ms,
            noise: m.noise.as_ref().map(Into::into),
            original: m.original.as_ref().map(Into::into),
            energy_mj: m.energy_mj,
            slower_layers: m.slower_layers.iter().map(Into::into).collect(),
            unquantized: m.unquantized.as_ref().map(Into::into),
            slower_in_integers: m.slower_in_integers.iter().map(Into::into).collect(),
        }
    }
}

impl From<&LayerTimes> for v1::LayerTimes {
    fn from(times: &LayerTimes) -> Self {
        let LayerTimes { layer, conversions, shipped_ms, original_ms } = times.clone();
        Self { layer, shipped_ms, original_ms, conversions }
    }
}

impl From<v1::LayerTimes> for LayerTimes {
    fn from(times: v1::LayerTimes) -> Self {
        let v1::LayerTimes { layer, shipped_ms, original_ms, conversions } = times;
        Self { layer: one_line(&layer, MAX_WORDS), conversions, shipped_ms, original_ms }
    }
}

impl TryFrom<v1::Measurement> for Measurement {
    type Error = ConvertError;

    fn try_from(m: v1::Measurement) -> Result<Self, Self::Error> {
        at_most(MAX_LIST, m.slower_layers.len(), "slower_layers")?;
        at_most(MAX_LIST, m.slower_in_integers.len(), "slower_in_integers")?;
        Ok(Self {
            device: m.device.ok_or_else(|| missing("device"))?.try_into()?,
            engine: m.engine.parse().map_err(|e| wrong("engine", e))?,
            engine_version: one_line(&m.engine_version, MAX_NAME),
            threads: match m.threads {
                0 => return Err(missing("threads")),
                threads => threads,
            },
            batch: m.batch,
            warmup_runs: m.warmup_runs,
            samples: m.samples,
            p50_ms: m.p50_ms,
            p95_ms: m.p95_ms,
            min_ms: m.min_ms,
            noise: m.noise.map(Into::into),
            energy_mj: m.energy_mj,
            original: m.original.map(Into::into),
            slower_layers: m.slower_layers.into_iter().map(Into::into).collect(),
            unquantized: m.unquantized.map(Into::into),
            slower_in_integers: m.slower_in_integers.into_iter().map(Into::into).collect(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target() -> impl Strategy<Value = Target> {
        ("[a-z][a-z0-9-]{0,10}", "[a-z][a-z0-9-]{0,10}", 1u32..65).prop_map(
            |(device, engine, threads)| Target {
                device: device.parse().unwrap(),
                engine: engine.parse().unwrap(),
                threads,
            },
        )
    }

    /// Figures within their definitions, in every kind of scope.
    pub fn figures() -> impl Strategy<Value = Figures> {
        let figure = |(metric, share, target, set, kind): (usize, f64, Target, String, u8)| {
            let metric = Metric::ALL[metric % Metric::ALL.len()];
            let definition = metric.definition();
            let (least, greatest) = definition.range;
            let value = least + share * (greatest - least).min(1e6);
            let value = if definition.unit.is_whole() { value.ceil() } else { value };
            let of = match (definition.scope, kind % 3) {
                (edgesmith_common::metric::ScopeKind::Whole, _) => metric.whole(),
                (edgesmith_common::metric::ScopeKind::Target, _) => metric.at(target),
                (edgesmith_common::metric::ScopeKind::Split, 0) => metric.on(Split::Validation),
                (edgesmith_common::metric::ScopeKind::Split, 1) => metric.on(Split::Test),
                (edgesmith_common::metric::ScopeKind::Split, _) => {
                    metric.on(Split::HeldOut(set.into()))
                }
            };
            (of, value)
        };
        let parts = (any::<usize>(), 0.0..=1.0, target(), "[a-z0-9_]{1,12}", any::<u8>());
        prop::collection::vec(parts.prop_map(figure), 0..12)
            .prop_map(|all| all.into_iter().collect())
    }

    fn measurement() -> impl Strategy<Value = Measurement> {
        let text = "[a-zA-Z0-9 .]{0,12}";
        let device = ("[a-z][a-z0-9-]{0,10}", text, text, prop::collection::vec(text, 0..3));
        let device = (device, any::<u32>()).prop_map(|((class, name, cpu, cpu_flags), cores)| {
            DeviceInfo { class: class.parse().unwrap(), name, cpu, cpu_flags, cores }
        });
        let engine = "[a-z][a-z0-9-]{0,10}";
        let waiting = (0.0..=1.0, 0.0..9.0);
        let waiting = waiting.prop_map(|(share, per_run)| Waiting { share, per_run });
        let noise = (any::<bool>(), 0.0..9.0, prop::option::of(waiting), 1u32..9);
        let noise = noise.prop_map(|(noisy, spread, waiting, timings)| Noise {
            noisy,
            spread,
            waiting,
            timings,
        });
        let times = prop::array::uniform3(0.001..1e6);
        let noise = prop::option::of(noise);
        let energy = || prop::option::of(0.0..1e6);
        let timing = (prop::array::uniform3(0.001..1e6), any::<bool>(), energy());
        let timing = timing.prop_map(|([p50_ms, p95_ms, min_ms], noisy, energy_mj)| Fp32Timing {
            p50_ms,
            p95_ms,
            min_ms,
            noisy,
            energy_mj,
        });
        let layer = ("[a-z0-9.]{0,12}", any::<bool>(), 0.0..9.0, 0.0..9.0);
        let layer = layer.prop_map(|(layer, conversions, shipped_ms, original_ms)| LayerTimes {
            layer,
            conversions,
            shipped_ms,
            original_ms,
        });
        let layers = prop::collection::vec(layer, 0..4);
        let compared = || (prop::option::of(timing.clone()), layers.clone());
        let more = (noise, energy(), compared(), compared());
        (device, engine, text, any::<[u32; 4]>(), times, more).prop_map(
            |(device, engine, engine_version, counts, times, more)| Measurement {
                device,
                engine: engine.parse().unwrap(),
                engine_version,
                threads: counts[0].max(1),
                batch: counts[1],
                warmup_runs: counts[2],
                samples: counts[3],
                p50_ms: times[0],
                p95_ms: times[1],
                min_ms: times[2],
                noise: more.0,
                energy_mj: more.1,
                original: more.2.0,
                slower_layers: more.2.1,
                unquantized: more.3.0,
                slower_in_integers: more.3.1,
            },
        )
    }

    proptest! {
        #[test]
        fn figures_convert_back(figures in figures()) {
            prop_assert_eq!(Figures::try_from(v1::Figures::from(&figures)).unwrap(), figures);
        }

        #[test]
        fn measurements_convert_back(m in measurement()) {
            prop_assert_eq!(Measurement::try_from(v1::Measurement::from(&m)).unwrap(), m);
        }
    }

    #[test]
    fn unknown_names_scopes_that_do_not_fit_and_doubles_are_rejected() {
        let refused = |metric: &str, scope: Option<v1::figure::Scope>| {
            let figures = vec![v1::Figure { metric: metric.to_owned(), value: 0.5, scope }];
            Figures::try_from(v1::Figures { figures }).unwrap_err().to_string()
        };
        let board = v1::Target { device_class: "board".to_owned(), ..Default::default() };
        let on_board = Some(v1::figure::Scope::Target(board));
        assert!(refused("accuracy", on_board).contains("not measured in this scope"));
        assert!(refused("accuracy", None).contains("not measured in this scope"));
        assert!(refused("speed", None).contains("\"speed\" is unknown"));
        let nameless = Some(v1::figure::Scope::HeldOut(String::new()));
        assert!(refused("accuracy", nameless).contains("held_out"));
        let macs = v1::Figure { metric: "macs".to_owned(), value: 1.0, scope: None };
        let twice = v1::Figures { figures: vec![macs.clone(), macs] };
        assert!(Figures::try_from(twice).unwrap_err().to_string().contains("macs is given twice"));
    }

    #[test]
    fn recorded_values_that_would_not_be_taken_today_are_still_shown() {
        let accuracy = ScopedMetric::VALIDATION_ACCURACY;
        let message = v1::Figures::from(&Figures::new().with(accuracy.clone(), 98.0));
        assert_eq!(Figures::try_from(message).unwrap().get(&accuracy), Some(98.0));
    }

    #[test]
    fn errors_name_the_wrong_field_of_a_measurement() {
        let field = |m: v1::Measurement| Measurement::try_from(m).unwrap_err().field;
        assert_eq!(field(v1::Measurement::default()), "device");
        let device = Some(v1::DeviceInfo { class: "rpi4".to_owned(), ..Default::default() });
        let engine = "e".to_owned();
        let good = v1::Measurement {
            device,
            engine,
            threads: 1,
            p50_ms: 1.0,
            p95_ms: 1.0,
            min_ms: 1.0,
            ..Default::default()
        };
        let read = Measurement::try_from(good.clone()).unwrap();
        assert_eq!(read.noise, None, "not known from workers of earlier versions");
        assert_eq!((read.energy_mj, read.original, read.slower_layers), (None, None, vec![]));
        assert_eq!((read.unquantized, read.slower_in_integers), (None, vec![]));
        let slower_layers = vec![v1::LayerTimes::default(); MAX_LIST + 1];
        assert_eq!(field(v1::Measurement { slower_layers, ..good.clone() }), "slower_layers");
        let slower_in_integers = vec![v1::LayerTimes::default(); MAX_LIST + 1];
        let many = v1::Measurement { slower_in_integers, ..good.clone() };
        assert_eq!(field(many), "slower_in_integers");
        assert_eq!(field(v1::Measurement { threads: 0, ..good.clone() }), "threads");
        assert_eq!(field(v1::Measurement { engine: String::new(), ..good }), "engine");
    }
}

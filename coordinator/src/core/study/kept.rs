//! What is known about a complete trial, in little room. A study may have a million of them. What
//! decides something, its figures, is at hand; the rest is only shown, and packed.

use edgesmith_common::{
    ArtifactHash, DeviceInfo, EngineName, FigureNames, Figures, Fp32Timing, LayerTimes,
    Measurement, Noise, TrainedTrial, TrialValues, Waiting,
};

use crate::packing::{Unpacker, put, put_bytes, put_float};

/// The values of a complete trial.
#[derive(Debug, PartialEq)]
pub struct Kept {
    figures: Figures,
    /// `None` if it was not trained here.
    more: Option<More>,
}

/// What else is known of a trial that was trained here.
#[derive(Debug, PartialEq)]
struct More {
    /// Which figures of the uncompressed network are known.
    uncompressed: FigureNames,
    /// The model file and the weights, then the figures of the uncompressed network and the
    /// measurements.
    packed: Box<[u8]>,
}

/// What many measurements of a study have in common. It does not shrink.
#[derive(Debug, Default, PartialEq)]
pub struct Setups(Vec<Setup>);

#[derive(Debug, PartialEq)]
struct Setup {
    device: DeviceInfo,
    engine: EngineName,
    engine_version: String,
    threads: u32,
    batch: u32,
    warmup_runs: u32,
}

impl Kept {
    /// Packs values, without the stages of the network. `names` are those of the trial before.
    pub fn new(mut values: TrialValues, names: &mut [FigureNames; 3], setups: &mut Setups) -> Self {
        values.share_names(names);
        let (trained, measurements) = match values {
            TrialValues::Known(figures) => return Self { figures: *figures, more: None },
            TrialValues::Trained { trained, measurements } => (trained, measurements),
        };
        let mut packed = Vec::with_capacity(256);
        packed.extend(trained.model.as_bytes());
        packed.extend(trained.weights.as_bytes());
        trained.uncompressed.values().iter().for_each(|value| put_float(&mut packed, *value));
        put(&mut packed, measurements.len() as u64);
        measurements.iter().for_each(|of| setups.pack(of, &mut packed));
        let more =
            More { uncompressed: trained.uncompressed.names(), packed: packed.into_boxed_slice() };
        Self { figures: trained.compressed.clone(), more: Some(more) }
    }

    /// Figures of the network that ships.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Its model file and its weights; `None` if it was not trained here.
    pub fn artifacts(&self) -> Option<[ArtifactHash; 2]> {
        let mut from = Unpacker::new(&self.more.as_ref()?.packed);
        Some([from.array()?, from.array()?].map(ArtifactHash::from_bytes))
    }

    /// Everything, as it was before it was packed.
    pub fn values(&self, setups: &Setups) -> TrialValues {
        let Some(more) = &self.more else {
            return TrialValues::Known(self.figures.clone().into());
        };
        let values = more.unpack(&self.figures, setups);
        values.unwrap_or_else(|| unreachable!("packed values have another form"))
    }
}

impl More {
    fn unpack(&self, compressed: &Figures, setups: &Setups) -> Option<TrialValues> {
        let mut from = Unpacker::new(&self.packed);
        let [model, weights] = [from.array()?, from.array()?].map(ArtifactHash::from_bytes);
        let values = (0..self.uncompressed.len()).map(|_| from.float());
        let uncompressed = self.uncompressed.with(values.collect::<Option<Vec<_>>>()?);
        let count: usize = from.small()?;
        let measurements = (0..count).map(|_| setups.unpack(&mut from)).collect::<Option<_>>()?;
        let (compressed, stages) = (compressed.clone(), Vec::new());
        let trained = TrainedTrial { compressed, uncompressed, model, weights, stages };
        Some(TrialValues::Trained { trained: trained.into(), measurements })
    }
}

impl Setups {
    fn pack(&mut self, of: &Measurement, packed: &mut Vec<u8>) {
        let same = |setup: &Setup| {
            let Setup { device, engine, engine_version, threads, batch, warmup_runs } = setup;
            let counts = (*threads, *batch, *warmup_runs);
            (device, engine, engine_version) == (&of.device, &of.engine, &of.engine_version)
                && counts == (of.threads, of.batch, of.warmup_runs)
        };
        let place = self.0.iter().position(same).unwrap_or_else(|| {
            self.0.push(Setup {
                device: of.device.clone(),
                engine: of.engine.clone(),
                engine_version: of.engine_version.clone(),
                threads: of.threads,
                batch: of.batch,
                warmup_runs: of.warmup_runs,
            });
            self.0.len() - 1
        });
        put(packed, place as u64);
        put(packed, u64::from(of.samples));
        [of.p50_ms, of.p95_ms, of.min_ms].iter().for_each(|ms| put_float(packed, *ms));
        packed.push(u8::from(of.noise.is_some()));
        if let Some(Noise { noisy, spread, waiting, timings }) = of.noise {
            packed.push(u8::from(noisy));
            put_float(packed, spread);
            put_optional(packed, waiting.map(|of| of.share));
            waiting.iter().for_each(|of| put_float(packed, of.per_run));
            put(packed, u64::from(timings));
        }
        put_optional(packed, of.energy_mj);
        put_compared(packed, of.original, &of.slower_layers);
        put_compared(packed, of.unquantized, &of.slower_in_integers);
    }

    fn unpack(&self, from: &mut Unpacker) -> Option<Measurement> {
        let Setup { device, engine, engine_version, threads, batch, warmup_runs } =
            self.0.get(from.small::<usize>()?)?;
        let samples = from.small()?;
        let [p50_ms, p95_ms, min_ms] = three(from)?;
        let noise = if flag(from)? {
            let (noisy, spread, share) = (flag(from)?, from.float()?, optional(from)?);
            let waiting = match share {
                Some(share) => Some(Waiting { share, per_run: from.float()? }),
                None => None,
            };
            Some(Noise { noisy, spread, waiting, timings: from.small()? })
        } else {
            None
        };
        let energy_mj = optional(from)?;
        let (original, slower_layers) = compared(from)?;
        let (unquantized, slower_in_integers) = compared(from)?;
        Some(Measurement {
            device: device.clone(),
            engine: engine.clone(),
            engine_version: engine_version.clone(),
            threads: *threads,
            batch: *batch,
            warmup_runs: *warmup_runs,
            samples,
            p50_ms,
            p95_ms,
            min_ms,
            noise,
            energy_mj,
            original,
            slower_layers,
            unquantized,
            slower_in_integers,
        })
    }
}

/// Packs what a network is compared with, and the layers that are slower than there.
fn put_compared(packed: &mut Vec<u8>, with: Option<Fp32Timing>, slower: &[LayerTimes]) {
    packed.push(u8::from(with.is_some()));
    if let Some(Fp32Timing { p50_ms, p95_ms, min_ms, noisy, energy_mj }) = with {
        [p50_ms, p95_ms, min_ms].iter().for_each(|ms| put_float(packed, *ms));
        packed.push(u8::from(noisy));
        put_optional(packed, energy_mj);
    }
    put(packed, slower.len() as u64);
    for LayerTimes { layer, conversions, shipped_ms, original_ms } in slower {
        put_bytes(packed, layer.as_bytes());
        packed.push(u8::from(*conversions));
        put_float(packed, *shipped_ms);
        put_float(packed, *original_ms);
    }
}

fn compared(from: &mut Unpacker) -> Option<(Option<Fp32Timing>, Vec<LayerTimes>)> {
    let with = if flag(from)? {
        let [p50_ms, p95_ms, min_ms] = three(from)?;
        let (noisy, energy_mj) = (flag(from)?, optional(from)?);
        Some(Fp32Timing { p50_ms, p95_ms, min_ms, noisy, energy_mj })
    } else {
        None
    };
    let count: usize = from.small()?;
    let layer = |_| {
        let layer = String::from_utf8(from.bytes()?.to_vec()).ok()?;
        let conversions = flag(from)?;
        let (shipped_ms, original_ms) = (from.float()?, from.float()?);
        Some(LayerTimes { layer, conversions, shipped_ms, original_ms })
    };
    let slower = (0..count).map(layer).collect::<Option<_>>()?;
    Some((with, slower))
}

fn put_optional(packed: &mut Vec<u8>, value: Option<f64>) {
    packed.push(u8::from(value.is_some()));
    value.iter().for_each(|value| put_float(packed, *value));
}

fn optional(from: &mut Unpacker) -> Option<Option<f64>> {
    Some(if flag(from)? { Some(from.float()?) } else { None })
}

fn flag(from: &mut Unpacker) -> Option<bool> {
    from.byte().map(|byte| byte != 0)
}

fn three(from: &mut Unpacker) -> Option<[f64; 3]> {
    Some([from.float()?, from.float()?, from.float()?])
}

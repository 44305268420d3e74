//! Writes a block. How it looks is described in the module above.

use std::collections::HashMap;
use std::hash::Hash;

use edgesmith_common::{
    AttemptId, ClassCount, FigureNames, Figures, Fp32Timing, Measurement, Noise, RungReport,
    StageReport, StudyName, Target, TaskId, TrainedTrial, TrialNumber, Waiting,
};
use serde::Serialize;

use super::super::{FormatError, freeze, v1, v2};
use super::{Last, Setup, tag};
use crate::core::{AttemptEnding, Record, StagesKey, TrialEnding};
use crate::packing::{put, put_bytes, put_difference, put_float};

/// The definitions of one kind.
#[derive(Debug)]
struct Defined<K>(HashMap<K, u64>);

impl<K> Default for Defined<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

/// A block that is being written.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    studies: Defined<StudyName>,
    passes: Defined<String>,
    names: Defined<FigureNames>,
    targets: Defined<Target>,
    setups: Defined<Vec<u8>>,
    last: Last,
}

impl<K: Hash + Eq + Clone> Defined<K> {
    /// The place of `key`, which is defined by `tag` and `definition` if it is new.
    fn place(
        &mut self,
        key: &K,
        bytes: &mut Vec<u8>,
        tag: u8,
        definition: impl FnOnce(&K) -> Result<Vec<u8>, FormatError>,
    ) -> Result<u64, FormatError> {
        if let Some(place) = self.0.get(key) {
            return Ok(*place);
        }
        bytes.push(tag);
        put_bytes(bytes, &definition(key)?);
        let place = self.0.len() as u64;
        self.0.insert(key.clone(), place);
        Ok(place)
    }
}

fn frozen<T: Serialize>(value: &T) -> Result<Vec<u8>, FormatError> {
    postcard::to_stdvec(value).map_err(FormatError::Encode)
}

impl Writer {
    /// The block.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Adds a record.
    ///
    /// # Errors
    /// If it cannot be encoded.
    pub fn add(&mut self, record: &Record) -> Result<(), FormatError> {
        match record {
            Record::TrialProposed { study, number, task, genotype, parents } => {
                self.begin(tag::PROPOSED, study)?;
                self.number(*number);
                self.task(*task);
                put(&mut self.bytes, genotype.len() as u64);
                genotype.iter().for_each(|option| put(&mut self.bytes, u64::from(*option)));
                put(&mut self.bytes, parents.len() as u64);
                for parent in parents {
                    put_difference(&mut self.bytes, u64::from(parent.0), u64::from(number.0));
                }
            }
            Record::AttemptStarted { study, task, attempt, worker, elapsed_ms } => {
                self.begin(tag::STARTED, study)?;
                self.attempt(*task, *attempt, *elapsed_ms);
                put(&mut self.bytes, worker.0);
            }
            Record::AttemptEnded {
                study,
                task,
                attempt,
                ending: AttemptEnding::Succeeded,
                elapsed_ms,
            } => {
                self.begin(tag::SUCCEEDED, study)?;
                self.attempt(*task, *attempt, *elapsed_ms);
            }
            Record::TrialTrained { study, number, trained, stages, measure } => {
                self.trained(study, *number, trained, *stages, measure)?;
            }
            Record::Measured { study, task, measurement }
                if measurement.slower_layers.is_empty()
                    && measurement.unquantized.is_none()
                    && measurement.slower_in_integers.is_empty() =>
            {
                self.measured(study, *task, measurement)?;
            }
            Record::TrialLookedUp { study, number, figures } => {
                let names = self.names(figures)?;
                self.begin(tag::LOOKED_UP, study)?;
                self.number(*number);
                self.figures(names, figures);
            }
            Record::TrialFinished { study, number, ending: TrialEnding::Complete } => {
                self.begin(tag::COMPLETE, study)?;
                self.number(*number);
            }
            Record::TrialFinished { study, number, ending: TrialEnding::Pruned } => {
                self.begin(tag::PRUNED, study)?;
                self.number(*number);
            }
            Record::TrialFinished { study, number, ending: TrialEnding::ScreenedOut } => {
                self.begin(tag::SCREENED_OUT, study)?;
                self.number(*number);
            }
            Record::RungReached { study, number, report } => {
                let RungReport { epochs, figures, checkpoint } = report;
                let names = self.names(figures)?;
                self.begin(tag::RUNG, study)?;
                self.number(*number);
                put(&mut self.bytes, u64::from(*epochs));
                self.bytes.push(u8::from(checkpoint.is_some()));
                self.bytes.extend(checkpoint.iter().flat_map(|hash| hash.as_bytes()));
                self.figures(names, figures);
            }
            Record::TrialPromoted { study, number, task } => {
                self.begin(tag::PROMOTED, study)?;
                self.number(*number);
                self.task(*task);
            }
            Record::TrialScored { study, number, score } => {
                self.begin(tag::SCORED, study)?;
                self.number(*number);
                put_float(&mut self.bytes, *score);
            }
            Record::TrialInherits { study, number, donor } => {
                self.begin(tag::INHERITS, study)?;
                self.number(*number);
                put_difference(&mut self.bytes, u64::from(donor.0), u64::from(number.0));
            }
            Record::StudyCreated { .. }
            | Record::DataCheckWanted { .. }
            | Record::DataChecked { .. }
            | Record::DataDamaged { .. }
            | Record::DataTrusted { .. }
            | Record::BudgetExtended { .. }
            | Record::StudyRenamed { .. }
            | Record::TeacherRetried { .. }
            | Record::TeacherMeasuredAgain { .. }
            | Record::TrialRetried { .. }
            | Record::StudyStateChanged { .. }
            | Record::StudyDeleted { .. }
            | Record::ProposalsEnded { .. }
            | Record::TrialInfeasible { .. }
            | Record::AttemptEnded { .. }
            | Record::TeacherTrained { .. }
            | Record::Measured { .. }
            | Record::TrialFinished { .. }
            | Record::TaskGivenUp { .. }
            | Record::WorkerIdsReserved { .. }
            | Record::IdsReserved { .. }
            | Record::TrialImported { .. }
            | Record::TrialTooSlow { .. } => {
                let frame = frozen(&freeze::freeze(record)?)?;
                self.bytes.push(tag::FRAME);
                put_bytes(&mut self.bytes, &frame);
            }
        }
        Ok(())
    }

    fn trained(
        &mut self,
        study: &StudyName,
        number: TrialNumber,
        trained: &TrainedTrial,
        key: Option<StagesKey>,
        measure: &[(TaskId, Target)],
    ) -> Result<(), FormatError> {
        let TrainedTrial { compressed, uncompressed, model, weights, stages } = trained;
        let names = [self.names(compressed)?, self.names(uncompressed)?];
        let places = measure.iter().map(|(_, target)| self.target(target));
        let places: Vec<u64> = places.collect::<Result<_, _>>()?;
        let mut packed = Vec::new();
        put(&mut packed, stages.len() as u64);
        for StageReport { pass, distilled, figures, classes } in stages {
            let bytes = &mut self.bytes;
            let text = |pass: &String| Ok(pass.clone().into_bytes());
            put(&mut packed, self.passes.place(pass, bytes, tag::PASS, text)?);
            packed.push(u8::from(*distilled));
            put(&mut packed, self.names(figures)?);
            figures.values().iter().for_each(|value| put_float(&mut packed, *value));
            put(&mut packed, classes.len() as u64);
            for ClassCount { images, right } in classes {
                put(&mut packed, u64::from(*images));
                put(&mut packed, u64::from(*right));
            }
        }
        self.begin(tag::TRAINED, study)?;
        self.number(number);
        self.figures(names[0], compressed);
        self.figures(names[1], uncompressed);
        self.bytes.extend(model.as_bytes());
        self.bytes.extend(weights.as_bytes());
        put(&mut self.bytes, measure.len() as u64);
        for ((task, _), place) in measure.iter().zip(places) {
            self.task(*task);
            put(&mut self.bytes, place);
        }
        self.bytes.push(u8::from(key.is_some()));
        self.bytes.extend(key.iter().flat_map(|key| key.as_bytes()));
        put_bytes(&mut self.bytes, &packed);
        Ok(())
    }

    fn measured(
        &mut self,
        study: &StudyName,
        task: TaskId,
        of: &Measurement,
    ) -> Result<(), FormatError> {
        let v1::Measurement { device, engine, engine_version, threads, batch, .. } =
            freeze::measurement(of);
        let warmup_runs = of.warmup_runs;
        let setup = Setup { device, engine, engine_version, threads, batch, warmup_runs };
        let definition = |setup: &Vec<u8>| Ok(setup.clone());
        let setup = frozen(&setup)?;
        let setup = self.setups.place(&setup, &mut self.bytes, tag::SETUP, definition)?;
        self.begin(tag::MEASURED, study)?;
        self.task(task);
        let bytes = &mut self.bytes;
        put(bytes, setup);
        put(bytes, u64::from(of.samples));
        [of.p50_ms, of.p95_ms, of.min_ms].iter().for_each(|ms| put_float(bytes, *ms));
        bytes.push(u8::from(of.noise.is_some()));
        if let Some(Noise { noisy, spread, waiting, timings }) = of.noise {
            bytes.push(u8::from(noisy));
            put_float(bytes, spread);
            put(bytes, u64::from(timings));
            bytes.push(u8::from(waiting.is_some()));
            if let Some(Waiting { share, per_run }) = waiting {
                put_float(bytes, share);
                put_float(bytes, per_run);
            }
        }
        put_optional(bytes, of.energy_mj);
        bytes.push(u8::from(of.original.is_some()));
        if let Some(Fp32Timing { p50_ms, p95_ms, min_ms, noisy, energy_mj }) = of.original {
            [p50_ms, p95_ms, min_ms].iter().for_each(|ms| put_float(bytes, *ms));
            bytes.push(u8::from(noisy));
            put_optional(bytes, energy_mj);
        }
        Ok(())
    }

    /// Begins a record of a study.
    fn begin(&mut self, tag: u8, study: &StudyName) -> Result<(), FormatError> {
        let text = |name: &StudyName| Ok(name.as_str().as_bytes().to_vec());
        let place = self.studies.place(study, &mut self.bytes, tag::STUDY, text)?;
        self.bytes.push(tag);
        put(&mut self.bytes, place);
        Ok(())
    }

    fn names(&mut self, figures: &Figures) -> Result<u64, FormatError> {
        let definition = |_: &FigureNames| {
            let of_figure = |figure: v2::Figure| (figure.metric, figure.scope);
            frozen(&freeze::figures(figures).into_iter().map(of_figure).collect::<Vec<_>>())
        };
        self.names.place(&figures.names(), &mut self.bytes, tag::NAMES, definition)
    }

    fn target(&mut self, target: &Target) -> Result<u64, FormatError> {
        let definition = |target: &Target| frozen(&freeze::target(target));
        self.targets.place(target, &mut self.bytes, tag::TARGET, definition)
    }

    fn figures(&mut self, names: u64, figures: &Figures) {
        put(&mut self.bytes, names);
        figures.values().iter().for_each(|value| put_float(&mut self.bytes, *value));
    }

    fn number(&mut self, number: TrialNumber) {
        let number = u64::from(number.0);
        put_difference(&mut self.bytes, number, std::mem::replace(&mut self.last.number, number));
    }

    fn task(&mut self, task: TaskId) {
        put_difference(&mut self.bytes, task.0, std::mem::replace(&mut self.last.task, task.0));
    }

    fn attempt(&mut self, task: TaskId, attempt: AttemptId, elapsed_ms: u64) {
        self.task(task);
        let Last { attempt: last, elapsed_ms: time, .. } = &mut self.last;
        put_difference(&mut self.bytes, attempt.0, std::mem::replace(last, attempt.0));
        put_difference(&mut self.bytes, elapsed_ms, std::mem::replace(time, elapsed_ms));
    }
}

fn put_optional(bytes: &mut Vec<u8>, value: Option<f64>) {
    bytes.push(u8::from(value.is_some()));
    value.iter().for_each(|value| put_float(bytes, *value));
}

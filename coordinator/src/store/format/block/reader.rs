//! Reads a block. How it looks is described in the module above.

use edgesmith_common::{
    ArtifactHash, AttemptId, ClassCount, Figures, Fp32Timing, Measurement, Noise, RungReport,
    StageReport, StudyName, Target, TaskId, TrainedTrial, TrialNumber, Waiting, WorkerId,
};

use super::super::choices::RecordedChoices;
use super::super::{FormatError, Frame, thaw, v1, v2, whole};
use super::{Last, Setup, tag};
use crate::core::{AttemptEnding, Record, StagesKey, TrialEnding};
use crate::packing::Unpacker;

/// A block that is being read.
#[derive(Debug)]
pub struct Reader<'a> {
    from: Unpacker<'a>,
    /// Whether to read the stages of trials.
    stages: bool,
    studies: Vec<StudyName>,
    passes: Vec<String>,
    /// With the place of each figure's value in the record, in the order of today's metrics.
    names: Vec<Figures>,
    targets: Vec<Target>,
    /// Without any latency and number of runs.
    setups: Vec<Measurement>,
    last: Last,
    values: Vec<f64>,
}

impl<'a> Reader<'a> {
    /// Reads these bytes. Without `stages`, those of trials are left out.
    pub fn new(bytes: &'a [u8], stages: bool) -> Self {
        let (studies, passes, names, targets, setups, last, values) = Default::default();
        let from = Unpacker::new(bytes);
        Self { from, stages, studies, passes, names, targets, setups, last, values }
    }

    /// Whether all items were read.
    pub fn is_at_end(&self) -> bool {
        self.from.is_at_end()
    }
}

/// What is wrong with a block whose checksum is right.
fn cut() -> FormatError {
    FormatError::Block("it ends in the middle of a record, or names what it does not define")
}

impl Reader<'_> {
    /// Reads the next item. A definition is no record.
    ///
    /// # Errors
    /// If it is none.
    pub fn item(&mut self, choices: &mut RecordedChoices) -> Result<Option<Record>, FormatError> {
        let tag = self.from.byte().ok_or_else(cut)?;
        if let tag::FRAME..=tag::SETUP = tag {
            let bytes = self.from.bytes().ok_or_else(cut)?;
            return self.definition(tag, bytes, choices);
        }
        if !(tag::PROPOSED..=tag::INHERITS).contains(&tag) {
            return Err(FormatError::Block("it has an item that this program does not know"));
        }
        let mut record = self.record(tag).ok_or_else(cut)?;
        if let Record::TrialProposed { study, genotype, .. } = &mut record {
            let stored = std::mem::take(genotype);
            let read = choices.read(study.as_str(), stored);
            *genotype = read.map_err(|problem| payload(4, problem))?;
        }
        Ok(Some(record))
    }

    fn definition(
        &mut self,
        tag: u8,
        bytes: &[u8],
        choices: &mut RecordedChoices,
    ) -> Result<Option<Record>, FormatError> {
        let text = || String::from_utf8_lossy(bytes).into_owned();
        match tag {
            tag::FRAME => return thaw::thaw(&whole::<Frame>(bytes)?, choices).map(Some),
            tag::STUDY => self.studies.push(named(&text())?),
            tag::PASS => self.passes.push(text()),
            tag::TARGET => {
                let target = thaw::target(whole(bytes)?);
                self.targets.push(target.map_err(|problem| payload(9, problem))?);
            }
            tag::NAMES => {
                let names: Vec<(String, v2::Scope)> = whole(bytes)?;
                let figure = |(place, (metric, scope)): (usize, (String, v2::Scope))| v2::Figure {
                    metric,
                    scope,
                    value: place as f64,
                };
                let count = names.len();
                let figures = thaw::figures(names.into_iter().enumerate().map(figure).collect());
                let figures = figures.map_err(|problem| payload(9, problem))?;
                if figures.values().len() != count {
                    return Err(FormatError::Block("it defines a figure twice"));
                }
                self.names.push(figures);
            }
            _ => {
                let of: Setup = whole(bytes)?;
                let (samples, p50_ms, p95_ms, min_ms) = (0, 0.0, 0.0, 0.0);
                let frozen = v1::Measurement {
                    device: of.device,
                    engine: of.engine,
                    engine_version: of.engine_version,
                    threads: of.threads,
                    batch: of.batch,
                    warmup_runs: of.warmup_runs,
                    samples,
                    p50_ms,
                    p95_ms,
                    min_ms,
                };
                let setup = thaw::measurement(frozen, None);
                self.setups.push(setup.map_err(|problem| payload(10, problem))?);
            }
        }
        Ok(None)
    }

    /// Reads a record; `None` if the block ends too early, or names what it does not define.
    fn record(&mut self, tag: u8) -> Option<Record> {
        let place: usize = self.from.small()?;
        let study = self.studies.get(place)?.clone();
        Some(match tag {
            tag::PROPOSED => {
                let (number, task) = (self.number()?, self.task()?);
                let options: usize = self.from.small()?;
                let genotype = (0..options).map(|_| self.from.small()).collect::<Option<_>>()?;
                let count: usize = self.from.small()?;
                let of = u64::from(number.0);
                let parent = |_| Some(TrialNumber(self.from.after(of)?.try_into().ok()?));
                let parents = (0..count).map(parent).collect::<Option<_>>()?;
                Record::TrialProposed { study, number, task, genotype, parents }
            }
            tag::STARTED => {
                let (task, attempt, elapsed_ms) = self.attempt()?;
                let worker = WorkerId(self.from.number()?);
                Record::AttemptStarted { study, task, attempt, worker, elapsed_ms }
            }
            tag::SUCCEEDED => {
                let (task, attempt, elapsed_ms) = self.attempt()?;
                let ending = AttemptEnding::Succeeded;
                Record::AttemptEnded { study, task, attempt, ending, elapsed_ms }
            }
            tag::TRAINED => self.trained(study)?,
            tag::MEASURED => {
                let task = self.task()?;
                Record::Measured { study, task, measurement: self.measurement()? }
            }
            tag::LOOKED_UP => {
                let number = self.number()?;
                Record::TrialLookedUp { study, number, figures: self.figures()? }
            }
            tag::COMPLETE => self.finished(study, TrialEnding::Complete)?,
            tag::PRUNED => self.finished(study, TrialEnding::Pruned)?,
            tag::SCREENED_OUT => self.finished(study, TrialEnding::ScreenedOut)?,
            tag::RUNG => {
                let (number, epochs) = (self.number()?, self.from.small()?);
                let checkpoint = if self.flag()? { Some(self.hash()?) } else { None };
                let report = RungReport { epochs, checkpoint, figures: self.figures()? };
                Record::RungReached { study, number, report }
            }
            tag::PROMOTED => {
                let (number, task) = (self.number()?, self.task()?);
                Record::TrialPromoted { study, number, task }
            }
            tag::SCORED => {
                let (number, score) = (self.number()?, self.from.float()?);
                Record::TrialScored { study, number, score }
            }
            tag::INHERITS => {
                let number = self.number()?;
                let donor = self.from.after(u64::from(number.0))?;
                let donor = TrialNumber(donor.try_into().ok()?);
                Record::TrialInherits { study, number, donor }
            }
            _ => return None,
        })
    }

    fn finished(&mut self, study: StudyName, ending: TrialEnding) -> Option<Record> {
        Some(Record::TrialFinished { study, number: self.number()?, ending })
    }

    fn trained(&mut self, study: StudyName) -> Option<Record> {
        let number = self.number()?;
        let (compressed, uncompressed) = (self.figures()?, self.figures()?);
        let (model, weights) = (self.hash()?, self.hash()?);
        let tasks: usize = self.from.small()?;
        let mut measure = Vec::new();
        for _ in 0..tasks {
            let task = self.task()?;
            let place: usize = self.from.small()?;
            measure.push((task, self.targets.get(place)?.clone()));
        }
        let key = if self.flag()? { Some(StagesKey::from(self.from.array()?)) } else { None };
        let packed = self.from.bytes()?;
        let stages = if self.stages { self.stages(packed)? } else { Vec::new() };
        let trained = TrainedTrial { compressed, uncompressed, model, weights, stages };
        Some(Record::TrialTrained { study, number, trained, stages: key, measure })
    }

    fn stages(&mut self, packed: &[u8]) -> Option<Vec<StageReport>> {
        let mut from = Unpacker::new(packed);
        let count: usize = from.small()?;
        let mut stages = Vec::new();
        for _ in 0..count {
            let pass = self.passes.get(from.small::<usize>()?)?.clone();
            let distilled = from.byte()? != 0;
            let figures = figures(&mut from, &self.names, &mut self.values)?;
            let count: usize = from.small()?;
            let class = |_| Some(ClassCount { images: from.small()?, right: from.small()? });
            let classes = (0..count).map(class).collect::<Option<_>>()?;
            stages.push(StageReport { pass, distilled, figures, classes });
        }
        from.is_at_end().then_some(stages)
    }

    fn measurement(&mut self) -> Option<Measurement> {
        let mut of = self.setups.get(self.from.small::<usize>()?)?.clone();
        of.samples = self.from.small()?;
        (of.p50_ms, of.p95_ms, of.min_ms) =
            (self.from.float()?, self.from.float()?, self.from.float()?);
        if self.flag()? {
            let (noisy, spread) = (self.flag()?, self.from.float()?);
            let timings = self.from.small()?;
            let waiting = if self.flag()? {
                Some(Waiting { share: self.from.float()?, per_run: self.from.float()? })
            } else {
                None
            };
            of.noise = Some(Noise { noisy, spread, waiting, timings });
        }
        of.energy_mj = self.optional()?;
        if self.flag()? {
            let (p50_ms, p95_ms, min_ms) =
                (self.from.float()?, self.from.float()?, self.from.float()?);
            let (noisy, energy_mj) = (self.flag()?, self.optional()?);
            of.original = Some(Fp32Timing { p50_ms, p95_ms, min_ms, noisy, energy_mj });
        }
        Some(of)
    }

    fn figures(&mut self) -> Option<Figures> {
        figures(&mut self.from, &self.names, &mut self.values)
    }

    fn optional(&mut self) -> Option<Option<f64>> {
        Some(if self.flag()? { Some(self.from.float()?) } else { None })
    }

    fn flag(&mut self) -> Option<bool> {
        self.from.byte().map(|byte| byte != 0)
    }

    fn hash(&mut self) -> Option<ArtifactHash> {
        self.from.array().map(ArtifactHash::from_bytes)
    }

    fn number(&mut self) -> Option<TrialNumber> {
        self.last.number = self.from.after(self.last.number)?;
        Some(TrialNumber(self.last.number.try_into().ok()?))
    }

    fn task(&mut self) -> Option<TaskId> {
        self.last.task = self.from.after(self.last.task)?;
        Some(TaskId(self.last.task))
    }

    fn attempt(&mut self) -> Option<(TaskId, AttemptId, u64)> {
        let task = self.task()?;
        self.last.attempt = self.from.after(self.last.attempt)?;
        self.last.elapsed_ms = self.from.after(self.last.elapsed_ms)?;
        Some((task, AttemptId(self.last.attempt), self.last.elapsed_ms))
    }
}

/// Reads figures. `values` is only a place for them.
fn figures(from: &mut Unpacker, names: &[Figures], values: &mut Vec<f64>) -> Option<Figures> {
    let places = names.get(from.small::<usize>()?)?;
    values.clear();
    for _ in places.values() {
        values.push(from.float()?);
    }
    Some(places.names().with(places.values().iter().map(|place| values[*place as usize])))
}

fn named(text: &str) -> Result<StudyName, FormatError> {
    text.parse().map_err(|_| FormatError::Block("it has a study name that is not one"))
}

/// A problem with what a definition or a record means. `kind` is a record that would have it.
fn payload(kind: u32, problem: String) -> FormatError {
    FormatError::Payload { kind, version: 1, problem }
}

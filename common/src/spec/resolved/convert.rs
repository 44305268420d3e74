//! Converts the domain's study to its document and back.

use edgesmith_search_space::{
    Architecture, CellIdentity, CellSpace, DataShape, Design, ModelDefinition, ModelSpace,
    NetworkSpace, Operation, Skip, Space, SpaceDefinition, SpaceError, StageSpace, StagedSpace,
    Variant,
};

use super::document::*;
use super::{ResolvedError, VERSION};
use crate::spec::{
    AlgorithmSpec, Assistant, Augmentation, Budget, DataSource, DataSpec, FidelityRule,
    FidelitySpec, GivenLogits, LogitsBeside, MeasurementSpec, ModelSpec, OptimizerSpec,
    OtherSource, OtherTeacher, Pixels, PolicySpec, RewardSpec, ScreeningSpec, StudySpec, TableRung,
    TableSpec, TeacherModel, TeacherSource, TeacherSpec, TrainWork, TrainingSpec, Workload,
};
use crate::{Bound, Constraint, Goal, Objective, Seed};

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

pub(super) fn parse<T: std::str::FromStr>(
    field: &'static str,
    text: &str,
) -> Result<T, ResolvedError> {
    text.parse().map_err(|_| ResolvedError::Value { field, value: text.to_owned() })
}

pub(super) fn parse_all<T: std::str::FromStr>(
    field: &'static str,
    texts: &[String],
) -> Result<Vec<T>, ResolvedError> {
    texts.iter().map(|text| parse(field, text)).collect()
}

fn unusable(part: &'static str, errors: Vec<SpaceError>) -> ResolvedError {
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    ResolvedError::Unusable { part, reason: errors.join("; ") }
}

impl Document {
    pub(super) fn of(spec: &StudySpec) -> Self {
        let objective = |o: &Objective| ObjectiveDocument {
            metric: o.of.to_string(),
            goal: match o.goal {
                Goal::Maximize => GoalDocument::Maximize,
                Goal::Minimize => GoalDocument::Minimize,
            },
        };
        let constraint = |c: &Constraint| ConstraintDocument {
            metric: c.of.to_string(),
            bound: match c.bound {
                Bound::Max(limit) => BoundDocument::Max(limit),
                Bound::Min(limit) => BoundDocument::Min(limit),
            },
            scale: c.scale,
        };
        let Budget { trials, simulated_seconds, max_attempts, hours } = spec.budget;
        Self {
            version: VERSION,
            name: spec.name.to_string(),
            seed: spec.seed.0,
            start_from: texts(&spec.start_from),
            objectives: spec.objectives.iter().map(objective).collect(),
            constraints: spec.constraints.iter().map(constraint).collect(),
            algorithm: AlgorithmDocument::of(&spec.algorithm),
            budget: BudgetDocument { trials, simulated_seconds, max_attempts, hours },
            work: match &spec.work {
                Workload::Train(work) => WorkDocument::Train(Box::new(TrainDocument::of(work))),
                Workload::Table(table) => WorkDocument::Table(TableDocument::of(table)),
            },
            fidelity: spec.fidelity.as_ref().map(|f| FidelityDocument {
                rule: match f.rule {
                    FidelityRule::Asha => RuleDocument::Asha,
                    FidelityRule::Median => RuleDocument::Median,
                    FidelityRule::Curve { confidence } => RuleDocument::Curve { confidence },
                },
                rungs: f.rungs.clone(),
                reduction: f.reduction,
            }),
            source: spec.source.clone(),
        }
    }

    pub(super) fn into_spec(self) -> Result<StudySpec, ResolvedError> {
        let objective = |o: &ObjectiveDocument| {
            let goal = match o.goal {
                GoalDocument::Maximize => Goal::Maximize,
                GoalDocument::Minimize => Goal::Minimize,
            };
            Ok(Objective { of: parse("objectives.metric", &o.metric)?, goal })
        };
        let constraint = |c: &ConstraintDocument| {
            let bound = match c.bound {
                BoundDocument::Max(limit) => Bound::Max(limit),
                BoundDocument::Min(limit) => Bound::Min(limit),
            };
            let of = parse("constraints.metric", &c.metric)?;
            Ok(Constraint { of, bound, scale: c.scale })
        };
        let BudgetDocument { trials, simulated_seconds, max_attempts, hours } = self.budget;
        let work = match self.work {
            WorkDocument::Train(work) => Workload::Train(Box::new(work.into_work()?)),
            WorkDocument::Table(table) => Workload::Table(table.into_spec()?),
        };
        Ok(StudySpec {
            name: parse("name", &self.name)?,
            seed: Seed(self.seed),
            space: match &work {
                Workload::Train(work) => work.space.clone().into(),
                Workload::Table(table) => Space::Cell(CellSpace::nas_bench_201(table.identity)),
            },
            objectives: self.objectives.iter().map(objective).collect::<Result<_, _>>()?,
            constraints: self.constraints.iter().map(constraint).collect::<Result<_, _>>()?,
            start_from: parse_all("start_from", &self.start_from)?,
            algorithm: self.algorithm.into_spec(),
            budget: Budget { trials, simulated_seconds, max_attempts, hours },
            work,
            fidelity: self.fidelity.map(|f| FidelitySpec {
                rule: match f.rule {
                    RuleDocument::Asha => FidelityRule::Asha,
                    RuleDocument::Median => FidelityRule::Median,
                    RuleDocument::Curve { confidence } => FidelityRule::Curve { confidence },
                },
                rungs: f.rungs,
                reduction: f.reduction,
            }),
            source: self.source,
        })
    }
}

impl AlgorithmDocument {
    fn of(spec: &AlgorithmSpec) -> Self {
        match *spec {
            AlgorithmSpec::Random => Self::Random,
            AlgorithmSpec::RegularizedEvolution { population, sample, mutations } => {
                Self::RegularizedEvolution { population, sample, mutations }
            }
            AlgorithmSpec::Auto => Self::Auto,
            AlgorithmSpec::ModelBased { initial } => Self::ModelBased { initial },
            AlgorithmSpec::Nsga2 { population, crossover, mutations } => {
                Self::Nsga2 { population, crossover, mutations }
            }
            AlgorithmSpec::Nsga3 { population, crossover, mutations } => {
                Self::Nsga3 { population, crossover, mutations }
            }
            AlgorithmSpec::LocalSearch => Self::LocalSearch,
            AlgorithmSpec::Reinforce { learning_rate, entropy, baseline_decay, policy, reward } => {
                let (policy, reward) = (PolicyDocument::of(policy), RewardDocument::of(reward));
                Self::Reinforce { learning_rate, entropy, baseline_decay, policy, reward }
            }
            AlgorithmSpec::Ppo { learning_rate, entropy, batch, epochs, clip, policy, reward } => {
                let (policy, reward) = (PolicyDocument::of(policy), RewardDocument::of(reward));
                Self::Ppo { learning_rate, entropy, batch, epochs, clip, policy, reward }
            }
        }
    }

    fn into_spec(self) -> AlgorithmSpec {
        match self {
            Self::Random => AlgorithmSpec::Random,
            Self::RegularizedEvolution { population, sample, mutations } => {
                AlgorithmSpec::RegularizedEvolution { population, sample, mutations }
            }
            Self::Auto => AlgorithmSpec::Auto,
            Self::ModelBased { initial } => AlgorithmSpec::ModelBased { initial },
            Self::Nsga2 { population, crossover, mutations } => {
                AlgorithmSpec::Nsga2 { population, crossover, mutations }
            }
            Self::Nsga3 { population, crossover, mutations } => {
                AlgorithmSpec::Nsga3 { population, crossover, mutations }
            }
            Self::LocalSearch => AlgorithmSpec::LocalSearch,
            Self::Reinforce { learning_rate, entropy, baseline_decay, policy, reward } => {
                let (policy, reward) = (policy.into_spec(), reward.into_spec());
                AlgorithmSpec::Reinforce { learning_rate, entropy, baseline_decay, policy, reward }
            }
            Self::Ppo { learning_rate, entropy, batch, epochs, clip, policy, reward } => {
                let (policy, reward) = (policy.into_spec(), reward.into_spec());
                AlgorithmSpec::Ppo { learning_rate, entropy, batch, epochs, clip, policy, reward }
            }
        }
    }
}

impl PolicyDocument {
    fn of(spec: PolicySpec) -> Self {
        match spec {
            PolicySpec::Categorical => Self::Categorical,
            PolicySpec::Lstm => Self::Lstm,
        }
    }

    fn into_spec(self) -> PolicySpec {
        match self {
            Self::Categorical => PolicySpec::Categorical,
            Self::Lstm => PolicySpec::Lstm,
        }
    }
}

impl RewardDocument {
    fn of(spec: RewardSpec) -> Self {
        match spec {
            RewardSpec::Rank => Self::Rank,
            RewardSpec::Target { target, within, beyond } => {
                Self::Target { target, within, beyond }
            }
        }
    }

    fn into_spec(self) -> RewardSpec {
        match self {
            Self::Rank => RewardSpec::Rank,
            Self::Target { target, within, beyond } => {
                RewardSpec::Target { target, within, beyond }
            }
        }
    }
}

impl TrainDocument {
    fn of(work: &TrainWork) -> Self {
        let DataShape { channels, classes } = work.space.data();
        let t = &work.training;
        let MeasurementSpec { warmup_runs, min_runs, min_seconds, threads, predict } =
            work.measurement;
        Self {
            space: work.space.staged().map(|space| SpaceDocument::of(space.definition())),
            model: work
                .space
                .model()
                .zip(work.model.as_deref())
                .map(|(space, model)| ModelDocument::of(space.definition(), model)),
            channels,
            classes,
            data: DataDocument {
                source: SourceDocument::of(&work.data.source),
                validation_fraction: work.data.validation_fraction,
                train_limit: work.data.train_limit,
                test_limit: work.data.test_limit,
            },
            training: TrainingDocument {
                epochs: t.epochs,
                fine_tune_epochs: t.fine_tune_epochs,
                inherit_epochs: t.inherit_epochs,
                batch_size: t.batch_size,
                optimizer: match t.optimizer {
                    OptimizerSpec::AdamW => OptimizerDocument::Adamw,
                    OptimizerSpec::Sgd { momentum } => OptimizerDocument::Sgd { momentum },
                },
                learning_rate: t.learning_rate,
                fine_tune_learning_rate: t.fine_tune_learning_rate,
                warmup_fraction: t.warmup_fraction,
                weight_decay: t.weight_decay,
                label_smoothing: t.label_smoothing,
                shift: t.augmentation.shift,
                flip: t.augmentation.flip,
                views: t.augmentation.views,
            },
            teacher: work.teacher.as_ref().map(|teacher| TeacherDocument {
                architecture: staged(&teacher.architecture),
                source: match &teacher.source {
                    TeacherSource::Train { epochs } => {
                        TeacherSourceDocument::Train { epochs: *epochs }
                    }
                    TeacherSource::Itself => TeacherSourceDocument::Itself,
                    TeacherSource::File { path } => {
                        TeacherSourceDocument::File { path: path.clone() }
                    }
                    TeacherSource::Network(model) => {
                        TeacherSourceDocument::Network(Box::new(TeacherModelDocument::of(model)))
                    }
                },
                others: teacher.others.iter().map(OtherTeacherDocument::of).collect(),
                assistants: teacher.assistants.iter().map(AssistantDocument::of).collect(),
            }),
            logits: work.logits.clone(),
            logits_beside: work.logits_beside.iter().map(LogitsBesideDocument::of).collect(),
            measurement: MeasurementDocument {
                warmup_runs,
                min_runs,
                min_seconds,
                threads,
                predict,
            },
            screening: work.screening.map(|s| ScreeningDocument {
                proxy: s.proxy.to_string(),
                batch: s.batch,
                keep: s.keep,
            }),
        }
    }

    fn into_work(self) -> Result<TrainWork, ResolvedError> {
        let data = DataShape { channels: self.channels, classes: self.classes };
        let t = self.training;
        let MeasurementDocument { warmup_runs, min_runs, min_seconds, threads, predict } =
            self.measurement;
        let (space, model) = match (self.space, self.model) {
            (Some(space), None) => {
                let space = StagedSpace::recorded(space.into_definition()?, data);
                (NetworkSpace::Staged(space.map_err(|e| unusable("space", e))?), None)
            }
            (None, Some(model)) => {
                let (definition, model) = model.into_parts()?;
                let space = ModelSpace::recorded(definition, data);
                let space = NetworkSpace::Model(space.map_err(|e| unusable("space", e))?);
                (space, Some(Box::new(model)))
            }
            (Some(_), Some(_)) | (None, None) => {
                let reason = "it needs either stages or a network".to_owned();
                return Err(ResolvedError::Unusable { part: "space", reason });
            }
        };
        let design = |architecture: Option<ArchitectureDocument>| match (architecture, &space) {
            (Some(architecture), _) => {
                let architecture = architecture.into_architecture()?;
                let checked = architecture.check_recorded(data);
                checked.map_err(|e| unusable("teacher.architecture", e))?;
                Ok(Design::Staged(architecture))
            }
            (None, NetworkSpace::Model(space)) => Ok(Design::Model(space.original())),
            (None, NetworkSpace::Staged(_)) => {
                let reason = "it is missing".to_owned();
                Err(ResolvedError::Unusable { part: "teacher.architecture", reason })
            }
        };
        let teacher = |teacher: TeacherDocument| {
            let other = |other: OtherTeacherDocument| {
                let OtherTeacherDocument { architecture, epochs, weight, network, logits } = other;
                let source = match (epochs, network, logits) {
                    (Some(epochs), None, None) => {
                        OtherSource::Train { architecture: design(architecture)?, epochs }
                    }
                    (None, Some(network), None) => {
                        let (architecture, model) = network.into_model(data)?;
                        OtherSource::Network { architecture, model: Box::new(model) }
                    }
                    (None, None, Some(GivenLogitsDocument { path, file })) => {
                        OtherSource::Logits(GivenLogits { path, file })
                    }
                    _ => {
                        let reason = "each needs either epochs, a network or logits".to_owned();
                        return Err(ResolvedError::Unusable { part: "teacher.others", reason });
                    }
                };
                Ok(OtherTeacher { source, weight })
            };
            let assistant = |AssistantDocument { architecture, epochs, alpha, temperature }| {
                let architecture = design(architecture)?;
                Ok(Assistant { architecture, epochs, alpha, temperature })
            };
            let others = teacher.others.into_iter().map(other);
            let others = others.collect::<Result<_, ResolvedError>>()?;
            let assistants = teacher.assistants.into_iter().map(assistant);
            let assistants = assistants.collect::<Result<_, ResolvedError>>()?;
            if let TeacherSourceDocument::Network(model) = teacher.source {
                return Ok(TeacherSpec { others, assistants, ..model.into_teacher(data)? });
            }
            Ok(TeacherSpec {
                others,
                assistants,
                architecture: design(teacher.architecture)?,
                source: match teacher.source {
                    TeacherSourceDocument::Train { epochs } => TeacherSource::Train { epochs },
                    TeacherSourceDocument::Itself => TeacherSource::Itself,
                    TeacherSourceDocument::File { path } => TeacherSource::File { path },
                    TeacherSourceDocument::Network(_) => unreachable!("read above"),
                },
            })
        };
        let screening = |s: ScreeningDocument| {
            let proxy = parse("screening.proxy", &s.proxy)?;
            Ok(ScreeningSpec { proxy, batch: s.batch, keep: s.keep })
        };
        let teacher = self.teacher.map(teacher).transpose()?;
        Ok(TrainWork {
            space,
            model,
            data: DataSpec {
                source: self.data.source.into_source(),
                validation_fraction: self.data.validation_fraction,
                train_limit: self.data.train_limit,
                test_limit: self.data.test_limit,
            },
            training: TrainingSpec {
                epochs: t.epochs,
                fine_tune_epochs: t.fine_tune_epochs,
                inherit_epochs: t.inherit_epochs,
                batch_size: t.batch_size,
                optimizer: match t.optimizer {
                    OptimizerDocument::Adamw => OptimizerSpec::AdamW,
                    OptimizerDocument::Sgd { momentum } => OptimizerSpec::Sgd { momentum },
                },
                learning_rate: t.learning_rate,
                fine_tune_learning_rate: t.fine_tune_learning_rate,
                warmup_fraction: t.warmup_fraction,
                weight_decay: t.weight_decay,
                label_smoothing: t.label_smoothing,
                augmentation: Augmentation { shift: t.shift, flip: t.flip, views: t.views },
            },
            teacher,
            logits: self.logits,
            logits_beside: self.logits_beside.into_iter().map(Into::into).collect(),
            measurement: MeasurementSpec { warmup_runs, min_runs, min_seconds, threads, predict },
            screening: self.screening.map(screening).transpose()?,
        })
    }
}

impl TeacherModelDocument {
    fn of(model: &TeacherModel) -> Self {
        let TeacherModel { path, file, pixels: Pixels { mean, std }, resolution } = model.clone();
        Self { path, file, mean, std, resolution }
    }

    fn into_teacher(self, data: DataShape) -> Result<TeacherSpec, ResolvedError> {
        let (architecture, model) = self.into_model(data)?;
        Ok(TeacherSpec::alone(architecture, TeacherSource::Network(Box::new(model))))
    }

    fn into_model(self, data: DataShape) -> Result<(Design, TeacherModel), ResolvedError> {
        let Self { path, file, mean, std, resolution } = self;
        let (network, weights) = (file.network.clone(), *file.weights.as_bytes());
        let alone = Variant::alone(network, weights, resolution, data);
        let alone = alone.map_err(|error| unusable("teacher", vec![error]))?;
        let pixels = Pixels { mean, std };
        Ok((Design::Model(alone), TeacherModel { path, file, pixels, resolution }))
    }
}

impl OtherTeacherDocument {
    fn of(other: &OtherTeacher) -> Self {
        let OtherTeacher { source, weight } = other;
        let none =
            Self { architecture: None, epochs: None, weight: *weight, network: None, logits: None };
        match source {
            OtherSource::Train { architecture, epochs } => {
                Self { architecture: staged(architecture), epochs: Some(*epochs), ..none }
            }
            OtherSource::Network { architecture: _, model } => {
                Self { network: Some(Box::new(TeacherModelDocument::of(model))), ..none }
            }
            OtherSource::Logits(GivenLogits { path, file }) => {
                let logits = GivenLogitsDocument { path: path.clone(), file: *file };
                Self { logits: Some(logits), ..none }
            }
        }
    }
}

impl LogitsBesideDocument {
    fn of(beside: &LogitsBeside) -> Self {
        let LogitsBeside { given: GivenLogits { path, file }, weight } = beside;
        Self { path: path.clone(), file: *file, weight: *weight }
    }
}

impl From<LogitsBesideDocument> for LogitsBeside {
    fn from(beside: LogitsBesideDocument) -> Self {
        let LogitsBesideDocument { path, file, weight } = beside;
        Self { given: GivenLogits { path, file }, weight }
    }
}

impl AssistantDocument {
    fn of(assistant: &Assistant) -> Self {
        let Assistant { architecture, epochs, alpha, temperature } = assistant;
        let architecture = staged(architecture);
        Self { architecture, epochs: *epochs, alpha: *alpha, temperature: *temperature }
    }
}

/// `None` for the user's network.
fn staged(design: &Design) -> Option<ArchitectureDocument> {
    match design {
        Design::Staged(architecture) => Some(ArchitectureDocument::of(architecture)),
        Design::Model(_) => None,
    }
}

impl ModelDocument {
    fn of(definition: &ModelDefinition, model: &ModelSpec) -> Self {
        // The network and the hash of its weights are in the file.
        let ModelDefinition { network: _, weights: _, head, resolution, width, .. } = definition;
        let ModelDefinition { blocks, train, recipe, .. } = definition;
        let ModelSpec { path, file, pixels: Pixels { mean, std }, head_epochs } = model;
        Self {
            path: path.clone(),
            file: file.clone(),
            mean: mean.clone(),
            std: std.clone(),
            head: head.name().to_owned(),
            head_epochs: *head_epochs,
            resolution: resolution.clone(),
            width: width.clone(),
            blocks: blocks.iter().map(|option| option.name().to_owned()).collect(),
            train: train.iter().map(|option| option.name().to_owned()).collect(),
            recipe: RecipeDocument::of(recipe),
        }
    }

    fn into_parts(self) -> Result<(ModelDefinition, ModelSpec), ResolvedError> {
        let Self { path, file, mean, std, head_epochs, resolution, width, .. } = self;
        let definition = ModelDefinition {
            network: file.network.clone(),
            weights: *file.weights.as_bytes(),
            head: parse("space.head", &self.head)?,
            resolution,
            width,
            blocks: parse_all("space.blocks", &self.blocks)?,
            train: parse_all("space.train", &self.train)?,
            recipe: self.recipe.into_space()?,
        };
        let pixels = Pixels { mean, std };
        Ok((definition, ModelSpec { path, file, pixels, head_epochs }))
    }
}

impl SpaceDocument {
    fn of(definition: &SpaceDefinition) -> Self {
        let stage = |s: &StageSpace| StageSpaceDocument {
            depth: s.depth.clone(),
            width: s.width.clone(),
            kernel: s.kernel.clone(),
            operation: s.operation.clone(),
            expansion: s.expansion.clone(),
            stride: s.stride.clone(),
            activation: s.activation.iter().map(|a| a.name().to_owned()).collect(),
            squeeze: (s.squeeze != [0]).then(|| s.squeeze.clone()),
            skip: (s.skip != [Skip::Add])
                .then(|| s.skip.iter().map(|skip| skip.name().to_owned()).collect()),
        };
        let recipe = &definition.recipe;
        Self {
            resolution: definition.resolution.clone(),
            stem_width: definition.stem_width.clone(),
            stages: definition.stages.iter().map(stage).collect(),
            recipe: RecipeDocument::of(recipe),
        }
    }

    fn into_definition(self) -> Result<SpaceDefinition, ResolvedError> {
        let stage = |s: StageSpaceDocument| {
            let unknown =
                s.operation.iter().find(|name| !Operation::NAMES.contains(&name.as_str()));
            if let Some(name) = unknown {
                let field = "stages.operation";
                return Err(ResolvedError::Value { field, value: name.clone() });
            }
            Ok(StageSpace {
                depth: s.depth,
                width: s.width,
                kernel: s.kernel,
                operation: s.operation,
                expansion: s.expansion,
                stride: s.stride,
                activation: parse_all("stages.activation", &s.activation)?,
                squeeze: s.squeeze.unwrap_or_else(|| vec![0]),
                skip: match s.skip {
                    Some(names) => parse_all("stages.skip", &names)?,
                    None => vec![Skip::Add],
                },
            })
        };
        Ok(SpaceDefinition {
            resolution: self.resolution,
            stem_width: self.stem_width,
            stages: self.stages.into_iter().map(stage).collect::<Result<_, _>>()?,
            recipe: self.recipe.into_space()?,
        })
    }
}

impl SourceDocument {
    fn of(source: &DataSource) -> Self {
        match source.clone() {
            DataSource::Digits => Self::Digits,
            DataSource::Idx { train_images, train_labels, test_images, test_labels } => {
                Self::Idx { train_images, train_labels, test_images, test_labels }
            }
            DataSource::Cifar10 { directory } => Self::Cifar10 { directory },
            DataSource::ImageFolder { train, test, side } => {
                Self::ImageFolder { train, test, side }
            }
        }
    }

    fn into_source(self) -> DataSource {
        match self {
            Self::Digits => DataSource::Digits,
            Self::Idx { train_images, train_labels, test_images, test_labels } => {
                DataSource::Idx { train_images, train_labels, test_images, test_labels }
            }
            Self::Cifar10 { directory } => DataSource::Cifar10 { directory },
            Self::ImageFolder { train, test, side } => {
                DataSource::ImageFolder { train, test, side }
            }
        }
    }
}

impl ArchitectureDocument {
    fn of(architecture: &Architecture) -> Self {
        let stage = |s: &edgesmith_search_space::Stage| StageDocument {
            depth: s.depth,
            width: s.width,
            kernel: s.kernel,
            operation: s.operation.name().to_owned(),
            expansion: match s.operation {
                Operation::InvertedResidual { expansion } => Some(expansion),
                Operation::Conv | Operation::Separable => None,
            },
            stride: s.stride,
            activation: s.activation.name().to_owned(),
            squeeze: (s.squeeze > 0).then_some(s.squeeze),
            skip: (s.skip != Skip::Add).then(|| s.skip.name().to_owned()),
        };
        Self {
            resolution: architecture.resolution,
            stem_width: architecture.stem_width,
            stages: architecture.stages.iter().map(stage).collect(),
        }
    }

    fn into_architecture(self) -> Result<Architecture, ResolvedError> {
        let stage = |s: StageDocument| {
            let operation = Operation::from_name(&s.operation, s.expansion.unwrap_or(1));
            let operation = operation.ok_or_else(|| ResolvedError::Value {
                field: "teacher.architecture.stages.operation",
                value: s.operation.clone(),
            })?;
            Ok(edgesmith_search_space::Stage {
                depth: s.depth,
                width: s.width,
                kernel: s.kernel,
                operation,
                stride: s.stride,
                activation: parse("teacher.architecture.stages.activation", &s.activation)?,
                squeeze: s.squeeze.unwrap_or(0),
                skip: match s.skip {
                    Some(name) => parse("teacher.architecture.stages.skip", &name)?,
                    None => Skip::Add,
                },
            })
        };
        Ok(Architecture {
            resolution: self.resolution,
            stem_width: self.stem_width,
            stages: self.stages.into_iter().map(stage).collect::<Result<_, _>>()?,
        })
    }
}

impl TableDocument {
    fn of(table: &TableSpec) -> Self {
        let rung = |r: &TableRung| TableRungDocument {
            epochs: r.epochs,
            validation_accuracy: r.validation_accuracy.clone(),
        };
        Self {
            path: table.path.clone(),
            latencies: table.latencies.clone(),
            validation_accuracy: table.validation_accuracy.clone(),
            test_accuracies: table.test_accuracies.clone(),
            epochs: table.epochs,
            rungs: table.rungs.iter().map(rung).collect(),
            seconds: table.seconds.clone(),
            seconds_share: table.seconds_share,
            identity: table.identity.name().to_owned(),
        }
    }

    fn into_spec(self) -> Result<TableSpec, ResolvedError> {
        let rung = |r: TableRungDocument| TableRung {
            epochs: r.epochs,
            validation_accuracy: r.validation_accuracy,
        };
        let identity: CellIdentity = parse("table.identity", &self.identity)?;
        Ok(TableSpec {
            path: self.path,
            latencies: self.latencies,
            validation_accuracy: self.validation_accuracy,
            test_accuracies: self.test_accuracies,
            epochs: self.epochs,
            rungs: self.rungs.into_iter().map(rung).collect(),
            seconds: self.seconds,
            seconds_share: self.seconds_share,
            identity,
        })
    }
}

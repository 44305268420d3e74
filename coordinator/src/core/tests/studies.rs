//! A builder of small studies.

use edgesmith_common::StudySpec;

/// A constraint on multiply-accumulates that no network meets: some are below it and some above.
pub(super) const NO_NUMBER: &str = "min = 60000.4\nmax = 60000.6";

/// A study on digits with one accuracy objective, and by default no teacher and no device.
#[derive(Debug, Clone)]
pub(super) struct StudyBuilder {
    name: String,
    trials: u32,
    max_attempts: u32,
    devices: Vec<String>,
    teacher: Option<&'static str>,
    constraints: Vec<String>,
    widths: &'static str,
    algorithm: &'static str,
    fidelity: Option<&'static str>,
    inherit_epochs: u32,
    start_from: Option<&'static str>,
    measurement: &'static str,
    screening: Option<&'static str>,
    data: &'static str,
    hours: &'static str,
}

impl StudyBuilder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            trials: 2,
            max_attempts: 2,
            devices: Vec::new(),
            teacher: None,
            constraints: Vec::new(),
            widths: "[4, 6, 8, 12, 16, 24]",
            algorithm: "name = \"random\"",
            fidelity: None,
            inherit_epochs: 0,
            start_from: None,
            measurement: "",
            screening: None,
            data: "source = \"digits\"",
            hours: "",
        }
    }

    pub(super) fn trials(mut self, trials: u32) -> Self {
        self.trials = trials;
        self
    }

    pub(super) fn attempts(mut self, max_attempts: u32) -> Self {
        self.max_attempts = max_attempts;
        self
    }

    /// Adds a latency objective on a device class.
    pub(super) fn device(mut self, class: &str) -> Self {
        self.devices.push(class.to_owned());
        self
    }

    pub(super) fn teacher(mut self) -> Self {
        self.teacher = Some("epochs = 1");
        self
    }

    pub(super) fn teacher_file(mut self) -> Self {
        self.teacher = Some("weights = \"teacher.safetensors\"");
        self
    }

    pub(super) fn logits(mut self) -> Self {
        self.teacher = Some("logits = \"logits.npy\"");
        self
    }

    /// Adds a constraint: its metric and its other fields, for example `macs` and `max = 10`.
    pub(super) fn constraint(mut self, metric: &str, bound: &str) -> Self {
        self.constraints.push(format!("[[constraints]]\nmetric = \"{metric}\"\n{bound}\n"));
        self
    }

    pub(super) fn evolution(mut self) -> Self {
        self.algorithm = "name = \"regularized-evolution\"\npopulation = 2\nsample = 2";
        self
    }

    pub(super) fn nsga2(mut self) -> Self {
        self.algorithm = "name = \"nsga2\"\npopulation = 2";
        self
    }

    /// Another algorithm, with its defaults.
    pub(super) fn algorithm(mut self, settings: &'static str) -> Self {
        self.algorithm = settings;
        self
    }

    /// Adds rungs at 1, 3 and 9 epochs with this rule.
    pub(super) fn fidelity(mut self, rule: &'static str) -> Self {
        self.fidelity = Some(rule);
        self
    }

    /// Sets the epochs, of nine, for trials that start from the weights of a finished relative.
    pub(super) fn inherit_epochs(mut self, epochs: u32) -> Self {
        self.inherit_epochs = epochs;
        self
    }

    /// Starts from the results of an earlier study.
    pub(super) fn start_from(mut self, study: &'static str) -> Self {
        self.start_from = Some(study);
        self
    }

    /// Scores candidates before training, with these settings.
    pub(super) fn screening(mut self, settings: &'static str) -> Self {
        self.screening = Some(settings);
        self
    }

    /// Adds settings for measuring latency.
    pub(super) fn measurement(mut self, settings: &'static str) -> Self {
        self.measurement = settings;
        self
    }

    /// Trains on data in files.
    pub(super) fn files(mut self) -> Self {
        self.data = "source = \"image-folder\"\ntrain = \"t\"\nclasses = 10\nchannels = 1";
        self
    }

    /// Limits the running time.
    pub(super) fn hours(mut self, hours: &'static str) -> Self {
        self.hours = hours;
        self
    }

    /// Allows only one candidate.
    pub(super) fn tiny_space(mut self) -> Self {
        self.widths = "[4]";
        self
    }

    pub(super) fn build(&self) -> StudySpec {
        let Self { name, trials, max_attempts, devices, teacher, .. } = self;
        let (widths, algorithm, data) = (self.widths, self.algorithm, self.data);
        let start_from = self.start_from.map(|of| format!("start_from = [\"{of}\"]\n"));
        let start_from = start_from.unwrap_or_default();
        let mut text = format!(
            "[study]\nname = \"{name}\"\nseed = 7\n{start_from}[data]\n{data}\n\
             [algorithm]\n{algorithm}\n\
             [budget]\ntrials = {trials}\nmax_attempts = {max_attempts}\n\
             [space]\nresolution = [8]\nstem_width = {widths}\n\
             [[space.stages]]\nwidth = {widths}\n\
             [[space.stages]]\nwidth = {widths}\nstride = [2]\n\
             [[objectives]]\nmetric = \"validation_accuracy\"\n"
        );
        if !self.hours.is_empty() {
            text = text.replace("[budget]", &format!("[budget]\nhours = {}", self.hours));
        }
        for device in devices {
            text += "[[objectives]]\nmetric = \"latency_ms\"\n";
            text += &format!("device = \"{device}\"\n");
        }
        if let Some(teacher) = teacher {
            text += &format!("[teacher]\n{teacher}\n");
        }
        if let Some(rule) = self.fidelity {
            text += &format!("[training]\nepochs = 9\n[fidelity]\nrule = \"{rule}\"\n");
        }
        if self.inherit_epochs > 0 {
            text += &format!("[training]\nepochs = 9\ninherit_epochs = {}\n", self.inherit_epochs);
        }
        text += &format!("[measurement]\n{}\n", self.measurement);
        if let Some(settings) = self.screening {
            text += &format!("[screening]\nproxy = \"naswot\"\n{settings}\n");
        }
        text += &self.constraints.concat();
        StudySpec::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }
}

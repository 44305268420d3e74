//! One turn: what every decision does with the core. A decision reads the core, records what it
//! decides, and replies.

use edgesmith_common::{StudyName, TrialNumber};

use crate::core::command::{Answer, Command, Refusal};
use crate::core::event::RequestId;
use crate::core::record::{Record, StudyState, TrialEnding};
use crate::core::state::Core;
use crate::core::study::ProposalRequest;
use crate::core::time::Time;

/// One call of [`Core::handle`]: the core, the time, and what came out so far.
pub struct Turn<'a> {
    /// To ask, and for what does not last. Only [`Turn::record`] changes what lasts.
    pub(super) core: &'a mut Core,
    pub(super) now: Time,
    commands: Vec<Command>,
    /// Whether something changed that may give work to a worker that waits.
    opens: bool,
    /// Whether a request for work has come that was not looked at yet; it is the last one.
    asked: bool,
}

impl<'a> Turn<'a> {
    pub(super) fn new(core: &'a mut Core, now: Time) -> Self {
        Self { core, now, commands: Vec::new(), opens: false, asked: false }
    }

    /// What the runtime has to do.
    pub(super) fn into_commands(self) -> Vec<Command> {
        self.commands
    }

    /// Applies `record` and asks the runtime to persist it.
    pub(super) fn record(&mut self, record: Record) {
        self.core
            .apply(&record, self.now)
            .unwrap_or_else(|why| unreachable!("the core decided on {record:?}, but {why}"));
        self.opens |= record.opens_work();
        self.commands.push(Command::Persist(Box::new(record)));
    }

    pub(super) fn reply(&mut self, to: RequestId, answer: Result<Answer, Refusal>) {
        self.commands.push(Command::Reply { to, answer });
    }

    /// Has a question to an algorithm computed.
    pub(super) fn send(&mut self, request: ProposalRequest) {
        self.commands.push(Command::Propose(Box::new(request)));
    }

    /// Something has changed that may give work to a worker that waits.
    pub(super) fn open_work(&mut self) {
        self.opens = true;
    }

    pub(super) fn opens_work(&self) -> bool {
        self.opens
    }

    /// A request for work has come.
    pub(super) fn note_asked(&mut self) {
        self.asked = true;
    }

    /// Whether a request for work has come that was not looked at yet. It is looked at now.
    pub(super) fn look_at_asked(&mut self) -> bool {
        std::mem::take(&mut self.asked)
    }
}

/// Decisions on the way of which others are made.
impl Turn<'_> {
    pub(super) fn elapsed_ms(&self, study: &StudyName) -> u64 {
        self.core.find(study).map_or(0, |study| study.elapsed_ms(self.now))
    }

    /// Lets a trial go on from its rung or its batch: it gets a new task and waits for a worker.
    pub(super) fn promote(&mut self, name: &StudyName, number: TrialNumber) {
        let (study, task) = (name.clone(), self.core.next_task());
        self.record(Record::TrialPromoted { study, number, task });
    }

    pub(super) fn finish_trial(
        &mut self,
        name: &StudyName,
        number: TrialNumber,
        ending: TrialEnding,
    ) {
        self.record(Record::TrialFinished { study: name.clone(), number, ending });
    }

    pub(super) fn change_state(&mut self, name: &StudyName, state: StudyState) {
        let (study, elapsed_ms) = (name.clone(), self.elapsed_ms(name));
        self.record(Record::StudyStateChanged { study, state, elapsed_ms });
    }

    /// Ends a study; unfinished trials fail with the reason `why`.
    pub(super) fn end_study(&mut self, name: &StudyName, state: StudyState, why: &str) {
        let trials = self.core.known(name).trials().iter();
        let unfinished = trials.filter(|(_, trial)| !trial.stage().is_finished());
        let unfinished: Vec<TrialNumber> = unfinished.map(|(number, _)| number).collect();
        for number in unfinished {
            self.finish_trial(name, number, TrialEnding::Failed { reason: why.to_owned() });
        }
        self.change_state(name, state);
    }
}

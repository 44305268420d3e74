//! Decides what happens: events in, commands out.
//!
//! Each file here has the decisions on one matter. A decision reads the state through `&Core` and
//! records what follows ([`turn`]); nothing here changes what lasts in another way. The files use
//! each other in one direction: `budget` lets a study go on, which a submission and a retry need;
//! `report` takes the end of an attempt, and `leases` hands out work and takes it back.

mod budget;
mod data;
mod ends;
mod import;
mod inheritance;
mod leases;
mod outcome;
mod promotion;
mod propose;
mod report;
mod retry;

mod scheduling;
mod steer;
mod submit;
mod turn;
mod work;

use self::turn::Turn;
use super::command::Command;
use super::event::Event;
use super::state::Core;
use super::time::Time;

impl Core {
    /// Takes in one event. Call [`Core::next_deadline`] again afterwards.
    ///
    /// See [`Command`] for what the runtime has to do with the result.
    pub fn handle(&mut self, now: Time, event: Event) -> Vec<Command> {
        let mut turn = Turn::new(self, now);
        turn.decide(event);
        turn.settle();
        turn.into_commands()
    }
}

impl Turn<'_> {
    fn decide(&mut self, event: Event) {
        match event {
            Event::Submit { to, spec, teacher_weights, at_ms } => {
                let answer = self.submit(&spec, teacher_weights, at_ms);
                self.reply(to, answer);
            }
            Event::Import { to, study, trials } => {
                let answer = self.import(&study, trials);
                self.reply(to, answer);
            }
            Event::Extend { to, study, trials, hours } => {
                let answer = self.extend(&study, trials, hours);
                self.reply(to, answer);
            }
            Event::Rename { to, study, name } => {
                let answer = self.rename(&study, name);
                self.reply(to, answer);
            }
            Event::Retry { to, study, trial, teacher } => {
                let answer = self.retry(&study, trial, teacher);
                self.reply(to, answer);
            }
            Event::Steer { to, study, action } => {
                let answer = self.steer(&study, action);
                self.reply(to, answer);
            }
            Event::Join { to, worker, held } => {
                let answer = self.join(worker, held);
                self.reply(to, answer);
            }
            Event::Lease { to, worker, deadline } => self.park(to, worker, deadline),
            Event::Abandoned { to } => self.abandon(to),
            Event::Heartbeat { to, worker, running } => {
                let answer = self.heartbeat(worker, running);
                self.reply(to, answer);
            }
            Event::Report { to, worker, task, attempt, outcome } => {
                let answer = self.report(worker, task, attempt, *outcome);
                self.reply(to, answer);
            }
            Event::Leave { to, worker } => {
                let answer = self.leave(worker);
                self.reply(to, answer);
            }
            Event::Proposed { answer } => self.proposed(*answer),
            Event::Renew => self.core.renew(self.now),
            Event::Tick => self.expire(),
        }
    }

    /// Hands out all work that can be handed out, and ends studies that are done. Requests that
    /// wait are looked at only if something changed that may have work for them.
    fn settle(&mut self) {
        self.end_hours();
        self.ask_for_data_hashes();
        if !self.opens_work() {
            // Nothing has changed for those that wait already.
            self.serve_new();
        }
        if !self.opens_work() {
            return;
        }
        self.stop_at_rungs();
        self.screen();
        self.serve_parked();
        // When no more trials will be proposed, rungs and batches can be decided, and that may
        // create new work.
        while self.stop_at_rungs() || self.screen() {
            self.serve_parked();
        }
        self.complete_studies();
    }
}

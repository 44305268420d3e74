//! Requests for work that wait, oldest first.

use std::collections::{BTreeSet, VecDeque};

use edgesmith_common::WorkerId;

use crate::core::event::RequestId;
use crate::core::time::Time;

/// A lease request that waits for work.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    pub to: RequestId,
    pub worker: WorkerId,
    pub deadline: Time,
}

/// All requests that wait.
#[derive(Debug, Default)]
pub struct Line(VecDeque<Waiting>);

impl Line {
    /// The newest request, or one that stays.
    pub fn add(&mut self, request: Waiting) {
        self.0.push_back(request);
    }

    /// Takes the newest one out.
    pub fn take_newest(&mut self) -> Option<Waiting> {
        self.0.pop_back()
    }

    /// Takes all out.
    pub fn take_all(&mut self) -> VecDeque<Waiting> {
        std::mem::take(&mut self.0)
    }

    /// Drops a request.
    pub fn forget(&mut self, to: RequestId) {
        self.0.retain(|request| request.to != to);
    }

    /// Takes those out for which `which` holds.
    pub fn take(&mut self, which: impl Fn(&Waiting) -> bool) -> VecDeque<Waiting> {
        let (taken, others) = self.0.drain(..).partition(which);
        self.0 = others;
        taken
    }

    /// When the next one is to be answered.
    pub fn next_deadline(&self) -> Option<Time> {
        self.0.iter().map(|request| request.deadline).min()
    }

    /// Checks that every request is there once, and `connected` holds for its worker.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, connected: impl Fn(WorkerId) -> bool) -> Result<(), String> {
        if let Some(lost) = self.0.iter().find(|request| !connected(request.worker)) {
            let worker = lost.worker;
            return Err(format!("worker {worker} waits for work and is not connected"));
        }
        let count = self.0.iter().map(|request| request.to).collect::<BTreeSet<_>>().len();
        if count == self.0.len() { Ok(()) } else { Err("a request waits twice".to_owned()) }
    }
}

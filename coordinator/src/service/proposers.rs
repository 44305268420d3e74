//! Threads that compute proposals beside the core, so that it answers everybody else meanwhile.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use crate::core::{Event, ProposalRequest};

/// Takes an answer, or what a bug panicked with.
pub type Deliver = Box<dyn FnOnce(Result<Event, Box<dyn Any + Send>>) + Send>;

/// The threads. They end when this is dropped, each after what it is computing.
#[derive(Debug)]
pub struct Proposers {
    jobs: Sender<Job>,
}

struct Job {
    request: Box<ProposalRequest>,
    deliver: Deliver,
}

impl Proposers {
    /// Starts one thread for each processor core.
    ///
    /// # Errors
    /// If the system starts no more threads.
    pub fn start() -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            let thread = std::thread::Builder::new().name("proposer".to_owned());
            thread.spawn(move || work(&queue))?;
        }
        Ok(Self { jobs })
    }

    /// Computes the answer to `request` on one of the threads and passes it to `deliver` there.
    pub fn compute(&self, request: Box<ProposalRequest>, deliver: Deliver) {
        // The threads wait for jobs as long as this exists.
        let _ = self.jobs.send(Job { request, deliver });
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { request, deliver }) = job else { return };
        deliver(catch_unwind(AssertUnwindSafe(|| request.answer().into())));
    }
}

//! Counts the lease requests that wait for work. A worker has one for each free slot. One that
//! sends more is refused, because each of them is remembered and looked at until its time is up.

use std::collections::HashMap;

use edgesmith_common::WorkerId;

use crate::core::RequestId;

/// Waiting requests for each slot. A worker that lost its connection asks again before its earlier
/// requests are seen to be gone.
const PER_SLOT: u32 = 4;

/// The waiting lease requests of all workers.
#[derive(Debug, Default)]
pub struct Leases {
    workers: HashMap<WorkerId, Waiting>,
    requests: HashMap<RequestId, WorkerId>,
}

#[derive(Debug)]
struct Waiting {
    slots: u32,
    requests: u32,
}

impl Leases {
    /// A worker joined.
    pub fn joined(&mut self, worker: WorkerId, slots: u32) {
        self.workers.insert(worker, Waiting { slots, requests: 0 });
    }

    /// A worker is no longer registered.
    pub fn left(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
    }

    /// Notes a request, which counts until it is [answered](Self::answered). False if the worker
    /// has too many already; then it is not noted. The requests of unknown workers are for the core
    /// to refuse.
    pub fn asked(&mut self, worker: WorkerId, request: RequestId) -> bool {
        let Some(waiting) = self.workers.get_mut(&worker) else { return true };
        let room = waiting.requests < waiting.slots.saturating_mul(PER_SLOT);
        if room {
            waiting.requests += 1;
            self.requests.insert(request, worker);
        }
        room
    }

    /// A request of any kind was answered or given up.
    pub fn answered(&mut self, request: RequestId) {
        let worker = self.requests.remove(&request);
        if let Some(waiting) = worker.and_then(|worker| self.workers.get_mut(&worker)) {
            waiting.requests = waiting.requests.saturating_sub(1);
        }
    }

    /// The requests that wait.
    pub fn waiting(&self) -> Vec<RequestId> {
        self.requests.keys().copied().collect()
    }

    /// Forgets all other workers, and returns them.
    pub fn keep(&mut self, connected: impl Fn(WorkerId) -> bool) -> Vec<WorkerId> {
        let lost = self.workers.extract_if(|worker, _| !connected(*worker));
        lost.map(|(worker, _)| worker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_waits_for_a_few_leases_for_each_slot() {
        let mut leases = Leases::default();
        let (worker, other) = (WorkerId(1), WorkerId(2));
        leases.joined(worker, 2);
        for request in 0..8 {
            assert!(leases.asked(worker, RequestId(request)), "{request}");
        }
        assert!(!leases.asked(worker, RequestId(8)));
        leases.answered(RequestId(8));
        assert!(!leases.asked(worker, RequestId(9)));
        leases.answered(RequestId(3));
        assert!(leases.asked(worker, RequestId(10)));
        // The core knows who is registered.
        assert!(leases.asked(other, RequestId(11)));
        assert_eq!(leases.keep(|known| known == other), [worker]);
        leases.answered(RequestId(10));
    }
}

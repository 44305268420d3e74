//! Records which candidates a study has proposed and which trials are still running, and finds
//! candidates that were not proposed yet. It knows nothing about results.
//!
//! Two genotypes that build the same network are one candidate (see [`CanonicalHash`]), so they are
//! compared by hash. Genotypes that are not valid networks are never proposed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::OnceLock;

use edgesmith_common::TrialNumber;
use edgesmith_search_space::{CanonicalHash, Choice, Genotype, Space};
use rand::{Rng, RngExt};

use super::Proposal;

/// Number of tries with an algorithm's own proposals before mutations are added.
const OWN_TRIES: usize = 24;
/// Number of tries with own proposals and more and more mutations.
const WIDE_TRIES: usize = 24;
/// Number of uniform samples after that, before a small space is listed.
const RANDOM_TRIES: usize = 24;
/// Number of uniform samples after that if the space is too large to list. If none of them is new,
/// probably less than a thousandth of the space is new.
const LAST_TRIES: usize = 8192;
/// Spaces of at most this many genotypes are listed when sampling finds nothing new.
const LISTED_GENOTYPES: u128 = 100_000;

/// The trials that one study has proposed.
#[derive(Debug)]
pub(super) struct History {
    space: Space,
    /// Hashes of all candidates that were proposed.
    hashes: HashSet<CanonicalHash>,
    /// Trials that are proposed and not finished.
    running: BTreeMap<TrialNumber, Genotype>,
    /// Computed when first needed. It depends only on the space and `hashes`, so it is not state.
    unseen: OnceLock<Unseen>,
}

impl History {
    /// A history without proposals.
    pub(super) fn new(space: Space) -> Self {
        Self { space, hashes: HashSet::new(), running: BTreeMap::new(), unseen: OnceLock::new() }
    }

    /// The space that candidates come from.
    pub(super) fn space(&self) -> &Space {
        &self.space
    }

    /// Trials that are proposed and not finished.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Records that trial `number` was proposed.
    pub(super) fn propose(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.running.insert(number, proposal.genotype.clone());
        // A genotype that is not a valid network is never proposed, so it need not be recorded.
        if let Ok(hash) = self.space.canonical_hash(&proposal.genotype) {
            self.hashes.insert(hash);
            if let Some(unseen) = self.unseen.get_mut() {
                unseen.remove(hash);
            }
        }
    }

    /// Records that trial `number` is no longer running, and returns its candidate. `None` if it
    /// was never proposed or has finished before.
    pub(super) fn finish(&mut self, number: TrialNumber) -> Option<Genotype> {
        self.running.remove(&number)
    }

    /// Whether `genotype` is a valid network that was not proposed yet.
    pub(super) fn is_fresh(&self, genotype: &Genotype) -> bool {
        self.space.canonical_hash(genotype).is_ok_and(|hash| !self.hashes.contains(&hash))
    }

    /// Whether most samples are new, so that a few tries find one.
    pub(super) fn is_sparse(&self) -> bool {
        (self.hashes.len() as u128).saturating_mul(4) < self.space.size()
    }

    /// A uniform sample that was not proposed yet; `None` as for [`History::first_fresh`].
    pub(super) fn fresh_sample(&self, rng: &mut dyn Rng) -> Option<Proposal> {
        self.first_fresh(rng, |rng| (self.space.sample(rng), Vec::new()))
    }

    /// A new proposal, as close as possible to the draws of `own`. First it tries these draws
    /// unchanged, then with more and more mutations, then uniform samples, then the remaining
    /// networks of a small space, all equally likely. `None` if a small space has none left, or a
    /// large one almost none.
    ///
    /// `own` returns a genotype and its parents, and is called again for each try.
    pub(super) fn first_fresh(
        &self,
        rng: &mut dyn Rng,
        mut own: impl FnMut(&mut dyn Rng) -> (Genotype, Vec<TrialNumber>),
    ) -> Option<Proposal> {
        if self.unseen.get().is_some_and(Unseen::is_empty) {
            return None;
        }
        for attempt in 0..OWN_TRIES + WIDE_TRIES {
            let (mut genotype, parents) = own(rng);
            if attempt >= OWN_TRIES {
                // From 1 change at first to half of the choices at the end.
                let width = self.space.choices().len().div_ceil(2);
                let changes = 1 + (attempt - OWN_TRIES) * width / WIDE_TRIES;
                genotype = self.space.mutate(&genotype, changes, rng);
            }
            if self.is_fresh(&genotype) {
                return Some(Proposal { genotype, parents });
            }
        }
        let listed = self.space.size() <= LISTED_GENOTYPES;
        let tries = if listed { RANDOM_TRIES } else { LAST_TRIES };
        (0..tries)
            .map(|_| self.space.sample(rng))
            .find(|genotype| self.is_fresh(genotype))
            .or_else(|| if listed { self.unseen().pick(&self.space, rng) } else { None })
            .map(|genotype| Proposal { genotype, parents: Vec::new() })
    }

    fn unseen(&self) -> &Unseen {
        self.unseen.get_or_init(|| Unseen::list(&self.space, &self.hashes))
    }
}

/// All networks of a small space that were not proposed.
#[derive(Debug)]
struct Unseen {
    /// The first genotype of each network, as a number in mixed radix.
    codes: HashMap<CanonicalHash, u32>,
    /// Codes of the networks that are left, ascending, so that the order does not depend on when
    /// the list was made.
    left: Vec<u32>,
}

impl Unseen {
    fn list(space: &Space, seen: &HashSet<CanonicalHash>) -> Self {
        let mut codes = HashMap::new();
        let mut left = Vec::new();
        for code in 0..u32::try_from(space.size()).expect("a small space") {
            if let Ok(hash) = space.canonical_hash(&genotype(space, code))
                && !seen.contains(&hash)
                && !codes.contains_key(&hash)
            {
                codes.insert(hash, code);
                left.push(code);
            }
        }
        Self { codes, left }
    }

    fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    fn remove(&mut self, hash: CanonicalHash) {
        if let Some(code) = self.codes.remove(&hash)
            && let Ok(place) = self.left.binary_search(&code)
        {
            self.left.remove(place);
        }
    }

    fn pick(&self, space: &Space, rng: &mut dyn Rng) -> Option<Genotype> {
        if self.left.is_empty() {
            return None;
        }
        Some(genotype(space, self.left[rng.random_range(0..self.left.len())]))
    }
}

/// The genotype with number `code` in mixed radix, where the first choice is the lowest digit.
fn genotype(space: &Space, mut code: u32) -> Genotype {
    let digit = |choice: &Choice| {
        let options = choice.options.len() as u32;
        let index = code % options;
        code /= options;
        index as u16
    };
    let indices = space.choices().iter().map(digit).collect();
    space.genotype(indices).expect("digits are below their radix")
}

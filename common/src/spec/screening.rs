//! `[screening]` in a study file: a zero-cost proxy scores candidates before training, and only the
//! best of each batch are trained.

use std::fmt;
use std::str::FromStr;

use super::reader::{Mistakes, Table};

/// Which candidates are not trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScreeningSpec {
    /// The proxy that scores candidates.
    pub proxy: Proxy,
    /// Number of candidates that are compared with each other; at least 2.
    pub batch: u32,
    /// The share of a batch that is trained, above 0 and below 1. At least one candidate is
    /// trained.
    pub keep: f64,
}

impl ScreeningSpec {
    /// How many of this many candidates are trained: the share, rounded up.
    pub fn kept_of(&self, candidates: usize) -> usize {
        ((candidates as f64 * self.keep).ceil() as usize).clamp(candidates.min(1), candidates)
    }
}

/// A score of an untrained network, higher is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proxy {
    /// Synaptic flow: Tanaka et al. 2020, *Pruning neural networks without any data by iteratively
    /// conserving synaptic flow*. Used as a proxy by Abdelfattah et al. 2021, *Zero-Cost Proxies
    /// for Lightweight NAS*.
    Synflow,
    /// How differently a network's rectified units respond to different images: Mellor et al. 2021,
    /// *Neural Architecture Search without Training*.
    Naswot,
    /// Multiply-accumulates: the baseline that any other proxy should beat.
    Macs,
    /// Parameters, also a baseline.
    Parameters,
}

impl Proxy {
    /// Every proxy.
    pub const ALL: [Self; 4] = [Self::Synflow, Self::Naswot, Self::Macs, Self::Parameters];

    /// The name in study files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Synflow => "synflow",
            Self::Naswot => "naswot",
            Self::Macs => "macs",
            Self::Parameters => "parameters",
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Proxy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|proxy| proxy.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("unknown proxy {name:?}; use one of {known}")
        })
    }
}

/// Reads `[screening]`, if present.
pub fn read_screening(root: &mut Table, m: &mut Mistakes) -> Option<ScreeningSpec> {
    let mut table = root.table("screening", m)?;
    if !table.has("proxy") {
        let known = Proxy::ALL.map(Proxy::name).join(", ");
        m.refuse(&table.span(), table.path("proxy"), format!("is missing; give one of {known}"));
    }
    let proxy = table.parsed("proxy", m);
    let batch = table.within("batch", 8, (2, 1000), m);
    let share = |keep: f64| {
        if keep > 0.0 && keep < 1.0 {
            Ok(keep)
        } else {
            Err(format!("{keep} is not a share; use a number between 0 and 1, such as 0.5"))
        }
    };
    let keep = table.obeying("keep", m, share).unwrap_or(0.5);
    table.finish(m);
    Some(ScreeningSpec { proxy: proxy?, batch, keep })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_one_candidate_of_a_batch_is_kept() {
        let kept = |keep, of| ScreeningSpec { proxy: Proxy::Macs, batch: 8, keep }.kept_of(of);
        assert_eq!((kept(0.5, 8), kept(0.5, 3), kept(0.01, 8), kept(0.99, 8)), (4, 2, 1, 8));
        assert_eq!((kept(0.5, 1), kept(0.5, 0)), (1, 0));
    }
}

//! Variants of an imported network: another size of its input, residual blocks left out, fewer
//! channels. Their weights are not made here, but follow from the same names.

use std::fmt;
use std::sync::Arc;

use edgesmith_graph::{Graph, GraphError, GroupSize, Rebuild, Shape};

use super::stages::{ResidualBlock, copy_without};
use crate::active::Outline;
use crate::pruning::{kept, pruned};
use crate::{ArchitectureError, Pruning};

/// What all candidates of a study on an imported network share.
#[derive(Debug, PartialEq)]
pub struct Base {
    /// The network with the places of its nodes, and with a new last layer if the study asks for
    /// one.
    pub graph: Graph,
    /// The parameters that the import has no numbers for: those of a new last layer.
    pub fresh: Vec<String>,
    /// The blocks that may be left out.
    pub blocks: Vec<ResidualBlock>,
    /// Hash of the import's weights.
    pub weights: [u8; 32],
}

/// A variant of an imported network.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    pub(super) base: Arc<Base>,
    /// Side of the square input in pixels; images are resized to it.
    pub resolution: u32,
    /// The residual blocks that are left out, ascending, counted from 0.
    pub left_out: Vec<usize>,
    /// By stage: the share of channels that the network begins with, above 0 and at most 1.
    pub widths: Vec<f64>,
    /// Whether it is trained further, or stays as it is.
    pub trained: bool,
}

impl Variant {
    /// What all variants of the study share.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// The network of this variant.
    ///
    /// # Errors
    /// If one of its nodes does not work on the values that it gets.
    pub fn graph(&self) -> Result<Graph, ArchitectureError> {
        Ok(pruned(self.whole()?, &self.removed()))
    }

    /// The variant before channels are removed.
    ///
    /// # Errors
    /// See [`Variant::graph`].
    pub fn whole(&self) -> Result<Graph, ArchitectureError> {
        let base = &self.base.graph;
        let side = self.resolution;
        if self.left_out.is_empty() && base.input().space() == [side, side] {
            return Ok(base.clone());
        }
        self.rebuilt().map_err(|problem| ArchitectureError::Variant { problem })
    }

    /// How many channels of a group of [`Variant::whole`] the network begins with.
    pub fn kept(&self, whole: &Graph, group: impl Into<GroupSize>) -> usize {
        kept(whole, group, &self.removed()).expect("the stages say how many")
    }

    /// Whether the network begins with fewer channels than the import.
    pub fn is_narrower(&self) -> bool {
        self.widths.iter().any(|width| *width < 1.0)
    }

    fn removed(&self) -> Pruning {
        Pruning::of_stages(self.widths.iter().map(|width| 1.0 - width).collect::<Vec<_>>())
    }

    fn rebuilt(&self) -> Result<Graph, GraphError> {
        let base = &self.base.graph;
        let side = self.resolution;
        let shape = Shape::new(base.input().channels(), &[side, side]);
        let shape = shape.map_err(|error| GraphError::Operands {
            node: "the input".to_owned(),
            kind: "image",
            problem: error.into(),
        })?;
        let mut rebuild = Rebuild::with_inputs(base, &[shape]);
        let left_out: Vec<&ResidualBlock> =
            self.left_out.iter().map(|&index| &self.base.blocks[index]).collect();
        copy_without(&mut rebuild, base, &left_out)?;
        rebuild.finish()
    }
}

impl Outline for Variant {
    fn is_trained(&self) -> bool {
        self.trained
    }

    fn has_stage(&self, _: usize) -> bool {
        true
    }

    fn has_layer(&self, name: &str) -> bool {
        let Base { graph, blocks, .. } = &*self.base;
        let mut gone = self.left_out.iter().flat_map(|&block| &blocks[block].nodes);
        gone.all(|&id| *graph.value(graph.node(id).output).name != *name)
    }
}

/// `r32 | width 100/75% | without 2, 3 | as it is`
impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.resolution)?;
        if self.is_narrower() {
            let shares: Vec<String> =
                self.widths.iter().map(|width| format!("{:.0}", width * 100.0)).collect();
            write!(f, " | width {}%", shares.join("/"))?;
        }
        if !self.left_out.is_empty() {
            let blocks: Vec<String> =
                self.left_out.iter().map(|index| (index + 1).to_string()).collect();
            let s = if blocks.len() == 1 { "" } else { "s" };
            write!(f, " | without block{s} {}", blocks.join(", "))?;
        }
        if !self.trained {
            f.write_str(" | as it is")?;
        }
        Ok(())
    }
}

//! How answers about a study look: the JSON and CSV of trials, the stages of one, the marks and the
//! plot of a front, and the progress of a running study. What other programs share is in
//! `edgesmith-console`.

pub mod columns;
pub mod json;
pub mod machines;
pub mod marks;
pub mod progress;
pub mod scatter;
pub mod stages;

use std::fmt;

pub use edgesmith_client::TrialRow;
use edgesmith_graph::Graph;
use edgesmith_search_space::layer_names;

/// A number of things in words: `1 trial`, `2 trials`.
pub fn counted<N: From<u8> + PartialEq + fmt::Display>(number: N, one: &str) -> String {
    let s = if number == N::from(1_u8) { "" } else { "s" };
    format!("{number} {one}{s}")
}

/// The number of layers of a network as it runs, in words: `12 layers, 5 of them with weights`.
pub fn layers_in_words(graph: &Graph) -> String {
    let (all, weighted) = (graph.layers().count(), layer_names(graph).count());
    format!("{}, {weighted} of them with weights", counted(all, "layer"))
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{Clip, Conv, GraphBuilder, Place, Role, Shape};

    use super::*;

    #[test]
    fn what_is_computed_along_with_a_layer_is_no_layer_of_its_own() {
        let mut net = GraphBuilder::new();
        let image = net.input("image", Shape::new(1, &[8, 8]).unwrap()).unwrap();
        let weight = net.parameter("weight", &[1, 1, 1, 1], Role::Weight).unwrap();
        let place = Place::default();
        let conv = net.node("conv", Conv::dense(1, 1), &[image], &[weight], place).unwrap();
        let relu = net.node("relu", Clip::RELU, &[conv], &[], Place::default()).unwrap();
        let last = net.node("last", Clip::RELU, &[relu], &[], Place::default()).unwrap();
        let graph = net.finish(&[last]).unwrap();
        assert_eq!(layers_in_words(&graph), "2 layers, 1 of them with weights");
        assert_eq!(graph.layers().count(), 2);
    }

    #[test]
    fn one_thing_is_not_many() {
        let said = [0_u32, 1, 2].map(|number| counted(number, "trial"));
        assert_eq!(said, ["0 trials", "1 trial", "2 trials"]);
        assert_eq!([counted(1.0, "hour"), counted(1.5, "hour")], ["1 hour", "1.5 hours"]);
    }
}

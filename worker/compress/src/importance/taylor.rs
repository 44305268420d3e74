//! The effect on the loss to first order (Molchanov et al. 2019, "Importance estimation for neural
//! network pruning"). Training computes it, because it needs gradients; here it is only gathered.

use std::collections::BTreeMap;

use edgesmith_graph::{Channels, Graph};

use super::writers;

/// The sum over the layers that write a channel of the effects of their filters. `effects` has them
/// by the layer's name, which is that of its output, one per filter. Layers that it does not have
/// count as 0. Effects are changes of the loss and not shares of a layer's total; a budget of the
/// whole network compares them as multiples of the group's mean ([`crate::budget`]).
///
/// # Panics
/// If a layer has another number of effects than of filters.
pub fn taylor(
    graph: &Graph,
    channels: &Channels,
    effects: &BTreeMap<String, Vec<f64>>,
) -> Vec<f64> {
    let mut importance = vec![0.0; channels.count()];
    for (id, filters) in writers(graph, channels) {
        let layer = &*graph.value(graph.node(id).output).name;
        let Some(effects) = effects.get(layer) else { continue };
        assert_eq!(effects.len(), filters.len(), "layer {layer} has an effect for each filter");
        for (channel, effect) in filters.iter().zip(effects) {
            importance[channel.index()] += effect;
        }
    }
    importance
}

#[cfg(test)]
mod tests {
    use edgesmith_testing::residual_graph;

    use super::*;

    #[test]
    fn effects_of_layers_that_write_a_channel_are_added() {
        let graph = residual_graph();
        let channels = graph.channels();
        let effect = |scale: f64| (0..8).map(|i| scale * f64::from(i)).collect::<Vec<f64>>();
        let effects = BTreeMap::from([
            ("stem".to_owned(), effect(1.0)),
            ("stage1.block2.project".to_owned(), effect(10.0)),
        ]);
        let importance = taylor(&graph, &channels, &effects);
        let stem = channels.of_value(graph.value_named("stem").unwrap());
        let of_stem: Vec<f64> = stem.iter().map(|channel| importance[channel.index()]).collect();
        assert_eq!(of_stem, effect(11.0));
        let others = importance.iter().sum::<f64>() - of_stem.iter().sum::<f64>();
        assert_eq!(others, 0.0);
    }
}

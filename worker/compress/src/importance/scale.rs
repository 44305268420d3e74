//! The scale of batch normalisation (Liu et al. 2017, "Learning efficient convolutional networks
//! through network slimming").

use edgesmith_graph::{ChannelGroup, Channels, Effect, Graph, Operation, Weights};

use super::ImportanceError;

/// The absolute scale of a channel in batch normalisation, as the mean over all normalisations that
/// have the channel. It is the scale itself and not a share of the layer's; a budget of the whole
/// network compares it as a multiple of the group's mean ([`crate::budget`]), other than the paper.
/// Channels that may not be removed may be without a normalisation, and get 0.
///
/// # Errors
/// If channels that may be removed have no batch normalisation.
///
/// # Panics
/// If `weights` do not fit `graph`.
pub fn normalization_scale(
    graph: &Graph,
    channels: &Channels,
    weights: &Weights,
) -> Result<Vec<f64>, ImportanceError> {
    let mut sums = vec![(0.0, 0u32); channels.count()];
    for (_, node) in graph.nodes().filter(|(_, node)| node.op.effect() == Effect::Normalizes) {
        let scales = &weights.of(graph, node.parameters[0]).data;
        for (channel, scale) in channels.of_value(node.output).iter().zip(scales) {
            let (sum, count) = &mut sums[channel.index()];
            *sum += f64::from(scale.abs());
            *count += 1;
        }
    }
    let lacks = |group: &&ChannelGroup| {
        !group.fixed && group.channels.iter().any(|channel| sums[channel.index()].1 == 0)
    };
    if let Some(group) = channels.groups().iter().find(lacks) {
        let layer = graph.value(group.first).name.to_string();
        return Err(ImportanceError::NoNormalization { layer });
    }
    Ok(sums.iter().map(|(sum, count)| sum / f64::from((*count).max(1))).collect())
}

#[cfg(test)]
mod tests {
    use edgesmith_testing::{conv_graph, random_weights, residual_graph};

    use super::*;
    use crate::fold;

    #[test]
    fn each_channel_has_its_scale_and_shared_ones_the_mean() {
        let graph = residual_graph();
        let weights = random_weights(&graph, 3);
        let channels = graph.channels();
        let importance = normalization_scale(&graph, &channels, &weights).unwrap();
        let stem = channels.of_value(graph.value_named("stem").unwrap());
        // The stem and the two blocks of the first stage are added up.
        let owners = ["stem", "stage1.block1.project", "stage1.block2.project"];
        for (index, channel) in stem.iter().enumerate() {
            let sizes =
                owners.map(|owner| f64::from(weights.get(owner, "gamma").data[index].abs()));
            let mean = (sizes[0] + sizes[1] + sizes[2]) / 3.0;
            assert!((importance[channel.index()] - mean).abs() < 1e-12);
        }
    }

    #[test]
    fn negative_scales_count_by_their_size() {
        let graph = conv_graph();
        let mut weights = random_weights(&graph, 3);
        weights.arrays.get_mut("stem.gamma").unwrap().data[4] = -9.0;
        let channels = graph.channels();
        let importance = normalization_scale(&graph, &channels, &weights).unwrap();
        let stem = channels.of_value(graph.value_named("stem").unwrap());
        assert_eq!(importance[stem[4].index()], 9.0);
    }

    #[test]
    fn a_folded_network_is_refused_by_the_name_of_its_layer() {
        let graph = conv_graph();
        let (graph, weights) = fold(&graph, &random_weights(&graph, 3));
        let error = normalization_scale(&graph, &graph.channels(), &weights).unwrap_err();
        assert_eq!(error, ImportanceError::NoNormalization { layer: "stem".into() });
        assert_eq!(
            error.to_string(),
            "the channels of layer \"stem\" have no batch normalisation, so it has no scale that \
             could rank them; choose another importance"
        );
    }
}

//! What a training starts from: the network, and its first weights. They are fresh, inherited from
//! a relative, or those of a user's network.

use edgesmith_common::AttemptError;
use edgesmith_compress::prune;
use edgesmith_graph::{ChannelGroup, Graph, Weights};
use edgesmith_search_space::{Design, Variant};
use edgesmith_train::{fresh_weights, safetensors};

use super::hopeless;
use super::run::Study;
use crate::session::AttemptContext;

/// A network and the weights that its training starts from.
pub struct Start {
    pub graph: Graph,
    pub weights: Weights,
}

impl Start {
    /// Of a network that starts from nobody else's training. `seed` makes its fresh weights: all of
    /// a staged network, or those of a new last layer.
    pub fn of(
        study: &Study<'_>,
        design: &Design,
        seed: [u8; 32],
        context: &AttemptContext,
    ) -> Result<Self, AttemptError> {
        match design {
            Design::Staged(architecture) => {
                let graph = architecture.graph(study.work.space.data()).map_err(hopeless)?;
                let weights = fresh_weights(&graph, seed);
                Ok(Self { graph, weights })
            }
            Design::Model(variant) => {
                let weights = imported(study, context)?;
                variant_of(variant, weights, seed)
            }
        }
    }
}

/// The weights of the user's network. The artifact is the one that the study names, because it is
/// fetched by its hash.
fn imported(study: &Study<'_>, context: &AttemptContext) -> Result<Weights, AttemptError> {
    let model = study.work.model.as_ref();
    let model = model.ok_or_else(|| hopeless("the study names no network to start from"))?;
    let weights = safetensors::from_bytes(&context.fetch(model.file.weights)?).map_err(hopeless)?;
    weights.check(&model.file.network).map_err(hopeless)?;
    Ok(weights)
}

/// A variant of the network that these weights belong to. If it begins with fewer channels, the
/// least important ones go.
fn variant_of(
    variant: &Variant,
    mut imported: Weights,
    seed: [u8; 32],
) -> Result<Start, AttemptError> {
    let whole = variant.whole().map_err(hopeless)?;
    let fresh = &variant.base().fresh;
    let mut new = Weights::default();
    if !fresh.is_empty() {
        new = fresh_weights(&whole, seed);
    }
    let mut weights = Weights::default();
    for (_, parameter) in whole.parameters() {
        let name = &*parameter.name;
        let from = if fresh.iter().any(|fresh| fresh == name) { &mut new } else { &mut imported };
        // The rest are of parts that the variant leaves out.
        if let Some(array) = from.arrays.remove(name) {
            weights.arrays.insert(name.to_owned(), array);
        }
    }
    weights.check(&whole).map_err(hopeless)?;
    if !variant.is_narrower() {
        return Ok(Start { graph: whole, weights });
    }
    let kept = |group: &ChannelGroup| variant.kept(&whole, group);
    let (graph, weights) = prune(&whole, &weights, kept);
    Ok(Start { graph, weights })
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::Place;
    use edgesmith_search_space::{
        BlockOption, DataShape, Further, Head, ModelDefinition, ModelSpace, NetworkSpace,
        Precision, RecipeSpace, Space,
    };
    use edgesmith_testing::{random_weights, residual_graph};

    use super::*;

    /// The candidate with these options of a space around a residual network.
    fn variant(network: &Graph, classes: u32, head: Head, options: &[(&str, &str)]) -> Variant {
        let definition = ModelDefinition {
            network: network.clone(),
            weights: [1; 32],
            head,
            resolution: vec![],
            width: vec![1.0, 0.5],
            blocks: vec![BlockOption::Kept, BlockOption::LeftOut],
            train: vec![Further::Trained],
            recipe: RecipeSpace {
                prune: vec![0.0],
                precision: vec![Precision::Fp32],
                alpha: vec![0.0],
                temperature: vec![1.0],
            },
        };
        let data = DataShape { channels: network.input().channels(), classes };
        let space = NetworkSpace::from(ModelSpace::new(definition, data).unwrap());
        let named: Vec<(String, String)> = space
            .choices()
            .iter()
            .map(|choice| {
                let picked = options.iter().find(|(name, _)| *name == choice.name);
                let option = picked.map_or(choice.options[0].as_str(), |(_, option)| option);
                (choice.name.clone(), option.to_owned())
            })
            .collect();
        let genotype = Space::from(space.clone()).genotype_of_names(&named).unwrap();
        match space.decode(&genotype).architecture {
            Design::Model(variant) => variant,
            Design::Staged(_) => panic!("a variant"),
        }
    }

    #[test]
    fn the_whole_network_starts_from_its_own_weights() {
        let network = residual_graph();
        let classes = network.output().channels();
        let weights = random_weights(&network, 3);
        let whole = variant(&network, classes, Head::Kept, &[]);
        let start = variant_of(&whole, weights.clone(), [0; 32]).unwrap();
        assert_eq!(start.weights, weights);
        let nowhere = |graph: Graph| graph.with_places(|_, _| Place::default());
        assert_eq!(nowhere(start.graph), nowhere(network));
    }

    #[test]
    fn a_variant_starts_from_what_is_left_of_them() {
        let network = residual_graph();
        let classes = network.output().channels();
        let weights = random_weights(&network, 3);
        let options = [("block1", "left-out"), ("stage1.width", "0.5")];
        let small = variant(&network, classes, Head::Kept, &options);
        let start = variant_of(&small, weights.clone(), [0; 32]).unwrap();
        start.weights.check(&start.graph).unwrap();
        assert!(start.weights.arrays.len() < weights.arrays.len());
        assert!(start.graph.total_macs() < network.total_macs() / 2);
        let shapes = |graph: &Graph| -> Vec<String> {
            graph.values().map(|(_, value)| value.shape.to_string()).collect()
        };
        assert_eq!(shapes(&start.graph), shapes(&small.graph().unwrap()));
    }

    #[test]
    fn a_new_last_layer_starts_fresh_and_the_rest_does_not() {
        let network = residual_graph();
        let weights = random_weights(&network, 3);
        let classes = network.output().channels() + 3;
        let headed = variant(&network, classes, Head::New, &[]);
        let start = variant_of(&headed, weights.clone(), [0; 32]).unwrap();
        start.weights.check(&start.graph).unwrap();
        assert_eq!(start.graph.output().channels(), classes);
        for (name, array) in &start.weights.arrays {
            match weights.arrays.get(name) {
                Some(known) => assert_eq!(array, known, "{name}"),
                None => assert!(headed.base().fresh.contains(name), "{name}"),
            }
        }
        let other = variant_of(&headed, weights, [1; 32]).unwrap();
        assert_ne!(other.weights, start.weights);
    }
}

//! What a training starts from: the network, and its first weights. They are fresh, inherited from
//! a relative, or those of a user's network.

use edgesmith_common::AttemptError;
use edgesmith_compress::prune;
use edgesmith_graph::{ChannelGroup, Graph, Weights};
use edgesmith_search_space::{Design, Variant, last_layer};
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
    /// a staged network, or those of a new last layer. `classes` are the names of the data's
    /// classes, if they have names; a user's network with the same ones in another order gives them
    /// in this order.
    pub fn of(
        study: &Study<'_>,
        design: &Design,
        classes: &[String],
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
                let mut weights = imported(study, context)?;
                if let (Some(model), []) = (&study.work.model, &variant.base().fresh[..]) {
                    let own = &model.file.classes;
                    order_classes(&model.file.network, &mut weights, own, classes)?;
                }
                variant_of(variant, weights, seed)
            }
        }
    }
}

/// The weights of the user's network. The artifact is the one that the study names, because it is
/// fetched by its hash.
pub fn imported(study: &Study<'_>, context: &AttemptContext) -> Result<Weights, AttemptError> {
    let model = study.work.model.as_ref();
    let model = model.ok_or_else(|| hopeless("the study names no network to start from"))?;
    let weights = study.given(model.file.weights, "the study's own network", context)?;
    let weights = safetensors::from_bytes(&weights).map_err(hopeless)?;
    weights.check(&model.file.network).map_err(hopeless)?;
    Ok(weights)
}

/// Orders the rows of the last layer as the data order the classes of these names. Nothing changes
/// if one of them has no names.
pub fn order_classes(
    network: &Graph,
    weights: &mut Weights,
    own: &[String],
    data: &[String],
) -> Result<(), AttemptError> {
    if own.is_empty() || data.is_empty() || own == data {
        return Ok(());
    }
    let place = |name: &String| own.iter().position(|own| own == name);
    let places: Option<Vec<usize>> = data.iter().map(place).collect();
    let list = |names: &[String]| names.join(", ");
    let Some(places) = places.filter(|places| places.len() == own.len()) else {
        let text = format!(
            "the network's classes are {}, but those of the data are {}; rename the folders of the \
             data, or write head = \"new\" in [space]",
            list(own),
            list(data)
        );
        return Err(AttemptError::of_data(text));
    };
    let last = last_layer(network).ok_or_else(|| {
        let text = format!(
            "the network's classes are in the order {}, those of the data in the order {}; its \
             last layer cannot be put in order, so order the data's as the network's",
            list(own),
            list(data)
        );
        AttemptError::of_data(text)
    })?;
    for &id in &network.node(last).parameters {
        let name = &*network.parameter(id).name;
        let Some(array) = weights.arrays.get_mut(name) else { continue };
        let row = array.data.len() / own.len();
        let rows = places.iter().flat_map(|place| &array.data[place * row..(place + 1) * row]);
        array.data = rows.copied().collect();
    }
    Ok(())
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
        BlockOption, DataShape, FlatRecipe, Further, Head, ModelDefinition, ModelSpace,
        NetworkSpace, Precision, RecipeSpace, Space,
    };
    use edgesmith_testing::{noise, random_weights, reference, residual_graph};

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
            recipe: RecipeSpace::Flat(FlatRecipe {
                prune: vec![0.0],
                precision: vec![Precision::Fp32],
                alpha: vec![0.0],
                temperature: vec![1.0],
            }),
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
    fn classes_of_the_same_names_are_put_in_the_order_of_the_data() {
        let network = residual_graph();
        let weights = random_weights(&network, 3);
        let names = |order: &[usize]| -> Vec<String> {
            order.iter().map(|number| format!("class {number}")).collect()
        };
        let own = names(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let data = names(&[9, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
        let ordered = |data: &[String]| {
            let mut weights = weights.clone();
            order_classes(&network, &mut weights, &own, data).map(|()| weights)
        };
        for same in [own.clone(), Vec::new()] {
            assert_eq!(ordered(&same).unwrap(), weights);
        }
        let image = noise(64, 4);
        let logits = |weights: &Weights| reference(&network, weights, &image);
        let (before, after) = (logits(&weights), logits(&ordered(&data).unwrap()));
        assert_eq!((after[0], after[9], after[5]), (before[9], before[0], before[5]));
        let others = names(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 11]);
        let error = ordered(&others).unwrap_err();
        assert!(error.reason.contains("class 9, but") && error.reason.contains("class 11"));
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

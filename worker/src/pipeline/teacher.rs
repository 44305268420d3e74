//! A teacher from a file of its own: its network, and its weights with the classes in the order of
//! the study's.

use edgesmith_common::AttemptError;
use edgesmith_common::spec::TeacherModel;
use edgesmith_search_space::{DataShape, Design};
use edgesmith_train::safetensors;

use super::hopeless;
use super::start::{Start, order_classes};
use crate::session::AttemptContext;

/// The network of `model`, which stands in the study as `design`, as it is. `classes` are the names
/// of the study's classes, if they have names. The weights are those that the study names, because
/// they are fetched by their hash.
///
/// # Errors
/// If the names of its classes are others than those of the study.
pub fn given_network(
    model: &TeacherModel,
    design: &Design,
    data: DataShape,
    classes: &[String],
    context: &AttemptContext,
) -> Result<Start, AttemptError> {
    let file = &model.file;
    let mut weights = safetensors::from_bytes(&context.fetch(file.weights)?).map_err(hopeless)?;
    weights.check(&file.network).map_err(hopeless)?;
    let own = &file.classes;
    let same = own.len() == classes.len() && classes.iter().all(|name| own.contains(name));
    if !own.is_empty() && !classes.is_empty() && !same {
        return Err(AttemptError::of_data(format!(
            "the classes of the teacher {} are {}, but those of the study are {}; give a teacher of \
             the same classes, or rename the folders of the data",
            model.path,
            own.join(", "),
            classes.join(", ")
        )));
    }
    order_classes(&file.network, &mut weights, own, classes)?;
    Ok(Start { graph: design.graph(data).map_err(hopeless)?, weights })
}

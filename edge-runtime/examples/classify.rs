//! Classifies an image with a model file: `classify MODEL.edge IMAGE`. The image is raw bytes,
//! channel by channel, of the size that the model reads.

use std::error::Error;

use edgesmith_edge_runtime::{Model, Session};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(image)) = (arguments.next(), arguments.next()) else {
        return Err("give a model file and an image".into());
    };
    let model = Model::from_bytes(&std::fs::read(model)?)?;
    let image = std::fs::read(image)?;
    let mut session = Session::new(&model)?;
    let class = session.classify(&image)?;
    match model.notes.classes.get(class) {
        Some(name) => println!("{name}"),
        None => println!("{class}"),
    }
    Ok(())
}

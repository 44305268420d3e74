//! `LeakyRelu`

use edgesmith_graph::LeakyRelu;

use super::{Name, Site, Write};
use crate::write::file::float;

impl Write for LeakyRelu {
    fn write(&self, site: &mut Site<'_>) -> Name {
        site.finish("LeakyRelu", &[&site.input(0)], vec![float("alpha", self.slope)])
    }
}

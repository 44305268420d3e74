//! `Where`, with the condition cast to truths

use edgesmith_graph::Select;

use super::{Name, Site, Write};
use crate::proto::BOOL;
use crate::write::file::int;

impl Write for Select {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let [condition, a, b] = [0, 1, 2].map(|place| site.aligned(place));
        let holds = site.step("holds", "Cast", &[&condition], vec![int("to", BOOL.into())]);
        site.finish("Where", &[&holds, &a, &b], vec![])
    }
}

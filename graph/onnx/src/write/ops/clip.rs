//! `Relu`, or `Clip` with the bounds that are finite

use edgesmith_graph::Clip;

use super::{Name, Site, Write};

impl Write for Clip {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let input = site.input(0);
        if *self == Clip::RELU {
            return site.finish("Relu", &[&input], vec![]);
        }
        let mut bound = |part: &str, value: f32, absent: f32| {
            if value == absent {
                return Name::new();
            }
            site.file.floats(&format!("{}.{part}", site.output), &[], &[value])
        };
        let low = bound("min", self.low, f32::NEG_INFINITY);
        let high = bound("max", self.high, f32::INFINITY);
        site.finish("Clip", &[&input, &low, &high], vec![])
    }
}

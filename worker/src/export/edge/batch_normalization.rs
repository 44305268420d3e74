//! Batch normalisation that is not folded: a line for each channel.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::BatchNormalization;

use super::{Integer, Lower, LowerError, Site, table};

impl Lower for BatchNormalization {
    fn float(&self, site: &Site<'_>) -> Result<edge::Layer, LowerError> {
        let (weight, bias) = lines(self, site);
        let shape = site.input_shape();
        let channels = shape.channels();
        let conv = edge::Conv {
            in_channels: channels,
            out_channels: channels,
            groups: channels,
            axes: vec![edge::WindowAxis::new(1, 1, 0); shape.space().len()],
            weight,
            bias,
        };
        Ok(edge::FloatConv { conv, activation: site.activation() }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        let (input, output) = (site.inputs[0], site.output()?);
        let (factors, offsets) = lines(self, site);
        let tables = factors.iter().zip(&offsets).flat_map(|(factor, offset)| {
            table(input, output, |x| {
                let y = factor * x + offset;
                site.clip.map_or(y, |clip| y.max(clip.low).min(clip.high))
            })
        });
        Ok(Integer::Layer(edge::Table { function: None, tables: tables.collect() }.into()))
    }
}

/// Factor and offset of each channel.
fn lines(op: &BatchNormalization, site: &Site<'_>) -> (Vec<f32>, Vec<f32>) {
    let [scale, shift, mean, variance] = [0, 1, 2, 3].map(|slot| site.parameter(slot));
    (0..scale.len())
        .map(|channel| {
            let [scale, shift, mean, variance] =
                [scale, shift, mean, variance].map(|numbers| f64::from(numbers[channel]));
            let factor = scale / (variance + f64::from(op.epsilon)).sqrt();
            (factor as f32, (shift - mean * factor) as f32)
        })
        .unzip()
}

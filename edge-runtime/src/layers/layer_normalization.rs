//! Layer normalisation (Ba et al. 2016), in fp32.

use super::concat::check_axis;
use super::prelude::*;

/// `(x - mean) / sqrt(variance + epsilon)` over some axes of each example, then `* scale + shift`.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNormalization {
    /// The axes, ascending, at least one.
    pub axes: Vec<u32>,
    /// Added to the variance, not negative.
    pub epsilon: f32,
    /// Row by row over `axes`; empty for 1.
    pub scale: Vec<f32>,
    /// Row by row over `axes`; empty for 0.
    pub shift: Vec<f32>,
}

impl Settings for LayerNormalization {
    const CODE: u8 = 20;
    const NAME: &'static str = "layer normalisation";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self {
            axes: file.list(1, Reader::size)?,
            epsilon: file.float()?,
            scale: file.floats()?,
            shift: file.floats()?,
        })
    }

    fn write(&self, file: &mut Writer) {
        file.list(&self.axes, |file, &axis| file.size(axis));
        file.float(self.epsilon);
        file.floats(&self.scale);
        file.floats(&self.shift);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        floats(inputs, element)?;
        check_ascending(&self.axes, &input.shape)?;
        check_number("epsilon", self.epsilon, false)?;
        if self.epsilon < 0.0 {
            return Err(Problem::BadNumber {
                what: "epsilon",
                value: self.epsilon,
                positive: true,
            });
        }
        let sizes = self.axes.iter().map(|&axis| input.shape.size(axis as usize) as u64);
        let elements = sizes.product();
        for (what, values) in [("the scale", &self.scale), ("the shift", &self.shift)] {
            if !values.is_empty() {
                check_size(what, elements, values.len())?;
            }
            values.iter().try_for_each(|&value| check_number(what, value, false))?;
        }
        Ok(input.shape)
    }

    fn memory(&self, site: &Site) -> Memory {
        // A mean and a variance for each group.
        let shape = &site.output.shape;
        let sizes = self.axes.iter().map(|&axis| shape.size(axis as usize));
        let groups = shape.elements() / sizes.product::<usize>();
        Memory { scratch: groups as u64 * 8, tables: 0 }
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let shape = &site.output.shape;
        let (mut group, mut inside) = ([0; MAX_AXES], [0; MAX_AXES]);
        let (mut groups, mut count) = (1, 1);
        for axis in (0..shape.axes()).rev() {
            if self.axes.contains(&(axis as u32)) {
                inside[axis] = count;
                count *= shape.size(axis);
            } else {
                group[axis] = groups;
                groups *= shape.size(axis);
            }
        }
        let walk = Walk::new(shape, [group, inside]);
        Box::new(PreparedNormalization { layer: self.clone(), walk, count })
    }
}

struct PreparedNormalization {
    layer: LayerNormalization,
    /// Over all numbers, with their group and their place in it.
    walk: Walk<2>,
    /// Numbers in a group.
    count: usize,
}

impl Prepared for PreparedNormalization {
    fn run(&self, operands: Operands) {
        let input = operands.inputs.of::<f32>(0);
        let output = view_mut::<f32>(operands.output);
        let statistics = view_mut::<f32>(operands.scratch);
        let (means, variances) = statistics.split_at_mut(statistics.len() / 2);
        let LayerNormalization { epsilon, scale, shift, .. } = &self.layer;
        means.fill(0.0);
        variances.fill(0.0);
        self.walk.run(|at, [group, _]| means[group] += input[at]);
        means.iter_mut().for_each(|mean| *mean /= self.count as f32);
        self.walk.run(|at, [group, _]| {
            let difference = input[at] - means[group];
            variances[group] += difference * difference;
        });
        for variance in variances.iter_mut() {
            *variance = 1.0 / (*variance / self.count as f32 + epsilon).sqrt();
        }
        self.walk.run(|at, [group, inside]| {
            let normal = (input[at] - means[group]) * variances[group];
            let scaled = normal * scale.get(inside).unwrap_or(&1.0);
            output[at] = scaled + shift.get(inside).unwrap_or(&0.0);
        });
    }
}

/// Checks that these are axes of a value, in order, and at least one.
pub(super) fn check_ascending(axes: &[u32], shape: &Shape) -> Result<(), Problem> {
    if axes.is_empty() {
        return Err(Problem::Zero("the number of axes"));
    }
    axes.iter().try_for_each(|&axis| check_axis(axis, shape).map(|_| ()))?;
    if axes.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(Problem::AxesOutOfOrder) }
}

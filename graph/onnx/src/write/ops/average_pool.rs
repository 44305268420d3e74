//! `AveragePool`, after a `Pad` with the zeros that count. Windows with dilation, which it has from
//! opset 19 on, become a `Conv` with ones and a `Mul`

use edgesmith_graph::{AveragePool, WindowAxis};
use smallvec::SmallVec;

use super::{Name, Site, Write};
use crate::write::file::{int, window};

impl Write for AveragePool {
    fn write(&self, site: &mut Site<'_>) -> Name {
        if self.axes.iter().zip(&self.kernel).any(|(axis, &kernel)| axis.dilation > 1 && kernel > 1)
        {
            return write_sums(self, site);
        }
        let mut input = site.input(0);
        let mut axes: SmallVec<[WindowAxis; 2]> = self.axes.clone();
        let sizes = site.shape(0).space().iter().zip(site.output_shape().space());
        for ((axis, &kernel), (&size, &outputs)) in axes.iter_mut().zip(&self.kernel).zip(sizes) {
            // What no window reads is left out: padding has to be less than the kernel.
            let read = u64::from(outputs - 1) * u64::from(axis.stride) + u64::from(kernel);
            axis.after = read.saturating_sub(u64::from(size) + u64::from(axis.before)) as u32;
            axis.dilation = 1;
        }
        let counted = self.counted.iter().zip(&axes);
        let counted = counted.map(|(&(before, after), axis)| (before, after.min(axis.after)));
        let counted: SmallVec<[(u32, u32); 2]> = counted.collect();
        let fits = |(axis, &kernel): (&WindowAxis, &u32)| axis.before.max(axis.after) < kernel;
        let all = axes.iter().zip(&counted).all(|(axis, n)| (axis.before, axis.after) == *n);
        let include = all && axes.iter().zip(&self.kernel).all(fits);
        if !include && counted.iter().any(|&zeros| zeros != (0, 0)) {
            let mut ends = [vec![0], vec![0]];
            for (axis, &(before, after)) in axes.iter_mut().zip(&counted) {
                ends[0].push(before);
                ends[1].push(after);
                axis.before -= before;
                axis.after -= after;
            }
            let pads = site.pads(&ends[0], &ends[1]);
            input = site.step("padded", "Pad", &[&input, &pads], vec![]);
        }
        let mut attributes = window(&self.kernel, &axes);
        attributes.retain(|attribute| attribute.name != "dilations");
        attributes.push(int("count_include_pad", i64::from(include)));
        site.finish("AveragePool", &[&input], attributes)
    }
}

/// The sum of each window, divided by how many numbers count.
fn write_sums(pool: &AveragePool, site: &mut Site<'_>) -> Name {
    let (shape, output) = (site.shape(0), site.output.clone());
    let channels = shape.channels();
    let mut dims = vec![channels, 1];
    dims.extend_from_slice(&pool.kernel);
    let count = dims.iter().map(|&size| size as usize).product();
    let ones = site.file.floats(&format!("{output}.ones"), &dims, &vec![1.0; count]);
    let mut attributes = window(&pool.kernel, &pool.axes);
    attributes.push(int("group", i64::from(channels)));
    let sums = site.step("sums", "Conv", &[&site.input(0), &ones], attributes);
    let mut shares = vec![1.0];
    for (axis, &size) in shape.space().iter().enumerate() {
        let counts = pool.counts(axis, size);
        let along = |share: &f64| counts.iter().map(|&n| share / f64::from(n)).collect();
        shares = shares.iter().flat_map(|share| -> Vec<f64> { along(share) }).collect();
    }
    let shares: Vec<f32> = shares.into_iter().map(|share| share as f32).collect();
    let mut dims = vec![1, 1];
    dims.extend_from_slice(site.output_shape().space());
    let shares = site.file.floats(&format!("{output}.shares"), &dims, &shares);
    site.finish("Mul", &[&sums, &shares], vec![])
}

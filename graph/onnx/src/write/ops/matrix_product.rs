//! `MatMul`, after a `Transpose` where a matrix is transposed

use edgesmith_graph::MatrixProduct;

use super::{Name, Site, Write};
use crate::write::file::ints;

impl Write for MatrixProduct {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let mut matrices = [site.input(0), site.input(1)];
        // The batch comes before the axes of the value, and the matrices are the last two.
        let columns = site.shape(0).space().len() as u32 + 1;
        let mut order: Vec<u32> = (0..=columns).collect();
        order.swap(columns as usize - 1, columns as usize);
        for (place, matrix) in matrices.iter_mut().enumerate() {
            if self.transposed[place] {
                let part = ["first", "second"][place];
                *matrix = site.step(part, "Transpose", &[&*matrix], vec![ints("perm", &order)]);
            }
        }
        let [a, b] = &matrices;
        site.finish("MatMul", &[a, b], vec![])
    }
}

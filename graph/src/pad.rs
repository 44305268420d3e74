//! Adds channels, for devices that are faster with certain numbers of them.

use crate::Graph;

impl Graph {
    /// The same network with more channels: each group of channels that may be removed grows to the
    /// next multiple of `multiple`. The added channels come last. Groups that are tied to others,
    /// as by a concatenation, a grouped convolution or a flatten, stay as they are. With zeros for
    /// all new numbers it computes the same.
    ///
    /// # Panics
    /// If `multiple` is 0, or a value becomes larger than [`crate::MAX_ELEMENTS`].
    #[must_use]
    pub fn padded(&self, multiple: u32) -> Self {
        let channels = self.channels();
        let (sets, of_value, of_parameter) = channels.axis_sets();
        let size = |set: usize| {
            let size = sets[set].len() as u32;
            if channels.is_free(set) { size.next_multiple_of(multiple) } else { size }
        };
        let largest = (0..sets.len()).map(size).max().unwrap_or(0);
        let indices: Vec<u32> = (0..largest).collect();
        let mut graph = self.clone();
        graph.cut_operations(|value| &indices[..size(of_value[value.index()]) as usize]);
        graph.with_sizes(|parameter, axis| of_parameter[parameter.index()][axis].map(size))
    }
}

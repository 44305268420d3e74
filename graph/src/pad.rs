//! Adds channels, for devices that are faster with certain numbers of them.

use crate::Graph;

impl Graph {
    /// The same network with more channels: each group of channels that may be removed grows to the
    /// next multiple of `multiple`. The added channels come last. Groups that share a value with
    /// other channels, as in a concatenation or a flatten, stay as they are.
    ///
    /// # Panics
    /// If `multiple` is 0, or a value becomes larger than [`crate::MAX_ELEMENTS`].
    #[must_use]
    pub fn padded(&self, multiple: u32) -> Self {
        let channels = self.channels();
        let (classes, of_value, of_parameter) = channels.classes();
        let size = |class: usize| {
            let of = &classes[class];
            let group = &channels.groups()[channels.group_of(of[0]).index()];
            let alone = group.channels == *of && !group.fixed;
            if alone { (of.len() as u32).next_multiple_of(multiple) } else { of.len() as u32 }
        };
        let sizes: Vec<u32> = (0..classes.len()).map(size).collect();
        self.clone().with_sizes(
            |value| sizes[of_value[value.index()]],
            |parameter, axis| of_parameter[parameter.index()][axis].map(|class| sizes[class]),
        )
    }
}

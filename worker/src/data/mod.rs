//! Images and labels: the embedded digits and readers for what users have; splits, views, resizing.

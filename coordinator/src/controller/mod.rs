//! Who proposes candidates and learns from finished trials.

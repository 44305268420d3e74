//! Pareto dominance, fronts and hypervolume.
//!
//! Points are slices of objective values turned so that *less is better* in every coordinate. Points
//! of one call have equal length.

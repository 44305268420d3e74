//! The values by which the trials of a study are ranked before they are complete.

use edgesmith_common::metric::Source;
use edgesmith_common::{Metric, Objective, StudySpec};
use edgesmith_search_space::{Cost, Genotype};

/// The values that a trial is ranked by at a rung, less is better. The first is its value of the
/// study's training metric there. A study that trains and has several objectives adds those that
/// can be computed from the network. Latency and size are only known after training, so
/// multiply-accumulates take their place (Schmucker et al. 2021, *Multi-objective Asynchronous
/// Successive Halving*, also rank by fronts).
pub(super) fn point(spec: &StudySpec, genotype: &Genotype, value: f64) -> Vec<f64> {
    let trained_for = spec.training_metric();
    let objective = spec.objectives.iter().find(|o| o.of == trained_for);
    let goal = objective.map_or(trained_for.metric.definition().goal, |o| o.goal);
    let mut point = vec![goal.oriented(value)];
    let (true, Some(work)) = (spec.objectives.len() > 1, spec.training()) else { return point };
    let candidate = work.space.decode(genotype);
    // It was trained, so it is a valid network.
    let Ok(network) = candidate.pruned_graph(work.space.data()) else { return point };
    let cost = Cost::of(&network, candidate.recipe.precision());
    let mut counted = Vec::new();
    for Objective { of, goal } in &spec.objectives {
        let metric = match of.metric.definition().source {
            // The training metric is in the point already; a rung knows no other such metric.
            Source::Evaluated | Source::Spent => continue,
            Source::Measured | Source::File => Metric::MACS,
            Source::Analytic(_) => of.metric,
        };
        if !counted.contains(&(metric, *goal)) {
            counted.push((metric, *goal));
            point.extend(metric.of_cost(&cost).map(|value| goal.oriented(value)));
        }
    }
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(objectives: &str) -> StudySpec {
        let text = format!(
            "study.name = \"s\"\ndata.source = \"digits\"\nbudget.trials = 1\n\
             objectives = [{objectives}]\n\
             [space]\nresolution = 8\nstem_width = [4, 8]\n[[space.stages]]\nwidth = 4\n"
        );
        StudySpec::parse(&text).unwrap()
    }

    #[test]
    fn trials_are_ranked_by_accuracy_and_by_costs_known_before_training() {
        let point_of = |spec: &StudySpec, stem: u16| {
            let mut indices = vec![0; spec.space.choices().len()];
            let at = spec.space.choices().iter().position(|c| c.options.len() > 1).unwrap();
            indices[at] = stem;
            point(spec, &spec.space.genotype(indices).unwrap(), 0.75)
        };
        let accuracy = "{ metric = \"validation_accuracy\" }";
        let latency = "{ metric = \"latency_ms\", device = \"rpi4\" }";
        let size = "{ metric = \"model_bytes\" }";
        assert_eq!(point_of(&spec(accuracy), 0), [-0.75]);
        // With a measured metric as the only objective, trials are ranked by accuracy alone.
        assert_eq!(point_of(&spec(latency), 0), [-0.75]);
        // Multiply-accumulates take the place of both, and are added only once.
        let both = spec(&format!("{accuracy}, {latency}, {size}"));
        let (narrow, wide) = (point_of(&both, 0), point_of(&both, 1));
        assert_eq!(narrow.len(), 2);
        assert!(narrow[1] < wide[1], "{narrow:?} {wide:?}");
        let known = spec("{ metric = \"parameters\" }, { metric = \"macs\", goal = \"maximize\" }");
        let point = point_of(&known, 0);
        assert_eq!(point.len(), 3);
        assert_eq!(point[2], -narrow[1]);
    }
}

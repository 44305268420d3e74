//! Tests of the rules at rungs: by examples, against the [`Reference`], and of the amount of work.

use proptest::prelude::*;

use super::reference::Reference;
use super::*;

fn rungs(rule: FidelityRule, rungs: &[u32]) -> Rungs {
    let fidelity = FidelitySpec { rule, rungs: rungs.to_vec(), reduction: 3 };
    Rungs::new(fidelity, Metric::ACCURACY)
}

/// Trial `number` reaches its first rung with this accuracy.
fn arrive(rungs: &mut Rungs, number: u32, accuracy: f64) {
    rungs.begin();
    rungs.reach(TrialNumber(number), 0, accuracy, vec![-accuracy]);
}

#[test]
fn the_best_third_goes_on_and_the_earlier_of_equal_trials_comes_first() {
    let mut rungs = rungs(FidelityRule::Asha, &[1]);
    for (number, accuracy) in [(0, 0.5), (1, 0.7)] {
        arrive(&mut rungs, number, accuracy);
        assert_eq!(rungs.next_promotion(9), None);
    }
    arrive(&mut rungs, 2, 0.7);
    assert_eq!(rungs.next_promotion(9), Some(TrialNumber(1)));
    rungs.promote(TrialNumber(1), 1);
    assert_eq!(rungs.next_promotion(9), None);
    for number in 3..6 {
        arrive(&mut rungs, number, 0.6);
    }
    // Two of six may go on: the one that did, and the one with equal accuracy.
    assert_eq!(rungs.next_promotion(9), Some(TrialNumber(2)));
    rungs.promote(TrialNumber(2), 1);
    // A better one that comes later goes on too, although the share is used up.
    arrive(&mut rungs, 6, 0.9);
    assert_eq!(rungs.next_promotion(9), Some(TrialNumber(6)));
}

#[test]
fn the_highest_rung_comes_first() {
    let mut rungs = rungs(FidelityRule::Asha, &[1, 3]);
    for number in 0..12 {
        arrive(&mut rungs, number, f64::from(number) / 100.0);
    }
    for number in [11, 10, 9] {
        assert_eq!(rungs.next_promotion(9), Some(TrialNumber(number)));
        rungs.promote(TrialNumber(number), 1);
        rungs.reach(TrialNumber(number), 1, 0.5, vec![-0.5]);
    }
    // Trial 8 would go on from the first rung, but the best of three is on the second.
    assert_eq!(rungs.next_promotion(9), Some(TrialNumber(11)));
    rungs.promote(TrialNumber(11), 2);
    assert_eq!(rungs.next_promotion(9), Some(TrialNumber(8)));
    assert_eq!([0, 1, 2].map(|reached| rungs.next(reached)), [Some(1), Some(3), None]);
}

#[test]
fn only_a_trial_that_can_never_go_on_stops_at_once() {
    let mut rungs = rungs(FidelityRule::Asha, &[1]);
    for (number, accuracy) in [(0, 0.5), (1, 0.7), (2, 0.6)] {
        arrive(&mut rungs, number, accuracy);
    }
    // Of nine trials three go on.
    assert_eq!(rungs.next_stopped(6), None);
    // Of eight, two.
    assert_eq!(rungs.next_stopped(5), Some(TrialNumber(0)));
    rungs.end(TrialNumber(0), 1);
    assert_eq!(rungs.next_stopped(5), None);
    assert_eq!(rungs.next_promotion(5), Some(TrialNumber(1)));
    rungs.promote(TrialNumber(1), 1);
    assert_eq!(rungs.next_stopped(3), None);
    assert_eq!(rungs.next_stopped(2), Some(TrialNumber(2)));
    // A promoted trial is not stopped, however many overtake it.
    rungs.end(TrialNumber(2), 1);
    for number in 3..5 {
        arrive(&mut rungs, number, 0.9);
    }
    assert_eq!(rungs.next_stopped(0), Some(TrialNumber(4)));
    rungs.end(TrialNumber(4), 1);
    assert_eq!(rungs.next_promotion(0), Some(TrialNumber(3)));
}

#[test]
fn the_best_goes_on_from_a_rung_that_no_more_trials_will_reach() {
    let mut rungs = rungs(FidelityRule::Asha, &[1, 3]);
    for (number, accuracy) in [(0, 0.5), (1, 0.7)] {
        arrive(&mut rungs, number, accuracy);
    }
    assert_eq!(rungs.next_promotion(1), None);
    assert_eq!(rungs.next_promotion(0), Some(TrialNumber(1)));
    rungs.promote(TrialNumber(1), 1);
    assert_eq!(rungs.next_stopped(0), Some(TrialNumber(0)));
    // Trial 0 might still reach the second rung.
    rungs.reach(TrialNumber(1), 1, 0.8, vec![-0.8]);
    assert_eq!(rungs.next_promotion(0), None);
    rungs.end(TrialNumber(0), 1);
    assert_eq!(rungs.next_promotion(0), Some(TrialNumber(1)));
}

#[test]
fn with_several_objectives_trials_rank_by_front_and_dominated_ones_stop() {
    let mut rungs = rungs(FidelityRule::Asha, &[1]);
    let points = [[0.5, 5.0], [0.4, 4.0], [0.3, 9.0], [0.9, 1.0], [0.6, 8.0], [0.7, 8.0]];
    for (number, point) in points.into_iter().enumerate() {
        rungs.begin();
        rungs.reach(TrialNumber(number as u32), 0, 0.5, point.to_vec());
    }
    // The front is 1, 2 and 3. Its ends, 2 and 3, have the largest crowding distance; two of
    // six go on.
    for number in [2, 3] {
        assert_eq!(rungs.next_promotion(3), Some(TrialNumber(number)));
        rungs.promote(TrialNumber(number), 1);
    }
    assert_eq!(rungs.next_promotion(3), None);
    // Of nine three go on: 4 is dominated by two, 5 by three.
    assert_eq!(rungs.next_stopped(3), Some(TrialNumber(5)));
    rungs.end(TrialNumber(5), 1);
    assert_eq!(rungs.next_stopped(3), None);
    // When no more trials come, the ranks decide.
    for _ in 0..3 {
        let stopped = rungs.next_stopped(0).unwrap();
        rungs.end(stopped, 1);
    }
    assert_eq!((rungs.next_stopped(0), rungs.next_promotion(0)), (None, None));
}

#[test]
fn a_trial_below_the_median_of_at_least_five_stops() {
    let mut rungs = rungs(FidelityRule::Median, &[1]);
    for (number, accuracy) in [(0, 0.5), (1, 0.1), (2, 0.6), (3, 0.7), (4, 0.05)] {
        arrive(&mut rungs, number, accuracy);
        assert_eq!(rungs.next_stopped(9), None);
        assert_eq!(rungs.next_promotion(9), Some(TrialNumber(number)));
        rungs.promote(TrialNumber(number), 1);
    }
    // The median of the five is 0.5, and a trial equal to the median goes on.
    arrive(&mut rungs, 5, 0.5);
    assert_eq!(rungs.next_promotion(9), Some(TrialNumber(5)));
    rungs.promote(TrialNumber(5), 1);
    arrive(&mut rungs, 6, 0.4999);
    assert_eq!((rungs.next_promotion(9), rungs.next_stopped(9)), (None, Some(TrialNumber(6))));
}

#[test]
fn a_trial_whose_best_possible_result_is_dominated_stops() {
    let mut rungs = rungs(FidelityRule::Curve { confidence: 0.9 }, &[1]);
    let come = |rungs: &mut Rungs, number: u32, accuracy: f64, cost: f64| {
        rungs.begin();
        rungs.reach(TrialNumber(number), 0, accuracy, vec![-accuracy, cost]);
    };
    // Nine trials about halve their error after the rung.
    for number in 0..9 {
        assert_eq!(rungs.next_stopped(99), None);
        come(&mut rungs, number, 0.8, 5.0 + f64::from(number));
        assert_eq!(rungs.next_promotion(99), Some(TrialNumber(number)));
        rungs.promote(TrialNumber(number), 1);
        let last = 0.9 + f64::from(number) / 1000.0;
        rungs.end(TrialNumber(number), 1);
        rungs.complete(TrialNumber(number), last, vec![-last, 5.0 + f64::from(number)]);
    }
    // At best an error of 0.2 falls to 0.092, so 0.79 would end at 0.9034 and 0.5 at 0.77.
    come(&mut rungs, 9, 0.79, 6.5);
    come(&mut rungs, 10, 0.5, 4.0);
    come(&mut rungs, 11, 0.5, 6.0);
    come(&mut rungs, 12, 0.79, 20.0);
    let mut stopped = Vec::new();
    while let Some(number) = rungs.next_stopped(99) {
        rungs.end(number, 1);
        stopped.push(number.0);
    }
    assert_eq!(stopped, [11, 12], "11 is worse than cheaper trials, 12 costs too much");
    assert_eq!(rungs.next_promotion(99), Some(TrialNumber(9)));
}

proptest! {
    /// Trials come in any order, with ties and several objectives. All of them end, none both
    /// stops and goes on, and at least one trains to the end. With one objective, no stopped
    /// trial is in the final best share of its rung.
    #[test]
    fn every_trial_stops_or_goes_on(
        accuracies in prop::collection::vec((0u8..8, 0u8..4), 1..40),
        several: bool,
        late in 0usize..5,
    ) {
        let epochs = [1, 3, 9];
        let mut rungs = rungs(FidelityRule::Asha, &epochs);
        let mut left: Vec<(u32, usize)> = Vec::new();
        let (mut next, mut complete, mut stopped) = (0, Vec::new(), Vec::new());
        let mut reached = vec![0; accuracies.len()];
        let value = |number: u32, rung: usize| {
            let (accuracy, cost) = accuracies[number as usize];
            let accuracy = f64::from((accuracy + rung as u8 * cost) % 11);
            let mut point = vec![-accuracy];
            if several {
                point.push(f64::from(cost));
            }
            (accuracy, point)
        };
        loop {
            let to_come = accuracies.len() as u32 - next;
            while let Some(number) = rungs.next_stopped(to_come) {
                prop_assert_ne!(rungs.next_promotion(to_come), Some(number));
                let at = reached[number.0 as usize];
                prop_assert!(rungs.waits(number, at));
                rungs.end(number, at);
                stopped.push((number, at));
            }
            // Up to `late` workers report late.
            if left.len() > late || (to_come == 0 && rungs.next_promotion(0).is_none()) {
                if left.is_empty() {
                    break;
                }
                let (number, at) = left.remove(0);
                if at == epochs.len() {
                    rungs.end(TrialNumber(number), at);
                    complete.push(number);
                } else {
                    let (accuracy, point) = value(number, at);
                    rungs.reach(TrialNumber(number), at, accuracy, point);
                    reached[number as usize] += 1;
                }
            } else if let Some(number) = rungs.next_promotion(to_come) {
                let at = reached[number.0 as usize];
                rungs.promote(number, at);
                left.push((number.0, at));
            } else {
                rungs.begin();
                left.push((next, 0));
                next += 1;
            }
        }
        prop_assert!(!complete.is_empty());
        prop_assert_eq!(complete.len() + stopped.len(), accuracies.len());
        prop_assert!(rungs.under_way.iter().all(|count| *count == 0));
        for (number, at) in stopped.into_iter().filter(|_| !several) {
            let rung = &rungs.rungs[at - 1];
            let values: Vec<Vec<f64>> = rung.reached.iter().map(|r| vec![-r.value]).collect();
            let order = by_fronts(&values);
            let rank = order.iter().position(|p| rung.reached[*p].number == number);
            prop_assert!(rank.unwrap() >= rung.reached.len() / 3);
        }
    }
}

/// What happens to one trial of [`both_agree`].
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Training,
    Waiting,
    /// Ended at a rung or on the way, and may go on after all.
    Ended {
        waited: bool,
    },
    Complete,
}

/// The fast and the plain rules, told the same.
struct Both {
    fast: Rungs,
    plain: Reference,
    stages: Vec<Stage>,
    reached: Vec<usize>,
    rungs: usize,
}

impl Both {
    fn new(rule: FidelityRule, reduction: u32) -> Self {
        let fidelity = FidelitySpec { rule, rungs: vec![1, 3, 9], reduction };
        let fast = Rungs::new(fidelity.clone(), Metric::ACCURACY);
        let plain = Reference::new(fidelity, Metric::ACCURACY);
        Self { fast, plain, stages: Vec::new(), reached: Vec::new(), rungs: 3 }
    }

    /// The trials at this stage.
    fn at(&self, stage: impl Fn(Stage) -> bool) -> Vec<u32> {
        let trials = (0..).zip(&self.stages);
        trials.filter(|(_, of)| stage(**of)).map(|(number, _)| number).collect()
    }

    fn begin(&mut self) {
        self.fast.begin();
        self.plain.begin();
        self.stages.push(Stage::Training);
        self.reached.push(0);
    }

    /// A trial in training reaches its next rung or its end.
    fn advance(&mut self, number: u32, accuracy: f64, point: Vec<f64>) {
        let (trial, at) = (TrialNumber(number), self.reached[number as usize]);
        let stage = &mut self.stages[number as usize];
        if at < self.rungs {
            self.fast.reach(trial, at, accuracy, point.clone());
            self.plain.reach(trial, at, accuracy, point);
            self.reached[number as usize] += 1;
            *stage = Stage::Waiting;
        } else {
            self.fast.end(trial, at);
            self.plain.end(trial, at);
            self.fast.complete(trial, accuracy, point.clone());
            self.plain.complete(trial, accuracy, point);
            *stage = Stage::Complete;
        }
    }

    fn promote(&mut self, number: u32) {
        let at = self.reached[number as usize];
        self.fast.promote(TrialNumber(number), at);
        self.plain.promote(TrialNumber(number), at);
        self.stages[number as usize] = Stage::Training;
    }

    fn end(&mut self, number: u32) {
        let at = self.reached[number as usize];
        self.fast.end(TrialNumber(number), at);
        self.plain.end(TrialNumber(number), at);
        let stage = &mut self.stages[number as usize];
        *stage = Stage::Ended { waited: *stage == Stage::Waiting };
    }

    fn resume(&mut self, number: u32) {
        let (trial, at) = (TrialNumber(number), self.reached[number as usize]);
        let stage = &mut self.stages[number as usize];
        let waits = matches!(stage, Stage::Ended { waited: true });
        *stage = if waits { Stage::Waiting } else { Stage::Training };
        self.fast.resume(at);
        self.plain.resume(at);
        if waits {
            self.fast.wait_again(trial, at);
            self.plain.wait_again(trial, at);
        }
    }

    /// Compares the answers.
    fn ask(&self, to_come: u32) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.fast.next_promotion(to_come), self.plain.next_promotion(to_come));
        prop_assert_eq!(self.fast.next_stopped(to_come), self.plain.next_stopped(to_come));
        for (number, reached) in (0..).map(TrialNumber).zip(&self.reached) {
            let waits = self.plain.waits(number, *reached);
            prop_assert_eq!(self.fast.waits(number, *reached), waits);
        }
        let trials = self.reached.iter().zip(&self.stages);
        let trials = trials.map(|(reached, stage)| {
            (*reached, matches!(stage, Stage::Ended { .. } | Stage::Complete))
        });
        prop_assert_eq!(self.fast.check(trials), Ok(()));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Trials begin, reach rungs, go on, end and go on after all, in any order and with ties. After
    /// each step the answers are those of the plain rules.
    #[test]
    fn both_agree(
        rule in prop_oneof![
            Just(FidelityRule::Asha),
            Just(FidelityRule::Asha),
            Just(FidelityRule::Median),
            Just(FidelityRule::Curve { confidence: 0.5 }),
            Just(FidelityRule::Curve { confidence: 0.75 }),
        ],
        reduction in 2_u32..5,
        objectives in 1_usize..4,
        steps in prop::collection::vec(
            (0_u8..16, any::<u16>(), [0_u8..12, 0_u8..6, 0_u8..6]),
            1..160,
        ),
        to_come in 0_u32..12,
    ) {
        let mut both = Both::new(rule, reduction);
        for (what, which, values) in steps {
            let accuracy = f64::from(values[0]) / 12.0;
            let point = [-accuracy, f64::from(values[1]), f64::from(values[2])];
            let pick = |from: &[u32]| from.get(usize::from(which) % from.len().max(1)).copied();
            match what {
                0..4 => both.begin(),
                4..11 => {
                    if let Some(number) = pick(&both.at(|stage| stage == Stage::Training)) {
                        both.advance(number, accuracy, point[..objectives].to_vec());
                    }
                }
                11 => {
                    if let Some(number) = pick(&both.at(|stage| stage == Stage::Waiting)) {
                        both.promote(number);
                    }
                }
                12 => {
                    let running = |stage| matches!(stage, Stage::Training | Stage::Waiting);
                    if let Some(number) = pick(&both.at(running)) {
                        both.end(number);
                    }
                }
                13 => {
                    let ended = |stage| matches!(stage, Stage::Ended { .. });
                    if let Some(number) = pick(&both.at(ended)) {
                        both.resume(number);
                    }
                }
                14 => {
                    while let Some(number) = both.fast.next_promotion(to_come) {
                        both.ask(to_come)?;
                        both.promote(number.0);
                    }
                }
                _ => {
                    while let Some(number) = both.fast.next_stopped(to_come) {
                        both.ask(to_come)?;
                        both.end(number.0);
                    }
                }
            }
            // How many trials are to come matters to successive halving.
            for to_come in [to_come, 0, u32::from(which % 40)] {
                both.ask(to_come)?;
            }
        }
    }
}

/// A study of this many trials, whose trials reach their rungs in a mixed order. Returns the steps
/// that arrivals took, and those that questions took.
fn steps_of_a_study(rule: FidelityRule, trials: u32, objectives: usize) -> (u64, u64) {
    let mut rungs = rungs(rule, &[1, 3, 9]);
    let mut random = 1_u64;
    let mut draw = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 40) as f64 / (1_u64 << 24) as f64
    };
    let (mut training, mut next, mut arrivals, mut questions) = (Vec::new(), 0, 0, 0);
    let mut reached = vec![0; trials as usize];
    let qualities: Vec<[f64; 3]> = (0..trials).map(|_| [draw(), draw(), draw()]).collect();
    tally::take();
    loop {
        let to_come = trials - next;
        while let Some(number) = rungs.next_stopped(to_come) {
            rungs.end(number, reached[number.0 as usize]);
        }
        let goes_on = rungs.next_promotion(to_come);
        questions += tally::take();
        match goes_on {
            Some(number) if training.len() < 8 => {
                rungs.promote(number, reached[number.0 as usize]);
                training.push(number.0);
            }
            _ if training.len() < 8 && to_come > 0 => {
                rungs.begin();
                training.push(next);
                next += 1;
            }
            _ if training.is_empty() => break,
            _ => {
                let number = training.remove((draw() * training.len() as f64) as usize);
                let at = reached[number as usize];
                // Better networks cost more, and more training helps.
                let [quality, cost, other] = qualities[number as usize];
                let accuracy = 0.5 + 0.1 * quality + 0.1 * cost + 0.05 * at as f64;
                let point = [-accuracy, cost, 0.5 * other + 0.5 * cost];
                let point = point[..objectives].to_vec();
                if at < 3 {
                    rungs.reach(TrialNumber(number), at, accuracy, point);
                    reached[number as usize] += 1;
                } else {
                    rungs.end(TrialNumber(number), at);
                    rungs.complete(TrialNumber(number), accuracy, point);
                }
            }
        }
        arrivals += tally::take();
    }
    (arrivals, questions)
}

/// Fronts computed anew at each arrival would take some 10 million comparisons a trial here.
#[test]
fn a_trial_takes_few_steps_in_a_study_of_5000() {
    let curve = FidelityRule::Curve { confidence: 0.9 };
    // For one, two and three objectives, the most steps a trial for arrivals and for questions.
    let most = [
        (FidelityRule::Asha, [(40, 500), (150, 3000), (1500, 3000)]),
        (FidelityRule::Median, [(40, 1); 3]),
        (curve, [(40, 1), (100, 1), (250, 1)]),
    ];
    for (rule, most) in most {
        for (objectives, (most_arriving, most_asking)) in (1..).zip(most) {
            let trials = 5000;
            let (arriving, asking) = steps_of_a_study(rule, trials, objectives);
            let (arriving, asking) = (arriving / u64::from(trials), asking / u64::from(trials));
            let few = arriving <= most_arriving && asking <= most_asking;
            assert!(
                few,
                "{rule:?}, {objectives} objectives: {arriving} and {asking} steps a trial"
            );
        }
    }
}

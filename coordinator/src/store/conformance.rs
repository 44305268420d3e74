//! One test suite that every [`Store`] passes.

use edgesmith_common::{AttemptId, StudyName, StudySpec, TaskId, TrialNumber, WorkerId};

use super::{DataDir, DiskStore, MemoryStore, Store};
use crate::core::{AttemptEnding, Record};

fn study() -> StudyName {
    "digits".parse().unwrap()
}

fn started(n: u64) -> Record {
    Record::AttemptStarted {
        study: study(),
        task: TaskId(n),
        attempt: AttemptId(n * 3),
        worker: WorkerId(n % 4),
        elapsed_ms: n * 100,
    }
}

fn created(bytes: usize) -> Record {
    let comment = "x".repeat(bytes);
    let text = format!(
        "# {comment}\nstudy.name = \"digits\"\ndata.source = \"digits\"\nbudget.trials = 1\n\
         objectives = [{{ metric = \"macs\" }}]\n\
         space = {{ resolution = 8, stem_width = 8, stages = [{{ width = 8 }}] }}\n"
    );
    Record::StudyCreated {
        spec: Box::new(StudySpec::parse(&text).unwrap()),
        teacher_weights: None,
        teacher_task: Some(TaskId(1)),
        at_ms: 1_700_000_000_000,
    }
}

fn replay(store: &mut impl Store) -> Vec<Record> {
    store.replay().unwrap().map(Result::unwrap).collect()
}

/// What every store does. `reopen` closes a store and opens it again.
fn suite<S: Store>(open: impl Fn() -> S, reopen: impl Fn(S) -> S) {
    let mut store = open();
    assert_eq!(replay(&mut store), vec![]);
    store.append(&[]).unwrap();
    assert_eq!(replay(&mut store), vec![]);

    let Record::StudyCreated { spec, .. } = created(0) else { unreachable!() };
    let choices = spec.space.choices().len();
    let mut all = vec![created(100), started(1)];
    store.append(&all).unwrap();
    assert_eq!(replay(&mut store), all);

    store = reopen(store);
    assert_eq!(replay(&mut store), all);

    // Records far larger than one database entry, alone and among small ones.
    let batch = [started(2), created(1_000_000), started(3)];
    store.append(&batch).unwrap();
    all.extend(batch);
    store.append(&[]).unwrap();
    for n in 4..150 {
        let ending = AttemptEnding::Failed { reason: format!("reason {n}") };
        let (task, attempt) = (TaskId(n), AttemptId(n));
        let batch = [
            started(n),
            Record::AttemptEnded { study: study(), task, attempt, ending, elapsed_ms: n },
            Record::TrialProposed {
                study: study(),
                number: TrialNumber(n as u32),
                task,
                genotype: vec![0; choices],
                parents: vec![TrialNumber(7)],
            },
        ];
        store.append(&batch).unwrap();
        all.extend(batch);
    }
    assert_eq!(replay(&mut store), all);
    store = reopen(store);
    store.append(&[started(1000)]).unwrap();
    all.push(started(1000));
    assert_eq!(replay(&mut store), all);
    store = reopen(store);
    assert_eq!(replay(&mut store), all);
}

#[test]
fn memory_conforms() {
    suite(MemoryStore::new, |store| store);
}

#[test]
fn disk_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let open = || DiskStore::open(DataDir::open(dir.path().join("data")).unwrap()).unwrap();
    suite(open, |store| {
        drop(store);
        open()
    });
}

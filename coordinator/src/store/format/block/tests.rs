//! Tests of layout 3: what a block holds is read back, its bytes have not changed, and a block that
//! is none is refused.
//!
//! `golden-3.txt` holds blocks, each as a name and the bytes in hexadecimal. Directories with these
//! bytes exist, so they must stay readable for ever. The tests read every one of them. If the
//! layout changes, it gets another number.

use edgesmith_common::{AttemptId, RungReport, TaskId, TrialNumber, WorkerId};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::super::golden::{golden, meaning_of_every_variant};
use super::super::*;
use crate::core::{AttemptEnding, StagesKey, TrialEnding};

/// What to do if `golden-3.txt` lacks a block.
const MEND: &str = "Directories with the blocks of golden-3.txt exist. If the layout has changed, \
                    undo that, and add a new layout instead. If only a kind of record was added, \
                    add its block: cargo test --release -p edgesmith-coordinator add_to_golden_3 \
                    -- --ignored";

/// Blocks by name: one for each kind of record, and one in which several trials run at once.
fn blocks() -> Vec<(String, Vec<Record>)> {
    let mut all: Vec<(String, Vec<Record>)> =
        meaning_of_every_variant().into_iter().map(|(name, record)| (name, vec![record])).collect();
    let together = together(&all);
    all.push(("together".to_owned(), together));
    all
}

/// Trials of two studies that run at once, and then a record of each variant.
fn together(all: &[(String, Vec<Record>)]) -> Vec<Record> {
    let mut records = Vec::new();
    // Blocks without this one exist.
    let variants = all.iter().filter(|(name, _)| name != "measured:with-unquantized");
    let variants: Vec<&Record> = variants.flat_map(|(_, records)| records).collect();
    let trained = variants.iter().find_map(|record| match record {
        Record::TrialTrained { trained, measure, .. } if !trained.stages.is_empty() => {
            Some((trained.clone(), measure.clone()))
        }
        _ => None,
    });
    let (trained, measure) = trained.unwrap();
    for round in 0..4u32 {
        let study = || ["s", "t"][round as usize % 2].parse().unwrap();
        let (number, task) = (TrialNumber(70 - round), TaskId(1000 + u64::from(round * 7)));
        let (attempt, elapsed_ms) = (AttemptId(5_000_000_000 - u64::from(round)), 300);
        let parents = vec![TrialNumber(0), TrialNumber(u32::MAX)];
        let genotype = vec![0, 3, u16::MAX, 1];
        records.push(Record::TrialProposed { study: study(), number, task, genotype, parents });
        let worker = WorkerId(u64::MAX - u64::from(round));
        records.push(Record::AttemptStarted { study: study(), task, attempt, worker, elapsed_ms });
        let ending = AttemptEnding::Succeeded;
        let elapsed_ms = 100 * u64::from(round);
        records.push(Record::AttemptEnded { study: study(), task, attempt, ending, elapsed_ms });
        let mut figures = trained.compressed.clone();
        for (of, value) in trained.uncompressed.iter() {
            figures.set(of.clone(), [value, -value, f64::MAX, 1e-9][round as usize]);
        }
        let report = RungReport { epochs: round, figures: figures.clone(), checkpoint: None };
        records.push(Record::RungReached { study: study(), number, report });
        let mut trained = trained.clone();
        trained.compressed = figures;
        trained.stages[1].classes[0].right = round;
        let stages = StagesKey::of(&trained.stages);
        let measure = measure.clone();
        records.push(Record::TrialTrained { study: study(), number, trained, stages, measure });
        let ending = TrialEnding::Complete;
        records.push(Record::TrialFinished { study: study(), number, ending });
    }
    records.extend(variants.into_iter().cloned());
    records
}

#[test]
fn every_record_is_read_back() {
    for (name, records) in blocks() {
        let bytes = encode_block(&records).unwrap();
        let read = Decoder::default().decode(BLOCK, &bytes).unwrap();
        assert_eq!(read, records, "{name}");
    }
}

#[test]
fn without_stages_only_these_are_missing() {
    let (_, mut records) = blocks().pop().unwrap();
    let (block, list) = (encode_block(&records).unwrap(), encode(&records).unwrap());
    let mut left_out = 0;
    for record in &mut records {
        if let Record::TrialTrained { trained, stages, .. } = record {
            assert_eq!(stages.is_some(), !trained.stages.is_empty());
            left_out += std::mem::take(&mut trained.stages).len();
        }
    }
    assert!(left_out > 8);
    for (layout, bytes) in [(BLOCK, &block), (LAYOUT, &list)] {
        assert_eq!(Decoder::without_stages().decode(layout, bytes).unwrap(), records);
    }
    assert!(block.len() < list.len(), "{} and {}", block.len(), list.len());
}

#[test]
fn the_bytes_of_blocks_keep_their_meaning() {
    let golden = golden(include_str!("../golden-3.txt"));
    let blocks = blocks();
    for (name, records) in &blocks {
        let all = golden.get(name.as_str());
        let all = all.unwrap_or_else(|| panic!("golden-3.txt has no block {name}. {MEND}"));
        for then in all {
            let read = Decoder::default().decode(BLOCK, then);
            assert_eq!(read.as_ref(), Ok(records), "{name}. {MEND}");
        }
        let now = encode_block(records).unwrap();
        assert_eq!(all.last(), Some(&now), "{name}. {MEND}");
    }
    assert_eq!(golden.len(), blocks.len(), "golden-3.txt has other blocks, too. {MEND}");
}

/// Adds to `golden-3.txt` what is missing there. Lines that it has stay.
#[test]
#[ignore = "changes the source; see MEND"]
fn add_to_golden_3() {
    let golden = golden(include_str!("../golden-3.txt"));
    let mut text = include_str!("../golden-3.txt").to_owned();
    for (name, records) in blocks() {
        let bytes = encode_block(&records).unwrap();
        if golden.get(name.as_str()).and_then(|all| all.last()) != Some(&bytes) {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("{name} {digits}\n"));
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/format/golden-3.txt");
    std::fs::write(path, text).unwrap();
}

#[test]
fn the_bytes_of_a_block_are_these() {
    let study = || "s".parse().unwrap();
    let (number, task) = (TrialNumber(3), TaskId(4));
    let records = [
        Record::TrialProposed { study: study(), number, task, genotype: vec![5], parents: vec![] },
        Record::TrialPromoted { study: study(), number, task: TaskId(3) },
        Record::TrialFinished { study: study(), number, ending: TrialEnding::Complete },
        Record::WorkerIdsReserved { below: 257 },
    ];
    let block = encode_block(&records).unwrap();
    // A study; then trials with their study, differences of number and task, options and parents;
    // then a frame.
    let proposed = b"\x01\x01s\x10\x00\x06\x08\x01\x05\x00";
    assert_eq!(
        block,
        [&proposed[..], b"\x1a\0\0\x01", b"\x16\0\0", b"\0\x05\x0d\x01\x02\x81\x02"].concat()
    );
}

#[test]
fn what_is_no_block_is_refused() {
    let decode = |bytes: &[u8]| Decoder::default().decode(BLOCK, bytes);
    assert_eq!(decode(&[]), Ok(Vec::new()));
    for (bytes, said) in [
        (&[200, 0][..], "does not know"),
        (&[22, 0, 0], "does not define"),
        (&[1, 1], "ends in the middle"),
        (&[1, 3, b'a', b' ', b'b', 22, 0, 0], "study name"),
        (&[0, 3, 99, 1, 0], "kind 99"),
    ] {
        let error = decode(bytes).unwrap_err().to_string();
        assert!(error.contains(said), "{bytes:?}: {error}");
    }
    let (_, records) = blocks().pop().unwrap();
    let bytes = encode_block(&records).unwrap();
    for cut in 0..bytes.len() {
        // It may end between two records; the journal's checksum would say so.
        if let Ok(read) = decode(&bytes[..cut]) {
            assert_eq!(read, records[..read.len()]);
            assert!(read.len() < records.len());
        }
    }
    // Whatever it reads then, it comes to an end.
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..3000 {
        let mut bytes = bytes.clone();
        let place = rng.random_range(0..bytes.len());
        bytes[place] ^= 1 << rng.random_range(0..8);
        let _ = decode(&bytes);
    }
}

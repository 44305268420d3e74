//! The bytes of every version of every kind of record. These bytes were written once and must stay
//! readable for ever. If a test fails, a frozen type was changed; add a version instead.
//!
//! `golden-1.txt` holds appends in layout 1, with every variant of every frozen type: one append of
//! one record a line, as a name and the bytes in hexadecimal. `golden-2.txt` holds the same records
//! in layout 2. If a kind of record gets a new version, its lines are added there and the old ones
//! stay, so that they are still read in the tests.

use std::collections::{BTreeMap, BTreeSet};

use edgesmith_common::{
    ArtifactHash, ClassCount, Fp32Timing, LayerTimes, Noise, StageReport, StudySpec, Target,
    Waiting,
};
use edgesmith_search_space::Choice;

use super::golden_records::*;
use super::*;
use crate::core::{Record, StagesKey, TrialEnding};

/// What [`every_variant`] and [`newer_variants`] must be read as, by name.
pub(super) fn meaning_of_every_variant() -> Vec<(String, Record)> {
    let read = |(name, record)| {
        let bytes = postcard::to_stdvec(&vec![record]).unwrap();
        (name, Decoder::default().decode(1, &bytes).unwrap().remove(0))
    };
    let read_newer = |(name, frame)| {
        let bytes = postcard::to_stdvec(&vec![frame]).unwrap();
        (name, Decoder::default().decode(2, &bytes).unwrap().remove(0))
    };
    let newer = newer_variants().into_iter().map(read_newer);
    let mut all: Vec<(String, Record)> =
        every_variant().into_iter().map(read).chain(newer).collect();
    all.extend(measured_with_noise(&all));
    all.extend(data_checked_with_hash(&all));
    all.extend(trained_in_stages(&all));
    all
}

/// A training with the stages of its network, which version 2 could not hold. `all` has one record
/// of every kind.
fn trained_in_stages(all: &[(String, Record)]) -> Option<(String, Record)> {
    all.iter().find_map(|(_, record)| match record {
        Record::TrialTrained { trained, .. } => {
            let stage = |pass: &str, distilled, right| StageReport {
                pass: pass.to_owned(),
                distilled,
                figures: trained.uncompressed.clone(),
                classes: vec![ClassCount { images: 4, right }, ClassCount { images: 0, right: 0 }],
            };
            let reports = vec![stage("trained", false, 300), stage("fine-tune", true, 2)];
            let mut record = record.clone();
            let Record::TrialTrained { trained, stages, .. } = &mut record else { unreachable!() };
            *stages = StagesKey::of(&reports);
            trained.stages = reports;
            Some(("trial-trained:in-stages".to_owned(), record))
        }
        _ => None,
    })
}

/// A data check with a hash, which version 1 could not hold. `all` has one record of every kind.
fn data_checked_with_hash(all: &[(String, Record)]) -> Option<(String, Record)> {
    all.iter().find_map(|(_, record)| match record {
        Record::DataChecked { study, report } => {
            let mut report = *report;
            report.hash = Some(ArtifactHash::from_bytes([7; 32]));
            let record = Record::DataChecked { study: study.clone(), report };
            Some(("data-checked:with-hash".to_owned(), record))
        }
        _ => None,
    })
}

/// Measurements that say how quiet the machine was, which version 1 could not hold, and one with
/// what version 2 could not hold. `all` has one
/// record of every kind.
fn measured_with_noise(all: &[(String, Record)]) -> Vec<(String, Record)> {
    let measured = all.iter().find_map(|(_, record)| match record {
        Record::Measured { .. } => Some(record.clone()),
        _ => None,
    });
    let measured = |noise| {
        let mut record = measured.clone().unwrap();
        let Record::Measured { measurement, .. } = &mut record else { unreachable!() };
        measurement.noise = Some(noise);
        record
    };
    let quiet = Noise { noisy: false, spread: 0.25, waiting: None, timings: 1 };
    let waiting = Some(Waiting { share: 0.125, per_run: 1.5 });
    let noisy = Noise { noisy: true, spread: 0.5, waiting, timings: 3 };
    let mut beside = measured(quiet);
    let Record::Measured { measurement, .. } = &mut beside else { unreachable!() };
    measurement.energy_mj = Some(2.5);
    let (p50_ms, p95_ms, min_ms, energy_mj) = (4.0, 4.5, 3.5, Some(5.0));
    measurement.original = Some(Fp32Timing { p50_ms, p95_ms, min_ms, noisy: true, energy_mj });
    let slower = |layer: &str, conversions| {
        let (layer, shipped_ms, original_ms) = (layer.to_owned(), 1.5, 1.25);
        vec![LayerTimes { layer, conversions, shipped_ms, original_ms }]
    };
    measurement.slower_layers = slower("stem", false);
    let mut unquantized = beside.clone();
    let Record::Measured { measurement, .. } = &mut unquantized else { unreachable!() };
    let timing = measurement.original.unwrap();
    measurement.unquantized = Some(Fp32Timing { noisy: false, energy_mj: None, ..timing });
    measurement.slower_in_integers = slower("norm", true);
    vec![
        ("measured:with-original".to_owned(), beside),
        ("measured:with-unquantized".to_owned(), unquantized),
        ("measured:quiet".to_owned(), measured(quiet)),
        ("measured:noisy".to_owned(), measured(noisy)),
    ]
}

/// The records of [`every_variant`] that layout 1 could hold.
fn every_variant_of_layout_1() -> Vec<(String, v1::Record)> {
    let mut all = every_variant();
    all.retain(|(_, record)| kind_of(record) < GOLDEN_V1.len());
    all
}

fn golden_1() -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    golden(include_str!("golden-1.txt"))
}

fn golden_2() -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    golden(include_str!("golden-2.txt"))
}

/// The appends in a file by name, oldest first.
pub(super) fn golden(text: &'static str) -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let mut all: BTreeMap<&'static str, Vec<Vec<u8>>> = BTreeMap::new();
    let byte =
        |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
    let append = |line: &'static str| {
        let (name, bytes) = line.split_once(' ').unwrap();
        (name, bytes.as_bytes().chunks(2).map(byte).collect())
    };
    for (name, bytes) in text.lines().map(append) {
        all.entry(name).or_default().push(bytes);
    }
    all
}

/// What to do if a test of `golden-2.txt` fails.
const MEND: &str = "Directories with these bytes exist. If a frozen type or the layout has changed, \
                    undo that and add a new version instead, or a new format if the layout must \
                    change. If a kind, a version, a variant or a field of the resolved study was \
                    added, add its lines: cargo test --release -p edgesmith-coordinator \
                    add_to_golden_2 -- --ignored";

/// The bytes of appends in layout 1: one of each kind of that layout, and one of many records.
pub fn appends_of_layout_1() -> Vec<Vec<u8>> {
    let mut records = version_1();
    records.truncate(GOLDEN_V1.len());
    let many = vec![records[13].clone(); 20_000];
    let appends = records.into_iter().map(|record| vec![record]).chain([many]);
    appends.map(|append| postcard::to_stdvec(&append).unwrap()).collect()
}

/// The records that [`version_1`] must be read as.
fn meaning() -> Vec<Record> {
    let bytes = postcard::to_stdvec(&version_1()).unwrap();
    Decoder::default().decode(1, &bytes).unwrap()
}

/// A hash of bytes as text, so that golden bytes fit on one line each.
fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

#[test]
fn the_bytes_of_layout_1_have_not_changed() {
    let records = version_1();
    let kinds: Vec<u32> = records.iter().map(v1::Record::kind).collect();
    assert_eq!(kinds, (0..31).collect::<Vec<_>>());
    // Short records are listed in full, to show the encoding.
    let bytes = |kind: usize| postcard::to_stdvec(&records[kind]).unwrap();
    assert_eq!(bytes(1), b"\x01\x01s\x02\x01\x03why\x05");
    assert_eq!(bytes(6), b"\x06\x01s\x04\x05\x06\x07");
    assert_eq!(bytes(11), b"\x0b\x01s\x03\x04");
    assert_eq!(bytes(13), b"\x0d\x81\x02");
    assert_eq!(bytes(18), b"\x12\x01s\x03\x02");
    let digests: Vec<String> = (0..records.len()).map(|kind| digest(&bytes(kind))).collect();
    assert_eq!(digests[..GOLDEN_V1.len()], GOLDEN_V1);
    let golden = golden_1();
    let variants = every_variant_of_layout_1();
    assert_eq!(golden.len(), variants.len());
    for (name, record) in variants {
        let now = postcard::to_stdvec(&vec![record]).unwrap();
        assert_eq!(golden[name.as_str()], [now], "{name}: directories with these bytes exist");
    }
    assert_eq!(
        (bytes(21), bytes(22)),
        (b"\x15\x01s\x04".to_vec(), b"\x16\x01s\x03\x02\x01".to_vec())
    );
    assert_eq!((bytes(23), bytes(24)), (b"\x17\x01s\x03why".to_vec(), b"\x18\x01s".to_vec()));
    assert_eq!(bytes(25), b"\x19\x01s\x04");
    assert_eq!(bytes(28), b"\x1c\x01s\x01t");
    assert_eq!(bytes(27), b"\x1b\x01s\x07\x00\x03\x00\x00");
    assert_eq!(bytes(26), b"\x1a\x01s\x03\x01\x04\x00");
    assert_eq!(bytes(30), b"\x1e\xac\x02\xf0\xa2\x04");
}

#[test]
fn the_bytes_that_are_written_have_not_changed() {
    let frames: Vec<Frame> = meaning().iter().map(|record| freeze(record).unwrap()).collect();
    let kinds: Vec<(u32, u32)> = frames.iter().map(|f| (f.kind, f.version)).collect();
    let version = |kind| match kind {
        10 => 4,
        8..=9 => 3,
        0 | 7 | 14 | 15 | 17 | 19 | 22 => 2,
        _ => 1,
    };
    let expected: Vec<(u32, u32)> = (0..31).map(|kind| (kind, version(kind))).collect();
    assert_eq!(kinds, expected);
    let golden = golden_2();
    let meanings = meaning_of_every_variant();
    for (name, record) in &meanings {
        let then = golden.get(name.as_str());
        let then = then.unwrap_or_else(|| panic!("golden-2.txt has no record {name}. {MEND}"));
        let now = encode(std::slice::from_ref(record)).unwrap();
        assert_eq!(then.last(), Some(&now), "{name}. {MEND}");
    }
    assert_eq!(golden.len(), meanings.len(), "golden-2.txt has other records, too. {MEND}");
}

#[test]
fn the_bytes_of_layout_2_keep_their_meaning() {
    let golden = golden_2();
    for (name, record) in meaning_of_every_variant() {
        for then in &golden[name.as_str()] {
            let read = Decoder::default().decode(2, then);
            assert_eq!(read.as_deref(), Ok(std::slice::from_ref(&record)), "{name}. {MEND}");
        }
    }
    // The meaning, in words, of what differs between variants.
    let read = |name: &str| {
        let read = Decoder::default().decode(2, &golden[name][0]).unwrap();
        let text = format!("{:?}", read[0]);
        let from = [
            "state: ",
            "ending: ",
            "unquantized: Some",
            "checkpoint: ",
            "teacher_weights: ",
            "stages: ",
            "noise: ",
            "hash: ",
        ];
        let start = from.iter().find_map(|field| text.find(field)).unwrap();
        text[start..].chars().filter(|c| !c.is_whitespace()).collect::<String>()
    };
    for (name, says) in [
        ("study-created", "teacher_weights:Some("),
        ("study-created:no-teacher", "teacher_weights:None,teacher_task:None"),
        ("study-created:teacher-of-file", "teacher_weights:Some("),
        ("study-created:table", "teacher_weights:None,teacher_task:None"),
        ("study-state-changed:running", "state:Running,elapsed_ms:300"),
        ("study-state-changed:paused", "state:Paused,elapsed_ms:300"),
        ("study-state-changed:complete", "state:Complete{reason:None}"),
        ("study-state-changed:complete-with-reason", "state:Complete{reason:Some(\"why\")}"),
        ("study-state-changed:cancelled", "state:Cancelled"),
        ("study-state-changed:failed", "state:Failed{reason:\"why\"}"),
        ("attempt-ended:succeeded", "ending:Succeeded,elapsed_ms:7"),
        ("attempt-ended:failed", "ending:Failed{reason:\"why\"}"),
        ("attempt-ended:lost", "ending:Lost"),
        ("attempt-ended:left", "ending:Left"),
        ("attempt-ended:fault-of-worker", "ending:FaultOfWorker{reason:\"why\"}"),
        ("attempt-ended:fault-of-data", "ending:FaultOfData{reason:\"why\"}"),
        ("trial-finished:complete", "ending:Complete"),
        ("trial-finished:infeasible", "ending:Infeasible{reason:\"why\"}"),
        ("trial-finished:failed", "ending:Failed{reason:\"why\"}"),
        ("trial-finished:pruned", "ending:Pruned"),
        ("trial-finished:screened-out", "ending:ScreenedOut"),
        ("rung-reached", "checkpoint:None"),
        ("rung-reached:with-checkpoint", "checkpoint:Some("),
        ("data-checked", "hash:None"),
        ("data-checked:with-hash", "hash:Some("),
        ("trial-trained", "stages:[]"),
        ("teacher-trained", "stages:[]"),
        (
            "trial-trained:in-stages",
            "stages:[StageReport{pass:\"trained\",distilled:false,figures:",
        ),
        ("measured", "noise:None"),
        (
            "measured:with-original",
            "noise:Some(Noise{noisy:false,spread:0.25,waiting:None,timings:1}),energy_mj:Some(2.5),original:Some(Fp32Timing{p50_ms:4.0,p95_ms:4.5,min_ms:3.5,noisy:true,energy_mj:Some(5.0)}),slower_layers:[LayerTimes{layer:\"stem\"",
        ),
        (
            "measured:with-unquantized",
            "unquantized:Some(Fp32Timing{p50_ms:4.0,p95_ms:4.5,min_ms:3.5,noisy:false,energy_mj:None}),slower_in_integers:[LayerTimes{layer:\"norm\",conversions:true,",
        ),
        ("measured:quiet", "noise:Some(Noise{noisy:false,spread:0.25,waiting:None,timings:1})"),
        (
            "measured:noisy",
            "noise:Some(Noise{noisy:true,spread:0.5,waiting:Some(Waiting{share:0.125,per_run:1.5}),timings:3})",
        ),
    ] {
        let said = read(name);
        assert!(said.starts_with(says), "{name}: {said}. {MEND}");
    }
}

/// Adds to `golden-2.txt` what is missing there. Lines that it has stay.
#[test]
#[ignore = "changes the source; see MEND"]
fn add_to_golden_2() {
    let golden = golden_2();
    let mut text = include_str!("golden-2.txt").to_owned();
    for (name, record) in meaning_of_every_variant() {
        let bytes = encode(&[record]).unwrap();
        if golden.get(name.as_str()).and_then(|all| all.last()) != Some(&bytes) {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("{name} {digits}\n"));
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/format/golden-2.txt");
    std::fs::write(path, text).unwrap();
}

#[test]
fn older_versions_keep_their_meaning() {
    let meaning = meaning();
    let Record::StudyCreated { spec, teacher_task, .. } = &meaning[0] else { panic!() };
    assert_eq!(**spec, StudySpec::parse(STUDY).unwrap());
    assert_eq!(teacher_task.map(|task| task.0), Some(1));
    let Record::TrialTrained { trained, measure, .. } = &meaning[9] else { panic!() };
    let said = "validation_accuracy 0.5, test_accuracy 0.25, model_bytes 300, macs 5, parameters 6, \
                peak_memory_bytes 7";
    assert_eq!(trained.uncompressed.to_string(), said);
    let compressed = format!("{said}, training_seconds 1.5, images_seen 8");
    assert_eq!(trained.compressed.to_string(), compressed);
    assert_eq!(measure[0].1, Target::on("pi".parse().unwrap()));
    for kind in [14, 17] {
        let (Record::TrialLookedUp { figures, .. } | Record::TrialImported { figures, .. }) =
            &meaning[kind]
        else {
            panic!()
        };
        let said = "validation_accuracy 0.5, test_accuracy 0.25, accuracy@other 0.75, \
                    accuracy@own 0.25, latency_ms@pi 2, model_bytes 300, parameters 6, \
                    training_seconds 1.5";
        assert_eq!(figures.to_string(), said);
    }
    let Record::RungReached { report, .. } = &meaning[15] else { panic!() };
    assert_eq!(report.checkpoint, None, "a hash of zeros meant no checkpoint");
    assert_eq!(report.figures.to_string(), "validation_accuracy 0.5, training_seconds 1.5");
    assert!(matches!(&meaning[11], Record::TrialFinished { ending: TrialEnding::ScreenedOut, .. }));
}

#[test]
fn written_records_are_read_back() {
    let records = meaning();
    let bytes = encode(&records).unwrap();
    assert_eq!(Decoder::default().decode(LAYOUT, &bytes).unwrap(), records);
    // Version 1 can also be read in the newer layout.
    let old: Vec<Frame> = [13, 18]
        .map(|kind: usize| match &version_1()[kind] {
            v1::Record::WorkerIdsReserved(record) => Frame::of(record).unwrap(),
            v1::Record::TrialInherits(record) => Frame::of(record).unwrap(),
            other => panic!("{other:?}"),
        })
        .into();
    let bytes = postcard::to_stdvec(&old).unwrap();
    let read = Decoder::default().decode(LAYOUT, &bytes).unwrap();
    assert_eq!(read, [records[13].clone(), records[18].clone()]);
}

#[test]
fn a_stored_study_opens_even_if_its_file_breaks_todays_rules() {
    // The file breaks rules: too many epochs, and a resolution that is too large.
    let toml = STUDY.replace("budget", "training.epochs = 9000000\nbudget").replace("8,", "9999,");
    assert!(StudySpec::parse(&toml).is_err());
    let Some(v1::Record::StudyCreated(created)) = version_1().into_iter().next() else { panic!() };
    let old = v1::Record::StudyCreated(v1::StudyCreated { spec_toml: toml, ..created });
    let bytes = postcard::to_stdvec(&vec![old]).unwrap();
    let read = Decoder::default().decode(1, &bytes).unwrap();
    let Record::StudyCreated { spec, .. } = &read[0] else { panic!() };
    assert_eq!(spec.training().unwrap().training.epochs, 9_000_000);
    let bytes = encode(&read).unwrap();
    assert_eq!(Decoder::default().decode(LAYOUT, &bytes).unwrap(), read);
}

#[test]
fn an_engine_that_is_not_a_name_is_read_as_edge_runtime() {
    let Some(v1::Record::Measured(mut measured)) = version_1().into_iter().nth(10) else {
        panic!()
    };
    for engine in ["", "edge runtime 0.1", "moteur d'inférence"] {
        measured.measurement.engine = engine.to_owned();
        let bytes = postcard::to_stdvec(&vec![v1::Record::Measured(measured.clone())]).unwrap();
        assert_eq!(Decoder::default().decode(1, &bytes).unwrap(), meaning()[10..=10], "{engine:?}");
    }
}

#[test]
fn genotypes_are_read_with_the_choices_in_their_study_record() {
    let Record::StudyCreated { spec, .. } = &meaning()[0] else { panic!() };
    let proposed = meaning().into_iter().find(|r| matches!(r, Record::TrialProposed { .. }));
    let proposed = proposed.unwrap();
    // As written by a program that had one choice less, the choices in another order, and the
    // stem's widths in reverse order.
    let mut frame = freeze(&meaning()[0]).unwrap();
    let mut created: v2::StudyCreated = frame.read().unwrap();
    let mut choices: Vec<Choice> = spec.space.choices().to_vec();
    let missing = choices.pop().unwrap();
    choices.reverse();
    let stem = choices.iter().position(|choice| choice.options.len() == 2).unwrap();
    choices[stem].options.reverse();
    created.choices = choices.iter().map(|c| (c.name.clone(), c.options.clone())).collect();
    frame = Frame::of(&created).unwrap();
    let mut genotype = vec![0; choices.len()];
    // Today's second width was the first one then.
    assert_eq!((GENOTYPE[1], missing.options.len()), (1, 1));
    genotype[stem] = 0;
    let old = v1::TrialProposed {
        study: "s".to_owned(),
        number: 3,
        task: 4,
        genotype,
        parents: vec![1, 2],
    };
    // The choices are those of the study, whatever its name is later.
    let renamed = v1::StudyRenamed { study: "s".to_owned(), name: "t".to_owned() };
    let later = v1::TrialProposed { study: "t".to_owned(), ..old.clone() };
    let frames =
        [frame, Frame::of(&old).unwrap(), Frame::of(&renamed).unwrap(), Frame::of(&later).unwrap()];
    let bytes = postcard::to_stdvec(&Vec::from(frames)).unwrap();
    let read = Decoder::default().decode(LAYOUT, &bytes).unwrap();
    assert_eq!(read[1], proposed);
    let genotype_of = |record: &Record| match record {
        Record::TrialProposed { genotype, .. } => genotype.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(genotype_of(&read[3]), genotype_of(&proposed));
}

#[test]
fn newer_and_damaged_records_are_explained() {
    let decode = |layout: u8, bytes: &[u8]| Decoder::default().decode(layout, bytes);
    assert_eq!(decode(4, &[]), Err(FormatError::Layout(4)));
    let said = |frame: Frame| {
        let bytes = postcard::to_stdvec(&vec![frame]).unwrap();
        decode(LAYOUT, &bytes).unwrap_err().to_string()
    };
    for (kind, version) in [(99, 1), (0, 9)] {
        let text = format!("kind {kind} version {version}, which this program does not know");
        assert!(said(Frame { kind, version, payload: vec![] }).contains(&text));
    }
    let deleted = v1::StudyDeleted { study: "no name".to_owned() };
    let text = said(Frame::of(&deleted).unwrap());
    assert!(text.contains("kind 2 version 1") && text.contains("no name"), "{text}");
    let short = said(Frame { kind: 13, version: 1, payload: vec![] });
    assert!(short.contains("kind 13 version 1 is damaged"), "{short}");
    let long = said(Frame { kind: 13, version: 1, payload: vec![1, 2] });
    assert!(long.contains("too long"), "{long}");
    let metric = "speed".to_owned();
    let figures = vec![v2::Figure { metric, scope: v2::Scope::Whole, value: 1.0 }];
    let looked_up = v2::TrialLookedUp { study: "s".to_owned(), number: 0, figures };
    assert!(
        said(Frame::of(&looked_up).unwrap())
            .contains("metric \"speed\" is unknown to this program")
    );
    // A list that is cut anywhere is rejected.
    let bytes = encode(&meaning()).unwrap();
    for cut in (0..bytes.len()).step_by(7) {
        assert!(decode(LAYOUT, &bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert_eq!(decode(LAYOUT, &longer), Err(FormatError::Trailing));
}

#[test]
fn every_kind_has_its_own_number() {
    let kinds: BTreeSet<u32> = version_1().iter().map(v1::Record::kind).collect();
    assert_eq!(kinds.len(), version_1().len());
    assert_eq!((v1::TrialScored::KIND, v1::TrialScored::VERSION), (20, 1));
    assert_eq!((v2::TrialTooSlow::KIND, v2::TrialTooSlow::VERSION), (19, 2));
}

/// Digests of the records as written when version 1 was the only version.
const GOLDEN_V1: [&str; 21] = [
    "4f12ad32c73857f5",
    "0112a32a0630c4f5",
    "601422890e7cdf65",
    "5eb6c1029cdfea3c",
    "0f658362a24f75c9",
    "b43a0f7a24df2b0c",
    "0f44a71ece7bd3e5",
    "4bb42a2f7e13b06b",
    "c9b04a898432f148",
    "826cfbc3363ddc7f",
    "88cdb7ecb435c59d",
    "15084417ffcfa90e",
    "8edb3014d0c1c4ca",
    "70fabaf86565269b",
    "8b3eed4d0e7bd8a4",
    "16366035a0d2b0be",
    "9e3f3108b00dfad9",
    "75d553822fbe2732",
    "b369dbf9a3cf83a1",
    "64b19fcbf81db4c6",
    "79a702d9c3d8659a",
];

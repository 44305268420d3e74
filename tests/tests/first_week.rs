//! A study of forty trials with everything set up wrongly, as it happens in a team's first week: a
//! worker without the data, a damaged photo, a killed coordinator, a limit that nothing meets, and
//! a budget that turns out too small. Nothing is lost, and every message says what to do.

use std::path::Path;

use edgesmith_tests::{Coordinator, complete, run};
use image::{GrayImage, Luma};

/// Three classes of grey photos, each class with a bar at another height.
fn write_photos(directory: &Path) {
    for (class, name) in ["circle", "square", "star"].into_iter().enumerate() {
        let folder = directory.join("photos").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for photo in 0..30u32 {
            let image = GrayImage::from_fn(12, 12, |x, y| {
                let bar = y / 4 == class as u32;
                let noise = (x * 7 + y * 13 + photo * 31) % 60;
                Luma([(if bar { 180 } else { 20 }) + noise as u8])
            });
            image.save(folder.join(format!("{photo:02}.png"))).unwrap();
        }
    }
}

fn study(trials: u32) -> String {
    format!(
        r#"[study]
name = "shapes"
seed = 3

[data]
source = "image-folder"
classes = 3
channels = 1
train = "photos"
side = 12

[space]
resolution = [12]
stem_width = [4, 8]

[[space.stages]]
depth = [1, 2]
width = [4, 6, 8]
kernel = [3]
operation = ["conv", "separable"]
expansion = [2]
stride = [1, 2]
activation = ["relu"]

[recipe]
prune = [0.0, 0.5]
precision = ["fp32", "int8"]

[[objectives]]
metric = "validation_accuracy"

[[objectives]]
metric = "model_bytes"

[[constraints]]
metric = "model_bytes"
max = 100

[algorithm]
name = "random"

[budget]
trials = {trials}

[training]
epochs = 1
batch_size = 16
"#
    )
}

#[test]
fn a_first_week_with_everything_set_up_wrongly_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    write_photos(directory);
    let photo = directory.join("photos/square/07.png");
    let whole = std::fs::read(&photo).unwrap();
    std::fs::write(&photo, &whole[..whole.len() / 2]).unwrap();
    std::fs::create_dir(directory.join("elsewhere")).unwrap();
    std::fs::write(directory.join("shapes.toml"), study(30)).unwrap();

    // A worker without the data is told so. The study waits for another one.
    let mut coordinator = Coordinator::start(directory, 20);
    let train = ["--roles", "train", "--slots", "2"];
    let wrong = [&train[..], &["--name", "wrong-folder", "--data-root", "elsewhere"]].concat();
    let mut wrong = coordinator.worker(&wrong);
    coordinator.ask(&["submit", "shapes.toml"]).ok();
    let waiting = coordinator.wait_until("shapes", "waiting", |s| s["blocked"] == true);
    assert_eq!(waiting["state"], "running", "{waiting}");
    for command in [&["status", "shapes"][..], &["workers"], &["studies"]] {
        let text = coordinator.ask(command).ok();
        for part in ["wrong-folder", "photos", "--data-root"] {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
    }

    // A worker with the data finds the damaged photo and names it.
    let mut right = coordinator.worker(&[&train[..], &["--name", "right-folder"]].concat());
    let problem = |s: &serde_json::Value| s["problems"].to_string();
    let damaged = coordinator.wait_until("shapes", "damaged", |s| problem(s).contains("07.png"));
    assert_eq!(damaged["state"], "running", "{damaged}");
    let text = coordinator.ask(&["status", "shapes"]).ok();
    assert!(text.contains("07.png") && text.contains("edgesmith retry shapes"), "{text}");
    assert_eq!(damaged["trials"]["failed"], 0, "{damaged}");
    std::fs::write(&photo, whole).unwrap();
    let text = coordinator.ask(&["retry", "shapes"]).ok();
    assert!(text.contains("read again"), "{text}");

    // The coordinator is killed. Its workers join again, and what was complete stays.
    coordinator.wait_until("shapes", "begun", |s| s["trials"]["complete"].as_u64() >= Some(5));
    let before = complete(&coordinator.trials("shapes"));
    coordinator = coordinator.kill_and_restart();
    coordinator.wait_until_complete("shapes");
    let after = complete(&coordinator.trials("shapes"));
    assert_eq!(after.len(), 30);
    assert!(before.iter().all(|trial| after.contains(trial)), "{before:?} {after:?}");
    assert!(wrong.is_running() && right.is_running());

    // No trial meets the limit. Status says how near the nearest came.
    let text = coordinator.ask(&["status", "shapes"]).ok();
    assert!(text.contains("model_bytes <= 100: met by 0 of 30, the nearest has"), "{text}");
    let text = coordinator.ask(&["pareto", "shapes"]).ok();
    assert!(text.contains("model_bytes <= 100: met by 0 of 30, the nearest has"), "{text}");

    // The budget is extended, with the study's own file, and everything earlier is kept.
    let again = coordinator.ask(&["submit", "shapes.toml"]);
    again.fails(1, &["it is complete, so nothing will run", "larger budget.trials"]);
    std::fs::write(directory.join("shapes.toml"), format!("# more\n{}", study(36))).unwrap();
    let more = coordinator.ask(&["submit", "shapes.toml"]).stderr();
    assert!(more.contains("36"), "{more}");
    coordinator.wait_until("shapes", "36 trials", |s| s["trials"]["complete"] == 36);
    let more = coordinator.ask(&["extend", "shapes", "--trials", "40"]).ok();
    assert!(more.contains("budget of 40 trials"), "{more}");
    let done = coordinator.wait_until("shapes", "40 trials", |s| s["trials"]["complete"] == 40);
    assert_eq!(done["trials"]["failed"], 0, "{done}");
    let last = complete(&coordinator.trials("shapes"));
    assert!(after.iter().all(|trial| last.contains(trial)), "{after:?} {last:?}");

    // Another study under this name is refused with the difference, and nothing is lost by it.
    let other = study(40).replace("epochs = 1", "epochs = 2");
    std::fs::write(directory.join("shapes.toml"), other).unwrap();
    let refused = coordinator.ask(&["submit", "shapes.toml"]);
    refused.fails(2, &["differs from this one in training.epochs: 1 -> 2;", "start_from"]);
    assert_eq!(complete(&coordinator.trials("shapes")), last);
    // Without workers, the directory still answers.
    drop(coordinator);
    let trials = run(directory, &["trials", "shapes", "--format", "json"]).json();
    assert_eq!(trials["trials"].as_array().unwrap().len(), 40);
}

#[test]
fn a_wrong_study_is_corrected_and_a_worker_with_other_photos_trains_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    write_photos(directory);
    let elsewhere = directory.join("elsewhere");
    write_photos(&elsewhere);
    let photo = elsewhere.join("photos/star/11.png");
    GrayImage::from_pixel(12, 12, Luma([9])).save(photo).unwrap();
    let file = directory.join("shapes.toml");
    let coordinator = Coordinator::start(directory, 20);

    // The number of classes is wrong. The corrected file takes the study's place.
    std::fs::write(&file, study(30).replace("classes = 3", "classes = 4")).unwrap();
    coordinator.ask(&["submit", "shapes.toml"]).ok();
    let train = ["--roles", "train", "--slots", "1"];
    let right = [&train[..], &["--name", "right-photos"]].concat();
    let _right = coordinator.worker(&right);
    coordinator.wait_until("shapes", "damaged", |s| s["blocked"] == true);
    let again = coordinator.ask(&["submit", "shapes.toml"]).stderr();
    assert!(again.contains("its data are read again"), "{again}");
    std::fs::write(&file, study(30)).unwrap();
    let corrected = coordinator.ask(&["submit", "shapes.toml"]).stderr();
    assert!(corrected.contains("replaces the study shapes"), "{corrected}");
    assert!(corrected.contains("data.classes: 4 -> 3"), "{corrected}");

    // A worker with another photo of the same name is told so, and trains nothing.
    coordinator.wait_until("shapes", "begun", |s| s["trials"]["complete"].as_u64() >= Some(1));
    let wrong = [&train[..], &["--name", "other-photos", "--data-root", "elsewhere"]].concat();
    let _wrong = coordinator.worker(&wrong);
    let problem = |s: &serde_json::Value| s["problems"].to_string();
    let said = "differ from those that the study began with";
    let status = coordinator.wait_until("shapes", "refused", |s| problem(s).contains(said));
    assert!(status["data"]["hash"].as_str().is_some_and(|hash| hash.len() == 64), "{status}");
    let text = coordinator.ask(&["workers"]).ok();
    assert!(text.contains("other-photos cannot read the data of shapes: "), "{text}");
    let done = coordinator.wait_until_complete("shapes");
    assert_eq!((&done["trials"]["complete"], &done["trials"]["failed"]), (&30.into(), &0.into()));
    assert!(!coordinator.ask(&["workers"]).ok().contains("cannot"));
}

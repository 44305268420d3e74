//! Each room of the core uses only those below it, so they form no circles.

use std::path::{Path, PathBuf};

/// The rooms, from the top.
const ROOMS: [&str; 11] = [
    "decide", "queries", "state", "workers", "command", "event", "study", "ids", "record",
    "stages", "time",
];

#[test]
fn each_room_uses_only_those_below_it() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core");
    let mut found = Vec::new();
    for (place, room) in ROOMS.iter().enumerate() {
        let below = &ROOMS[place + 1..];
        let files = files_of(&core, room);
        assert!(!files.is_empty(), "room {room} has no files");
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for used in used_rooms(&text, is_face(&file, &core)) {
                let allowed = used == *room || below.contains(&used.as_str());
                assert!(allowed, "{} uses {used}, which is not below {room}", file.display());
                found.push(used);
            }
        }
    }
    // The search works: the top one uses all that decide something, and all use what lasts.
    for room in &ROOMS[1..] {
        assert!(found.iter().any(|used| used == room), "nobody seems to use {room}");
    }
    let mods = std::fs::read_to_string(core.join("mod.rs")).unwrap();
    let mods = mods.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let mut mods: Vec<&str> = mods.filter(|name| *name != "tests").collect();
    let mut rooms = ROOMS;
    mods.sort_unstable();
    rooms.sort_unstable();
    assert_eq!(mods, rooms, "every module of the core has its place among the rooms");
}

/// `ROOM.rs`, or all files in the folder of that name.
fn files_of(core: &Path, room: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut left = vec![core.join(room)];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if !path.ends_with("tests.rs") {
                files.push(path);
            }
        }
    }
    let single = core.join(format!("{room}.rs"));
    files.extend(single.exists().then_some(single));
    files
}

/// Whether `super` in this file is the core itself.
fn is_face(file: &Path, core: &Path) -> bool {
    let inside = file.strip_prefix(core).unwrap();
    let depth = inside.components().count();
    depth == 1 || depth == 2 && inside.ends_with("mod.rs")
}

/// The rooms that a file names by their paths.
fn used_rooms(text: &str, is_face: bool) -> Vec<String> {
    let code: Vec<&str> = text
        .lines()
        .take_while(|line| *line != "mod tests {")
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let mut used = Vec::new();
    let starts = ["crate::core::", "super::"];
    for start in &starts[..1 + usize::from(is_face)] {
        for rest in code.split(start).skip(1) {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let name = &rest[..end];
            let named = ROOMS.contains(&name);
            assert!(named, "`{start}{}` does not name a room", rest.lines().next().unwrap());
            used.push(name.to_owned());
        }
    }
    used
}

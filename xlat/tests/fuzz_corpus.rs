//! Replays the fuzz corpora through the fuzz targets' own functions, so that what fuzzing has found stays found.

use std::path::{Path, PathBuf};

#[path = "../../tests/fuzz/src/translator.rs"]
mod translator;

fn replay(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target);
    let entries =
        std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 50, "{}: {} files", directory.display(), paths.len());
    for path in paths {
        let data = std::fs::read(&path).unwrap();
        if let Err(panic) = std::panic::catch_unwind(|| run(&data)) {
            eprintln!("in {}", path.display());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn from_ipv4_to_ipv6() {
    replay("v4_to_v6", translator::v4_to_v6);
}

#[test]
fn from_ipv6_to_ipv4() {
    replay("v6_to_v4", translator::v6_to_v4);
}

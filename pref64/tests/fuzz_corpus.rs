//! Replays the corpora of the fuzz targets `ra` and `dns_answer` through the targets' own functions.

#![allow(unreachable_pub)] // the targets are a library elsewhere

use std::path::Path;

#[path = "../../tests/fuzz/src/dns_answer.rs"]
mod dns_answer;
#[path = "../../tests/fuzz/src/ra.rs"]
mod ra;

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target);
    let mut replayed = 0;
    for entry in std::fs::read_dir(&corpus).unwrap() {
        check(&std::fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed > 0, "{}: empty", corpus.display());
}

#[test]
fn router_advertisements() {
    replay("ra", ra::check);
}

#[test]
fn dns_answers() {
    replay("dns_answer", dns_answer::check);
}

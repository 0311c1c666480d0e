//! Replays the corpus of the fuzz target `hosts_file`.

#[allow(unreachable_pub, reason = "the fuzz targets are another crate, and need it public")]
#[path = "../../tests/fuzz/src/hosts_file.rs"]
mod hosts_file;

#[test]
fn every_file_of_the_corpus() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/hosts_file");
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        hosts_file::check(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 5, "the corpus is there");
}

//! What must hold for any bytes as a hosts file.

use std::collections::BTreeSet;

use hostsfix::hosts::{Entry, HostsFile, Origin, Pin, Source, State, lines};
use hostsfix::store::journal::Journal;
use hostsfix::time::Instant;

/// Panics if one of the properties does not hold.
pub fn check(bytes: &[u8]) {
    let printed: Vec<u8> = lines(bytes).flat_map(|line| line.bytes().iter().copied()).collect();
    assert_eq!(printed, bytes, "parse, then print, is the identity");
    let _ = Journal::decode(bytes);
    let Ok(file) = HostsFile::parse(bytes) else { return };
    let names: BTreeSet<_> = lines(bytes).flat_map(|line| line.names()).collect();
    let _ = file.own_lines(&names);

    let bare = file.with_entries(&[]);
    let parsed = HostsFile::parse(&bare).expect("without the block, no marker is left");
    assert!(!parsed.has_block());
    if !file.has_block() {
        assert_eq!(bare, bytes, "without a block, nothing to take out");
    }
    for entries in [vec![pin()], [file.entries(), &[pin()]].concat(), file.entries().to_vec()] {
        let entries: Vec<Entry> = without_twins(entries);
        let changed = file.with_entries(&entries);
        let again = HostsFile::parse(&changed).expect("what was written can be read");
        assert_eq!(again.entries(), entries, "the block has what was put there");
        assert_eq!(again.with_entries(&entries), changed, "the same entries give the same bytes");
        assert_eq!(again.with_entries(&[]), bare, "not a byte outside the block is different");
    }
}

fn pin() -> Entry {
    Entry {
        name: "fuzz.example.org".parse().expect("a valid name"),
        origin: Origin::Add,
        want_ttl: None,
        want_a: vec![],
        want_ports: vec![25],
        state: State::Pinned(Pin {
            addresses: vec![std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)],
            source: Source::Native,
            ttl: 300,
            expires: Instant::from_unix(1_795_230_000),
        }),
    }
}

fn without_twins(entries: Vec<Entry>) -> Vec<Entry> {
    let mut seen = BTreeSet::new();
    entries.into_iter().filter(|entry| seen.insert(entry.name.clone())).collect()
}

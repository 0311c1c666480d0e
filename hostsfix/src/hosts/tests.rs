//! Tests of the editor: byte-exact examples, refusals, and properties over any bytes.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::time::Instant;

const PREFIX: &str = "2001:db8:64::/96";

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn at(unix: u64) -> Instant {
    Instant::from_unix(unix)
}

fn native() -> Entry {
    Entry {
        name: name("registry.example.org"),
        origin: Origin::Add,
        want_ttl: None,
        want_a: vec![],
        want_ports: vec![],
        state: State::Pinned(Pin {
            addresses: vec!["2001:db8:1::80".parse().unwrap()],
            source: Source::Native,
            ttl: 300,
            expires: at(1_795_230_000),
        }),
    }
}

fn synthesised() -> Entry {
    let prefix: xlat::Pref64 = PREFIX.parse().unwrap();
    let a = [Ipv4Addr::new(203, 0, 113, 25), Ipv4Addr::new(203, 0, 113, 26)];
    Entry {
        name: name("smtp.example.net"),
        origin: Origin::Config,
        want_ttl: Some(600),
        want_a: a.to_vec(),
        want_ports: vec![587, 25],
        state: State::Pinned(Pin {
            addresses: a.iter().map(|a| prefix.embed(*a)).collect(),
            source: Source::Nat64(prefix),
            ttl: 600,
            expires: at(1_795_230_000),
        }),
    }
}

fn waiting() -> Entry {
    let state = State::Waiting(Waiting { why: Why::DnsDown, since: at(1_795_230_000) });
    Entry { name: name("git.example.com"), state, ..native() }
}

/// What the documentation of the block shows.
const BLOCK: &str = "\
# BEGIN v4shim hostsfix (managed: change it with hostsfix, undo with \"hostsfix rm --all\")
# pin registry.example.org by=add source=native ttl=300 expires=2026-11-21T03:00:00Z
2001:db8:1::80 registry.example.org
# pin smtp.example.net by=config want-ttl=600 want-a=203.0.113.25,203.0.113.26 ports=587,25 source=nat64 \
prefix=2001:db8:64::/96 a=203.0.113.25,203.0.113.26 ttl=600 expires=2026-11-21T03:00:00Z
2001:db8:64::cb00:7119 smtp.example.net
2001:db8:64::cb00:711a smtp.example.net
# pin git.example.com by=add source=none why=dns-down since=2026-11-21T03:00:00Z
# END v4shim hostsfix
";

fn set(file: &[u8], entries: &[Entry]) -> Vec<u8> {
    HostsFile::parse(file).unwrap().with_entries(entries)
}

fn set_str(file: &str, entries: &[Entry]) -> String {
    String::from_utf8(set(file.as_bytes(), entries)).unwrap()
}

#[test]
fn the_block_reads_and_prints() {
    let entries = [native(), synthesised(), waiting()];
    assert_eq!(set_str("", &entries), BLOCK);
    let file = HostsFile::parse(BLOCK.as_bytes()).unwrap();
    assert_eq!(file.entries(), entries);
    assert_eq!(file.stray_lines().count(), 0);
    assert_eq!(file.with_entries(&entries), BLOCK.as_bytes());
    assert_eq!(entries[1].pin().unwrap().behind(), synthesised().want_a);
}

#[test]
fn a_new_block_goes_to_the_end_and_leaves_without_trace() {
    let before = "127.0.0.1\tlocalhost # mine\n\n\n  \t10.0.0.1 nas\n";
    let with = set_str(before, &[native()]);
    assert!(with.starts_with(before));
    assert_eq!(set_str(&with, &[]), before);
}

#[test]
fn without_final_newline_the_block_goes_to_the_start() {
    let before = "127.0.0.1 localhost\r\n::1 localhost";
    let with = set_str(before, &[native()]);
    assert!(with.ends_with(&format!("hostsfix\r\n{before}")), "{with}");
    assert_eq!(set_str(&with, &[]), before);
}

#[test]
fn crlf_files_get_a_crlf_block() {
    let with = set_str("127.0.0.1 localhost\r\n", &[native(), synthesised()]);
    assert!(with.split('\n').all(|line| line.is_empty() || line.ends_with('\r')));
    assert_eq!(HostsFile::parse(with.as_bytes()).unwrap().entries(), [native(), synthesised()]);
    assert_eq!(set_str(&with, &[]), "127.0.0.1 localhost\r\n");
}

#[test]
fn the_block_stays_where_it_is() {
    let file = format!("# top\n{BLOCK}# bottom\n");
    assert_eq!(set_str(&file, &[]), "# top\n# bottom\n");
    let changed = set_str(&file, &[native()]);
    assert!(changed.starts_with("# top\n# BEGIN"));
    assert!(changed.ends_with("# END v4shim hostsfix\n# bottom\n"));
}

#[test]
fn an_end_marker_without_newline_keeps_it_so() {
    let file = BLOCK.trim_end();
    let entries = HostsFile::parse(file.as_bytes()).unwrap().entries().to_vec();
    assert_eq!(set_str(file, &entries), file);
    assert!(set_str(file, &entries[..1]).ends_with("# END v4shim hostsfix"));
    assert_eq!(set_str(&format!("a\n{file}"), &[]), "a\n");
}

#[test]
fn an_empty_block_is_removed() {
    assert_eq!(set_str("a\n# BEGIN v4shim hostsfix\n# END v4shim hostsfix\nb\n", &[]), "a\nb\n");
}

#[test]
fn lines_of_the_user_inside_the_block_are_moved_below_it() {
    let own = ["10.0.0.5 smtp.example.net", "# my note", "", "2001:db8::9 other.example"];
    let end = "# END v4shim hostsfix\n";
    let file = BLOCK.replace(end, &format!("{}\n{end}tail\n", own.join("\n")));
    let parsed = HostsFile::parse(file.as_bytes()).unwrap();
    assert_eq!(parsed.entries().len(), 3);
    assert_eq!(parsed.stray_lines().collect::<Vec<_>>(), [8, 9, 10, 11]);
    let found = parsed.own_lines(&BTreeSet::from([name("smtp.example.net"), name("registry.example.org")]));
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [(name("smtp.example.net"), 8)]);
    let entries = parsed.entries().to_vec();
    let moved = String::from_utf8(parsed.with_entries(&entries)).unwrap();
    assert_eq!(moved, format!("{BLOCK}{}\ntail\n", own.join("\n")));
    // And they are the user's from then on.
    assert_eq!(set_str(&moved, &[]), format!("{}\ntail\n", own.join("\n")));
}

#[test]
fn a_damaged_entry_is_the_users_own() {
    for (from, to, left) in [
        ("source=native", "source=magic", 2),
        ("expires=2026-11-21T03:00:00Z\n2001:db8:1", "expires=soon\n2001:db8:1", 2),
        ("2001:db8:1::80 registry.example.org\n", "", 2),
        ("2001:db8:1::80 registry", "10.0.0.1 registry", 2),
        ("registry.example.org by", "Registry.example.org by", 2),
        ("2001:db8:1::80 registry.example.org", "2001:db8:1::80 registry.example.org # hm", 2),
        ("2001:db8:64::cb00:7119 smtp", "2001:db8:65::cb00:7119 smtp", 2),
        ("why=dns-down", "why=because", 2),
    ] {
        let file = BLOCK.replacen(from, to, 1);
        assert_ne!(file, BLOCK);
        let parsed = HostsFile::parse(file.as_bytes()).unwrap();
        assert_eq!(parsed.entries().len(), left, "{to}");
        assert!(parsed.stray_lines().count() > 0, "{to}");
    }
}

#[test]
fn keys_of_a_later_version_are_skipped() {
    let file = BLOCK.replacen("source=native", "colour=blue source=native", 1);
    assert_eq!(HostsFile::parse(file.as_bytes()).unwrap().entries()[0], native());
    assert_eq!(set_str(&file, &[native(), synthesised(), waiting()]), file, "and the file is left alone");
}

#[test]
fn markers_that_make_no_block_are_refused_with_line_numbers() {
    let (b, e) = ("# BEGIN v4shim hostsfix\n", "# END v4shim hostsfix\n");
    let err = |file: String| HostsFile::parse(file.as_bytes()).unwrap_err();
    assert_eq!(err(format!("x\n{b}y\n")), MarkerError::Unclosed { begin: 2 });
    assert_eq!(err(format!("x\ny\n{e}")), MarkerError::Unopened { end: 3 });
    assert_eq!(err(format!("{b}x\n{b}{e}{e}")), MarkerError::Nested { outer: 1, inner: 3 });
    assert_eq!(err(format!("{b}{e}x\n{b}{e}")), MarkerError::Duplicate { first: 1, second: 4 });
    assert_eq!(err(format!("{b}{e}{e}")), MarkerError::Unopened { end: 3 });
    assert!(err(format!("{b}{e}x\n{b}")).to_string().contains("line 4"));
}

#[test]
fn touched_markers_still_count() {
    for (line, marker) in [
        ("# BEGIN v4shim hostsfix", Some(Marker::Begin)),
        ("  ##begin V4SHIM HOSTSFIX whatever\r", Some(Marker::Begin)),
        ("#\tEND\t v4shim hostsfix", Some(Marker::End)),
        ("#END v4shim hostsfix # note", Some(Marker::End)),
        ("# BEGIN v4shim hostsfixed", None),
        ("# BEGINv4shim hostsfix", None),
        ("BEGIN v4shim hostsfix", None),
        ("# see BEGIN v4shim hostsfix", None),
        ("# BEGIN ANSIBLE MANAGED BLOCK", None),
    ] {
        assert_eq!(lines(line.as_bytes()).next().unwrap().marker(), marker, "{line}");
    }
}

#[test]
fn own_lines_are_found_as_the_c_library_reads_them() {
    let file = HostsFile::parse(
        b"# 10.0.0.1 commented.example\n10.0.0.1\tA.Example.  b.example#c.example\n\
          10.1 legacy.example\nfe80::1%eth0 zone.example\nnonsense d.example\n\x0b::1\x0be.example\r\n\
          10.0.0.2 a.example b\xff.example xn--bcher-kva.example\n10.0.0.3 b\xc3\xbccher.example",
    )
    .unwrap();
    let wanted: BTreeSet<_> = ["a", "b", "c", "d", "e", "commented", "legacy", "zone", "xn--bcher-kva"]
        .map(|n| name(&format!("{n}.example")))
        .into();
    let found: Vec<_> =
        file.own_lines(&wanted).into_iter().map(|(name, line)| (name.to_string(), line)).collect();
    let expected = [("a", 2), ("b", 2), ("e", 6), ("legacy", 3), ("xn--bcher-kva", 7), ("zone", 4)];
    assert_eq!(found, expected.map(|(n, line)| (format!("{n}.example"), line)));
}

#[test]
fn huge_lines_and_files() {
    let mut file = b"10.0.0.1 ".to_vec();
    file.extend(std::iter::repeat_n(b'x', 5 << 20));
    file.push(b'\n');
    for i in 0..200_000 {
        file.extend_from_slice(format!("0.0.0.0 ads{i}.example\n").as_bytes());
    }
    let start = std::time::Instant::now();
    let with = set(&file, &[native()]);
    assert_eq!(set(&with, &[]), file);
    let wanted = BTreeSet::from([name("ads199999.example")]);
    assert_eq!(HostsFile::parse(&file).unwrap().own_lines(&wanted).into_values().next(), Some(200_001));
    assert!(start.elapsed().as_secs() < 60, "linear time");
}

/// Pieces from which hosts-like files, and files that are nearly so, are put together.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..24),
        4 => prop::sample::select(vec![
            "\n", "\r\n", "\r", "\t", " ", "#", "127.0.0.1 localhost\n", "::1 ip6-localhost\r\n", "# comment\n",
            "# BEGIN v4shim hostsfix\n", "# END v4shim hostsfix\n", "# END v4shim hostsfix", "# begin V4SHIM hostsfix\r\n",
            "# pin a.example by=add source=native ttl=1 expires=2026-11-21T03:00:00Z\n", "2001:db8::1 a.example\n",
            "# pin b.example by=config source=nat64 prefix=2001:db8:64::/96 ttl=1 expires=2026-11-21T03:00:00Z\r\n",
            "2001:db8:64::1 b.example\r\n", "# pin c.example by=add source=none why=no-nat64 since=2026-11-21T03:00:00Z\n",
            "10.0.0.1 a.example b.example\n",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        1 => Just(BLOCK.as_bytes().to_vec()),
    ]
}

fn file() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece(), 0..24).prop_map(|pieces| pieces.concat())
}

fn entry() -> impl Strategy<Value = Entry> {
    let state = prop_oneof![
        (prop::collection::btree_set(any::<u128>(), 1..5), any::<u32>(), 0..253_402_300_800u64).prop_map(
            |(addresses, ttl, expires)| {
                State::Pinned(Pin {
                    addresses: addresses.into_iter().map(Ipv6Addr::from).collect(),
                    source: Source::Native,
                    ttl,
                    expires: at(expires),
                })
            }
        ),
        (prop::collection::btree_set(any::<u32>(), 1..5), any::<u32>(), 0..253_402_300_800u64).prop_map(
            |(a, ttl, expires)| {
                let prefix: xlat::Pref64 = PREFIX.parse().unwrap();
                State::Pinned(Pin {
                    addresses: a.into_iter().map(|a| prefix.embed(Ipv4Addr::from(a))).collect(),
                    source: Source::Nat64(prefix),
                    ttl,
                    expires: at(expires),
                })
            }
        ),
        (0usize..6, 0..253_402_300_800u64).prop_map(|(why, since)| {
            let all =
                [Why::DnsDown, Why::NoAddress, Why::NoNat64, Why::NotGlobal, Why::Unreachable, Why::OwnLine];
            State::Waiting(Waiting { why: all[why], since: at(since) })
        }),
    ];
    let wishes = (
        any::<bool>(),
        any::<Option<u32>>(),
        prop::collection::vec(any::<u32>(), 0..3),
        prop::collection::vec(any::<u16>(), 0..3),
    );
    ("[a-z]{1,8}[.][a-z]{1,3}[.]example", wishes, state).prop_map(
        |(text, (by, want_ttl, want_a, want_ports), state)| Entry {
            name: name(&text),
            origin: if by { Origin::Add } else { Origin::Config },
            want_ttl,
            want_a: want_a.into_iter().map(Ipv4Addr::from).collect(),
            want_ports,
            state,
        },
    )
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::btree_map("[a-z]{1,8}", entry(), 0..5).prop_map(|map| {
        let mut seen = BTreeSet::new();
        map.into_values().filter(|e| seen.insert(e.name.clone())).collect()
    })
}

/// The bytes outside the block, and the user's lines inside it.
fn outside(bytes: &[u8]) -> Vec<u8> {
    HostsFile::parse(bytes).unwrap().with_entries(&[])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn parse_then_print_is_identity(bytes in file()) {
        let printed: Vec<u8> = lines(&bytes).flat_map(|line| line.bytes().to_vec()).collect();
        prop_assert_eq!(&printed, &bytes);
        if let Ok(file) = HostsFile::parse(&bytes) {
            let entries = file.entries().to_vec();
            if file.stray_lines().count() == 0 && file.has_block() != entries.is_empty() {
                prop_assert_eq!(file.with_entries(&entries), bytes);
            }
        }
    }

    #[test]
    fn content_and_terminator_make_the_line(bytes: Vec<u8>) {
        for line in lines(&bytes) {
            prop_assert_eq!([line.content(), line.terminator()].concat(), line.bytes());
        }
    }

    #[test]
    fn the_block_has_what_was_put_there_and_nothing_else_changed(bytes in file(), entries in entries()) {
        let Ok(file) = HostsFile::parse(&bytes) else { return Ok(()) };
        let had_block = file.has_block();
        let strays = file.stray_lines().count();
        let changed = file.with_entries(&entries);
        let again = HostsFile::parse(&changed).unwrap();
        prop_assert_eq!(again.entries(), &entries[..]);
        prop_assert_eq!(again.stray_lines().count(), 0);
        prop_assert_eq!(again.with_entries(&entries), changed.clone(), "idempotent");
        // Outside the block, not a byte is different.
        prop_assert_eq!(outside(&changed), outside(&bytes));
        if !had_block {
            prop_assert_eq!(outside(&changed), bytes);
        } else if strays == 0 {
            let (start, end) = (before_block(&file), after_block(&file));
            prop_assert!(changed.starts_with(start));
            prop_assert!(changed.ends_with(end));
        }
    }
}

/// The bytes before the block; none without one.
fn before_block<'a>(file: &HostsFile<'a>) -> &'a [u8] {
    let Some(block) = &file.block else { return b"" };
    let length = file.lines[..block.start].iter().map(|line| line.bytes().len()).sum();
    &file.bytes[..length]
}

/// The bytes after the block; none without one.
fn after_block<'a>(file: &HostsFile<'a>) -> &'a [u8] {
    let Some(block) = &file.block else { return b"" };
    let length: usize = file.lines[block.end..].iter().map(|line| line.bytes().len()).sum();
    &file.bytes[file.bytes.len() - length..]
}

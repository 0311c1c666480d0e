//! Tests of what a run does to the entries.

use super::*;
use crate::choose::DnsDown;
use crate::lifetime::SHORTEST_LIFE;

const T0: u64 = 1_795_000_000;
const P: &str = "2001:db8:64::/96";

fn at(offset: u64) -> Instant {
    Instant::from_unix(T0 + offset)
}

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn pin(addresses: &[&str]) -> Choice {
    let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
    Choice::Pin { addresses, source: Source::Native, ttl: Some(300) }
}

fn nat64(prefix: &str) -> Choice {
    let prefix: xlat::Pref64 = prefix.parse().unwrap();
    let addresses = vec![prefix.embed(Ipv4Addr::new(203, 0, 113, 25))];
    Choice::Pin { addresses, source: Source::Nat64(prefix), ttl: Some(300) }
}

fn silent() -> Choice {
    Choice::Unknown(DnsDown("timed out".into()))
}

fn add(names: &[&str]) -> Request {
    let names = names.iter().map(|n| name(n)).collect();
    Request::Add { names, ttl: None, a: vec![], ports: vec![] }
}

fn sync(config: &[&str]) -> Request {
    Request::Sync { config: config.iter().map(|n| name(n)).collect(), force: false }
}

/// A hosts file that runs can be made on.
struct Host(Vec<u8>);

impl Host {
    fn run(&mut self, request: &Request, answers: &[(&str, Choice)], now: Instant) -> Vec<(String, Event)> {
        let file = HostsFile::parse(&self.0).unwrap();
        let answers = answers.iter().map(|(n, c)| (name(n), c.clone())).collect();
        let config = match request {
            Request::Sync { config, .. } => config.clone(),
            _ => vec![name("config.example")],
        };
        let outcome = request.apply(&file, file.entries(), &answers, &config, now);
        let new = file.with_entries(&outcome.entries);
        self.0 = new;
        outcome.events.into_iter().map(|(n, e)| (n.to_string(), e)).collect()
    }
    fn entries(&self) -> Vec<Entry> {
        HostsFile::parse(&self.0).unwrap().entries().to_vec()
    }
    fn addresses(&self) -> Vec<String> {
        self.entries()
            .iter()
            .filter_map(Entry::pin)
            .flat_map(|p| &p.addresses)
            .map(|a| a.to_string())
            .collect()
    }
    fn queried(&self, request: &Request, prefixes: &Prefixes, now: Instant) -> Vec<String> {
        request.queries(&self.entries(), prefixes, now).into_iter().map(|q| q.name.to_string()).collect()
    }
}

fn host() -> Host {
    Host(b"127.0.0.1 localhost\n".to_vec())
}

fn event<'a>(events: &'a [(String, Event)], name: &str) -> &'a Event {
    let mut found = events.iter().filter(|(n, _)| n == name);
    let event = &found.next().unwrap().1;
    assert!(found.next().is_none(), "one event per name: {events:?}");
    event
}

#[test]
fn add_then_rm_leaves_no_trace() {
    let mut host = host();
    let before = host.0.clone();
    let events = host.run(&add(&["a.example"]), &[("a.example", pin(&["2001:db8::1"]))], at(0));
    assert!(matches!(event(&events, "a.example"), Event::Pinned { before: None, .. }));
    assert_eq!(host.addresses(), ["2001:db8::1"]);
    assert_eq!(host.entries()[0].pin().unwrap().expires, at(SHORTEST_LIFE.into()));
    let events = host.run(&Request::Rm(Some(vec![name("a.example"), name("b.example")])), &[], at(1));
    assert_eq!(event(&events, "a.example"), &Event::Removed { in_config: false });
    assert_eq!(event(&events, "b.example"), &Event::NotPinned);
    assert_eq!(host.0, before);
}

#[test]
fn some_names_fail() {
    let mut host = host();
    let answers = [
        ("a.example", pin(&["2001:db8::1"])),
        ("b.example", Choice::Refused(Why::NoNat64)),
        ("c.example", silent()),
    ];
    let events = host.run(&add(&["a.example", "b.example", "c.example"]), &answers, at(0));
    assert_eq!(event(&events, "b.example"), &Event::Failed(Why::NoNat64));
    assert_eq!(event(&events, "c.example"), &Event::Failed(Why::DnsDown));
    assert_eq!(host.entries().len(), 1, "a name that never was pinned is not remembered");
}

#[test]
fn the_users_own_line_wins() {
    let mut host = Host(b"10.0.0.1 a.example\n".to_vec());
    let before = host.0.clone();
    let events = host.run(&add(&["a.example"]), &[("a.example", pin(&["2001:db8::1"]))], at(0));
    assert_eq!(event(&events, "a.example"), &Event::OwnLine(1));
    assert_eq!(host.0, before);
    let events = host.run(&sync(&["a.example"]), &[("a.example", pin(&["2001:db8::1"]))], at(0));
    assert_eq!(event(&events, "a.example"), &Event::OwnLine(1));
    assert_eq!(host.0, before);
    // One that appears later takes the pin away, without asking the DNS; when it goes, the pin is back.
    let mut host = self::host();
    host.run(&add(&["a.example"]), &[("a.example", pin(&["2001:db8::1"]))], at(0));
    let with_pin = host.0.clone();
    host.0.splice(0..0, b"10.0.0.1 a.example\n".to_vec());
    let events = host.run(&sync(&[]), &[], at(1));
    assert_eq!(event(&events, "a.example"), &Event::OwnLine(1));
    assert!(host.addresses().is_empty());
    assert!(host.run(&sync(&[]), &[("a.example", pin(&["2001:db8::1"]))], at(2)).is_empty(), "said once");
    host.0.drain(..b"10.0.0.1 a.example\n".len());
    host.run(&sync(&[]), &[("a.example", pin(&["2001:db8::1"]))], at(0));
    assert_eq!(host.0, with_pin);
}

#[test]
fn sync_renews_and_writes_rarely() {
    let mut host = host();
    host.run(&add(&["a.example"]), &[("a.example", pin(&["2001:db8::1"]))], at(0));
    let none = Prefixes::default();
    assert!(host.queried(&sync(&[]), &none, at(299)).is_empty());
    assert_eq!(host.queried(&Request::Sync { config: vec![], force: true }, &none, at(1)), ["a.example"]);
    assert_eq!(host.queried(&sync(&[]), &none, at(300)), ["a.example"]);
    let before = host.0.clone();
    let events = host.run(&sync(&[]), &[("a.example", pin(&["2001:db8::1"]))], at(300));
    assert_eq!(event(&events, "a.example"), &Event::Confirmed);
    assert_eq!(host.0, before);
    let half = u64::from(SHORTEST_LIFE) / 2;
    let events = host.run(&sync(&[]), &[("a.example", pin(&["2001:db8::1"]))], at(half));
    assert_eq!(event(&events, "a.example"), &Event::Renewed(at(half + u64::from(SHORTEST_LIFE))));
    assert_ne!(host.0, before);
}

#[test]
fn a_renumbered_server_and_a_new_prefix() {
    let mut host = host();
    host.run(&add(&["a.example"]), &[("a.example", pin(&["2001:db8::1"]))], at(0));
    let events = host.run(&sync(&[]), &[("a.example", pin(&["2001:db8::2"]))], at(300));
    let Event::Pinned { before: Some(before), .. } = event(&events, "a.example") else { panic!() };
    assert_eq!(before[0].to_string(), "2001:db8::1");
    assert_eq!(host.addresses(), ["2001:db8::2"]);

    host.run(&add(&["b.example"]), &[("b.example", nat64(P))], at(300));
    let new: xlat::Pref64 = "2001:db8:65::/96".parse().unwrap();
    let prefixes = Prefixes { used: Some(new), known: vec![new] };
    assert_eq!(
        host.queried(&sync(&[]), &prefixes, at(301)),
        ["b.example"],
        "at once, not when the TTL is over"
    );
    // Also while the DNS is down; that does not prolong the pin.
    let expires = host.entries()[1].pin().unwrap().expires;
    let moved = Choice::Moved { addresses: vec![new.embed(Ipv4Addr::new(203, 0, 113, 25))], prefix: new };
    host.run(&sync(&[]), &[("b.example", moved.clone())], at(301));
    assert_eq!(host.addresses(), ["2001:db8::2", "2001:db8:65::cb00:7119"]);
    assert_eq!(host.entries()[1].pin().unwrap().expires, expires);
    let mut expired = Host(host.0.clone());
    let events = expired.run(&sync(&[]), &[("b.example", moved)], expires);
    assert_eq!(event(&events, "b.example"), &Event::Unpinned(Why::DnsDown));
}

#[test]
fn dns_down_keeps_a_pin_until_it_expires() {
    let mut host = host();
    host.run(&add(&["a.example"]), &[("a.example", pin(&["2001:db8::1"]))], at(0));
    host.run(&add(&["b.example"]), &[("b.example", nat64(P))], at(0));
    let both = |choice: &Choice| [("a.example", choice.clone()), ("b.example", choice.clone())];
    let life = u64::from(SHORTEST_LIFE);
    let before = host.0.clone();
    let events = host.run(&sync(&[]), &both(&silent()), at(life - 1));
    assert_eq!(event(&events, "a.example"), &Event::Kept { why: Why::DnsDown, until: at(life) });
    let events = host.run(&sync(&[]), &[("b.example", Choice::Refused(Why::NoNat64))], at(life - 1));
    assert_eq!(event(&events, "b.example"), &Event::Kept { why: Why::NoNat64, until: at(life) });
    assert_eq!(host.0, before);
    let events = host.run(&sync(&[]), &both(&silent()), at(life));
    assert_eq!(event(&events, "a.example"), &Event::Unpinned(Why::DnsDown));
    assert!(host.addresses().is_empty());
    let waiting = host.0.clone();
    let events = host.run(&sync(&[]), &both(&silent()), at(life + 900));
    assert_eq!(event(&events, "a.example"), &Event::Failed(Why::DnsDown));
    assert_eq!(host.0, waiting, "nothing new, nothing written");
    // And it comes back by itself.
    host.run(&sync(&[]), &both(&pin(&["2001:db8::1"])), at(life + 1800));
    assert_eq!(host.addresses(), ["2001:db8::1", "2001:db8::1"]);
}

#[test]
fn a_name_that_stops_resolving_is_unpinned_at_once() {
    let mut host = host();
    host.run(&add(&["a.example"]), &[("a.example", pin(&["2001:db8::1"]))], at(0));
    let events = host.run(&sync(&[]), &[("a.example", Choice::Refused(Why::NoAddress))], at(300));
    assert_eq!(event(&events, "a.example"), &Event::Unpinned(Why::NoAddress));
    assert!(host.addresses().is_empty());
    assert_eq!(host.entries().len(), 1, "the wish stands");
}

#[test]
fn names_of_the_configuration_come_and_go() {
    let mut host = host();
    let before = host.0.clone();
    assert_eq!(host.queried(&sync(&["c.example"]), &Prefixes::default(), at(0)), ["c.example"]);
    let events = host.run(&sync(&["c.example"]), &[("c.example", silent())], at(0));
    assert_eq!(event(&events, "c.example"), &Event::Failed(Why::DnsDown));
    assert_eq!(host.0, before);
    host.run(&sync(&["c.example"]), &[("c.example", pin(&["2001:db8::1"]))], at(0));
    assert_eq!(host.entries()[0].origin, Origin::Config);
    let events = host.run(&sync(&["c.example"]), &[("c.example", Choice::Refused(Why::NoAddress))], at(300));
    assert_eq!(event(&events, "c.example"), &Event::Unpinned(Why::NoAddress));
    assert_eq!(host.0, before, "the configuration remembers");
    host.run(&sync(&["c.example"]), &[("c.example", pin(&["2001:db8::1"]))], at(600));
    let events = host.run(&sync(&[]), &[], at(601));
    assert_eq!(event(&events, "c.example"), &Event::Removed { in_config: false });
    assert_eq!(host.0, before);
    // A name that was also added stays.
    host.run(&sync(&["c.example"]), &[("c.example", pin(&["2001:db8::1"]))], at(600));
    host.run(&add(&["c.example"]), &[("c.example", pin(&["2001:db8::1"]))], at(601));
    assert!(host.run(&sync(&[]), &[], at(602)).is_empty());
    assert_eq!(host.addresses(), ["2001:db8::1"]);
    // rm says that the configuration will bring it back.
    host.run(&add(&["config.example"]), &[("config.example", pin(&["2001:db8::1"]))], at(601));
    let events = host.run(&Request::Rm(None), &[], at(603));
    assert_eq!(event(&events, "config.example"), &Event::Removed { in_config: true });
    assert_eq!(host.0, before);
}

#[test]
fn wishes_are_remembered() {
    let mut host = host();
    let request = Request::Add {
        names: vec![name("a.example")],
        ttl: Some(600),
        a: vec![Ipv4Addr::new(203, 0, 113, 25)],
        ports: vec![587],
    };
    host.run(&request, &[("a.example", nat64(P))], at(0));
    let query = &sync(&[]).queries(&host.entries(), &Prefixes::default(), at(300))[0];
    assert_eq!((&query.want_a[..], &query.ports[..]), (&[Ipv4Addr::new(203, 0, 113, 25)][..], &[587][..]));
    assert_eq!(host.entries()[0].pin().unwrap().expires, at(600));
    host.run(&add(&["a.example"]), &[("a.example", nat64(P))], at(0));
    assert_eq!(host.entries()[0].want_ttl, None, "the last add counts");
}

use super::*;
use crate::ra::Pref64Option;
use proptest::prelude::*;

const S: Duration = Duration::from_secs(1);
const ETH0: u32 = 2;
const ETH1: u32 = 3;

fn p(text: &str) -> Pref64 {
    text.parse().unwrap()
}

const A: &str = "2001:db8:a::/96";
const B: &str = "2001:db8:b::/96";
const C: &str = "64:ff9b::/96";

fn router(last: u16, ifindex: u32) -> Router {
    Router { address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last), ifindex }
}

fn advert(prefixes: &[(&str, u64)]) -> RouterAdvert {
    RouterAdvert {
        router_lifetime: S * 1800,
        prefixes: prefixes
            .iter()
            .map(|(prefix, lifetime)| Pref64Option { prefix: p(prefix), lifetime: S * *lifetime as u32 })
            .collect(),
        ..Default::default()
    }
}

fn found(prefixes: &[&str], ttl: u32) -> DnsOutcome {
    DnsOutcome::Found { prefixes: prefixes.iter().map(|prefix| p(prefix)).collect(), ttl: S * ttl }
}

/// A machine with one link up, at time zero.
struct Machine {
    d: Discovery,
    now: Duration,
    /// Every action so far, with its time.
    log: Vec<(Duration, Action)>,
}

impl Machine {
    fn new(settings: Settings) -> Self {
        let mut this = Self {
            d: Discovery::new(settings, Jitter::new(7), Duration::ZERO),
            now: Duration::ZERO,
            log: vec![],
        };
        this.d.on_links(this.now, &[ETH0]);
        this
    }

    fn usual() -> Self {
        Self::new(settings())
    }

    /// Lets time pass until `at` seconds, doing every tick at the time that was asked for.
    fn until(&mut self, at: u32) {
        let end = S * at;
        let mut rounds = 0;
        while let Some(wake) = self.d.next_wake().filter(|wake| *wake <= end) {
            rounds += 1;
            assert!(rounds < 10_000, "busy loop at {:?}", self.now);
            self.now = self.now.max(wake);
            let (_, actions) = self.d.tick(self.now);
            let now = self.now;
            self.log.extend(actions.into_iter().map(|action| (now, action)));
        }
        self.now = end;
    }

    fn ra(&mut self, from: Router, prefixes: &[(&str, u64)]) -> bool {
        self.d.on_advert(self.now, from, &advert(prefixes))
    }

    fn dns(&mut self, outcome: &DnsOutcome) -> bool {
        self.d.on_dns(self.now, outcome)
    }

    fn used(&self) -> Option<(String, Source)> {
        self.d.used().map(|known| (known.prefix.to_string(), known.source))
    }

    fn count(&self, action: Action) -> usize {
        self.log.iter().filter(|(_, done)| *done == action).count()
    }
}

fn settings() -> Settings {
    Settings { methods: vec![Method::Ra, Method::Dns], start_delay: S, ..Default::default() }
}

fn is(prefix: &str, source: Source) -> Option<(String, Source)> {
    Some((prefix.to_owned(), source))
}

const SOLICIT: Action = Action::Solicit { ifindex: ETH0 };

#[test]
fn nothing_is_guessed() {
    let mut m = Machine::usual();
    m.until(3600);
    assert_eq!(m.d.known(), []);
}

#[test]
fn without_a_link_nothing_is_sent() {
    let mut d = Discovery::new(settings(), Jitter::new(1), Duration::ZERO);
    assert_eq!(d.next_wake(), None);
    assert_eq!(d.tick(S * 100), (false, vec![]));
    assert!(!d.on_advert(S, router(1, ETH0), &advert(&[(A, 600)])), "no such link");
    assert!(!d.on_dns(S, &found(&[A], 600)));
}

#[test]
fn three_solicitations_four_seconds_apart_then_ever_fewer() {
    let mut m = Machine::usual();
    m.until(12);
    let times: Vec<Duration> =
        m.log.iter().filter(|(_, action)| *action == SOLICIT).map(|(at, _)| *at).collect();
    assert_eq!(times.len(), 3);
    assert!(times[0] < S);
    for pair in times.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= S * 36 / 10 && gap <= S * 44 / 10, "{gap:?}");
    }
    m.until(24 * 3600);
    let a_day = m.count(SOLICIT);
    assert!((25..40).contains(&a_day), "{a_day}: at most one an hour in the long run");
}

#[test]
fn a_router_that_answers_ends_soliciting_and_keeps_dns_quiet() {
    let mut m = Machine::usual();
    m.ra(router(1, ETH0), &[(A, 1800)]);
    for minute in 1..60 {
        m.until(minute * 60);
        m.ra(router(1, ETH0), &[(A, 1800)]);
    }
    assert_eq!(m.log, []);
    assert_eq!(m.used(), is(A, Source::Ra));
    assert_eq!(m.d.known()[0].router, Some(router(1, ETH0)));
}

#[test]
fn configuration_comes_first_and_discovers_nothing() {
    let mut m = Machine::new(Settings { prefixes: vec![p(B), p(C)], ..settings() });
    m.ra(router(1, ETH0), &[(A, 1800)]);
    m.until(100);
    assert_eq!(m.used(), is(B, Source::Config));
    assert_eq!(m.log, []);
    let order: Vec<Source> = m.d.known().iter().map(|known| known.source).collect();
    assert_eq!(order, [Source::Config, Source::Config, Source::Ra]);
}

#[test]
fn dns_is_used_until_a_router_speaks() {
    let mut m = Machine::usual();
    m.until(1);
    assert_eq!(m.count(Action::QueryDns), 1);
    assert!(m.dns(&found(&[B, C], 600)));
    assert_eq!(m.used(), is(B, Source::Dns));
    assert_eq!(m.d.known()[0].expires, Some(S * 601));
    m.until(2);
    m.ra(router(1, ETH0), &[(A, 1800)]);
    assert_eq!(m.used(), is(A, Source::Ra));
    assert_eq!(m.d.known().len(), 3);
    m.until(900);
    assert_eq!(m.count(Action::QueryDns), 1, "not needed, not asked");
    assert_eq!(m.d.known().len(), 1);
}

#[test]
fn the_order_of_methods_is_the_operators() {
    let mut m = Machine::new(Settings { methods: vec![Method::Dns, Method::Ra], ..settings() });
    m.ra(router(1, ETH0), &[(A, 1800)]);
    m.until(1);
    m.dns(&found(&[B], 600));
    assert_eq!(m.used(), is(B, Source::Dns));
}

#[test]
fn dns_is_asked_again_shortly_before_it_expires() {
    let mut m = Machine::usual();
    m.until(1);
    m.dns(&found(&[B], 600));
    m.until(601);
    let again = m.log.iter().rfind(|(_, action)| *action == Action::QueryDns).unwrap().0;
    assert!(again <= S * 591 && again >= S * 530, "{again:?}");
    assert_eq!(m.used(), is(B, Source::Dns), "kept while the question is open");
    m.dns(&found(&[B], 600));
    assert_eq!(m.used(), is(B, Source::Dns));
}

#[test]
fn a_silent_resolver_is_asked_ever_less_and_its_last_word_holds_for_an_hour() {
    let mut m = Machine::usual();
    m.until(1);
    m.dns(&found(&[B], 600));
    m.until(600);
    let mut queries = 0;
    while m.used().is_some() {
        let before = m.count(Action::QueryDns);
        m.dns(&DnsOutcome::Failed);
        m.until(m.now.as_secs() as u32 + 10);
        queries += m.count(Action::QueryDns) - before;
        assert!(m.now < S * 5000);
    }
    assert!(m.now > S * 4000, "{:?}", m.now);
    assert!(queries < 30, "{queries}");
    // A negative answer, in contrast, is believed at once and for its TTL.
    let mut m = Machine::usual();
    m.until(1);
    m.dns(&found(&[B], 600));
    m.until(600);
    m.dns(&DnsOutcome::Negative { ttl: S * 900 });
    assert_eq!(m.used(), None);
    let before = m.count(Action::QueryDns);
    m.until(1499);
    assert_eq!(m.count(Action::QueryDns), before, "RFC 7050 §3: obey the negative TTL");
    m.until(1570);
    assert_eq!(m.count(Action::QueryDns), before + 1);
}

#[test]
fn a_ttl_of_zero_is_no_flood() {
    let mut m = Machine::usual();
    m.until(1);
    let mut asked = 0;
    while m.now < S * 3600 {
        m.dns(&found(&[B], 0));
        assert_eq!(m.used(), is(B, Source::Dns));
        let before = m.count(Action::QueryDns);
        m.until(m.now.as_secs() as u32 + 5);
        asked += m.count(Action::QueryDns) - before;
    }
    assert!(asked < 90, "{asked}");
}

#[test]
fn two_routers_do_not_make_it_flap() {
    let mut m = Machine::usual();
    m.ra(router(1, ETH0), &[(A, 600)]);
    for second in 1..300 {
        m.until(second);
        let mut better = advert(&[(B, 600)]);
        better.preference = Preference::High;
        m.d.on_advert(m.now, router(2, ETH0), &better);
        assert_eq!(m.used(), is(A, Source::Ra));
        m.ra(router(1, ETH0), &[(A, 600)]);
    }
    // Router 1 dies: its prefix is used to its end, then the other's.
    m.until(898);
    m.ra(router(2, ETH0), &[(B, 600)]);
    assert_eq!(m.used(), is(A, Source::Ra));
    m.until(900);
    assert_eq!(m.used(), is(B, Source::Ra));
}

#[test]
fn router_preference_decides_at_first_and_then_the_order_seen() {
    let mut m = Machine::new(Settings { prefixes: vec![p(C)], ask_all: true, ..settings() });
    m.ra(router(1, ETH0), &[(A, 600)]);
    let mut better = advert(&[(B, 600)]);
    better.preference = Preference::High;
    m.d.on_advert(m.now, router(2, ETH0), &better);
    let order: Vec<String> = m.d.known().iter().map(|known| known.prefix.to_string()).collect();
    assert_eq!(order, [C, B, A]);
}

#[test]
fn withdrawal_takes_effect_at_once() {
    let mut m = Machine::usual();
    m.ra(router(1, ETH0), &[(A, 600), (B, 600)]);
    assert_eq!(m.used(), is(A, Source::Ra));
    assert!(m.ra(router(1, ETH0), &[(A, 0)]));
    assert_eq!(m.used(), is(B, Source::Ra));
    m.ra(router(1, ETH0), &[(B, 0)]);
    assert_eq!(m.used(), None);
    assert!(!m.ra(router(1, ETH0), &[(B, 0)]), "twice is once");
    m.until(2);
    assert_eq!(m.count(Action::QueryDns), 1, "now the resolver is needed");
    m.dns(&found(&[A], 600));
    assert_eq!(m.used(), is(A, Source::Dns));
}

#[test]
fn a_prefix_that_one_of_two_routers_withdraws_stays() {
    let mut m = Machine::usual();
    m.ra(router(1, ETH0), &[(A, 600)]);
    m.ra(router(2, ETH0), &[(A, 600), (B, 600)]);
    m.ra(router(1, ETH0), &[(A, 0)]);
    assert_eq!(m.used(), is(A, Source::Ra));
    assert_eq!(m.d.used().unwrap().router, Some(router(2, ETH0)));
}

#[test]
fn an_expired_prefix_is_not_torn_out_while_dns_vouches_for_it() {
    let mut m = Machine::usual();
    m.ra(router(1, ETH0), &[(A, 120)]);
    m.ra(router(2, ETH0), &[(B, 1200)]);
    m.d.on_resolvers(m.now);
    // DNS has vouched for A meanwhile.
    let mut all = Machine::new(Settings { ask_all: true, ..settings() });
    all.ra(router(1, ETH0), &[(A, 120)]);
    all.ra(router(2, ETH0), &[(B, 1200)]);
    all.until(2);
    all.dns(&found(&[A], 3600));
    all.until(121);
    assert_eq!(all.used(), is(A, Source::Dns), "expired in the RA, vouched for by DNS");
    all.until(900);
    assert_eq!(all.used(), is(A, Source::Dns));
    // Without that, the other router's prefix takes over.
    m.until(121);
    assert_eq!(m.used(), is(B, Source::Ra));
}

#[test]
fn a_withdrawn_prefix_gives_way_even_if_dns_still_vouches() {
    let mut m = Machine::new(Settings { ask_all: true, ..settings() });
    m.ra(router(1, ETH0), &[(A, 600)]);
    m.ra(router(2, ETH0), &[(B, 600)]);
    m.until(2);
    m.dns(&found(&[A], 3600));
    m.ra(router(1, ETH0), &[(A, 0)]);
    assert_eq!(m.used(), is(B, Source::Ra));
}

#[test]
fn dns_is_asked_and_the_router_solicited_before_the_last_prefix_expires() {
    let mut m = Machine::usual();
    m.ra(router(1, ETH0), &[(A, 600)]);
    m.until(560);
    assert_eq!(m.log, []);
    m.until(580);
    assert_eq!(m.count(Action::QueryDns), 1);
    assert!(m.count(SOLICIT) >= 1);
    m.dns(&found(&[A], 600));
    m.until(620);
    assert_eq!(m.used(), is(A, Source::Dns), "no gap");
}

#[test]
fn the_fallback_waits_for_discovery_and_gives_way_to_it() {
    let mut m = Machine::new(Settings { fallback: Some(p(C)), ..settings() });
    m.until(3);
    assert_eq!(m.used(), None);
    m.until(5);
    assert_eq!(m.used(), is(C, Source::Fallback));
    m.ra(router(1, ETH0), &[(A, 60)]);
    assert_eq!(m.used(), is(A, Source::Ra));
    m.until(70);
    assert_eq!(m.used(), is(C, Source::Fallback));
    let m = Machine::new(Settings { fallback: Some(p(C)), methods: vec![], ..settings() });
    assert_eq!(m.used(), is(C, Source::Fallback), "nothing to wait for");
}

#[test]
fn a_link_that_goes_takes_its_prefixes_along() {
    let mut m = Machine::usual();
    m.d.on_links(m.now, &[ETH0, ETH1]);
    m.ra(router(1, ETH0), &[(A, 600)]);
    m.ra(router(1, ETH1), &[(B, 600)]);
    assert_eq!(m.used(), is(A, Source::Ra));
    assert!(m.d.on_links(m.now, &[ETH1]));
    assert_eq!(m.used(), is(B, Source::Ra));
    assert!(!m.ra(router(1, ETH0), &[(A, 600)]), "an advertisement that was still in the queue");
    assert!(m.d.on_links(m.now, &[]));
    assert_eq!(m.d.known(), []);
    assert_eq!(m.d.next_wake(), None);
    // And back.
    m.d.on_links(m.now, &[ETH0]);
    m.until(2);
    assert!(m.count(SOLICIT) >= 1 && m.count(Action::QueryDns) >= 1);
}

#[test]
fn losing_every_link_abandons_the_query() {
    let mut m = Machine::usual();
    m.until(1);
    m.d.on_links(m.now, &[]);
    m.until(2);
    assert_eq!(m.count(Action::CancelDns), 1);
    assert!(!m.dns(&found(&[A], 600)), "an answer from the network that is gone");
}

#[test]
fn new_resolvers_are_asked_and_the_old_answer_holds_until_then() {
    let mut m = Machine::usual();
    m.until(1);
    m.dns(&found(&[A], 3600));
    m.d.on_resolvers(m.now);
    m.until(3);
    assert_eq!(m.count(Action::QueryDns), 2);
    assert_eq!(m.used(), is(A, Source::Dns));
    m.dns(&found(&[B], 3600));
    assert_eq!(m.used(), is(B, Source::Dns));
}

#[test]
fn reordered_answers_do_not_make_it_flap() {
    let mut m = Machine::usual();
    m.until(1);
    m.dns(&found(&[A, B], 600));
    m.d.on_resolvers(m.now);
    m.until(3);
    m.dns(&found(&[B, A], 600));
    assert_eq!(m.used(), is(A, Source::Dns));
}

#[test]
fn a_restart_interrupts_nothing_but_must_be_confirmed() {
    let known =
        Known { prefix: p(B), source: Source::Ra, router: Some(router(1, ETH0)), expires: None, used: true };
    let mut m = Machine::usual();
    assert!(m.d.restore(m.now, &known, Some(S * 900)));
    assert_eq!(m.used(), is(B, Source::Ra));
    let mut confirmed = Machine { d: m.d.clone(), now: m.now, log: vec![] };
    confirmed.until(1);
    assert_eq!(confirmed.count(SOLICIT), 1, "asked at once");
    confirmed.ra(router(2, ETH0), &[(A, 900)]);
    confirmed.ra(router(1, ETH0), &[(B, 900)]);
    confirmed.until(100);
    assert_eq!(confirmed.used(), is(B, Source::Ra), "the prefix in use survives the restart");
    m.until(31);
    assert_eq!(m.used(), None, "another network by now");
    // From DNS: until the resolver says otherwise.
    let known = Known { prefix: p(B), source: Source::Dns, router: None, expires: None, used: true };
    let mut m = Machine::usual();
    m.d.restore(m.now, &known, Some(S * 900));
    m.until(2);
    assert_eq!(m.count(Action::QueryDns), 1);
    assert_eq!(m.used(), is(B, Source::Dns));
    m.dns(&found(&[A], 900));
    assert_eq!(m.used(), is(A, Source::Dns));
}

#[test]
fn a_solicitation_that_cannot_be_sent_is_tried_again_ever_later() {
    let mut m = Machine::usual();
    let mut tries = Vec::new();
    while m.now < S * 3600 {
        let before = m.count(SOLICIT);
        m.until(m.now.as_secs() as u32 + 1);
        if m.count(SOLICIT) > before {
            tries.push(m.now.as_secs());
            m.d.on_solicit_failed(m.now, ETH0);
        }
    }
    assert!(
        tries.iter().filter(|at| **at < 10).count() >= 3,
        "{tries:?}: an address that appears soon is used soon"
    );
    assert!(tries.len() < 25, "{tries:?}: a link without IPv6 costs next to nothing");
}

#[test]
fn a_flood_of_prefixes_is_bounded() {
    let mut m = Machine::usual();
    for n in 0..1000 {
        m.ra(router(n, ETH0), &[(&format!("2001:db8:{n:x}::/96"), 600)]);
    }
    assert_eq!(m.d.known().len(), MAX_RA_PREFIXES);
    assert_eq!(m.used(), is("2001:db8::/96", Source::Ra));
}

#[derive(Debug, Clone)]
enum Event {
    Advert { router: u16, ifindex: u32, prefix: usize, lifetime: u64 },
    Found { prefix: usize, ttl: u32 },
    Negative,
    Failed,
    Links(Vec<u32>),
    Resolvers,
    Sleep(u32),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1u16..3, 2u32..4, 0usize..3, prop_oneof![Just(0u64), 1u64..2000]).prop_map(
            |(router, ifindex, prefix, lifetime)| Event::Advert { router, ifindex, prefix, lifetime }
        ),
        (0usize..3, 0u32..2000).prop_map(|(prefix, ttl)| Event::Found { prefix, ttl }),
        Just(Event::Negative),
        Just(Event::Failed),
        proptest::collection::vec(2u32..4, 0..3).prop_map(Event::Links),
        Just(Event::Resolvers),
        (0u32..4000).prop_map(Event::Sleep),
    ]
}

proptest! {
    #[test]
    fn invariants(
        events in proptest::collection::vec(event(), 0..60),
        ask_all: bool,
        fallback: bool,
        dns_first: bool,
        seed: u64,
    ) {
        let mut methods = vec![Method::Ra, Method::Dns];
        if dns_first {
            methods.reverse();
        }
        let fallback = fallback.then(|| p(C));
        let settings = Settings { methods, fallback, ask_all, start_delay: S, ..Default::default() };
        let mut m = Machine {
            d: Discovery::new(settings, Jitter::new(seed), Duration::ZERO),
            now: Duration::ZERO,
            log: vec![],
        };
        for event in events {
            let before = m.d.known().to_vec();
            let name = |index: usize| [A, B, C][index];
            let changed = match event {
                Event::Advert { router: r, ifindex, prefix, lifetime } => m.ra(router(r, ifindex), &[(name(prefix), lifetime)]),
                Event::Found { prefix, ttl } => m.dns(&found(&[name(prefix)], ttl)),
                Event::Negative => m.dns(&DnsOutcome::Negative { ttl: S }),
                Event::Failed => m.dns(&DnsOutcome::Failed),
                Event::Links(up) => m.d.on_links(m.now, &up),
                Event::Resolvers => m.d.on_resolvers(m.now),
                Event::Sleep(seconds) => {
                    m.until(m.now.as_secs() as u32 + seconds);
                    before != m.d.known()
                }
            };
            prop_assert_eq!(changed, before != m.d.known(), "a change is reported, and nothing else");
            let known = m.d.known();
            prop_assert_eq!(known.iter().filter(|known| known.used).count(), usize::from(!known.is_empty()));
            prop_assert!(known.first().is_none_or(|first| first.used));
            prop_assert!(known.iter().all(|known| known.expires.is_none_or(|at| at >= m.now)));
            // Stability: the prefix in use before is still used if its own source still vouches for it
            // and no better source knows anything.
            if let (Some(old), Some(new)) = (before.first(), m.d.used()) {
                let same = known.iter().any(|known| known.prefix == old.prefix && known.source == old.source);
                if same && new.prefix != old.prefix {
                    prop_assert!(m.d.rank(new.source) < m.d.rank(old.source), "{:?} -> {:?}", old, new);
                }
            }
        }
    }
}

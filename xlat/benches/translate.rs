//! What one packet of each kind costs. Prints; asserts nothing.
//!
//!     cargo bench -p xlat
//!
//! Each figure is the fastest of several rounds, which other work on the machine disturbs least. The time to bring the
//! packet into the buffer is measured by itself and taken off.

use std::hint::black_box;
use std::time::Instant;

use xlat::{Config, HEADROOM, LinkMtu, Offload, Translator, Verdict};

#[path = "../tests/vectors/mod.rs"]
mod vectors;

const ROUNDS: usize = 15;
const REPEATS: u32 = 20_000;

/// One packet, named after its vector or made from one.
struct Case {
    name: String,
    to_v6: bool,
    packet: Vec<u8>,
    offload: Offload,
}

fn main() {
    let config = Config::new(
        "2001:db8:64::/96".parse().unwrap(),
        "192.0.0.1".parse().unwrap(),
        "2001:db8:c1a7::1".parse().unwrap(),
    );
    let translator = Translator::new(config).unwrap();
    println!("{:<34} {:>6} {:>9}", "packet", "bytes", "ns/packet");
    for case in cases() {
        println!("{:<34} {:>6} {:>9.1}", case.name, case.packet.len(), nanoseconds(&translator, &case));
    }
}

fn cases() -> Vec<Case> {
    let (v4, v6) = (vectors::v4_to_v6(), vectors::v6_to_v4());
    let case = |to_v6: bool, name: &str| {
        let all = if to_v6 { &v4 } else { &v6 };
        let vector = all.iter().find(|vector| vector.name == name).expect("a vector of that name");
        let offload = Offload {
            partial_checksum: vector.settings.get("partial").is_some_and(|value| value == "true"),
            gso_size: vector.settings.get("gso").map_or(0, |value| value.parse().unwrap()),
        };
        let name = format!("{} {name}", if to_v6 { "4to6" } else { "6to4" });
        Case { name, to_v6, packet: vector.input.clone(), offload }
    };
    let mut cases = Vec::new();
    for name in ["tcp", "tcp-partial", "tcp-gso", "udp", "echo-8", "fragment-middle", "df-fits"] {
        cases.push(case(true, name));
    }
    for name in [
        "udp-zero-checksum",
        "no-df-udp",
        "frag-needed-1400-1480-1500",
        "extension-128",
        "df-too-big",
        "igmp",
    ] {
        cases.push(case(true, name));
    }
    for name in ["tcp", "tcp-partial", "tcp-gso", "udp", "echo-129", "fragment-middle", "size-1261"] {
        cases.push(case(false, name));
    }
    for name in ["extension-headers-skipped", "time-exceeded-0", "extension-152", "too-big", "source-fe80::1"]
    {
        cases.push(case(false, name));
    }
    cases
}

fn nanoseconds(translator: &Translator, case: &Case) -> f64 {
    let mtu = LinkMtu { ipv4: 1480, ipv6: 1500 };
    let mut buf = vec![0; HEADROOM + case.packet.len()];
    let mut out = vec![0; 1500];
    let range = HEADROOM..buf.len();
    let mut best = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        for (translate, best) in [false, true].into_iter().zip(&mut best) {
            let start = Instant::now();
            for _ in 0..REPEATS {
                // All that a translation reads and writes but the far payload, which it leaves alone.
                let head = case.packet.len().min(256);
                buf[HEADROOM..HEADROOM + head].copy_from_slice(&case.packet[..head]);
                let buf = black_box(&mut buf[..]);
                if !translate {
                    continue;
                }
                let verdict = if case.to_v6 {
                    translator.v4_to_v6(buf, range.clone(), case.offload, mtu)
                } else {
                    translator.v6_to_v4(buf, range.clone(), case.offload, mtu)
                };
                if let Verdict::Fragment(mut fragments) = verdict {
                    while let Some(len) = fragments.next(buf, &mut out) {
                        black_box(&out[..len]);
                    }
                } else {
                    black_box(verdict);
                }
            }
            *best = best.min(start.elapsed().as_nanos() as f64 / f64::from(REPEATS));
        }
    }
    best[1] - best[0]
}

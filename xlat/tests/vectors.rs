//! Every rule, byte for byte: replays the vectors in `vectors/`.

use xlat::{Config, DropReason, HEADROOM, LinkMtu, MAX_REPLY_LEN, Offload, Translator, Verdict};

#[path = "vectors/mod.rs"]
mod vectors;
use vectors::Vector;

fn settings(vector: &Vector) -> (Config, Offload, LinkMtu) {
    let get = |key: &str, default: &'static str| {
        vector.settings.get(key).map_or(default, String::as_str).to_string()
    };
    let flag = |key, default| get(key, default).parse::<bool>().unwrap();
    let mut config = Config::new(
        get("pref64", "2001:db8:64::/96").parse().unwrap(),
        "192.0.0.1".parse().unwrap(),
        get("clat_ipv6", "2001:db8:c1a7::1").parse().unwrap(),
    );
    config.private_ipv4 = flag("private_ipv4", "false");
    config.copy_traffic_class = flag("copy_traffic_class", "true");
    config.compute_udp_checksum = flag("compute_udp_checksum", "true");
    config.lowest_ipv6_mtu = get("lowest_ipv6_mtu", "1280").parse().unwrap();
    for address in get("own_ipv4", "").split_whitespace() {
        config.own_ipv4.insert(address.parse().unwrap()).unwrap();
    }
    let offload =
        Offload { partial_checksum: flag("partial", "false"), gso_size: get("gso", "0").parse().unwrap() };
    let mtu = get("mtu", "1480 1500");
    let (ipv4, ipv6) = mtu.split_once(' ').unwrap();
    (config, offload, LinkMtu { ipv4: ipv4.parse().unwrap(), ipv6: ipv6.parse().unwrap() })
}

/// The verdict as the vectors put it, and the packets that came out.
fn run(vector: &Vector, to_v6: bool) -> (String, Vec<Vec<u8>>) {
    let (config, offload, mtu) = settings(vector);
    let translator = Translator::new(config).unwrap();
    let mut buf = vec![0xee; HEADROOM];
    buf.extend(&vector.input);
    let before = buf.clone();
    let packet = HEADROOM..buf.len();
    let verdict = if to_v6 {
        translator.v4_to_v6(&mut buf, packet, offload, mtu)
    } else {
        translator.v6_to_v4(&mut buf, packet, offload, mtu)
    };
    match verdict {
        Verdict::Forward(range) => ("forward".into(), vec![buf[range].to_vec()]),
        Verdict::Fragment(mut fragments) => {
            let mut out = vec![0; fragments.max_len()];
            let mut outputs = Vec::new();
            while let Some(len) = fragments.next(&buf, &mut out) {
                outputs.push(out[..len].to_vec());
            }
            ("fragments".into(), outputs)
        }
        Verdict::Reply(reply) => {
            assert_eq!(buf, before, "{}: the original must not change", vector.name);
            let mut out = [0; MAX_REPLY_LEN];
            let len = translator.write_reply(&reply, &vector.input, &mut out);
            (format!("reply {}", reply.reason()), vec![out[..len].to_vec()])
        }
        Verdict::Drop(reason) => {
            assert_eq!(buf, before, "{}: the original must not change", vector.name);
            (format!("drop {reason}"), Vec::new())
        }
    }
}

fn replay(vectors: &[Vector], to_v6: bool) {
    let mut failures = Vec::new();
    for vector in vectors {
        let (verdict, outputs) = run(vector, to_v6);
        if verdict != vector.verdict {
            failures.push(format!("{}: {verdict}, expected {}", vector.name, vector.verdict));
        } else if outputs != vector.outputs {
            let show = |packets: &[Vec<u8>]| {
                let hex =
                    |packet: &Vec<u8>| packet.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
                packets.iter().map(hex).collect::<Vec<_>>().join("\n    ")
            };
            failures.push(format!(
                "{} ({}):\n    {}\n  expected\n    {}",
                vector.name,
                vector.rule,
                show(&outputs),
                show(&vector.outputs)
            ));
        }
    }
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), vectors.len(), failures.join("\n"));
}

#[test]
fn from_ipv4_to_ipv6() {
    let vectors = vectors::v4_to_v6();
    assert!(vectors.len() > 200);
    replay(&vectors, true);
}

#[test]
fn from_ipv6_to_ipv4() {
    let vectors = vectors::v6_to_v4();
    assert!(vectors.len() > 200);
    replay(&vectors, false);
}

/// Each drop reason is shown by some vector, but for the one that only a caller's mistake can cause.
#[test]
fn every_reason_has_a_vector() {
    let all: Vec<Vector> = vectors::v4_to_v6().into_iter().chain(vectors::v6_to_v4()).collect();
    for reason in DropReason::ALL {
        let shown = all
            .iter()
            .any(|vector| vector.verdict.split_once(' ').is_some_and(|(_, name)| name == reason.as_str()));
        assert!(shown || *reason == DropReason::NoHeadroom, "{reason}");
    }
}

/// The files are what the generator writes. Without Python this cannot be told, and the files are right as they are.
#[test]
fn files_are_generated() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/generate.py");
    match std::process::Command::new("python3").arg(script).arg("--check").output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => eprintln!("skipped: cannot run python3: {error}"),
    }
}

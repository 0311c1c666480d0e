//! Reads the test vectors beside this file. Usable from any crate's tests with `#[path]`.
#![allow(unreachable_pub, dead_code)] // not every user needs every field

use std::collections::BTreeMap;

/// One test vector; see the head of the `.txt` files.
#[derive(Debug, Default, Clone)]
pub struct Vector {
    pub name: String,
    pub rule: String,
    /// Settings that differ from the defaults, as text.
    pub settings: BTreeMap<String, String>,
    pub input: Vec<u8>,
    /// `forward`, `fragments`, `reply REASON` or `drop REASON`.
    pub verdict: String,
    pub outputs: Vec<Vec<u8>>,
}

/// The vectors from IPv4 to IPv6.
pub fn v4_to_v6() -> Vec<Vector> {
    parse(include_str!("4to6.txt"))
}

/// The vectors from IPv6 to IPv4.
pub fn v6_to_v4() -> Vec<Vector> {
    parse(include_str!("6to4.txt"))
}

fn parse(text: &str) -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    let mut in_output = false;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("== ") {
            vectors.push(Vector { name: name.to_string(), ..Vector::default() });
            continue;
        }
        let vector = vectors.last_mut().expect("a vector begins with its name");
        if let Some(field) = line.strip_prefix("  ") {
            let (octets, _) = field.split_once('|').expect("a comment behind each field");
            let packet = if in_output { vector.outputs.last_mut().expect("out:") } else { &mut vector.input };
            packet.extend(bytes(octets));
            continue;
        }
        match line.split_once(':').map(|(key, value)| (key, value.trim())).expect("key: value") {
            ("rule", value) => vector.rule = value.to_string(),
            ("in", _) => in_output = false,
            ("out", _) => {
                in_output = true;
                vector.outputs.push(Vec::new());
            }
            ("verdict", value) => vector.verdict = value.to_string(),
            (key, value) => {
                vector.settings.insert(key.to_string(), value.to_string());
            }
        }
    }
    vectors
}

/// `12 34 56`, or `03 +7 *100` for 100 bytes from 03 in steps of 7.
fn bytes(text: &str) -> Vec<u8> {
    let octet = |text| u8::from_str_radix(text, 16).expect("hexadecimal");
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        [first, step, count] if step.starts_with('+') => {
            let step: u8 = step[1..].parse().expect("+STEP");
            let count: usize = count[1..].parse().expect("*COUNT");
            std::iter::successors(Some(octet(first)), |last| Some(last.wrapping_add(step)))
                .take(count)
                .collect()
        }
        _ => words.into_iter().map(octet).collect(),
    }
}

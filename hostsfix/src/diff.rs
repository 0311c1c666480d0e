//! Unified diffs, as `diff -u` prints them and `patch` takes them.

use std::ops::Range;

use crate::hosts::lines;

/// Lines around a change.
const CONTEXT: usize = 3;
/// Above this many line pairs the middle of the files is shown as one change.
const MAX_TABLE: usize = 4_000_000;

/// The change from `old` to `new`; empty if there is none. Any bytes.
#[must_use]
pub fn unified(old: &[u8], new: &[u8], old_name: &str, new_name: &str) -> Vec<u8> {
    if old == new {
        return Vec::new();
    }
    let old: Vec<_> = lines(old).map(|line| line.bytes()).collect();
    let new: Vec<_> = lines(new).map(|line| line.bytes()).collect();
    let mut out = format!("--- {old_name}\n+++ {new_name}\n").into_bytes();
    for group in grouped(&changes(&old, &new)) {
        print_hunk(&mut out, &old, &new, &group);
    }
    out
}

/// Lines of the old file that give way to lines of the new one.
#[derive(Clone, Debug)]
struct Change {
    old: Range<usize>,
    new: Range<usize>,
}

fn changes(old: &[&[u8]], new: &[&[u8]]) -> Vec<Change> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let (n, m) = (old_rest.len() - tail, new_rest.len() - tail);
    if n.saturating_mul(m) > MAX_TABLE {
        return vec![Change { old: head..head + n, new: head..head + m }];
    }
    // Longest common subsequence: common[i][j] is its length for old_rest[i..n] and new_rest[j..m].
    let mut common = vec![0u32; (n + 1) * (m + 1)];
    let at = |i: usize, j: usize| i * (m + 1) + j;
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            common[at(i, j)] = if old_rest[i] == new_rest[j] {
                common[at(i + 1, j + 1)] + 1
            } else {
                common[at(i + 1, j)].max(common[at(i, j + 1)])
            };
        }
    }
    let mut out: Vec<Change> = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < n || j < m {
        if i < n && j < m && old_rest[i] == new_rest[j] {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        let (from_i, from_j) = (i, j);
        while (i < n || j < m) && !(i < n && j < m && old_rest[i] == new_rest[j]) {
            if j >= m || (i < n && common[at(i + 1, j)] >= common[at(i, j + 1)]) { i += 1 } else { j += 1 }
        }
        out.push(Change { old: head + from_i..head + i, new: head + from_j..head + j });
    }
    out
}

/// Changes whose context would touch belong to one hunk.
fn grouped(changes: &[Change]) -> Vec<Vec<Change>> {
    let mut groups: Vec<Vec<Change>> = Vec::new();
    for change in changes {
        match groups.last_mut() {
            Some(group)
                if group.last().is_some_and(|last| change.old.start - last.old.end <= 2 * CONTEXT) =>
            {
                group.push(change.clone());
            }
            _ => groups.push(vec![change.clone()]),
        }
    }
    groups
}

fn print_hunk(out: &mut Vec<u8>, old: &[&[u8]], new: &[&[u8]], group: &[Change]) {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return };
    let before = first.old.start.min(CONTEXT);
    let after = (old.len() - last.old.end).min(CONTEXT);
    let old_range = first.old.start - before..last.old.end + after;
    let new_range = first.new.start - before..last.new.end + after;
    out.extend_from_slice(format!("@@ -{} +{} @@\n", position(&old_range), position(&new_range)).as_bytes());
    let mut at = old_range.start;
    for change in group {
        old[at..change.old.start].iter().for_each(|line| print_line(out, b' ', line));
        old[change.old.clone()].iter().for_each(|line| print_line(out, b'-', line));
        new[change.new.clone()].iter().for_each(|line| print_line(out, b'+', line));
        at = change.old.end;
    }
    old[at..old_range.end].iter().for_each(|line| print_line(out, b' ', line));
}

/// `start,length` with lines counted from 1; an empty range stands after the line before it.
fn position(range: &Range<usize>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => (range.start + 1).to_string(),
        length => format!("{},{length}", range.start + 1),
    }
}

fn print_line(out: &mut Vec<u8>, sign: u8, line: &[u8]) {
    out.push(sign);
    out.extend_from_slice(line);
    if !line.ends_with(b"\n") {
        out.extend_from_slice(b"\n\\ No newline at end of file\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn diff(old: &str, new: &str) -> String {
        String::from_utf8(unified(old.as_bytes(), new.as_bytes(), "a", "b")).unwrap()
    }

    #[test]
    fn examples() {
        assert_eq!(diff("x\n", "x\n"), "");
        assert_eq!(diff("", "x\n"), "--- a\n+++ b\n@@ -0,0 +1 @@\n+x\n");
        assert_eq!(diff("x\n", ""), "--- a\n+++ b\n@@ -1 +0,0 @@\n-x\n");
        assert_eq!(
            diff("1\n2\n3\n4\n5\n6\n", "1\n2\n3\n4\nfive\n6"),
            "--- a\n+++ b\n@@ -2,5 +2,5 @@\n 2\n 3\n 4\n-5\n-6\n+five\n+6\n\\ No newline at end of file\n"
        );
        let two = diff("a\n1\n2\n3\n4\n5\n6\n7\nb\n", "A\n1\n2\n3\n4\n5\n6\n7\nB\n");
        assert_eq!(two.matches("@@ -").count(), 2, "{two}");
        let one = diff("a\n1\n2\n3\n4\n5\n6\nb\n", "A\n1\n2\n3\n4\n5\n6\nB\n");
        assert_eq!(one.matches("@@ -").count(), 1, "{one}");
    }

    /// Applies a diff, strictly.
    fn patch(old: &[u8], diff: &[u8]) -> Vec<u8> {
        let old: Vec<_> = lines(old).map(|l| l.bytes()).collect();
        let mut diff_lines = lines(diff).map(|l| l.bytes()).skip(2).peekable();
        let (mut out, mut at): (Vec<u8>, usize) = (Vec::new(), 0);
        while let Some(line) = diff_lines.next() {
            if line.starts_with(b"@@") {
                let text = std::str::from_utf8(line).unwrap();
                let spec = text[4..].split(' ').next().unwrap();
                let (start, length) = spec.split_once(',').unwrap_or((spec, "1"));
                let start: usize = start.parse().unwrap();
                let start = if length == "0" { start } else { start - 1 };
                out.extend(old[at..start].concat());
                at = start;
                continue;
            }
            let mut body = line[1..].to_vec();
            if diff_lines.next_if(|next| next.starts_with(b"\\")).is_some() {
                body.pop();
            }
            if line[0] != b'+' {
                assert_eq!(old[at], body);
                at += 1;
            }
            if line[0] != b'-' {
                out.extend(body);
            }
        }
        out.extend(old[at..].concat());
        out
    }

    proptest! {
        #[test]
        fn applies(old in "[ab\n]{0,40}", new in "[ab\n]{0,40}", common in "([ab]?\n){0,9}") {
            let old = format!("{common}{old}");
            let new = format!("{common}{new}");
            let diff = unified(old.as_bytes(), new.as_bytes(), "a", "b");
            if old == new {
                prop_assert!(diff.is_empty());
            } else {
                prop_assert_eq!(patch(old.as_bytes(), &diff), new.as_bytes());
            }
        }
    }
}

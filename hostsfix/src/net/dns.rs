//! The DNS, asked directly. Until the shared client is there, it never answers: only `--a` pins work.
#![allow(missing_docs)]

use crate::choose::{DnsDown, Lookup};
use crate::name::HostName;
use pref64::Pref64;
pub struct Dns;
impl Dns {
    pub fn new(_: &pref64::config::Nat64) -> Self {
        Self
    }
    pub fn lookup(&mut self, _: &HostName) -> Lookup {
        Lookup { aaaa: Err(DnsDown("stub".into())), a: Err(DnsDown("stub".into())) }
    }
    pub fn nat64_prefixes(&mut self) -> Vec<Pref64> {
        vec![]
    }
}

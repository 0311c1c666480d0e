//! DNS messages (RFC 1035 §4), as total functions over bytes.

use core::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// UDP answers up to this size are accepted (EDNS0, RFC 6891): what fits every IPv6 path unfragmented.
pub const UDP_SIZE: u16 = 1232;

const HEADER_LEN: usize = 12;
const CLASS_IN: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_SOA: u16 = 6;
const TYPE_OPT: u16 = 41;
/// A CNAME chain longer than this is a loop or a mistake.
const MAX_CHAIN: usize = 16;
/// Records beyond this number are not looked at.
const MAX_RECORDS: usize = 512;
/// The longest name on the wire (RFC 1035 §2.3.4).
const MAX_NAME: usize = 255;

/// The record types that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

impl RecordType {
    const fn code(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
        }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
        })
    }
}

/// An absolute domain name in wire format, without compression.
#[derive(Debug, Clone)]
pub struct Name(Vec<u8>);

/// Why text is no domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or two dots in a row.
    #[error("empty label")]
    EmptyLabel,
    /// A label of more than 63 octets.
    #[error("label longer than 63 octets")]
    LongLabel,
    /// More than 255 octets on the wire.
    #[error("name longer than 253 characters")]
    LongName,
    /// Escapes, blanks, control characters, non-ASCII.
    #[error("character that a host name cannot have")]
    Character,
}

impl Name {
    /// The name in its usual text form, with or without the final dot. Escapes are not understood.
    ///
    /// # Errors
    /// When it is no domain name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            if label.is_empty() {
                return Err(NameError::EmptyLabel);
            }
            if label.len() > 63 {
                return Err(NameError::LongLabel);
            }
            if !label.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
                return Err(NameError::Character);
            }
            wire.push(label.len() as u8);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        if wire.len() > MAX_NAME { Err(NameError::LongName) } else { Ok(Self(wire)) }
    }

    fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.0.as_slice();
        core::iter::from_fn(move || {
            let (&len, tail) = rest.split_first()?;
            let (label, tail) = tail.split_at_checked(len.into())?;
            rest = tail;
            (!label.is_empty()).then_some(label)
        })
    }

    /// The name with the case of its letters flipped by the bits of `noise` (draft-vixie-dnsext-dns0x20).
    fn with_case(&self, noise: u64) -> Self {
        let mut wire = self.0.clone();
        let mut bit = 0;
        let mut at = 0;
        while let Some(len) = wire.get(at).map(|len| usize::from(*len)).filter(|len| *len > 0) {
            for byte in wire.iter_mut().skip(at + 1).take(len).filter(|byte| byte.is_ascii_alphabetic()) {
                if noise >> (bit % 64) & 1 == 1 {
                    *byte ^= 0x20;
                }
                bit += 1;
            }
            at += len + 1;
        }
        Self(wire)
    }
}

impl PartialEq for Name {
    /// Without regard to ASCII case. Length octets are below 64 and no letters, so they compare exactly.
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    /// Without the final dot; anything but plain characters is escaped as `\DDD`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == 1 {
            return f.write_str(".");
        }
        for (index, label) in self.labels().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            for &byte in label {
                if byte.is_ascii_graphic() && !matches!(byte, b'.' | b'\\') {
                    write!(f, "{}", char::from(byte))?;
                } else {
                    write!(f, "\\{byte:03}")?;
                }
            }
        }
        Ok(())
    }
}

/// A question as it goes out; the answer must match it.
#[derive(Debug, Clone)]
pub struct Question {
    /// Random; the answer repeats it.
    pub id: u16,
    name: Name,
    record_type: RecordType,
    exact_case: bool,
}

impl Question {
    /// A question with this identifier. `case_noise`: randomise the letters' case, which the answer must repeat.
    pub fn new(id: u16, name: &Name, record_type: RecordType, case_noise: Option<u64>) -> Self {
        let exact_case = case_noise.is_some();
        let name = case_noise.map_or_else(|| name.clone(), |noise| name.with_case(noise));
        Self { id, name, record_type, exact_case }
    }

    /// The message to send: RD set, CD clear (RFC 7050 §3: otherwise a DNS64 does not synthesise).
    pub fn to_bytes(&self, edns: bool) -> Vec<u8> {
        const FLAGS_RD: u16 = 0x0100;
        let mut message = Vec::with_capacity(HEADER_LEN + self.name.0.len() + 4 + 11);
        for field in [self.id, FLAGS_RD, 1, 0, 0, u16::from(edns)] {
            message.extend(field.to_be_bytes());
        }
        message.extend(&self.name.0);
        message.extend(self.record_type.code().to_be_bytes());
        message.extend(CLASS_IN.to_be_bytes());
        if edns {
            // Root name, OPT, UDP size as class, no extended code, version 0, DO clear, no options (RFC 6891 §6.1.2).
            message.push(0);
            for field in [TYPE_OPT, UDP_SIZE, 0, 0, 0] {
                message.extend(field.to_be_bytes());
            }
        }
        message
    }
}

/// What a server's message says about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Addresses of the asked type.
    Addresses {
        /// In the order received, without duplicates.
        addresses: Vec<IpAddr>,
        /// The names on the way, from the first CNAME's target to the one that has the addresses.
        aliases: Vec<String>,
        /// The smallest TTL of all records used.
        ttl: Duration,
    },
    /// The name exists but has no such record.
    NoData {
        /// As with `Addresses`.
        aliases: Vec<String>,
        /// How long to believe it (RFC 2308 §5); `None`: the server did not say.
        ttl: Option<Duration>,
    },
    /// The name does not exist.
    NxDomain {
        /// As with `NoData`.
        ttl: Option<Duration>,
    },
    /// Ask again over TCP.
    Truncated,
    /// Any other response code: SERVFAIL (2), NOTIMP (4), REFUSED (5), …
    Error(u8),
}

/// FORMERR and NOTIMP: what a server without EDNS0 answers (RFC 6891 §7).
pub const FORMERR: u8 = 1;
/// See [`FORMERR`].
pub const NOTIMP: u8 = 4;

/// Why a message is not a usable answer to a question. On UDP it is ignored: it may be somebody's guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It ends in the middle of something.
    #[error("the message is cut off")]
    Short,
    /// Another identifier, not a response, or another question.
    #[error("it does not answer the question")]
    Mismatch,
    /// A name with a compression loop or a bad label.
    #[error("it has a malformed name")]
    Name,
    /// Record data of an impossible length.
    #[error("it has a malformed record")]
    Record,
    /// CNAMEs that lead in circles.
    #[error("its CNAMEs lead in circles")]
    Chain,
}

struct Record<'a> {
    owner: Name,
    kind: u16,
    ttl: u32,
    data: &'a [u8],
    /// Where the data starts in the message: names in it may point back.
    at: usize,
}

/// Parses a response to `question`.
///
/// # Errors
/// When the message is malformed or answers something else.
pub fn parse(message: &[u8], question: &Question) -> Result<Reply, MessageError> {
    let mut reader = Reader { message, at: 0 };
    let id = reader.u16()?;
    let flags = reader.u16()?;
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?];
    reader.u16()?;
    let is_response = flags & 0x8000 != 0;
    let opcode = flags >> 11 & 0xf;
    let truncated = flags & 0x0200 != 0;
    let rcode = (flags & 0xf) as u8;
    if id != question.id || !is_response || opcode != 0 {
        return Err(MessageError::Mismatch);
    }
    // Some servers leave the question out of errors.
    if counts[0] == 0 && !matches!(rcode, 0 | 3) {
        return Ok(Reply::Error(rcode));
    }
    if counts[0] != 1 {
        return Err(MessageError::Mismatch);
    }
    let name = reader.name()?;
    let same_name = if question.exact_case { name.0 == question.name.0 } else { name == question.name };
    if !same_name || reader.u16()? != question.record_type.code() || reader.u16()? != CLASS_IN {
        return Err(MessageError::Mismatch);
    }
    if truncated {
        return Ok(Reply::Truncated);
    }
    if !matches!(rcode, 0 | 3) {
        return Ok(Reply::Error(rcode));
    }
    let answers = reader.records(counts[1])?;
    let authority = reader.records(counts[2])?;
    answer(message, question, rcode == 3, &answers, &authority)
}

fn answer(
    message: &[u8],
    question: &Question,
    nx_domain: bool,
    answers: &[Record<'_>],
    authority: &[Record<'_>],
) -> Result<Reply, MessageError> {
    let mut owner = question.name.clone();
    let mut aliases = Vec::new();
    let mut ttl = u32::MAX;
    while let Some(alias) = answers.iter().find(|record| record.kind == TYPE_CNAME && record.owner == owner) {
        if aliases.len() == MAX_CHAIN {
            return Err(MessageError::Chain);
        }
        let mut reader = Reader { message, at: alias.at };
        owner = reader.name()?;
        if reader.at != alias.at + alias.data.len() {
            return Err(MessageError::Record);
        }
        aliases.push(owner.to_string());
        ttl = ttl.min(alias.ttl);
    }
    let mut addresses = Vec::new();
    for record in answers.iter().filter(|r| r.kind == question.record_type.code() && r.owner == owner) {
        let address = match question.record_type {
            RecordType::A => {
                <[u8; 4]>::try_from(record.data).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
            }
            RecordType::Aaaa => {
                <[u8; 16]>::try_from(record.data).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))
            }
        };
        let address = address.map_err(|_| MessageError::Record)?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
        ttl = ttl.min(record.ttl);
    }
    if !addresses.is_empty() {
        return Ok(Reply::Addresses { addresses, aliases, ttl: seconds(ttl) });
    }
    let ttl = negative_ttl(message, authority)?;
    // With NXDOMAIN it is the end of the chain that does not exist (RFC 6604 §2).
    Ok(if nx_domain { Reply::NxDomain { ttl } } else { Reply::NoData { aliases, ttl } })
}

/// RFC 2308 §5: the smaller of the SOA's own TTL and its MINIMUM field.
fn negative_ttl(message: &[u8], authority: &[Record<'_>]) -> Result<Option<Duration>, MessageError> {
    let Some(soa) = authority.iter().find(|record| record.kind == TYPE_SOA) else {
        return Ok(None);
    };
    let mut reader = Reader { message, at: soa.at };
    reader.name()?; // MNAME
    reader.name()?; // RNAME
    for _ in ["SERIAL", "REFRESH", "RETRY", "EXPIRE"] {
        reader.u32()?;
    }
    let minimum = valid_ttl(reader.u32()?);
    if reader.at != soa.at + soa.data.len() {
        return Err(MessageError::Record);
    }
    Ok(Some(seconds(soa.ttl.min(minimum))))
}

/// RFC 2181 §8: a TTL with the top bit set counts as zero.
fn valid_ttl(ttl: u32) -> u32 {
    if ttl > i32::MAX as u32 { 0 } else { ttl }
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(ttl.into())
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], MessageError> {
        let bytes = self.message.get(self.at..self.at + len).ok_or(MessageError::Short)?;
        self.at += len;
        Ok(bytes)
    }

    fn u16(&mut self) -> Result<u16, MessageError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32, MessageError> {
        Ok(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    /// A name, following compression pointers (RFC 1035 §4.1.4). Each pointer must lead further back than the one
    /// before, so that this ends.
    fn name(&mut self) -> Result<Name, MessageError> {
        let mut wire = Vec::new();
        let mut here = Reader { message: self.message, at: self.at };
        let mut end = None;
        let mut limit = self.at;
        loop {
            let len = here.take(1)?[0];
            match len {
                0 => {
                    wire.push(0);
                    break;
                }
                1..=0x3f => {
                    wire.push(len);
                    wire.extend_from_slice(here.take(len.into())?);
                }
                0xc0.. => {
                    let target = usize::from(len & 0x3f) << 8 | usize::from(here.take(1)?[0]);
                    end.get_or_insert(here.at);
                    if target >= limit {
                        return Err(MessageError::Name);
                    }
                    limit = target;
                    here.at = target;
                }
                _ => return Err(MessageError::Name),
            }
            if wire.len() >= MAX_NAME {
                return Err(MessageError::Name);
            }
        }
        self.at = end.unwrap_or(here.at);
        Ok(Name(wire))
    }

    fn records(&mut self, count: u16) -> Result<Vec<Record<'a>>, MessageError> {
        let mut records = Vec::new();
        for _ in 0..count {
            let owner = self.name()?;
            let kind = self.u16()?;
            let class = self.u16()?;
            let ttl = valid_ttl(self.u32()?);
            let len = self.u16()?;
            let at = self.at;
            let data = self.take(len.into())?;
            if class == CLASS_IN && records.len() < MAX_RECORDS {
                records.push(Record { owner, kind, ttl, data, at });
            }
        }
        Ok(records)
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;

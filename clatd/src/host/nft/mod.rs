//! Our one netfilter table, for the fallback datapath only.

pub mod message;
pub mod rules;

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::libc;

use super::journal::{Entry, Journal};
use message::{Attributes, Batch, DEL_TABLE};
use rules::Ruleset;

/// A refusal by netfilter.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}{hint}")]
pub struct NftError {
    what: String,
    source: io::Error,
    hint: &'static str,
}

/// A socket to netfilter. A table that it owns lives as long as it does.
pub struct Netfilter {
    socket: Socket,
    /// Tables that this process created: nobody else's is ever deleted.
    created: Vec<String>,
}

impl Netfilter {
    /// Opens the socket in the calling thread's network namespace.
    pub fn new() -> Result<Self, NftError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| NftError {
            what: "open a netfilter socket".into(),
            source,
            hint: " (the fallback datapath needs nftables in the kernel)",
        })?;
        Ok(Self { socket, created: Vec::new() })
    }

    /// Creates the table. Where the kernel cannot tie it to this socket, it is
    /// noted in the journal first.
    pub fn create(&mut self, rules: &Ruleset, journal: &mut Journal) -> anyhow::Result<()> {
        let what = format!("create the netfilter table ip6 {}", rules.table);
        match self.transact(rules.create(true), &what) {
            Ok(()) => {
                self.created.push(rules.table.clone());
                return Ok(());
            }
            Err(error) if matches!(error.source.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL)) => {}
            Err(error) => return Err(error.into()),
        }
        journal.note([Entry::Table { name: rules.table.clone() }])?;
        if let Err(error) = self.transact(rules.create(false), &what) {
            journal.forget(|entry| matches!(entry, Entry::Table { name } if *name == rules.table))?;
            return Err(error.into());
        }
        self.created.push(rules.table.clone());
        Ok(())
    }

    /// Deletes a table if it is this process's.
    pub fn delete_created(&mut self, table: &str, journal: &mut Journal) -> anyhow::Result<()> {
        if !self.created.iter().any(|name| name == table) {
            return Ok(());
        }
        self.delete(table, journal)?;
        self.created.retain(|name| name != table);
        Ok(())
    }

    /// Deletes the table; no error if it is not there.
    fn delete(&mut self, table: &str, journal: &mut Journal) -> anyhow::Result<()> {
        let mut batch = Batch::new();
        batch.add(DEL_TABLE, 0, Attributes::new().string(1, table));
        match self.transact(batch, &format!("delete the netfilter table ip6 {table}")) {
            Err(error) if error.source.raw_os_error() != Some(libc::ENOENT) => return Err(error.into()),
            _ => {}
        }
        journal.forget(|entry| matches!(entry, Entry::Table { name } if name == table))?;
        Ok(())
    }

    /// Deletes every table that the journal holds.
    pub fn undo(journal: &mut Journal) -> Vec<anyhow::Error> {
        let tables: Vec<String> = journal
            .entries()
            .iter()
            .filter_map(|entry| match entry {
                Entry::Table { name } => Some(name.clone()),
                _ => None,
            })
            .collect();
        if tables.is_empty() {
            return Vec::new();
        }
        match Self::new() {
            Ok(mut netfilter) => {
                tables.iter().filter_map(|table| netfilter.delete(table, journal).err()).collect()
            }
            Err(error) => vec![error.into()],
        }
    }

    /// Sends a transaction and waits for every acknowledgement; the first error counts.
    fn transact(&mut self, batch: Batch, what: &str) -> Result<(), NftError> {
        let failed = |source: io::Error| {
            let hint = match source.raw_os_error() {
                Some(libc::EPERM) => " (needs CAP_NET_ADMIN, or run as root)",
                Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT) => {
                    " (this kernel lacks nftables NAT; clat.address = \"dedicated\" does without NAT)"
                }
                _ => "",
            };
            NftError { what: what.to_owned(), source, hint }
        };
        let (bytes, mut expected) = batch.finish();
        self.socket.send(&bytes, 0).map_err(failed)?;
        let mut first_error = None;
        while expected > 0 {
            let (datagram, _) = self.socket.recv_from_full().map_err(failed)?;
            for code in error_codes(&datagram) {
                expected = expected.saturating_sub(1);
                if code != 0 {
                    // After an error of the whole transaction no more answers come.
                    first_error.get_or_insert(code);
                    expected = 0;
                }
            }
        }
        self.drain();
        match first_error {
            None => Ok(()),
            Some(code) => Err(failed(io::Error::from_raw_os_error(code))),
        }
    }

    /// Throws away answers that belong to a failed transaction.
    fn drain(&mut self) {
        let mut buffer: Vec<u8> = Vec::with_capacity(64 * 1024);
        while self.socket.recv(&mut buffer, libc::MSG_DONTWAIT).is_ok() {
            buffer.clear();
        }
    }
}

/// The errno (0: acknowledged) of each NLMSG_ERROR in a datagram.
fn error_codes(datagram: &[u8]) -> Vec<i32> {
    const NLMSG_ERROR: u16 = 2;
    let mut codes = Vec::new();
    let mut rest = datagram;
    while rest.len() >= 20 {
        let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        if length < 20 || length > rest.len() {
            break;
        }
        if u16::from_ne_bytes([rest[4], rest[5]]) == NLMSG_ERROR {
            codes.push(-i32::from_ne_bytes([rest[16], rest[17], rest[18], rest[19]]));
        }
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    codes
}

//! Kernel forwarding for the fallback datapath, and nothing else.
//!
//! The kernel hands a packet on from one interface to another only if
//! `net.ipv6.conf.all.forwarding` is set, or (since 6.17) if the interface
//! that it came in on has `force_forwarding`. The latter touches no other
//! interface. The former makes every interface a router's: it would stop
//! taking Router Advertisements, and the kernel would forget the default
//! routes that it learned from them. So `accept_ra` is raised to 2 for the
//! moment of the change, and afterwards everything but the one global switch
//! is put back as it was: a kernel interface behaves as a host's by its own
//! `forwarding`, and passes packets on by the global one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::journal::{Entry, Journal};

/// A tree of kernel settings; `/proc/sys`, or a directory in tests.
#[derive(Debug, Clone)]
pub struct Sysctl {
    root: PathBuf,
}

/// A setting that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} the kernel setting {key}: {source}")]
pub struct SysctlError {
    verb: &'static str,
    key: String,
    source: io::Error,
}

impl Default for Sysctl {
    fn default() -> Self {
        Self::new(Path::new("/proc/sys"))
    }
}

impl Sysctl {
    /// Settings below `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn get(&self, key: &str) -> Result<Option<String>, SysctlError> {
        match fs::read_to_string(self.root.join(key)) {
            Ok(value) => Ok(Some(value.trim_end().to_owned())),
            Err(error) if gone(&error) => Ok(None),
            Err(source) => Err(SysctlError { verb: "read", key: key.to_owned(), source }),
        }
    }

    /// Writes a setting, unless it has that value already.
    fn set(&self, key: &str, value: &str) -> Result<(), SysctlError> {
        if self.get(key)?.as_deref() == Some(value) {
            return Ok(());
        }
        match fs::write(self.root.join(key), value) {
            // An interface that has gone took its settings along.
            Err(error) if gone(&error) => Ok(()),
            Err(source) => Err(SysctlError { verb: "write", key: key.to_owned(), source }),
            Ok(()) => Ok(()),
        }
    }

    /// Names below `net/ipv6/conf`, `all` and `default` included.
    fn interfaces(&self) -> Result<Vec<String>, SysctlError> {
        let key = "net/ipv6/conf";
        let read = |source| SysctlError { verb: "list", key: key.to_owned(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(key)).map_err(read)? {
            names.extend(entry.map_err(read)?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    /// Lets IPv6 packets pass between `device` and `uplink`. What it changes
    /// is noted first. On an error the caller undoes what is noted. Fails
    /// rather than write a setting of an interface in `untouchable`.
    pub fn enable_forwarding(
        &self,
        journal: &mut Journal,
        device: &str,
        uplink: &str,
        untouchable: &[String],
    ) -> anyhow::Result<()> {
        if self.get(&forwarding("all"))?.as_deref() == Some("1") {
            return Ok(());
        }
        let force = |name: &str| conf(name, "force_forwarding");
        if self.get(&force(uplink))?.is_some() && self.get(&force(device))?.is_some() {
            if untouchable.iter().any(|name| name == uplink)
                && self.get(&force(uplink))?.as_deref() != Some("1")
            {
                anyhow::bail!(refusal(uplink));
            }
            for key in [force(device), force(uplink)] {
                if let Some(before) = self.get(&key)?.filter(|before| before != "1") {
                    journal.note([Entry::Sysctl { key: key.clone(), before, after: "1".into() }])?;
                    self.set(&key, "1")?;
                }
            }
            return Ok(());
        }
        if let Some(name) = untouchable.first() {
            anyhow::bail!(refusal(name));
        }
        self.enable_global_forwarding(journal)
    }

    fn enable_global_forwarding(&self, journal: &mut Journal) -> anyhow::Result<()> {
        let mut before = Vec::new();
        for name in self.interfaces()? {
            for key in [conf(&name, "accept_ra"), forwarding(&name)] {
                if let Some(value) = self.get(&key)? {
                    before.push((key, value));
                }
            }
        }
        // `after` equals `before` for all but the switch: they are noted so that a
        // crash half-way puts them back, too.
        journal.note(before.iter().map(|(key, value)| {
            let after = if *key == forwarding("all") { "1" } else { value };
            Entry::Sysctl { key: key.clone(), before: value.clone(), after: after.to_owned() }
        }))?;
        let is = |suffix: &'static str| move |(key, _): &&(String, String)| key.ends_with(suffix);
        for (key, _) in before.iter().filter(is("/accept_ra")).filter(|(_, value)| value == "1") {
            self.set(key, "2")?;
        }
        self.set(&forwarding("all"), "1")?;
        for (key, value) in before.iter().filter(is("/forwarding")) {
            if *key != forwarding("all") {
                self.set(key, value)?;
            }
        }
        for (key, value) in before.iter().filter(is("/accept_ra")) {
            self.set(key, value)?;
        }
        Ok(())
    }

    /// Puts back every setting that the journal holds. A value that somebody
    /// else has changed since stays. Goes on after an error; gives back all.
    pub fn undo(&self, journal: &mut Journal) -> Vec<anyhow::Error> {
        let mut errors = Vec::new();
        let all = forwarding("all");
        let noted: Vec<_> = journal
            .entries()
            .iter()
            .filter_map(|entry| match entry {
                Entry::Sysctl { key, before, after } => Some((key.clone(), before.clone(), after.clone())),
                _ => None,
            })
            .collect();
        // Clearing the global switch clears every interface's own; those follow.
        let (switch, others): (Vec<_>, Vec<_>) = noted.iter().partition(|(key, ..)| *key == all);
        let transitional = |key: &str, now: &str| {
            !switch.is_empty() && (key.ends_with("/accept_ra") && now == "2" || key.ends_with("/forwarding"))
        };
        for (key, before, after) in switch.iter().chain(others.iter().rev()) {
            let outcome = self.get(key).and_then(|now| match now {
                Some(now) if now == *after || transitional(key, &now) => self.set(key, before),
                Some(now) if now != *before => {
                    tracing::info!("{key} is {now}, not {after} as we left it: somebody else owns it now");
                    Ok(())
                }
                _ => Ok(()),
            });
            errors.extend(outcome.err().map(anyhow::Error::from));
        }
        if errors.is_empty() {
            errors.extend(
                journal.forget(|entry| matches!(entry, Entry::Sysctl { .. })).err().map(anyhow::Error::from),
            );
        }
        errors
    }
}

fn refusal(name: &str) -> String {
    format!(
        "the portable datapath would have to change settings of {name}, over which this host has booted (NFS root or \
         the kernel's ip=): only the fast path can be used here"
    )
}

fn conf(interface: &str, setting: &str) -> String {
    format!("net/ipv6/conf/{interface}/{setting}")
}

fn forwarding(interface: &str) -> String {
    conf(interface, "forwarding")
}

/// The setting's interface does not exist (any more).
fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENODEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of settings like the kernel's. It does not have the kernel's side
    /// effects; the lab tests see those.
    fn tree(settings: &[(&str, &str, &str)]) -> (tempfile::TempDir, Sysctl, Journal) {
        let dir = tempfile::tempdir().unwrap();
        for (interface, setting, value) in settings {
            let path = dir.path().join(conf(interface, setting));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        }
        let run = dir.path().join("run");
        fs::create_dir(&run).unwrap();
        let sysctl = Sysctl::new(dir.path());
        let journal = Journal::open(&run).unwrap();
        (dir, sysctl, journal)
    }

    #[test]
    fn an_untouchable_interface_stays_untouched() {
        let old = [("all", "forwarding", "0"), ("eth0", "accept_ra", "1"), ("eth1", "accept_ra", "1")];
        let new = [
            ("clat", "force_forwarding", "0"),
            ("eth0", "force_forwarding", "0"),
            ("all", "forwarding", "0"),
        ];
        for (settings, untouchable, allowed) in
            [(&old[..], "eth1", false), (&new[..], "eth0", false), (&new[..], "eth1", true)]
        {
            let (dir, sysctl, mut journal) = tree(settings);
            let result = sysctl.enable_forwarding(&mut journal, "clat", "eth0", &[untouchable.to_owned()]);
            assert_eq!(result.is_ok(), allowed, "{untouchable}: {result:?}");
            if let Err(error) = result {
                assert!(error.to_string().contains(untouchable), "{error}");
                assert!(journal.entries().is_empty());
                for (interface, setting, before) in settings {
                    assert_eq!(value(&sysctl, interface, setting), *before);
                }
            }
            drop(dir);
        }
    }

    fn value(sysctl: &Sysctl, interface: &str, setting: &str) -> String {
        sysctl.get(&conf(interface, setting)).unwrap().unwrap()
    }

    #[test]
    fn new_kernels_forward_between_two_interfaces_only() {
        let (_dir, sysctl, mut journal) = tree(&[
            ("all", "forwarding", "0"),
            ("clat", "force_forwarding", "0"),
            ("eth0", "force_forwarding", "0"),
        ]);
        sysctl.enable_forwarding(&mut journal, "clat", "eth0", &[]).unwrap();
        assert_eq!(value(&sysctl, "all", "forwarding"), "0");
        assert_eq!(value(&sysctl, "eth0", "force_forwarding"), "1");
        assert!(sysctl.undo(&mut journal).is_empty());
        assert_eq!(value(&sysctl, "eth0", "force_forwarding"), "0");
        assert!(journal.entries().is_empty());
    }

    #[test]
    fn old_kernels_get_the_global_switch_and_interfaces_stay_hosts() {
        let (_dir, sysctl, mut journal) = tree(&[
            ("all", "forwarding", "0"),
            ("all", "accept_ra", "1"),
            ("default", "forwarding", "0"),
            ("eth0", "forwarding", "0"),
            ("eth0", "accept_ra", "1"),
            ("docker0", "forwarding", "1"),
            ("docker0", "accept_ra", "0"),
        ]);
        sysctl.enable_forwarding(&mut journal, "clat", "eth0", &[]).unwrap();
        assert_eq!(value(&sysctl, "all", "forwarding"), "1");
        assert_eq!(value(&sysctl, "eth0", "forwarding"), "0");
        assert_eq!(value(&sysctl, "eth0", "accept_ra"), "1");
        // What the kernel does to the others when the switch is cleared:
        sysctl.set(&forwarding("docker0"), "0").unwrap();
        assert!(sysctl.undo(&mut journal).is_empty());
        assert_eq!(value(&sysctl, "all", "forwarding"), "0");
        assert_eq!(value(&sysctl, "docker0", "forwarding"), "1");
    }

    #[test]
    fn a_crash_half_way_is_undone() {
        let (_dir, sysctl, mut journal) =
            tree(&[("all", "forwarding", "0"), ("eth0", "forwarding", "0"), ("eth0", "accept_ra", "1")]);
        sysctl.enable_forwarding(&mut journal, "clat", "eth0", &[]).unwrap();
        sysctl.set(&conf("eth0", "accept_ra"), "2").unwrap();
        sysctl.set(&forwarding("eth0"), "1").unwrap();
        assert!(sysctl.undo(&mut journal).is_empty());
        assert_eq!(value(&sysctl, "eth0", "accept_ra"), "1");
        assert_eq!(value(&sysctl, "eth0", "forwarding"), "0");
    }

    #[test]
    fn a_router_is_left_alone() {
        let (_dir, sysctl, mut journal) = tree(&[("all", "forwarding", "1"), ("eth0", "accept_ra", "2")]);
        sysctl.enable_forwarding(&mut journal, "clat", "eth0", &[]).unwrap();
        assert!(journal.entries().is_empty());
    }

    #[test]
    fn what_somebody_else_changed_since_stays() {
        let (_dir, sysctl, mut journal) = tree(&[
            ("all", "forwarding", "0"),
            ("clat", "force_forwarding", "0"),
            ("eth0", "force_forwarding", "0"),
        ]);
        sysctl.enable_forwarding(&mut journal, "clat", "eth0", &[]).unwrap();
        sysctl.set("net/ipv6/conf/eth0/force_forwarding", "7").unwrap();
        assert!(sysctl.undo(&mut journal).is_empty());
        assert_eq!(value(&sysctl, "eth0", "force_forwarding"), "7");
    }

    #[test]
    fn an_interface_that_has_gone_is_no_error() {
        let (dir, sysctl, mut journal) = tree(&[
            ("all", "forwarding", "0"),
            ("clat", "force_forwarding", "0"),
            ("eth0", "force_forwarding", "0"),
        ]);
        sysctl.enable_forwarding(&mut journal, "clat", "eth0", &[]).unwrap();
        fs::remove_dir_all(dir.path().join("net/ipv6/conf/clat")).unwrap();
        assert!(sysctl.undo(&mut journal).is_empty());
    }
}

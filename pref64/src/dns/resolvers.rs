//! Which DNS servers the system uses.

use std::io;
use std::path::{Path, PathBuf};

use crate::server::Server;

/// The file that glibc reads.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where the network's own servers are listed when [`RESOLV_CONF`] names only a local stub.
///
/// RFC 8880 §7.1: `ipv4only.arpa` must be asked of the network's resolver, not of one on this host.
pub const BEHIND_STUB: [&str; 2] =
    ["/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"];

/// More servers than this are not asked.
const MAX_SERVERS: usize = 8;

/// The system's DNS servers and the file that names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolvers {
    /// In file order.
    pub servers: Vec<Server>,
    /// Where they were found; `None`: nowhere.
    pub file: Option<PathBuf>,
}

/// Reads the system's DNS servers, looking behind a stub resolver of systemd-resolved.
///
/// # Errors
/// When `/etc/resolv.conf` exists but cannot be read, with its path in the message.
pub fn system_resolvers() -> io::Result<Resolvers> {
    resolvers_from(Path::new(RESOLV_CONF), &BEHIND_STUB.map(Path::new))
}

fn resolvers_from(main: &Path, behind: &[&Path]) -> io::Result<Resolvers> {
    let servers = match read(main) {
        Ok(servers) => servers,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            return Err(io::Error::new(error.kind(), format!("cannot read {}: {error}", main.display())));
        }
    };
    if !servers.iter().all(Server::is_resolved_stub) {
        return Ok(Resolvers { servers, file: Some(main.to_owned()) });
    }
    for path in behind {
        if let Ok(own) = read(path)
            && !own.is_empty()
        {
            return Ok(Resolvers { servers: own, file: Some((*path).to_owned()) });
        }
    }
    let file = (!servers.is_empty()).then(|| main.to_owned());
    Ok(Resolvers { servers, file })
}

fn read(path: &Path) -> io::Result<Vec<Server>> {
    // Bytes, not text: one odd comment must not hide the servers.
    Ok(parse(&String::from_utf8_lossy(&std::fs::read(path)?)))
}

/// The `nameserver` lines of a resolv.conf(5). What is no address is skipped, as glibc does.
pub fn parse(text: &str) -> Vec<Server> {
    let mut servers: Vec<Server> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("nameserver")
            && let Some(server) = words.next().and_then(|word| word.parse().ok())
            && servers.len() < MAX_SERVERS
            && !servers.contains(&server)
        {
            servers.push(server);
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameserver_lines() {
        let text = "# nameserver 192.0.2.9\nsearch example.org\n nameserver 2001:db8::53 # ours\nnameserver\tfe80::1%eth0\n\
                    nameserver bogus\nnameserver\n;nameserver 192.0.2.8\noptions edns0\nnameserver 192.0.2.53\nnameserver 192.0.2.53\n";
        let servers: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["2001:db8::53", "fe80::1%eth0", "192.0.2.53"]);
        assert_eq!(parse(&"nameserver 192.0.2.1\nnameserver 192.0.2.2\n".repeat(100)).len(), 2);
    }

    #[test]
    fn behind_the_stub_are_the_networks_own_servers() {
        let dir = tempfile::tempdir().unwrap();
        let [main, resolved, manager] =
            ["resolv.conf", "resolved", "manager"].map(|name| dir.path().join(name));
        let find = || {
            let found = resolvers_from(&main, &[&resolved, &manager]).unwrap();
            (found.servers.iter().map(ToString::to_string).collect::<Vec<_>>(), found.file)
        };
        assert_eq!(find(), (vec![], None), "no file at all");
        std::fs::write(&main, "nameserver 127.0.0.53\n").unwrap();
        assert_eq!(find(), (vec!["127.0.0.53".to_owned()], Some(main.clone())), "better than nothing");
        std::fs::write(&manager, "nameserver 2001:db8::2\n").unwrap();
        assert_eq!(find(), (vec!["2001:db8::2".to_owned()], Some(manager.clone())));
        std::fs::write(&resolved, "nameserver fe80::1%2\nnameserver 2001:db8::1\n").unwrap();
        assert_eq!(find().1, Some(resolved.clone()));
        std::fs::write(&main, "nameserver 127.0.0.1\n").unwrap();
        assert_eq!(find().1, Some(main.clone()), "another local resolver is the operator's choice");
        std::fs::remove_file(&main).unwrap();
        std::fs::create_dir(&main).unwrap();
        assert!(resolvers_from(&main, &[]).unwrap_err().to_string().contains("resolv.conf"));
    }
}

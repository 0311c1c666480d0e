//! What the host would not survive: the way to its NFS servers, and the interface over which its root file system comes.
//!
//! A machine that booted from the network has its programs on the far side of a route. Longer prefixes win over ours, so
//! a connected network is safe by itself; what is looked at here is what a configuration could still do.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

/// An NFS server that file systems of this host are mounted from, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfsServer {
    /// Its address.
    pub address: IpAddr,
    /// The root file system is one of them.
    pub has_root: bool,
    /// The route to it; `None` if there is none now.
    pub route: Option<NfsRoute>,
}

/// The entry of the routing table that packets to a server match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfsRoute {
    /// Outgoing interface.
    pub ifindex: u32,
    /// Next hop, if it has one.
    pub gateway: Option<IpAddr>,
    /// Length of the destination prefix; 0 is a default route.
    pub prefix_len: u8,
    /// Metric; smaller wins.
    pub metric: u32,
}

/// The servers of all mounted NFS file systems; true: of the root file system, too.
pub fn servers() -> Vec<(IpAddr, bool)> {
    // Not readable: nothing is known to be in danger.
    read_servers(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// Interfaces that the kernel configured itself at boot (`ip=` on its command line).
pub fn kernel_configured() -> Vec<String> {
    read_kernel_configured(&fs::read_to_string("/proc/cmdline").unwrap_or_default())
}

/// proc_pid_mountinfo(5): the mount point is the fifth field; type, source and options follow a dash.
fn read_servers(mountinfo: &str) -> Vec<(IpAddr, bool)> {
    let mut found: Vec<(IpAddr, bool)> = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, file_system)) = line.split_once(" - ") else { continue };
        let is_root = mount.split(' ').nth(4) == Some("/");
        let mut fields = file_system.split(' ');
        let (Some("nfs" | "nfs4"), Some(source)) = (fields.next(), fields.next()) else { continue };
        let named = fields.next().and_then(|options| {
            let address = options.split(',').find_map(|option| option.strip_prefix("addr="))?;
            without_zone(address).parse().ok()
        });
        // "server:/path" or "[server]:/path".
        let from_source = || {
            let (server, _) = source.rsplit_once(":/")?;
            without_zone(server.trim_start_matches('[').trim_end_matches(']')).parse().ok()
        };
        let Some(address) = named.or_else(from_source) else { continue };
        match found.iter_mut().find(|(known, _)| *known == address) {
            Some((_, root)) => *root |= is_root,
            None => found.push((address, is_root)),
        }
    }
    found
}

fn without_zone(address: &str) -> &str {
    address.split_once('%').map_or(address, |(address, _)| address)
}

/// `ip=CLIENT:SERVER:GATEWAY:NETMASK:HOST:DEVICE:...` (Documentation/admin-guide/nfs/nfsroot.rst).
fn read_kernel_configured(cmdline: &str) -> Vec<String> {
    cmdline
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("ip=")?.split(':').nth(5))
        .filter(|device| !device.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The server that the CLAT's IPv4 default route would take away: it is reached by a default route itself, and ours
/// would win. `over_dead`: by longer prefixes; else by its metric.
pub fn captured(servers: &[NfsServer], over_dead: bool, metric: u32) -> Option<&NfsServer> {
    servers.iter().find(|server| {
        server.address.is_ipv4()
            && server
                .route
                .as_ref()
                .is_some_and(|route| route.prefix_len == 0 && (over_dead || metric < route.metric))
    })
}

/// True if a server has that address, or is reached over it.
pub fn is_on_the_way(servers: &[NfsServer], address: Ipv4Addr) -> bool {
    let address = IpAddr::V4(address);
    servers.iter().any(|server| {
        server.address == address || server.route.as_ref().and_then(|route| route.gateway) == Some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_among_the_mounts() {
        let mountinfo = "\
22 1 0:21 / / rw,relatime shared:1 - nfs4 10.77.0.1:/export rw,vers=4.2,rsize=262144,proto=tcp,clientaddr=10.77.0.2,local_lock=none,addr=10.77.0.1
23 22 0:5 / /dev rw,nosuid shared:2 - devtmpfs udev rw,size=362164k
40 22 0:40 / /home rw,relatime - nfs server.example:/home rw,vers=3,mountaddr=10.99.0.5,addr=10.99.0.5
41 22 0:41 / /srv\\040x rw shared:7 master:3 - nfs4 [2001:db8::7]:/srv rw,vers=4.2,addr=2001:db8::7
42 22 0:42 / /media rw - nfs4 [fe80::1%eth1]:/m rw,addr=fe80::1%eth1
43 22 0:43 / /old rw - nfs 10.77.0.9:/old rw,vers=3
44 22 0:44 / /again rw - nfs4 10.77.0.1:/again rw,addr=10.77.0.1
";
        let expected: Vec<(IpAddr, bool)> = vec![
            ("10.77.0.1".parse().unwrap(), true),
            ("10.99.0.5".parse().unwrap(), false),
            ("2001:db8::7".parse().unwrap(), false),
            ("fe80::1".parse().unwrap(), false),
            ("10.77.0.9".parse().unwrap(), false),
        ];
        assert_eq!(read_servers(mountinfo), expected);
        assert_eq!(read_servers("garbage\n - nfs\n1 2 3 - nfs4 \n"), vec![]);
    }

    #[test]
    fn interfaces_on_the_command_line() {
        let boot =
            "root=/dev/nfs ip=10.77.0.2:10.77.0.1::255.255.255.252:pi:eth1:off rw nfsroot=10.77.0.1:/export";
        assert_eq!(read_kernel_configured(boot), ["eth1"]);
        for none in ["", "ip=dhcp quiet", "ip=10.0.0.2:::::", "zip=a:b:c:d:e:eth0"] {
            assert!(read_kernel_configured(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn a_server_behind_a_default_route_can_be_lost() {
        let server = |prefix_len, metric| NfsServer {
            address: "10.99.0.5".parse().unwrap(),
            has_root: true,
            route: Some(NfsRoute { ifindex: 3, gateway: None, prefix_len, metric }),
        };
        assert!(captured(&[server(0, 0)], true, 2048).is_some());
        assert!(captured(&[server(0, 0)], false, 2048).is_none());
        assert!(captured(&[server(0, 4000)], false, 2048).is_some());
        for over_dead in [true, false] {
            assert!(captured(&[server(30, 4000)], over_dead, 2048).is_none());
            assert!(captured(&[NfsServer { route: None, ..server(0, 0) }], over_dead, 2048).is_none());
        }
    }

    #[test]
    fn addresses_on_the_way() {
        let server = NfsServer {
            address: "10.99.0.5".parse().unwrap(),
            has_root: false,
            route: Some(NfsRoute { ifindex: 3, gateway: "10.77.0.1".parse().ok(), prefix_len: 0, metric: 0 }),
        };
        let on_the_way = |ip: &str| is_on_the_way(std::slice::from_ref(&server), ip.parse().unwrap());
        assert!(on_the_way("10.99.0.5") && on_the_way("10.77.0.1") && !on_the_way("192.0.0.1"));
    }
}

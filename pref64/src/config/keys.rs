//! The table of every configuration key.

use super::value::{Refusal, Value};
use super::{Address, Config, Datapath, Inbound, Method, PreloadMode, WhenNativeIpv4, check};

/// A section of the configuration file.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its name, without brackets.
    pub name: &'static str,
    /// What it is about, one line.
    pub doc: &'static str,
}

/// Every section, in file order.
pub const SECTIONS: &[Section] = &[
    Section { name: "nat64", doc: "Where the provider's NAT64 is. Shared by all v4shim programs." },
    Section { name: "clat", doc: "The CLAT daemon: IPv4 for the whole machine." },
    Section { name: "preload", doc: "The preload library: IPv4 for one process (`v4shim run`)." },
    Section { name: "hosts", doc: "hostsfix: names pinned in the hosts file." },
];

/// A configuration key.
pub struct Key {
    /// The section it belongs to.
    pub section: &'static str,
    /// Its name inside the section.
    pub name: &'static str,
    /// What values it takes, in words.
    pub values: &'static str,
    /// What applies when the key is absent, in words or as a TOML value.
    pub default: &'static str,
    /// A valid TOML value to show: the default itself where there is one.
    pub example: &'static str,
    /// What it does: plain sentences.
    pub doc: &'static str,
    pub(super) set: fn(&mut Config, &Value) -> Result<(), Refusal>,
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Key")
            .field("section", &self.section)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Every key, in file order.
pub const KEYS: &[Key] = &[
    Key {
        section: "nat64",
        name: "prefix",
        values: "array of IPv6 prefixes of length 32, 40, 48, 56, 64 or 96",
        default: "none: discover it",
        example: r#"["2001:db8:64::/96"]"#,
        doc: "The NAT64's prefix, where it is known beforehand. The first one is used. With a prefix here nothing \
              is discovered.",
        set: |config, value| check::pref64_list(value).map(|v| config.nat64.prefix = v),
    },
    Key {
        section: "nat64",
        name: "discover",
        values: r#"array of "ra", "dns""#,
        default: r#"["ra", "dns"]"#,
        example: r#"["ra", "dns"]"#,
        doc: "How to discover the prefix, in order of preference: \"ra\" is the PREF64 option of Router \
              Advertisements (RFC 8781), \"dns\" asks for ipv4only.arpa (RFC 7050). An empty array turns discovery \
              off.",
        set: |config, value| {
            check::words(value, &[("ra", Method::Ra), ("dns", Method::Dns)])
                .map(|v| config.nat64.discover = v)
        },
    },
    Key {
        section: "nat64",
        name: "dns_servers",
        values: "array of addresses, with %interface and :port where needed",
        default: "the system's resolvers",
        example: r#"["2001:db8::53"]"#,
        doc: "Resolvers to ask for ipv4only.arpa. Useful when the system's resolvers are not the network's own: \
              behind a VPN, or with a public resolver that knows nothing of the NAT64 here (RFC 8880).",
        set: |config, value| check::servers(value).map(|v| config.nat64.dns_servers = v),
    },
    Key {
        section: "nat64",
        name: "fallback_prefix",
        values: "an IPv6 prefix of length 32, 40, 48, 56, 64 or 96",
        default: "none",
        example: r#""64:ff9b::/96""#,
        doc: "The prefix to use while nothing is discovered. Without it v4shim waits: the well-known prefix is \
              never guessed.",
        set: |config, value| {
            let text = check::string(value, r#""64:ff9b::/96""#)?;
            check::pref64(text).map(|v| config.nat64.fallback_prefix = Some(v))
        },
    },
    Key {
        section: "nat64",
        name: "private_ipv4",
        values: "true or false",
        default: "false",
        example: "false",
        doc: "Whether the NAT64 also serves RFC 1918 and other private destinations. Never applies under the \
              well-known prefix 64:ff9b::/96 (RFC 6052 section 3.1).",
        set: |config, value| check::boolean(value).map(|v| config.nat64.private_ipv4 = v),
    },
    Key {
        section: "clat",
        name: "enabled",
        values: "true or false",
        default: "true",
        example: "true",
        doc: "Whether the CLAT daemon does anything at all.",
        set: |config, value| check::boolean(value).map(|v| config.clat.enabled = v),
    },
    Key {
        section: "clat",
        name: "device",
        values: "an interface name of at most 15 bytes",
        default: r#""clat""#,
        example: r#""clat""#,
        doc: "Name of the CLAT's network device.",
        set: |config, value| {
            let name = check::device(check::string(value, r#""clat""#)?)?;
            if name == "lo" {
                return Err(Refusal::new(
                    "the loopback device exists already",
                    "use a name such as \"clat\"",
                ));
            }
            config.clat.device = name;
            Ok(())
        },
    },
    Key {
        section: "clat",
        name: "uplink",
        values: "an interface name",
        default: "where the route to the prefix points",
        example: r#""eth0""#,
        doc: "The IPv6 interface that leads to the NAT64.",
        set: |config, value| {
            check::device(check::string(value, r#""eth0""#)?).map(|v| config.clat.uplink = Some(v))
        },
    },
    Key {
        section: "clat",
        name: "ipv4",
        values: "an IPv4 address",
        default: "the first free one of 192.0.0.0/29 (RFC 7335)",
        example: r#""192.0.0.1""#,
        doc: "The CLAT's own IPv4 address. Only this host sees it.",
        set: |config, value| check::ipv4(value).map(|v| config.clat.ipv4 = Some(v)),
    },
    Key {
        section: "clat",
        name: "address",
        values: r#""shared", "dedicated" or an IPv6 address"#,
        default: r#""shared""#,
        example: r#""shared""#,
        doc: "The IPv6 address that translated packets carry: the host's own (\"shared\"; works everywhere, also \
              with a single DHCPv6 address), one of their own in a /64 of the uplink (\"dedicated\"), or the one \
              given here. One of their own is in use while duplicate address detection goes on (RFC 4429).",
        set: |config, value| {
            config.clat.address = match check::string(value, r#""shared""#)? {
                "shared" => Address::Shared,
                "dedicated" => Address::Dedicated,
                text => Address::Explicit(check::ipv6(text)?),
            };
            Ok(())
        },
    },
    Key {
        section: "clat",
        name: "datapath",
        values: r#""auto", "bpf" or "tun""#,
        default: r#""auto""#,
        example: r#""auto""#,
        doc: "How packets are translated: in the kernel (\"bpf\"), in user space (\"tun\"), or the faster of them \
              that works here (\"auto\").",
        set: |config, value| {
            let words = [("auto", Datapath::Auto), ("bpf", Datapath::Bpf), ("tun", Datapath::Tun)];
            check::word(value, &words).map(|v| config.clat.datapath = v)
        },
    },
    Key {
        section: "clat",
        name: "mtu",
        values: "1260 to 65515",
        default: "the uplink's MTU less 20",
        example: "1480",
        doc: "MTU of the CLAT's device, in bytes of IPv4. IPv6 needs 20 bytes more on the uplink, and at least 1280.",
        set: |config, value| {
            check::integer(
                value,
                1260,
                65515,
                " bytes (the IPv6 packet is 20 bytes larger and IPv6 needs 1280)",
            )
            .map(|v| config.clat.mtu = Some(v))
        },
    },
    Key {
        section: "clat",
        name: "inbound",
        values: r#""replies" or "allow""#,
        default: r#""replies""#,
        example: r#""replies""#,
        doc: "What may come in through the NAT64: only replies to what this host started, or everything.",
        set: |config, value| {
            check::word(value, &[("replies", Inbound::Replies), ("allow", Inbound::Allow)])
                .map(|v| config.clat.inbound = v)
        },
    },
    Key {
        section: "clat",
        name: "when_native_ipv4",
        values: r#""stand-by" or "ignore""#,
        default: r#""stand-by""#,
        example: r#""stand-by""#,
        doc: "What a native IPv4 default route means: stand by until it goes, or run all the same.",
        set: |config, value| {
            check::word(value, &[("stand-by", WhenNativeIpv4::StandBy), ("ignore", WhenNativeIpv4::Ignore)])
                .map(|v| config.clat.when_native_ipv4 = v)
        },
    },
    Key {
        section: "clat",
        name: "dead_ipv4_defaults",
        values: "array of interface names",
        default: "none",
        example: r#"["eth1"]"#,
        doc: "Interfaces whose IPv4 default route leads nowhere, as a netboot network may hand out. Such a route \
              is no reason to stand by, and is passed over whatever its metric; multicast, the interface's own network \
              and routes of longer prefixes go on using it.",
        set: |config, value| check::devices(value).map(|v| config.clat.dead_ipv4_defaults = v),
    },
    Key {
        section: "clat",
        name: "route_metric",
        values: "1 to 4294967295",
        default: "2048",
        example: "2048",
        doc: "Metric of the IPv4 default route through the CLAT. Routes with a lower metric win.",
        set: |config, value| check::integer(value, 1, u32::MAX, "").map(|v| config.clat.route_metric = v),
    },
    Key {
        section: "clat",
        name: "lowest_ipv6_mtu",
        values: "1280 to 65535",
        default: "1280",
        example: "1280",
        doc: "The smallest IPv6 MTU on the way to the NAT64. IPv4 packets that may be fragmented are cut to fit it \
              (RFC 7915 section 4).",
        set: |config, value| {
            check::integer(value, 1280, 65535, " bytes (IPv6 needs 1280)")
                .map(|v| config.clat.lowest_ipv6_mtu = v)
        },
    },
    Key {
        section: "clat",
        name: "copy_traffic_class",
        values: "true or false",
        default: "true",
        example: "true",
        doc: "Whether TOS and traffic class are copied into each other, or always zero (RFC 7915 section 4.1).",
        set: |config, value| check::boolean(value).map(|v| config.clat.copy_traffic_class = v),
    },
    Key {
        section: "preload",
        name: "mode",
        values: r#""auto", "always" or "off""#,
        default: r#""auto""#,
        example: r#""auto""#,
        doc: "When a connection goes to the NAT64: when the kernel has no IPv4 route for it (\"auto\"), always \
              except for local destinations (\"always\"), or never (\"off\").",
        set: |config, value| {
            let words =
                [("auto", PreloadMode::Auto), ("always", PreloadMode::Always), ("off", PreloadMode::Off)];
            check::word(value, &words).map(|v| config.preload.mode = v)
        },
    },
    Key {
        section: "hosts",
        name: "file",
        values: "an absolute path",
        default: r#""/etc/hosts""#,
        example: r#""/etc/hosts""#,
        doc: "The hosts file to edit.",
        set: |config, value| check::file(value).map(|v| config.hosts.file = v),
    },
    Key {
        section: "hosts",
        name: "pin",
        values: "array of host names",
        default: "[]",
        example: "[]",
        doc: "Names that `hostsfix sync` keeps pinned, in addition to those given to `hostsfix add`.",
        set: |config, value| check::host_names(value).map(|v| config.hosts.pin = v),
    },
];

/// The known word closest to `text`, if any is close enough to be a slip of the keyboard.
pub(super) fn closest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.to_ascii_lowercase().replace('-', "_");
    let wanted = plain(text);
    known
        .map(|word| (distance(&wanted, &plain(word)), word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Edit distance in which swapping two neighbours counts once (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    // Longer words are no typing slip of any key; this also bounds the work.
    const LONGEST: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(LONGEST).collect(), b.chars().take(LONGEST).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

use super::*;
use proptest::prelude::*;
use std::path::Path;

fn text(toml: &str) -> Result<Config, ConfigError> {
    Config::from_text(Path::new("t.toml"), toml)
}

fn message(toml: &str) -> String {
    let message = text(toml).expect_err(toml).to_string();
    assert!(!message.contains('\n'), "one line: {message}");
    message
}

fn set(sets: &[&str]) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Config::load_from(&dir.path().join("none.toml"), false, &sets)
}

#[test]
fn an_empty_file_means_the_documented_defaults() {
    assert_eq!(text("").unwrap(), Config::default());
    assert_eq!(text("[nat64]\n[clat]\n[preload]\n[hosts]\n").unwrap(), Config::default());
    let config = Config::default();
    assert_eq!(config.nat64.discover, [Method::Ra, Method::Dns]);
    assert_eq!((config.clat.device.as_str(), config.clat.route_metric), ("clat", 2048));
    assert_eq!((config.clat.address, config.clat.lowest_ipv6_mtu), (Address::Shared, 1280));
}

#[test]
fn every_key_is_understood() {
    let config = text(
        r#"
[nat64]
prefix = ["2001:db8:64::/96", "64:ff9b::/96"]
discover = ["dns"]
dns_servers = ["fe80::1%eth0", "192.0.2.1:5353"]
fallback_prefix = "64:ff9b::/96"
private_ipv4 = true
[clat]
enabled = false
device = "clat9"
uplink = "eth0"
ipv4 = "192.0.0.2"
address = "2001:db8::464"
datapath = "tun"
mtu = 1400
inbound = "allow"
when_native_ipv4 = "ignore"
dead_ipv4_defaults = ["eth1", "eth2"]
route_metric = 1
lowest_ipv6_mtu = 1400
copy_traffic_class = false
[preload]
mode = "always"
[hosts]
file = "/tmp/hosts"
pin = ["Registry.Example.ORG.", "a_b.example"]
"#,
    )
    .unwrap();
    assert_eq!(config.nat64.prefix.len(), 2);
    assert_eq!(config.nat64.dns_servers[0].scope.as_deref(), Some("eth0"));
    assert_eq!(config.nat64.fallback_prefix, Some(Pref64::WELL_KNOWN));
    assert_eq!(config.clat.address, Address::Explicit("2001:db8::464".parse().unwrap()));
    assert_eq!(config.clat.mtu, Some(1400));
    assert_eq!(config.clat.dead_ipv4_defaults, ["eth1", "eth2"]);
    assert_eq!(config.hosts.pin, ["registry.example.org", "a_b.example"]);
}

#[test]
fn the_default_file_is_valid_changes_nothing_and_shows_every_key() {
    let file = default_file();
    assert_eq!(text(&file).unwrap(), Config::default());
    assert!(file.lines().all(|line| line.chars().count() <= 110), "lines fit a terminal");
    // Uncommented, every example parses, and every key appears once.
    let live: String = file
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = text(&live).unwrap();
    for key in KEYS {
        let shown = file.lines().filter(|line| line.starts_with(&format!("#{} = ", key.name))).count();
        assert_eq!(shown, 1, "{}", key.name);
    }
    // Where the example is the default, setting it changes nothing.
    for key in KEYS {
        let one = text(&format!("[{}]\n{} = {}\n", key.section, key.name, key.example)).unwrap();
        if key.example == key.default {
            assert_eq!(
                one,
                Config::default(),
                "{}.{}: the documented default is not the default",
                key.section,
                key.name
            );
        } else {
            assert!(
                one != Config::default() || !key.default.starts_with(['"', '[']),
                "{}.{}: the example shows nothing",
                key.section,
                key.name
            );
        }
    }
    assert_ne!(config, Config::default());
}

#[test]
fn every_key_refuses_every_wrong_type_in_one_line() {
    for key in KEYS {
        for value in
            ["1.5", "1979-05-27", "{ a = 1 }", "[[1]]", "[1]", "99999999999999999999", "\"\\u0000\\n\"", "-1"]
        {
            let message = message(&format!("\n[{}]\n{} = {value}\n", key.section, key.name));
            assert!(message.starts_with(&format!("t.toml:3: {}.{} = ", key.section, key.name)), "{message}");
            assert!(message.contains("; "), "has a remedy: {message}");
        }
    }
}

#[test]
fn messages_name_place_key_value_reason_and_remedy() {
    for (toml, expected) in [
        ("[clat]\ndevise = \"x\"", r#"t.toml:2: clat.devise = "x": unknown key; did you mean clat.device?"#),
        (
            "[clat]\ncopy-traffic-class = true",
            "t.toml:2: clat.copy-traffic-class = true: unknown key; did you mean clat.copy_traffic_class?",
        ),
        ("[clat]\nprefix = \"x\"", r#"t.toml:2: clat.prefix = "x": unknown key; did you mean nat64.prefix?"#),
        ("[preload]\nxyzzy = 1", "t.toml:2: preload.xyzzy = 1: unknown key; the keys of [preload] are mode"),
        ("[cla]\n", "t.toml:1: [cla]: unknown section; did you mean [clat]?"),
        (
            "[wireguard]\n",
            "t.toml:1: [wireguard]: unknown section; the sections are [nat64], [clat], [preload], [hosts]",
        ),
        ("device = \"x\"\n", "t.toml:1: device: a key outside any section; it belongs under [clat]"),
        (
            "clat = 1\n",
            "t.toml:1: clat: a key outside any section; put every key under its section, such as [clat]",
        ),
        (
            "[clat]\nmtu = \"1400\"",
            "t.toml:2: clat.mtu = \"1400\": expected an integer, found a string; write a whole number from 1260 to 65515, without quotes",
        ),
        (
            "[clat]\nmtu = 1259",
            "t.toml:2: clat.mtu = 1259: must be from 1260 to 65515 bytes (the IPv6 packet is 20 bytes larger and IPv6 needs 1280); use a number from 1260 to 65515, or leave the key out",
        ),
        (
            "[clat]\nlowest_ipv6_mtu = 1279",
            "t.toml:2: clat.lowest_ipv6_mtu = 1279: must be from 1280 to 65535 bytes (IPv6 needs 1280); use a number from 1280 to 65535, or leave the key out",
        ),
        (
            "[clat]\ndatapath = \"ebpf\"",
            r#"t.toml:2: clat.datapath = "ebpf": not one of the choices; did you mean "bpf"? The choices are "auto", "bpf", "tun""#,
        ),
        (
            "[clat]\nwhen_native_ipv4 = \"standby\"",
            r#"t.toml:2: clat.when_native_ipv4 = "standby": not one of the choices; did you mean "stand-by"? The choices are "stand-by", "ignore""#,
        ),
        (
            "[clat]\naddress = \"192.0.2.1\"",
            r#"t.toml:2: clat.address = "192.0.2.1": neither "shared" nor "dedicated" nor an IPv6 address; use "shared", "dedicated", or a global address that is routed to this host"#,
        ),
    ] {
        assert_eq!(message(toml), expected);
    }
}

#[test]
fn impossible_values_are_refused_with_their_reason() {
    for (toml, reason) in [
        ("[nat64]\nprefix = [\"2001:db8::/95\"]", "no NAT64 prefix"),
        ("[nat64]\nprefix = [\"2001:db8::1/96\"]", "no NAT64 prefix"),
        ("[nat64]\nprefix = [\"2001:db8:0:0:ff00::/96\"]", "no NAT64 prefix"),
        ("[nat64]\nprefix = \"ff0e::/96\"", "multicast"),
        ("[nat64]\nprefix = \"fe80::/64\"", "link-local"),
        ("[nat64]\nprefix = \"::/96\"", "unspecified"),
        ("[nat64]\nfallback_prefix = \"::ffff:0:0/96\"", "IPv4-mapped"),
        ("[nat64]\nprefix = [\"2001:db8::/96\", \"2001:DB8::/96\"]", "listed twice"),
        ("[nat64]\ndiscover = [\"ra\", \"ra\"]", "listed twice"),
        ("[nat64]\ndiscover = [\"pcp\"]", "not one of the choices"),
        ("[nat64]\ndns_servers = [\"dns.example\"]", "names are not allowed"),
        ("[clat]\ndevice = \"sixteen-bytes-xx\"", "at most 15 bytes"),
        ("[clat]\ndevice = \"\"", "cannot be empty"),
        ("[clat]\ndevice = \"a/b\"", "cannot contain '/'"),
        ("[clat]\ndevice = \"clät\"", "cannot contain 'ä'"),
        ("[clat]\ndevice = \"clat%d\"", "cannot contain '%'"),
        ("[clat]\ndevice = \"all\"", "reserved by the kernel"),
        ("[clat]\ndevice = \"lo\"", "loopback device"),
        ("[clat]\nuplink = \"clat\"", "the CLAT's own device"),
        ("[clat]\ndead_ipv4_defaults = [\"clat\"]", "the CLAT's own device"),
        ("[clat]\nipv4 = \"127.0.0.1\"", "loopback"),
        ("[clat]\nipv4 = \"224.0.0.1\"", "multicast"),
        ("[clat]\nipv4 = \"255.255.255.255\"", "not a host address"),
        ("[clat]\nipv4 = \"169.254.1.1\"", "link-local"),
        ("[clat]\nipv4 = \"192.0.0.8\"", "IANA registry"),
        ("[clat]\nipv4 = \"192.0.0.1/29\"", "not an IPv4 address"),
        ("[clat]\naddress = \"fe80::1\"", "link-local"),
        ("[clat]\naddress = \"::1\"", "cannot appear on a network"),
        ("[clat]\naddress = \"::ffff:192.0.2.1\"", "IPv4-mapped"),
        ("[clat]\naddress = \"ff02::1\"", "multicast"),
        ("[clat]\naddress = \"64:ff9b::1\"", "belongs to the NAT64"),
        (
            "[nat64]\nprefix = \"2001:db8::/64\"\n[clat]\naddress = \"2001:db8::1\"",
            "belongs to the NAT64 (2001:db8::/64)",
        ),
        ("[clat]\nroute_metric = 0", "must be from 1 to 4294967295"),
        ("[clat]\nroute_metric = 4294967296", "must be from 1 to 4294967295"),
        ("[hosts]\nfile = \"hosts\"", "not an absolute path"),
        ("[hosts]\nfile = \"/etc/\"", "a directory"),
        ("[hosts]\npin = [\"192.0.2.1\"]", "an address, not a host name"),
        ("[hosts]\npin = [\"localhost\"]", "localhost is never pinned"),
        ("[hosts]\npin = [\"a..b\"]", "not a host name"),
        ("[hosts]\npin = [\"-a.example\"]", "not a host name"),
        ("[hosts]\npin = [\"a b\"]", "not a host name"),
        ("[clat]\nmtu = 1400\nmtu = 1300", "not valid TOML"),
        ("[clat\n", "not valid TOML"),
    ] {
        let message = message(toml);
        assert!(message.contains(reason), "{toml:?}: {message}");
    }
}

#[test]
fn set_takes_toml_values_and_bare_strings() {
    let config = set(&[
        "clat.address=dedicated",
        "clat.mtu = 1400",
        "clat.enabled=false",
        "nat64.prefix=2001:db8:64::/96",
        r#"nat64.discover=["dns"]"#,
        "nat64.dns_servers=fe80::1%eth0",
        "clat.ipv4=192.0.0.3",
        "hosts.pin=registry.example.org",
    ])
    .unwrap();
    assert_eq!(config.clat.address, Address::Dedicated);
    assert_eq!((config.clat.mtu, config.clat.enabled), (Some(1400), false));
    assert_eq!(config.nat64.prefix.len(), 1);
    assert_eq!(config.nat64.discover, [Method::Dns]);
    for (argument, expected) in [
        (
            "clat.mtu",
            "--set: \"clat.mtu\": there is no '='; write it as --set section.key=value, such as --set clat.address=shared",
        ),
        (
            "mtu=1",
            "--set: \"mtu=1\": the key has no section; write it as --set section.key=value, such as --set clat.address=shared",
        ),
        (
            "clat.mtu=x",
            "--set: clat.mtu = \"x\": expected an integer, found a string; write a whole number from 1260 to 65515, without quotes",
        ),
        ("clat.mut=1", "--set: clat.mut = 1: unknown key; did you mean clat.mtu?"),
        ("klat.mtu=1", "--set: [klat]: unknown section; did you mean [clat]?"),
    ] {
        assert_eq!(set(&[argument]).unwrap_err().to_string(), expected);
    }
    assert!(set(&["nat64.discover=[\"ra\""]).unwrap_err().to_string().contains("not a valid TOML value"));
    assert!(set(&["clat.device="]).unwrap_err().to_string().contains("cannot be empty"));
}

#[test]
fn later_files_and_arguments_win_per_key() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("v4shim.toml");
    let drop_ins = dir.path().join("v4shim.toml.d");
    std::fs::create_dir(&drop_ins).unwrap();
    std::fs::write(&main, "[clat]\nmtu = 1300\ndevice = \"one\"\nuplink = \"eth0\"\n").unwrap();
    std::fs::write(drop_ins.join("20-b.toml"), "[clat]\ndevice = \"three\"\n").unwrap();
    std::fs::write(drop_ins.join("10-a.toml"), "[clat]\ndevice = \"two\"\nmtu = 1400\n").unwrap();
    std::fs::write(drop_ins.join("readme.txt"), "not TOML").unwrap();
    std::fs::write(drop_ins.join(".hidden.toml"), "not TOML").unwrap();
    let config = Config::load_from(&main, true, &["clat.uplink=eth1".to_owned()]).unwrap();
    assert_eq!((config.clat.device.as_str(), config.clat.mtu), ("three", Some(1400)));
    assert_eq!(config.clat.uplink.as_deref(), Some("eth1"));

    // A mistake is reported even where a later file overrides it, and names its own file.
    std::fs::write(drop_ins.join("10-a.toml"), "[clat]\nmtu = 12\n").unwrap();
    std::fs::write(drop_ins.join("30-c.toml"), "[clat]\nmtu = 1400\n").unwrap();
    let message = Config::load_from(&main, true, &[]).unwrap_err().to_string();
    assert!(message.contains("v4shim.toml.d/10-a.toml:2: clat.mtu = 12: "), "{message}");

    // The default file may be missing while its drop-ins exist.
    std::fs::write(drop_ins.join("10-a.toml"), "").unwrap();
    std::fs::remove_file(&main).unwrap();
    assert_eq!(Config::load_from(&main, false, &[]).unwrap().clat.device, "three");
    let message = Config::load_from(&main, true, &[]).unwrap_err().to_string();
    assert!(
        message.ends_with("no such file; create it, or name another one with --config or V4SHIM_CONFIG"),
        "{message}"
    );
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("v4shim.toml");
    std::fs::create_dir(&main).unwrap();
    let message = |path: &Path| Config::load_from(path, false, &[]).unwrap_err().to_string();
    assert!(
        message(&main).contains("v4shim.toml: cannot read the configuration: it is a directory; name a file")
    );
    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    assert!(message(&binary).contains("write it as UTF-8 text"));
    let big = dir.path().join("big.toml");
    std::fs::write(&big, vec![b'\n'; 1024 * 1024 + 1]).unwrap();
    assert!(message(&big).contains("larger than 1048576 bytes"));
}

proptest! {
    #[test]
    fn any_text_is_refused_or_accepted_in_one_line(toml in "(\\[(nat64|clat|hosts)\\]\n)?[a-z_]{0,12}( = )?\\PC{0,40}") {
        if let Err(error) = text(&toml) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn any_set_argument_is_refused_or_accepted_in_one_line(argument in "(clat\\.mtu=|nat64\\.prefix=|hosts\\.pin=)?\\PC{0,40}") {
        if let Err(error) = set(&[&argument]) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}

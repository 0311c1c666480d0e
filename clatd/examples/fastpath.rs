//! The fast path without the daemon, for tests and measurements: makes the device, attaches the programs, translates
//! the rest, and tells on request what was counted. Addresses and routes are the caller's business.
//!
//! `fastpath UPLINK raw|MAC NEXT-HOP|- PREF64 CLAT-IPV4 CLAT-IPV6 shared|dedicated [allow] [clsact] [pin=DIR]`

use std::error::Error;
use std::io::BufRead;
use std::sync::Arc;

use clatd::counters::Counters;
use clatd::datapath::bpf::{Attachment, Class, Event, FastPath, LinkKind, Mode, Params, Way};
use clatd::datapath::tun::{Device, Offloads, Pump, Rules};
use nix::net::if_::if_nametoindex;
use nix::sys::eventfd::EventFd;
use xlat::{Config, LinkMtu, Pref64, Translator};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [uplink, link, next_hop, pref64, clat_ipv4, clat_ipv6, mode, options @ ..] = &args[..] else {
        return Err("usage: see the top of clatd/examples/fastpath.rs".into());
    };
    let has = |option: &str| options.iter().any(|given| given == option);
    let pref64: Pref64 = pref64.parse()?;
    let device = Device::create("clat", Offloads::TcpAndUdp)?;
    let params = Params {
        clat_ifindex: device.ifindex,
        uplink_ifindex: if_nametoindex(uplink.as_str())?,
        link_kind: match link.as_str() {
            "raw" => LinkKind::RawIp,
            mac => {
                let bytes: Vec<u8> =
                    mac.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
                LinkKind::Ethernet { mac: bytes.try_into().map_err(|_| "not a MAC address")? }
            }
        },
        next_hop: if next_hop == "-" { None } else { Some(next_hop.parse()?) },
        pref64,
        clat_ipv4: clat_ipv4.parse()?,
        clat_ipv6: clat_ipv6.parse()?,
        mode: if mode == "shared" { Mode::Shared } else { Mode::Dedicated },
        private_ipv4: false,
        copy_traffic_class: true,
        optimistic: false,
        inbound_allowed: has("allow"),
        own_ipv4: Vec::new(),
        ipv6_mtu: 1500,
        lowest_ipv6_mtu: 1280,
        pin_directory: options.iter().find_map(|option| option.strip_prefix("pin=")).map(Into::into),
        attachment: if has("clsact") { Attachment::Clsact } else { Attachment::Auto },
    };
    let rules = Rules {
        translator: Translator::new(Config::new(pref64, params.clat_ipv4, params.clat_ipv6))?,
        mtu: LinkMtu { ipv4: 1480, ipv6: 1500 },
        kernel_forwards: false,
    };
    let _pump = Pump::start(&device, rules, Arc::new(Counters::default()), Arc::new(EventFd::new()?))?;
    let started = std::time::Instant::now();
    let mut netlink = clatd::netlink::Handle::new()?;
    let mut fast = FastPath::attach(&params, &mut |ifindex| match netlink.filter_qdisc(ifindex)? {
        Some(_) => Ok(()),
        None => Ok(netlink.add_clsact(ifindex)?),
    })?;
    fast.complete()?;
    println!("ready {:?} after {:?}", fast.attachment(), started.elapsed());
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "counters" => {
                let counters = fast.counters()?;
                for event in Event::ALL {
                    for way in [Way::Out, Way::In] {
                        for class in Class::ALL {
                            let count = counters.get(event, way, class);
                            if count.packets > 0 {
                                println!(
                                    "{} {way:?} {} {} packets {} bytes",
                                    event.as_str(),
                                    class.as_str(),
                                    count.packets,
                                    count.bytes
                                );
                            }
                        }
                    }
                }
            }
            "flows" => {
                for flow in fast.flows()? {
                    println!("{flow:?}");
                }
            }
            _ => return Err("commands: counters, flows".into()),
        }
        println!(".");
    }
    Ok(())
}

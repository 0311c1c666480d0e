//! The kernel fast path: eBPF programs (`clatd/bpf/`) on the CLAT's device and on the uplink.
//!
//! ```text
//! attach(Params) ─► load (verify, JIT) ─► configure (a map) ─► clat ingress, uplink ingress, uplink egress
//! complete() ─► clat egress            update(Params) ─► configure                  Drop ─► detach
//! ```
//!
//! With TCX (Linux 6.6) the attachments are links that the kernel undoes when this process dies, however it dies; the
//! one of `link` may be handed on to a next process. Before that they are filters in a `clsact` qdisc, which stay after a
//! `kill -9`; [`FastPath::attach`] puts the new programs in their place. The qdiscs, and filters that nobody takes over,
//! are the caller's to undo.
//! Needs CAP_NET_ADMIN and CAP_BPF.

mod attach;
mod counters;
mod error;
mod layout;
mod link;
mod records;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use aya::programs::tc::SchedClassifierLinkId;
use aya::{Ebpf, EbpfLoader};
use nix::errno::Errno;
use xlat::Pref64;

pub(crate) use attach::{FILTER_NUMBER, FILTER_PRIORITY};
pub use counters::{Class, Count, Event, FastCounters, Way};
pub use error::FastPathError;
pub use layout::{Flow, Owner};
pub use link::TcxLink;
pub use records::Records;

use attach::{Hook, attach_filter, attach_link, hooks, load_and_link, loaded, program, remove_leftovers};
use layout::{ConfigBytes, CounterWords, FlowBytes, FlowKeyBytes};

/// The object, compiled by `build.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/clat.bpf.o"));

/// The same with entry points that BPF_PROG_TEST_RUN can feed.
#[doc(hidden)]
pub static TEST_OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/clat-test.bpf.o"));

/// Sees to it that the interface with this index has a clsact qdisc.
pub type EnsureClsact<'a> = dyn FnMut(u32) -> anyhow::Result<()> + 'a;

/// What the uplink puts in front of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// An Ethernet header. `mac` answers neighbour solicitations for a dedicated address.
    Ethernet {
        /// The uplink's link-layer address.
        mac: [u8; 6],
    },
    /// Nothing: TUN, WireGuard, PPP, mobile modems.
    RawIp,
}

impl LinkKind {
    /// From the link's hardware type (`ARPHRD_*`, as rtnetlink has it) and address; `None` for what the fast path does
    /// not know.
    pub fn from_hardware_type(hardware_type: u16, address: &[u8]) -> Option<Self> {
        const ETHER: u16 = 1;
        const PPP: u16 = 512;
        const RAWIP: u16 = 519;
        const NONE: u16 = 0xfffe;
        match hardware_type {
            ETHER => Some(Self::Ethernet { mac: address.try_into().ok()? }),
            PPP | RAWIP | NONE => Some(Self::RawIp),
            _ => None,
        }
    }
}

/// Whose the CLAT's IPv6 address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The host's own, too.
    Shared,
    /// The CLAT's alone; the host does not have it.
    Dedicated,
}

/// How programs are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attachment {
    /// TCX where the kernel has it, else clsact.
    #[default]
    Auto,
    /// Links (Linux 6.6 and later).
    Tcx,
    /// Filters.
    Clsact,
}

/// Everything the programs must know.
#[derive(Clone, Debug)]
pub struct Params {
    /// Interface index of the CLAT's TUN device.
    pub clat_ifindex: u32,
    /// Interface index of the uplink.
    pub uplink_ifindex: u32,
    /// What the uplink's packets look like.
    pub link_kind: LinkKind,
    /// The router to the NAT64 on an Ethernet uplink; without it the kernel looks the route up for each packet.
    pub next_hop: Option<Ipv6Addr>,
    /// The NAT64's prefix.
    pub pref64: Pref64,
    /// The CLAT's IPv4 address.
    pub clat_ipv4: Ipv4Addr,
    /// The CLAT's IPv6 address.
    pub clat_ipv6: Ipv6Addr,
    /// Whose that is.
    pub mode: Mode,
    /// It is still being checked (RFC 4429): neighbour solicitations for it are not answered here.
    pub optimistic: bool,
    /// The NAT64 serves private IPv4 addresses.
    pub private_ipv4: bool,
    /// Carry the traffic class over.
    pub copy_traffic_class: bool,
    /// Translate what the host did not ask for, too (`inbound = "allow"`).
    pub inbound_allowed: bool,
    /// Other IPv4 addresses of the host.
    pub own_ipv4: Vec<Ipv4Addr>,
    /// MTU of the uplink, or of the path to the NAT64, in bytes.
    pub ipv6_mtu: u32,
    /// RFC 7915 §4 `lowest-ipv6-mtu`, in bytes.
    pub lowest_ipv6_mtu: u32,
    /// Where flow records outlive this process: a directory on a bpffs, of one instance alone. Made if absent.
    pub pin_directory: Option<PathBuf>,
    /// How to attach.
    pub attachment: Attachment,
}

/// The attached programs; dropped, they are detached.
pub struct FastPath {
    /// The attachment on the uplink's ingress, if it is a link.
    ingress: Option<TcxLink>,
    /// The others.
    links: Vec<TcxLink>,
    /// The filters on the uplink, where there are no links.
    filters: Vec<(&'static str, SchedClassifierLinkId)>,
    /// Where [`FastPath::complete`] has to attach.
    last: Option<Hook>,
    ebpf: Ebpf,
    /// What `update` must not change.
    fixed: (u32, u32, bool, Mode),
    attachment: Attachment,
    own_ipv4: Vec<Ipv4Addr>,
    /// Why flow records are not pinned, if they should be.
    pin_failure: Option<String>,
}

/// More records than FLOWS holds.
const MOST_FLOWS: usize = 1 << 18;

/// Maps that outlive the process.
const PINNED: [&str; 3] = ["FLOWS", "MAPPED", "NATIVE_MAPPED"];

impl FastPath {
    /// Loads the programs and attaches all but the one on the egress of the CLAT's device, without which the daemon
    /// translates what the host sends: see [`FastPath::complete`]. `clsact` is called where the kernel has no TCX links,
    /// for each interface before its first filter.
    ///
    /// # Errors
    /// [`FastPathError`] names the call that failed; no program stays attached then.
    pub fn attach(params: &Params, clsact: &mut EnsureClsact<'_>) -> Result<Self, FastPathError> {
        let clat = interface_name(params.clat_ifindex)?;
        let uplink = interface_name(params.uplink_ifindex)?;
        let (pins, pin_failure) = match params.pin_directory.as_deref().map(prepare_pins) {
            None => (None, None),
            Some(Ok(())) => (params.pin_directory.as_deref(), None),
            Some(Err(failure)) => (None, Some(failure)),
        };
        let mut ebpf = load(OBJECT, pins)?;
        configure(&mut ebpf, params, &[])?;

        let ethernet = matches!(params.link_kind, LinkKind::Ethernet { .. });
        let mut hooks = hooks(ethernet, params.mode);
        let interface = |hook: &Hook| match hook.on_uplink {
            true => (params.uplink_ifindex, &uplink),
            false => (params.clat_ifindex, &clat),
        };
        let (attachment, mut links) =
            load_and_link(&mut ebpf, &hooks, params.attachment, |program, hook| {
                let (index, name) = interface(hook);
                attach_link(program, hook, index, name)
            })?;
        let last = hooks.pop();
        let mut filters = Vec::new();
        let mut ingress = None;
        if attachment == Attachment::Clsact {
            for hook in hooks {
                let (index, name) = interface(&hook);
                clsact(index)
                    .map_err(|source| FastPathError::Qdisc { interface: name.to_owned(), source })?;
                let filter = attach_filter(&mut ebpf, &hook, name)?;
                if hook.on_uplink {
                    filters.push((hook.program, filter));
                }
            }
            if params.mode == Mode::Dedicated {
                remove_leftovers(&uplink);
            }
        } else {
            ingress = hooks.iter().position(Hook::is_uplink_ingress).map(|place| links.remove(place));
        }
        Ok(Self {
            ingress,
            links,
            filters,
            last,
            ebpf,
            fixed: (params.clat_ifindex, params.uplink_ifindex, ethernet, params.mode),
            attachment,
            own_ipv4: params.own_ipv4.clone(),
            pin_failure,
        })
    }

    /// Attaches the program on the egress of the CLAT's device: from now on the kernel translates what it can. The first
    /// packet need not wait for it: an attachment takes a grace period of the kernel, during which no interface can be
    /// configured.
    ///
    /// # Errors
    /// As for [`FastPath::attach`]; the other programs stay attached.
    pub fn complete(&mut self) -> Result<(), FastPathError> {
        let Some(hook) = &self.last else { return Ok(()) };
        let index = self.fixed.0;
        let clat = interface_name(index)?;
        if self.attachment == Attachment::Clsact {
            // The qdisc has a filter of ours already.
            attach_filter(&mut self.ebpf, hook, &clat)?;
        } else {
            self.links.push(attach_link(loaded(&mut self.ebpf, hook)?, hook, index, &clat)?);
        }
        self.last = None;
        Ok(())
    }

    /// Applies new parameters without a gap. Another device, uplink, kind of link or mode needs a new [`FastPath`].
    ///
    /// # Errors
    /// [`FastPathError::NeedsAttach`] in that case, or the map that cannot be written.
    pub fn update(&mut self, params: &Params) -> Result<(), FastPathError> {
        let ethernet = matches!(params.link_kind, LinkKind::Ethernet { .. });
        if self.fixed != (params.clat_ifindex, params.uplink_ifindex, ethernet, params.mode) {
            return Err(FastPathError::NeedsAttach);
        }
        configure(&mut self.ebpf, params, &self.own_ipv4)?;
        self.own_ipv4.clone_from(&params.own_ipv4);
        Ok(())
    }

    /// Takes the attachment on the uplink's ingress out, so that it can outlive the rest; `None` without links.
    pub fn take_ingress(&mut self) -> Option<TcxLink> {
        self.ingress.take()
    }

    /// The attachment on the uplink's ingress, if it is a link.
    pub fn ingress(&self) -> Option<&TcxLink> {
        self.ingress.as_ref()
    }

    /// How the programs are attached: [`Attachment::Tcx`] or [`Attachment::Clsact`].
    pub fn attachment(&self) -> Attachment {
        self.attachment
    }

    /// Leaves the filters on the uplink where they are when this ends. Until the next programs take their place they
    /// drop what belongs to a flow record, since the device is gone, and the peers send it again.
    pub fn leave_filters(&mut self) {
        for (name, id) in std::mem::take(&mut self.filters) {
            if let Ok(link) = program(&mut self.ebpf, name).map(|program| program.take_link(id)) {
                // Dropped, it would be detached.
                std::mem::forget(link);
            }
        }
    }

    /// The interfaces (by index) with filters of ours in a clsact qdisc.
    pub fn clsact_interfaces(&self) -> Vec<u32> {
        match self.attachment {
            Attachment::Clsact => vec![self.fixed.0, self.fixed.1],
            Attachment::Auto | Attachment::Tcx => Vec::new(),
        }
    }

    /// Why flow records will not outlive this process although a directory for them was given.
    pub fn pin_failure(&self) -> Option<&str> {
        self.pin_failure.as_deref()
    }

    /// What the kernel has counted since [`FastPath::attach`].
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<FastCounters, FastPathError> {
        let map = self.ebpf.map("COUNTS").ok_or(FastPathError::Object("COUNTS"))?;
        let map: PerCpuArray<_, CounterWords> = map.try_into().map_err(FastPathError::map("COUNTS"))?;
        let mut all = FastCounters([Count::default(); counters::COUNTERS]);
        for (index, count) in (0..).zip(all.0.iter_mut()) {
            for [packets, bytes] in map.get(&index, 0).map_err(FastPathError::map("COUNTS"))?.iter() {
                *count += Count { packets: *packets, bytes: *bytes };
            }
        }
        Ok(all)
    }

    /// The flow records, expired ones included.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn flows(&self) -> Result<Vec<Flow>, FastPathError> {
        let map: HashMap<_, FlowKeyBytes, FlowBytes> = flow_map(&self.ebpf)?;
        // The kernel starts anew when the record it stands at is evicted: a busy map must not keep us here for ever.
        // A record that is replaced while we read is left out.
        let flows =
            map.iter().take(MOST_FLOWS).flatten().map(|(key, flow)| Flow::decode(&key, &flow)).collect();
        Ok(flows)
    }

    /// The flow records, to put in order in another thread.
    ///
    /// # Errors
    /// When the maps cannot be opened once more.
    pub fn records(&self) -> Result<Records, FastPathError> {
        Records::of(&self.ebpf)
    }
}

/// The flow records of programs loaded by [`load_for_test`].
#[doc(hidden)]
pub fn records_for_test(ebpf: &Ebpf) -> Result<Records, FastPathError> {
    Records::of(ebpf)
}

fn load(object: &[u8], pins: Option<&Path>) -> Result<Ebpf, FastPathError> {
    let mut loader = EbpfLoader::new();
    // `new` has read the kernel's types, some 20 MB. Nothing in the object is relocated by them.

    loader.btf(None);
    if let Some(directory) = pins {
        for name in PINNED {
            loader.map_pin_path(name, directory.join(name));
        }
    }
    loader.load(object).map_err(|source| FastPathError::Load(Box::new(source)))
}

/// Loads the object with test entry points; for tests.
#[doc(hidden)]
pub fn load_for_test(params: &Params) -> Result<Ebpf, FastPathError> {
    let mut ebpf = load(TEST_OBJECT, None)?;
    configure(&mut ebpf, params, &[])?;
    Ok(ebpf)
}

fn configure(ebpf: &mut Ebpf, params: &Params, old_own: &[Ipv4Addr]) -> Result<(), FastPathError> {
    let map = ebpf.map_mut("OWN_IPV4").ok_or(FastPathError::Object("OWN_IPV4"))?;
    let mut own: HashMap<&mut MapData, [u8; 4], u8> =
        map.try_into().map_err(FastPathError::map("OWN_IPV4"))?;
    for address in old_own.iter().filter(|address| !params.own_ipv4.contains(address)) {
        // Not there if it did not fit.
        let _ = own.remove(&layout::own_key(*address));
    }
    for address in params.own_ipv4.iter().chain([&params.clat_ipv4]).take(xlat::OwnIpv4::CAPACITY) {
        own.insert(layout::own_key(*address), 1, 0).map_err(FastPathError::map("OWN_IPV4"))?;
    }
    let map = ebpf.map_mut("CONFIG").ok_or(FastPathError::Object("CONFIG"))?;
    let mut config: Array<&mut MapData, ConfigBytes> =
        map.try_into().map_err(FastPathError::map("CONFIG"))?;
    config.set(0, layout::config(params), 0).map_err(FastPathError::map("CONFIG"))
}

fn flow_map(ebpf: &Ebpf) -> Result<HashMap<&MapData, FlowKeyBytes, FlowBytes>, FastPathError> {
    let map = ebpf.map("FLOWS").ok_or(FastPathError::Object("FLOWS"))?;
    map.try_into().map_err(FastPathError::map("FLOWS"))
}

/// Makes the directory; says why records cannot be pinned there.
fn prepare_pins(directory: &Path) -> Result<(), String> {
    std::fs::create_dir_all(directory)
        .map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
    let kind = nix::sys::statfs::statfs(directory)
        .map_err(|error| format!("cannot examine {}: {error}", directory.display()))?
        .filesystem_type();
    if kind != nix::sys::statfs::FsType(0xcafe_4a11_u32 as _) {
        return Err(format!("{} is not on a bpffs (mount -t bpf bpf /sys/fs/bpf)", directory.display()));
    }
    Ok(())
}

fn interface_name(index: u32) -> Result<String, FastPathError> {
    let failed = |source| FastPathError::NoInterface { index, source };
    let name = nix::net::if_::if_indextoname(index).map_err(failed)?;
    name.into_string().map_err(|_| failed(Errno::EILSEQ))
}

//! The `clsact` qdisc, which carries filters where the kernel has no TCX links (before Linux 6.6), and what is in it.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::{Handle, NetlinkError};

/// The qdisc's name.
pub const CLSACT: &str = "clsact";

/// The two hooks of the qdisc, as parents of filters (linux/pkt_sched.h).
const HOOKS: [TcHandle; 2] = [
    TcHandle { major: u16::MAX, minor: TcHandle::MIN_INGRESS },
    TcHandle { major: u16::MAX, minor: TcHandle::MIN_EGRESS },
];

/// A filter, as far as it matters whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Its classifier, `bpf` for example.
    pub kind: String,
    /// Its priority ("pref").
    pub priority: u16,
    /// Its handle; 0 for the entry that stands for all filters of a priority.
    pub handle: u32,
    hook: TcHandle,
    /// Priority and protocol, as the kernel has them.
    info: u32,
}

/// The filters of a qdisc.
#[derive(Debug, Default)]
pub struct Filters {
    /// Those that could be read.
    pub read: Vec<Filter>,
    /// How many there are besides.
    pub unread: usize,
}

impl Handle {
    /// The kind of a link's qdisc for filters: `clsact`, or `ingress`, which takes the same place; `None` without.
    pub fn filter_qdisc(&mut self, ifindex: u32) -> Result<Option<String>, NetlinkError> {
        let found =
            self.dump("list the qdiscs", RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default()))?;
        Ok(found.iter().find_map(|message| match message {
            RouteNetlinkMessage::NewQueueDiscipline(qdisc)
                if qdisc.header.index.cast_unsigned() == ifindex
                    && qdisc.header.parent == TcHandle::CLSACT =>
            {
                Some(kind(qdisc))
            }
            _ => None,
        }))
    }

    /// Gives a link a `clsact` qdisc; fails with EEXIST where it has one.
    pub fn add_clsact(&mut self, ifindex: u32) -> Result<(), NetlinkError> {
        let what = || format!("add a clsact qdisc to interface {ifindex}");
        let message = RouteNetlinkMessage::NewQueueDiscipline(clsact(ifindex));
        self.acknowledge(what, message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Takes a link's `clsact` qdisc away, with all filters in it.
    pub fn remove_clsact(&mut self, ifindex: u32) -> Result<(), NetlinkError> {
        let what = || format!("remove the clsact qdisc of interface {ifindex}");
        self.acknowledge(what, RouteNetlinkMessage::DelQueueDiscipline(clsact(ifindex)), 0)
    }

    /// Reads the filters in a link's `clsact` qdisc. None where there is no such qdisc, or no such link.
    pub fn clsact_filters(&mut self, ifindex: u32) -> Result<Filters, NetlinkError> {
        let mut all = Filters::default();
        for hook in HOOKS {
            let mut request = message(ifindex);
            request.header.parent = hook;
            let what = "list the filters of a clsact qdisc";
            let (found, unread) = self.dump_counting(what, RouteNetlinkMessage::GetTrafficFilter(request))?;
            all.unread += unread;
            all.read.extend(found.into_iter().filter_map(|message| match message {
                RouteNetlinkMessage::NewTrafficFilter(filter) => Some(read(&filter, hook)),
                _ => None,
            }));
        }
        Ok(all)
    }

    /// Removes one filter.
    pub fn remove_filter(&mut self, ifindex: u32, filter: &Filter) -> Result<(), NetlinkError> {
        let mut request = message(ifindex);
        request.header.parent = filter.hook;
        request.header.handle = TcHandle::from(filter.handle);
        request.header.info = filter.info;
        request.attributes.push(TcAttribute::Kind(filter.kind.clone()));
        let what = || format!("remove a filter of interface {ifindex}");
        self.acknowledge(what, RouteNetlinkMessage::DelTrafficFilter(request), 0)
    }
}

fn message(ifindex: u32) -> TcMessage {
    TcMessage::with_index(ifindex.cast_signed())
}

fn clsact(ifindex: u32) -> TcMessage {
    let mut message = message(ifindex);
    message.header.handle = TcHandle { major: u16::MAX, minor: 0 };
    message.header.parent = TcHandle::CLSACT;
    // Named in a removal, too: an `ingress` qdisc in its place is not ours.
    message.attributes.push(TcAttribute::Kind(CLSACT.into()));
    message
}

fn kind(message: &TcMessage) -> String {
    let kind = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.clone()),
        _ => None,
    });
    kind.unwrap_or_default()
}

fn read(message: &TcMessage, hook: TcHandle) -> Filter {
    Filter {
        kind: kind(message),
        priority: (message.header.info >> 16) as u16,
        handle: message.header.handle.into(),
        hook,
        info: message.header.info,
    }
}

//! The places of the programs: into the kernel, and onto the two interfaces.

use std::os::fd::AsFd;

use aya::Ebpf;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcHandle, qdisc_detach_program,
};
use aya::programs::{Program, ProgramError, ProgramFd, SchedClassifier, TcAttachType};
use aya::sys::SyscallError;
use nix::errno::Errno;

use super::{Attachment, FastPathError, Mode, TcxLink, error};

/// Priority and handle of our filters where there are no links: recognisable in `tc filter show`.
pub(crate) const FILTER_PRIORITY: u16 = 0x6434;
pub(crate) const FILTER_NUMBER: u16 = 0x6434;
const FILTER_HANDLE: TcHandle = TcHandle::new(0, FILTER_NUMBER);

/// One place where a program is attached.
pub(super) struct Hook {
    pub(super) program: &'static str,
    pub(super) on_uplink: bool,
    pub(super) kind: TcAttachType,
}

impl Hook {
    /// That which may be handed on to a next process.
    pub(super) fn is_uplink_ingress(&self) -> bool {
        self.on_uplink && matches!(self.kind, TcAttachType::Ingress)
    }
}

/// All places, in the order in which they are taken: no packet is translated before its answer can be. The last one is
/// the egress of the CLAT's device, see [`super::FastPath::complete`]. The longest program to verify, that on the
/// uplink's ingress, is not the first one: others are attached meanwhile.
pub(super) fn hooks(ethernet: bool, mode: Mode) -> Vec<Hook> {
    let [out, inward, slow, native] = if ethernet {
        ["v4shim_out_eth", "v4shim_in_eth", "v4shim_slow_eth", "v4shim_nat_eth"]
    } else {
        ["v4shim_out_raw", "v4shim_in_raw", "v4shim_slow_raw", "v4shim_nat_raw"]
    };
    let mut hooks = vec![
        Hook { program: slow, on_uplink: false, kind: TcAttachType::Ingress },
        Hook { program: inward, on_uplink: true, kind: TcAttachType::Ingress },
    ];
    if mode == Mode::Shared {
        hooks.push(Hook { program: native, on_uplink: true, kind: TcAttachType::Egress });
    }
    hooks.push(Hook { program: out, on_uplink: false, kind: TcAttachType::Egress });
    hooks
}

pub(super) fn program<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, FastPathError> {
    let program = ebpf.program_mut(name).ok_or(FastPathError::Object(name))?;
    program.try_into().map_err(|_| FastPathError::Object(name))
}

/// Has the kernel verify and compile the programs, side by side, and attaches all but the last by `link`, each as soon
/// as those before it are: either takes the kernel some 10 ms for each of them. Without links they are only loaded.
pub(super) fn load_and_link(
    ebpf: &mut Ebpf,
    hooks: &[Hook],
    wanted: Attachment,
    link: impl Fn(&ProgramFd, &Hook) -> Result<TcxLink, FastPathError>,
) -> Result<(Attachment, Vec<TcxLink>), FastPathError> {
    let mut attachment = wanted;
    let mut links = Vec::new();
    std::thread::scope(|scope| {
        let mut programs: Vec<_> = ebpf
            .programs_mut()
            .filter_map(|(name, program)| {
                Some((hooks.iter().position(|hook| hook.program == name)?, program))
            })
            .collect();
        // The longest first.
        programs.sort_by_key(|(place, _)| (!hooks[*place].is_uplink_ingress(), *place));
        let mut loading: Vec<_> = programs
            .into_iter()
            .map(|(place, program)| (place, scope.spawn(move || load_program(hooks[place].program, program))))
            .collect();
        loading.sort_by_key(|(place, _)| *place);
        for (place, thread) in loading {
            let program = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            if attachment != Attachment::Clsact && place + 1 < hooks.len() {
                match link(&program, &hooks[place]) {
                    Ok(link) => {
                        links.push(link);
                        attachment = Attachment::Tcx;
                    }
                    // Kernels before 6.6 do not know the attach type.
                    Err(_) if attachment == Attachment::Auto => attachment = Attachment::Clsact,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok((attachment, links))
    })
}

fn load_program(name: &'static str, program: &mut Program) -> Result<ProgramFd, FastPathError> {
    let program: &mut SchedClassifier = program.try_into().map_err(|_| FastPathError::Object(name))?;
    let failed = |source| FastPathError::Verify { program: name, reason: Box::new(source) };
    program.load().map_err(failed)?;
    let copy = program.fd().map_err(failed)?.try_clone();
    copy.map_err(|error| failed(error.into()))
}

/// A program that the kernel has.
pub(super) fn loaded<'a>(ebpf: &'a mut Ebpf, hook: &Hook) -> Result<&'a ProgramFd, FastPathError> {
    let failed = |source| FastPathError::Verify { program: hook.program, reason: Box::new(source) };
    program(ebpf, hook.program)?.fd().map_err(failed)
}

pub(super) fn attach_link(
    program: &ProgramFd,
    hook: &Hook,
    ifindex: u32,
    interface: &str,
) -> Result<TcxLink, FastPathError> {
    TcxLink::attach(program.as_fd(), ifindex, hook.kind).map_err(|io_error| {
        refused(hook, interface, SyscallError { call: "bpf_link_create", io_error }.into())
    })
}

pub(super) fn attach_filter(
    ebpf: &mut Ebpf,
    hook: &Hook,
    interface: &str,
) -> Result<SchedClassifierLinkId, FastPathError> {
    let program = program(ebpf, hook.program)?;
    let failed = |source| refused(hook, interface, source);
    let options = NlOptions { priority: FILTER_PRIORITY, handle: FILTER_HANDLE, ..NlOptions::default() };
    match program.attach_with_options(interface, hook.kind, TcAttachOptions::Netlink(options)) {
        // What a killed process left. One program takes the other's place, so that there is one at any moment.
        Err(error) if error::is_os_error(&error, Errno::EEXIST) => {
            let link =
                SchedClassifierLink::attached(interface, hook.kind, FILTER_PRIORITY, FILTER_HANDLE, None)
                    .map_err(|source| failed(source.into()))?;
            program.attach_to_link(link).map_err(failed)
        }
        other => other.map_err(failed),
    }
}

fn refused(hook: &Hook, interface: &str, source: ProgramError) -> FastPathError {
    FastPathError::Attach { program: hook.program, interface: interface.to_owned(), source: Box::new(source) }
}

/// The filter of an earlier process in a hook that only the other mode uses.
pub(super) fn remove_leftovers(uplink: &str) {
    for ethernet in [true, false] {
        for hook in hooks(ethernet, Mode::Shared).iter().filter(|hook| is_for_shared_only(hook)) {
            // None there is the rule.
            let _ = qdisc_detach_program(uplink, hook.kind, hook.program);
        }
    }
}

fn is_for_shared_only(hook: &Hook) -> bool {
    hook.on_uplink && matches!(hook.kind, TcAttachType::Egress)
}

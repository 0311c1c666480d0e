//! Programs of the fast path, fed by BPF_PROG_TEST_RUN.

use aya::programs::{SchedClassifier, TestRunOptions};
use aya::{Ebpf, TestRun};
use clatd::datapath::bpf::{Params, load_for_test};

/// Length of the Ethernet header in front of what is fed.
const ETHERNET: usize = 14;

/// Loaded programs for both directions; `None`, with the reason printed, where this kernel or user cannot have them.
pub(crate) fn load(params: &Params) -> Option<Ebpf> {
    let mut ebpf = match load_for_test(params) {
        Ok(ebpf) => ebpf,
        Err(error) => {
            eprintln!("skipped: {error}");
            return None;
        }
    };
    for name in ["v4shim_out_tst", "v4shim_in_eth"] {
        let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
        program.load().unwrap();
    }
    Some(ebpf)
}

/// The verdict of a program on a packet (`protocol`: its EtherType), and what it made of it.
pub(crate) fn run(ebpf: &Ebpf, program: &str, protocol: u16, packet: &[u8]) -> (u32, Vec<u8>) {
    let program: &SchedClassifier = ebpf.program(program).unwrap().try_into().unwrap();
    let mut frame = vec![0; ETHERNET];
    frame[12..14].copy_from_slice(&protocol.to_be_bytes());
    frame.extend_from_slice(packet);
    let mut out = vec![0; 4096];
    let options = TestRunOptions { data_in: Some(&frame), data_out: Some(&mut out), ..TestRunOptions::new() };
    let result = program.test_run(options).unwrap();
    out.truncate(result.data_size_out as usize);
    (result.return_value, out.split_off(ETHERNET))
}

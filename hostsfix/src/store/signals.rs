//! SIGTERM waits while a file is being written.
//!
//! A kill at any point is safe for the file; but a stop that can wait a few milliseconds should not
//! leave a temporary file for the next run to clear.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

/// Blocks SIGTERM, SIGINT and SIGHUP in this thread (hostsfix has no other) until dropped.
pub(super) struct Deferred {
    before: SigSet,
}

impl Deferred {
    pub(super) fn new() -> Self {
        let mut stop = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            stop.add(signal);
        }
        let mut before = SigSet::empty();
        // Fails for invalid arguments only. Without it, a stop leaves a temporary file at worst.
        let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&stop), Some(&mut before));
        Self { before }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

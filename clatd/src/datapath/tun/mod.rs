//! The portable datapath: a TUN device and a translating thread.

mod device;
mod placement;
mod pump;
mod vnet;

pub use device::{Device, Offloads, TunError};
pub use pump::{Pump, Rules};

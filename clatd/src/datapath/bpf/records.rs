//! Taking expired flow records out of the maps. The programs ignore them and the kernel evicts old ones, so this only
//! gives their places back, and keeps listings tidy. It takes a while: for a thread of its own.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{HashMap, IterableMap, Map, MapData};

use super::layout::{Flow, FlowBytes, FlowKeyBytes, mapped_flow};
use super::{FastPathError, MOST_FLOWS};

type Flows = HashMap<MapData, FlowKeyBytes, FlowBytes>;
type Mapped = HashMap<MapData, FlowKeyBytes, [u8; 2]>;

/// The maps with flow records, by descriptors of their own.
pub struct Records {
    flows: Flows,
    mapped: Mapped,
}

impl Records {
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self, FastPathError> {
        Ok(Self { flows: duplicate(ebpf, "FLOWS")?, mapped: duplicate(ebpf, "MAPPED")? })
    }

    /// Deletes expired records, and what leads to none; returns how many. `now` is CLOCK_MONOTONIC.
    ///
    /// Each is looked at again just before. A packet that comes between that and the deletion makes a new record with
    /// the next one.
    ///
    /// # Errors
    /// When a map cannot be accessed.
    pub fn expire(&mut self, now: Duration) -> Result<usize, FastPathError> {
        let mut deleted = 0;
        let expired = |flows: &Flows, key: &FlowKeyBytes| {
            flows.get(key, 0).is_ok_and(|flow| Flow::decode(key, &flow).is_expired(now))
        };
        let flows = duplicate_map(&self.flows, "FLOWS")?;
        sweep(
            &flows,
            |key| expired(&flows, key),
            |key| deleted += usize::from(self.flows.remove(key).is_ok()),
        );

        let stale = |mapped: &Mapped, key: &FlowKeyBytes| {
            let Ok(outside) = mapped.get(key, 0) else { return false };
            let (outer, belongs) = mapped_flow(key, outside);
            !flows.get(&outer, 0).is_ok_and(|flow| belongs(&flow))
        };
        let mapped = duplicate_map(&self.mapped, "MAPPED")?;
        sweep(
            &mapped,
            |key| stale(&mapped, key),
            |key| deleted += usize::from(self.mapped.remove(key).is_ok()),
        );
        Ok(deleted)
    }
}

/// Has those entries deleted that are judged so. One behind the place where the kernel stands: it would begin anew.
fn sweep<V: aya::Pod>(
    map: &HashMap<MapData, FlowKeyBytes, V>,
    judge: impl Fn(&FlowKeyBytes) -> bool,
    mut delete: impl FnMut(&FlowKeyBytes),
) {
    let mut last = None;
    let mut settle = |key: Option<FlowKeyBytes>| {
        if let Some(key) = key.filter(&judge) {
            delete(&key);
        }
    };
    for key in map.keys().take(MOST_FLOWS).flatten() {
        settle(last.replace(key));
    }
    settle(last);
}

fn duplicate<V: aya::Pod>(
    ebpf: &Ebpf,
    name: &'static str,
) -> Result<HashMap<MapData, FlowKeyBytes, V>, FastPathError> {
    match ebpf.map(name) {
        Some(Map::LruHashMap(data)) => open(data, name),
        _ => Err(FastPathError::Object(name)),
    }
}

fn duplicate_map<V: aya::Pod>(
    map: &HashMap<MapData, FlowKeyBytes, V>,
    name: &'static str,
) -> Result<HashMap<MapData, FlowKeyBytes, V>, FastPathError> {
    open(map.map(), name)
}

fn open<V: aya::Pod>(
    data: &MapData,
    name: &'static str,
) -> Result<HashMap<MapData, FlowKeyBytes, V>, FastPathError> {
    let failed = FastPathError::map(name);
    let fd: OwnedFd = data.fd().as_fd().try_clone_to_owned().map_err(|error| failed(error.into()))?;
    Map::LruHashMap(MapData::from_fd(fd).map_err(&failed)?).try_into().map_err(&failed)
}

//! Reading the maps whole, and writing operations to them.

use std::collections::HashSet;

use skep_abi::{ServiceName, ServiceSerial, SourceRangeKey};
use skep_bpf_maps::{MapError, ServiceMaps, Table};
use skep_service_table::{IdState, Limits, MapOp};

/// How a list of operations went.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Operations done.
    pub(crate) done: usize,
    /// The first failure, if any.
    pub(crate) failure: Option<MapError>,
}

/// Everything the maps hold.
pub(crate) fn read(maps: &dyn ServiceMaps) -> Result<IdState, MapError> {
    Ok(IdState {
        frontends: maps.frontends().entries()?,
        node_ports: maps.node_ports().entries()?,
        source_ranges: source_ranges(maps)?,
        services: maps.services().entries()?,
        slots: maps.slots().entries()?,
        backends: maps.backends().entries()?,
        names: names(maps)?,
    })
}

/// Names under whose number is counted; the others are to be written again.
fn names(maps: &dyn ServiceMaps) -> Result<Vec<(ServiceSerial, ServiceName)>, MapError> {
    let counted = maps.service_counts().entries()?.into_iter();
    let counted: HashSet<ServiceSerial> = counted.map(|(serial, _)| serial).collect();
    let mut names = maps.service_names().entries()?;
    names.retain(|(serial, _)| counted.contains(serial));
    Ok(names)
}

/// The keys of SOURCE_RANGES.
pub(crate) fn source_ranges(maps: &dyn ServiceMaps) -> Result<Vec<SourceRangeKey>, MapError> {
    let entries = maps.source_ranges().entries()?;
    Ok(entries.into_iter().map(|(key, _)| key).collect())
}

pub(crate) fn limits(maps: &dyn ServiceMaps) -> Limits {
    Limits {
        frontends: maps.frontends().capacity(),
        source_ranges: maps.source_ranges().capacity(),
        services: maps.services().capacity(),
        slots: maps.slots().capacity(),
        backends: maps.backends().capacity(),
    }
}

/// Names and capacities of the maps.
pub(crate) fn capacities(maps: &dyn ServiceMaps) -> [(&'static str, u32); 5] {
    fn of<K, V>(table: &dyn Table<K, V>) -> (&'static str, u32) {
        (table.spec().name, table.capacity())
    }
    [
        of(maps.frontends()),
        of(maps.source_ranges()),
        of(maps.services()),
        of(maps.slots()),
        of(maps.backends()),
    ]
}

/// Writes in order and stops at the first failure, so that what is written is a prefix of `ops`. The exception is a
/// frontend that finds no room: nothing depends on it, and the others are not to suffer.
pub(crate) fn write(maps: &dyn ServiceMaps, ops: &[MapOp]) -> Written {
    let mut written = Written::default();
    for run in ops.chunk_by(|a, b| std::mem::discriminant(a) == std::mem::discriminant(b)) {
        match write_run(maps, run) {
            Ok(()) => written.done += run.len(),
            Err(error) if is_frontends(run) => {
                written.failure.get_or_insert(error);
                for op in run {
                    match write_run(maps, std::slice::from_ref(op)) {
                        Ok(()) => written.done += 1,
                        Err(MapError::Full { .. }) => {}
                        Err(_) => return written,
                    }
                }
            }
            Err(error) => {
                written.failure.get_or_insert(error);
                return written;
            }
        }
    }
    written
}

fn is_frontends(run: &[MapOp]) -> bool {
    matches!(run.first(), Some(MapOp::PutFrontend(..)))
}

/// Operations of one kind.
fn write_run(maps: &dyn ServiceMaps, run: &[MapOp]) -> Result<(), MapError> {
    let (mut backends, mut slots) = (Vec::new(), Vec::new());
    let (mut services, mut ranges, mut frontends) = (Vec::new(), Vec::new(), Vec::new());
    for op in run {
        match *op {
            // What counts is there first: a name says that it does.
            MapOp::PutName(serial, name) => {
                maps.service_counts().start(serial)?;
                maps.service_names().put(&serial, &name)?;
            }
            MapOp::PutBackend(id, value) => backends.push((id, value)),
            MapOp::PutSlot(slot, backend) => slots.push((slot, backend)),
            MapOp::PutService(id, value) => services.push((id, value)),
            MapOp::PutSourceRange(key) => ranges.push((key, 1)),
            MapOp::PutNodePorts(word, bits) => maps.node_ports().put(&word, &bits)?,
            MapOp::PutFrontend(key, value) => frontends.push((key, value)),
            MapOp::DeleteFrontend(key) => drop(maps.frontends().delete(&key)?),
            MapOp::DeleteSourceRange(key) => drop(maps.source_ranges().delete(&key)?),
            MapOp::DeleteNodePorts(word) => drop(maps.node_ports().delete(&word)?),
            MapOp::DeleteService(id) => drop(maps.services().delete(&id)?),
            MapOp::DeleteSlot(slot) => drop(maps.slots().delete(&slot)?),
            MapOp::DeleteBackend(id) => drop(maps.backends().delete(&id)?),
            MapOp::DeleteName(serial) => {
                maps.service_names().delete(&serial)?;
                maps.service_counts().stop(serial)?;
            }
        }
    }
    if !backends.is_empty() {
        maps.backends().put_all(&backends)?;
    }
    if !slots.is_empty() {
        maps.slots().put_all(&slots)?;
    }
    if !services.is_empty() {
        maps.services().put_all(&services)?;
    }
    if !ranges.is_empty() {
        maps.source_ranges().put_all(&ranges)?;
    }
    if !frontends.is_empty() {
        maps.frontends().put_all(&frontends)?;
    }
    Ok(())
}

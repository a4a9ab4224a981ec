//! The dataplane's maps as userspace sees them: typed tables behind one trait, with the kernel's maps
//! ([`KernelMaps`]) and maps in memory with fault injection ([`MemoryMaps`]) behind it.
//!
//! Owns reading and writing of single maps. Does not know the order in which a change must be written (that
//! is the service table's), nor programs and links (the loader's).
#![warn(missing_docs)]

mod counts;
mod error;
mod kernel;
mod memory;
pub mod sys;
mod table;

pub use counts::{KernelCounts, MemoryCounts};
pub use error::MapError;
pub use kernel::{KernelMaps, KernelTable, RawMap};
pub use memory::{MemoryMaps, MemoryTable};
pub use table::{Cursor, ServiceCounts, ServiceMaps, Stripe, Table};

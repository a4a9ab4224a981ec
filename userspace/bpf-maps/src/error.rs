//! What can go wrong with a map.

use std::io;

/// A map operation failed.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The map has no room for the key. Nothing that was in the map is harmed.
    #[error("map {map} is full: {capacity} entries")]
    Full {
        /// Which map.
        map: &'static str,
        /// Its capacity.
        capacity: u32,
    },
    /// The index lies beyond the array.
    #[error("index {index} is beyond the {capacity} elements of map {map}")]
    OutOfRange {
        /// Which map.
        map: &'static str,
        /// The index asked for.
        index: u32,
        /// The number of elements.
        capacity: u32,
    },
    /// The kernel refused the operation.
    #[error("{operation} on map {map}")]
    Kernel {
        /// Which map.
        map: &'static str,
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A pinned map has not the shape that this program expects.
    #[error("map {map} has {property} {found}, expected {expected}")]
    Shape {
        /// Which map.
        map: &'static str,
        /// What differs.
        property: &'static str,
        /// As it is.
        found: u32,
        /// As it should be.
        expected: u32,
    },
    /// Failure asked for by a test.
    #[error("injected failure on map {map}")]
    Injected {
        /// Which map.
        map: &'static str,
    },
}

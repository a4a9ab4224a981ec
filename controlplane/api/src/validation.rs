//! Checks that many kinds share. Texts are upstream's where users see them.

pub mod fields;
pub mod meta;
pub mod names;
pub mod selectors;

//! What the eBPF programs share: the pinned maps and the traits of `skep-datapath` over them.
//!
//! A program is an entry point that reads its context, calls the datapath and returns the verdict. Nothing is
//! decided here.
#![no_std]

pub mod maps;
pub mod packet;
pub mod socket;
pub mod world;

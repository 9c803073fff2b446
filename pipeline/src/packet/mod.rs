//! Packets in memory: buffers, bursts, the parsed view, fragments, pending frames.

pub mod buffer;
pub mod burst;
pub mod delayed;
pub mod fragments;
pub mod pending;
mod undecided;
pub mod view;

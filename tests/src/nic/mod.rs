//! firstack on PCI ports: emulated cards in a QEMU guest, or real ones on this machine.
//!
//! - [`Guest`] boots a guest with two cards under QEMU's TCG, so no /dev/kvm is needed. What it boots is
//!   laid out by `scripts/nic-guest`.
//! - [`Local`] is this machine, with ports that are cabled to kernel interfaces.
//! - [`Wire`] sends and receives whole frames at the far ends of the two ports.
//! - [`Trial`] runs every case on one of them and reports what was seen.
//!
//! A guest can stall on a busy machine: then its timer stands still, and nothing answers. That is told
//! apart from a failure by asking the guest itself ([`Trouble::Silent`]), and the guest is booted again.

mod appliance;
mod card;
mod cases;
mod drive;
mod frames;
mod guest;
mod local;
mod monitor;
mod table;
mod trial;
mod wire;

use std::path::Path;
use std::time::Duration;

use crate::lab::LabError;
use crate::scenario::Side;

pub use card::{Binding, CARDS, Card, JUMBO, Placement};
pub use guest::{Assets, Guest};
pub use local::Local;
pub use table::{Row, Table};
pub use trial::Trial;
pub use wire::{Datagrams, Packets, Wire};

/// The longest time for anything that a machine does, however busy it is.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What a machine printed, and how it ended.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// Its output and standard error.
    pub text: String,
}

/// Why a trial cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The machine itself does not answer: no result of firstack.
    #[error("the guest does not answer: {0}")]
    Silent(String),
    /// A case failed.
    #[error("{0}")]
    Failed(String),
    /// Something of the laboratory.
    #[error(transparent)]
    Lab(#[from] LabError),
}

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

/// Result of a step of a trial.
pub type Result<T, E = Trouble> = std::result::Result<T, E>;

/// A machine that runs firstack.
pub trait Machine {
    /// Runs a shell script to its end.
    ///
    /// # Errors
    /// [`Trouble::Silent`] when no answer comes within `limit`.
    fn shell(&mut self, script: &str, limit: Duration) -> Result<Answer>;
    /// Returns the directory that this process and the machine share, as this process sees it.
    fn share(&self) -> &Path;
    /// Returns the same directory as the machine sees it.
    fn shared(&self) -> &Path;
    /// Takes the link of the port of a side away, or gives it back.
    fn set_link(&mut self, side: Side, up: bool) -> Result<()>;
    /// Returns whether the machine has said of itself that it stalled.
    fn has_stalled(&self) -> bool {
        false
    }
}

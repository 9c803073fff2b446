//! The cards that QEMU emulates and DPDK has a driver for.

use std::fmt;

/// The kernel driver that a card is bound to, for DPDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Behind an emulated IOMMU, as on bare metal.
    VfioPci,
    /// Without an IOMMU.
    UioPciGeneric,
}

impl Binding {
    /// Returns the kernel module's name.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Self::VfioPci => "vfio-pci",
            Self::UioPciGeneric => "uio_pci_generic",
        }
    }
}

/// What is expected of the distribution of IPv4 packets over the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// By the card: every packet comes to the worker that owns its client.
    ByCard,
    /// In software, because the card or its emulation cannot.
    InSoftware,
    /// Not known before: what `firstack stats` says has to be true.
    AsReported,
}

/// An emulated card.
#[derive(Clone, Copy, Debug)]
pub struct Card {
    /// Its name in the table.
    pub name: &'static str,
    /// QEMU's `-device`, without backend and address.
    pub device: &'static str,
    /// DPDK's driver, as `firstack stats` names it.
    pub driver: &'static str,
    /// The kernel driver that it is bound to.
    pub binding: Binding,
    /// Queues of its backend: more than one needs a tap.
    pub backend_queues: usize,
    /// Workers of firstack.
    pub workers: usize,
    /// Who places packets.
    pub placement: Placement,
    /// The longest frame that arrives, in bytes, without checksum.
    pub longest: usize,
    /// Why longer ones do not.
    pub limit: &'static str,
}

/// A frame of 9,000 bytes of IP.
pub const JUMBO: usize = 9014;

/// All cards. `igb` needs QEMU 8 or later.
pub const CARDS: [Card; 4] = [
    Card {
        name: "igb",
        device: "igb",
        driver: "net_e1000_igb",
        binding: Binding::VfioPci,
        backend_queues: 1,
        workers: 4,
        placement: Placement::ByCard,
        longest: JUMBO,
        limit: "",
    },
    Card {
        name: "e1000e",
        device: "e1000e",
        driver: "net_e1000_em",
        binding: Binding::VfioPci,
        backend_queues: 1,
        workers: 2,
        placement: Placement::InSoftware,
        longest: JUMBO,
        limit: "",
    },
    Card {
        name: "virtio-net",
        device: "virtio-net-pci,mq=on,vectors=10,rss=on,hash=on",
        driver: "net_virtio",
        binding: Binding::UioPciGeneric,
        backend_queues: 4,
        workers: 4,
        placement: Placement::ByCard,
        longest: JUMBO,
        limit: "",
    },
    Card {
        name: "vmxnet3",
        device: "vmxnet3",
        driver: "net_vmxnet3",
        binding: Binding::VfioPci,
        backend_queues: 1,
        workers: 2,
        placement: Placement::InSoftware,
        longest: 1514,
        limit: "longer ones do not arrive, nor in dpdk-testpmd",
    },
];

impl Card {
    /// Finds a card by its name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        CARDS.into_iter().find(|card| card.name == name)
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

//! The capabilities of this process (capabilities(7)).

/// A capability that a device may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Interfaces can be changed.
    NetAdmin,
    /// Raw sockets can be opened.
    NetRaw,
    /// Memory can be locked beyond the limit.
    IpcLock,
    /// Devices' registers can be reached.
    SysRawio,
}

impl Capability {
    /// Returns its name, as systemd and setpriv know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::IpcLock => "CAP_IPC_LOCK",
            Self::SysRawio => "CAP_SYS_RAWIO",
        }
    }

    /// Returns its number (linux/capability.h).
    fn number(self) -> u32 {
        match self {
            Self::NetAdmin => 12,
            Self::NetRaw => 13,
            Self::IpcLock => 14,
            Self::SysRawio => 17,
        }
    }
}

/// The effective capabilities of a process.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Returns those of this process; all if the kernel does not tell.
    pub fn own() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self::parse(&status).unwrap_or(Self(u64::MAX))
    }

    fn parse(status: &str) -> Option<Self> {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok().map(Self)
    }

    /// Returns whether a capability is among them.
    pub fn has(self, capability: Capability) -> bool {
        self.0 >> capability.number() & 1 != 0
    }

    /// Returns those of a list that are missing.
    pub fn lacks(self, needed: &[Capability]) -> Vec<Capability> {
        needed.iter().copied().filter(|capability| !self.has(*capability)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_mask_is_read() {
        let some = Capabilities::parse("Name:\tx\nCapEff:\t0000000000003000\n").unwrap();
        let needed = [Capability::NetAdmin, Capability::NetRaw, Capability::IpcLock];
        assert_eq!(some.lacks(&needed), [Capability::IpcLock]);
        assert!(!some.has(Capability::SysRawio));
        assert!(Capabilities::parse("CapEff:\tnone").is_none());
        assert!(Capabilities::parse("").is_none());
    }
}

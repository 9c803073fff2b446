//! Finds out whether DPDK can use a PCI device: which driver it is bound to, whether its IOMMU group
//! allows it, whether this process may open it, and whether another process has it.

mod holder;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use holder::Holder;

/// Drivers besides those of VFIO through which DPDK reaches a device.
const UIO: [&str; 2] = ["igb_uio", "uio_pci_generic"];
/// Kernel drivers beside which DPDK works: the device stays with the kernel, and DPDK asks it for queues.
const BESIDE_DPDK: [&str; 3] = ["mlx4_core", "mlx5_core", "mana"];
/// Kernel drivers that a neighbour in an IOMMU group may have: they do no DMA.
const HARMLESS: [&str; 2] = ["pci-stub", "pcieport"];
/// The class of network controllers, and that of bridges.
const NETWORK: &str = "0x02";
const BRIDGE: &str = "0x06";

/// The vendor and device numbers of VMware's vmxnet3.
const VMXNET3: [&str; 2] = ["0x15ad", "0x07b0"];
/// The longest frame in a buffer that can be configured.
const LONGEST: u16 = 9728;

/// Where the kernel shows its devices and processes; tests have another place for each.
#[derive(Clone, Debug)]
pub(super) struct Pci {
    sys: PathBuf,
    dev: PathBuf,
    proc: PathBuf,
}

impl Pci {
    /// Returns this machine's.
    pub(super) fn this() -> Self {
        Self { sys: "/sys".into(), dev: "/dev".into(), proc: "/proc".into() }
    }

    fn device(&self, address: &str) -> PathBuf {
        self.sys.join("bus/pci/devices").join(address)
    }

    /// Returns why DPDK cannot use the device at `address`, and the command that makes it possible. A
    /// device that another process has is no such case; see [`Pci::in_use`].
    pub(super) fn examine(&self, address: &str) -> Result<(), String> {
        let device = self.device(address);
        if !device.exists() {
            return Err(format!(
                "{address} is not a PCI device of this machine; expected one that is: \
                 dpdk-devbind.py --status-dev net"
            ));
        }
        if let Some(class) = line_of(&device.join("class"))
            && !class.starts_with(NETWORK)
        {
            return Err(format!(
                "{address} is no network controller (its class is {class}); expected one: \
                 dpdk-devbind.py --status-dev net"
            ));
        }
        match driver(&device).as_deref() {
            Some(driver) if is_vfio(driver) => self.examine_group(&device, address),
            Some(driver) if UIO.contains(&driver) || BESIDE_DPDK.contains(&driver) => Ok(()),
            Some(driver) => {
                let interface = match names_in(&device.join("net")).join(", ") {
                    names if names.is_empty() => String::new(),
                    names => format!(" as {names}"),
                };
                Err(format!(
                    "{address} is bound to the kernel's driver {driver}{interface}; expected \
                     vfio-pci: {}; both take it from the kernel",
                    bind(address)
                ))
            }
            None => Err(format!(
                "{address} is bound to no driver; expected vfio-pci: {}",
                bind(address)
            )),
        }
    }

    /// Examines the IOMMU group of a device that is bound to VFIO. A group belongs to one process as a
    /// whole, so none of its devices may be the kernel's.
    fn examine_group(&self, device: &Path, address: &str) -> Result<(), String> {
        let Some(group) = group(device) else {
            return Err(format!(
                "{address} is bound to vfio-pci, but is in no IOMMU group; expected an IOMMU that is \
                 on in the firmware (VT-d, AMD-Vi) and on the kernel's command line \
                 (intel_iommu=on iommu=pt); or, without one and its protection, echo 1 > \
                 /sys/module/vfio/parameters/enable_unsafe_noiommu_mode and bind it again, or \
                 dpdk-devbind.py --bind=uio_pci_generic {address}"
            ));
        };
        self.examine_neighbours(device, address, &group)?;
        let Some(path) = self.group_file(&group) else {
            return Err(format!(
                "{address} is bound to vfio-pci, but there is no {}; expected it within this \
                 container, together with {}",
                self.dev.join("vfio").join(&group).display(),
                self.dev.join("vfio/vfio").display()
            ));
        };
        let shown = path.display();
        match fs::OpenOptions::new().read(true).write(true).open(&path) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(format!(
                "{address} cannot be used by this user: {shown}: {error}; expected root, or a udev \
                 rule that gives the group to this user"
            )),
            Err(error) => Err(format!("{address} cannot be used: {shown}: {error}")),
        }
    }

    fn examine_neighbours(&self, device: &Path, address: &str, group: &str) -> Result<(), String> {
        let others = names_in(&device.join("iommu_group/devices"));
        let is_in_the_way = |other: &String| {
            let other = self.device(other);
            let is_bridge = line_of(&other.join("class")).is_some_and(|c| c.starts_with(BRIDGE));
            !is_bridge && driver(&other).is_some_and(|d| !is_vfio(&d) && !HARMLESS.contains(&&*d))
        };
        let others: Vec<_> =
            others.into_iter().filter(|other| other != address).filter(is_in_the_way).collect();
        let Some(first) = others.first() else { return Ok(()) };
        let driver = driver(&self.device(first)).unwrap_or_default();
        Err(format!(
            "{address} is in IOMMU group {group} with {}, and {first} is bound to the kernel's driver \
             {driver}; expected all of the group at vfio-pci or at no driver: dpdk-devbind.py \
             --unbind {}, or another slot",
            others.join(", "),
            others.join(" ")
        ))
    }

    /// Returns the file that stands for a VFIO group. Without an IOMMU its name begins otherwise.
    fn group_file(&self, group: &str) -> Option<PathBuf> {
        let names = [group.to_owned(), format!("noiommu-{group}")];
        names.iter().map(|name| self.dev.join("vfio").join(name)).find(|path| path.exists())
    }

    /// Returns that another process has the device, and which one; `None` if none has. Two processes
    /// with one device by UIO would disturb each other; with VFIO the second cannot open it.
    pub(super) fn in_use(&self, address: &str) -> Option<String> {
        let device = self.device(address);
        let file = match driver(&device)? {
            driver if is_vfio(&driver) => self.group_file(&group(&device)?)?,
            driver if UIO.contains(&&*driver) => {
                self.dev.join(names_in(&device.join("uio")).first()?)
            }
            _ => return None,
        };
        let holder = Holder::of(&self.proc, &file);
        let busy = || {
            let opened = fs::OpenOptions::new().read(true).write(true).open(&file);
            opened.is_err_and(|error| error.kind() == ErrorKind::ResourceBusy)
        };
        let whose = match holder {
            Some(holder) => holder.to_string(),
            None if busy() => format!("another process (fuser -v {})", file.display()),
            None => return None,
        };
        Some(format!(
            "{address} is in use by {whose}; expected a device of its own, or the end of that process"
        ))
    }

    /// Returns whether a device is bound to a driver that passes interrupts of receive queues on: VFIO's,
    /// or a kernel driver that keeps the device.
    pub(super) fn may_interrupt(&self, address: &str) -> bool {
        driver(&self.device(address))
            .is_some_and(|driver| is_vfio(&driver) || BESIDE_DPDK.contains(&&*driver))
    }

    /// Returns what an operator should know of a device that can be used. `max_frame` is the longest
    /// frame in a single buffer, in bytes.
    pub(super) fn advice(&self, address: &str, max_frame: u16) -> Vec<String> {
        let device = self.device(address);
        let id = ["vendor", "device"].map(|file| line_of(&device.join(file)).unwrap_or_default());
        let is_vmxnet3 = id == VMXNET3 && max_frame < LONGEST;
        let vmxnet3 = is_vmxnet3.then(|| {
            format!(
                "{address} is a vmxnet3: frames of several buffers, which are longer than \
                 memory.max_frame = {max_frame}, were lost with DPDK's driver under QEMU, by \
                 dpdk-testpmd as well; an MTU of 1500 needs none"
            )
        });
        vmxnet3.into_iter().chain(self.host_of(&device, address)).collect()
    }

    /// Returns what the host must allow a virtual function before it can carry other hosts' frames;
    /// `None` if the device is none.
    fn host_of(&self, device: &Path, address: &str) -> Option<String> {
        let physical = device.join("physfn");
        let of = last_of_link(&physical)?;
        let number = names_in(&physical).into_iter().find_map(|name| {
            let number = name.strip_prefix("virtfn")?.to_owned();
            (last_of_link(&physical.join(&name)).as_deref() == Some(address)).then_some(number)
        });
        let (number, interface) = (
            number.unwrap_or_else(|| "NUMBER".to_owned()),
            names_in(&physical.join("net")).into_iter().next(),
        );
        let driver = driver(&physical).map_or(String::new(), |driver| format!(" ({driver})"));
        let interface = interface.unwrap_or_else(|| "INTERFACE".to_owned());
        Some(format!(
            "{address} is a virtual function of {of}{driver}; it gets frames to other MAC addresses, and \
             may send from them, only if its host allows that: ip link set {interface} vf {number} \
             trust on spoofchk off"
        ))
    }
}

/// Returns the commands that bind a device to vfio-pci.
fn bind(address: &str) -> String {
    format!(
        "driverctl set-override {address} vfio-pci, or until the next boot modprobe vfio-pci && \
         dpdk-devbind.py --bind=vfio-pci {address}"
    )
}

/// Returns whether a driver is VFIO's, or one of its variants for a card, such as `mlx5_vfio_pci`.
fn is_vfio(driver: &str) -> bool {
    driver.replace('_', "-").ends_with("vfio-pci")
}

fn driver(device: &Path) -> Option<String> {
    last_of_link(&device.join("driver"))
}

fn group(device: &Path) -> Option<String> {
    last_of_link(&device.join("iommu_group"))
}

/// Returns the last name in what a link points to.
fn last_of_link(link: &Path) -> Option<String> {
    let target: PathBuf = fs::read_link(link).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Returns the only line of a file of the kernel.
fn line_of(file: &Path) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.trim().to_owned())
}

/// Returns the sorted names in a directory; none if it is not there.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

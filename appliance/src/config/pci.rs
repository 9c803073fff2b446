//! Finds out whether DPDK can use a PCI device: which driver it is bound to, and whether this process
//! may open it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The kernel's directory of PCI devices.
pub(super) const DEVICES: &str = "/sys/bus/pci/devices";

/// Drivers through which DPDK reaches a device.
const FOR_DPDK: [&str; 3] = ["vfio-pci", "igb_uio", "uio_pci_generic"];
/// Kernel drivers beside which DPDK works: the device stays with the kernel, and DPDK asks it for queues.
const BESIDE_DPDK: [&str; 3] = ["mlx4_core", "mlx5_core", "mana"];

/// Returns why DPDK cannot use the device at `address`, and the command that makes it possible.
/// `devices` is the kernel's directory of PCI devices, `vfio` that of VFIO's groups.
pub(super) fn examine(devices: &Path, vfio: &Path, address: &str) -> Result<(), String> {
    let device = devices.join(address);
    if !device.exists() {
        return Err(format!("{address} is not a PCI device of this machine; lspci lists them"));
    }
    let driver = last_of_link(&device.join("driver"));
    match driver.as_deref() {
        Some("vfio-pci") => open_group(&device, vfio, address),
        Some(driver) if FOR_DPDK.contains(&driver) || BESIDE_DPDK.contains(&driver) => Ok(()),
        Some(driver) => {
            let interface = match interfaces(&device).join(", ") {
                names if names.is_empty() => String::new(),
                names => format!(" as {names}"),
            };
            Err(format!(
                "{address} is bound to the kernel's driver {driver}{interface}; expected vfio-pci: \
                 modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci {address}, which takes it \
                 from the kernel"
            ))
        }
        None => Err(format!(
            "{address} is bound to no driver; expected vfio-pci: modprobe vfio-pci && \
             dpdk-devbind.py --bind=vfio-pci {address}"
        )),
    }
}

/// Tries to open the VFIO group of a device, which one process can at a time.
fn open_group(device: &Path, vfio: &Path, address: &str) -> Result<(), String> {
    let Some(group) = last_of_link(&device.join("iommu_group")) else {
        return Err(format!(
            "{address} is bound to vfio-pci, but is in no IOMMU group; expected an IOMMU that is \
             on in the firmware and on the kernel's command line, or, without one, echo 1 > \
             /sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
        ));
    };
    // Without an IOMMU the group's name begins otherwise.
    let names = [group.clone(), format!("noiommu-{group}")];
    let Some(path) = names.iter().map(|name| vfio.join(name)).find(|path| path.exists()) else {
        return Ok(());
    };
    let shown = path.display();
    match std::fs::OpenOptions::new().read(true).write(true).open(&path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Err(format!(
            "{address} is in use by another process: fuser -v {shown}; expected a device of its own"
        )),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(format!(
            "{address} cannot be used by this user: {shown}: {error}; expected root, or a udev rule \
             that gives the group to this user"
        )),
        Err(error) => Err(format!("{address} cannot be used: {shown}: {error}")),
    }
}

/// Returns the last name in what a link points to.
fn last_of_link(link: &Path) -> Option<String> {
    let target: PathBuf = std::fs::read_link(link).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Returns the kernel interfaces of a device.
fn interfaces(device: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(device.join("net")).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::symlink;

    use super::*;

    const ADDRESS: &str = "0000:03:00.0";

    /// What is found with this driver, kernel interface and IOMMU group.
    fn found(driver: Option<&str>, interface: Option<&str>, group: Option<&str>) -> String {
        let root = tempfile::tempdir().unwrap();
        let device = root.path().join("devices").join(ADDRESS);
        create_dir_all(&device).unwrap();
        let vfio = root.path().join("vfio");
        create_dir_all(&vfio).unwrap();
        if let Some(driver) = driver {
            symlink(Path::new("../../bus/pci/drivers").join(driver), device.join("driver"))
                .unwrap();
        }
        if let Some(interface) = interface {
            create_dir_all(device.join("net").join(interface)).unwrap();
        }
        if let Some(group) = group {
            symlink(Path::new("../../kernel/iommu_groups").join(group), device.join("iommu_group"))
                .unwrap();
            write(vfio.join(group), "").unwrap();
        }
        examine(&root.path().join("devices"), &vfio, ADDRESS).err().unwrap_or_default()
    }

    #[test]
    fn a_device_of_another_driver_is_named_with_the_command_that_binds_it() {
        assert_eq!(
            found(Some("ixgbe"), Some("eth3"), None),
            "0000:03:00.0 is bound to the kernel's driver ixgbe as eth3; expected vfio-pci: modprobe \
             vfio-pci && dpdk-devbind.py --bind=vfio-pci 0000:03:00.0, which takes it from the kernel"
        );
        let bare = found(Some("ixgbe"), None, None);
        assert!(bare.contains("kernel's driver ixgbe; expected"), "{bare}");
        let none = found(None, None, None);
        assert!(none.contains("bound to no driver") && none.contains("dpdk-devbind.py"), "{none}");
    }

    #[test]
    fn a_device_that_dpdk_can_open_is_sound() {
        assert_eq!(found(Some("vfio-pci"), None, Some("7")), "");
        assert_eq!(found(Some("igb_uio"), None, None), "");
        // It is shared with the kernel.
        assert_eq!(found(Some("mlx5_core"), Some("eth0"), None), "");
        let no_iommu = found(Some("vfio-pci"), None, None);
        assert!(no_iommu.contains("no IOMMU group"), "{no_iommu}");
    }

    #[test]
    fn a_device_that_is_not_there_is_said_to_be_none() {
        let error = examine(Path::new("/nonexistent"), Path::new("/"), ADDRESS).unwrap_err();
        assert!(error.contains("is not a PCI device of this machine"), "{error}");
    }
}

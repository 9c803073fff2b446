use std::fs::{create_dir_all, write};
use std::os::unix::fs::symlink;

use super::*;

const ADDRESS: &str = "0000:03:00.0";
const OTHER: &str = "0000:03:00.1";

/// A machine with PCI devices, in a directory.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn pci(&self) -> Pci {
        let root = self.0.path();
        Pci { sys: root.join("sys"), dev: root.join("dev"), proc: root.join("proc") }
    }

    fn examine(&self) -> String {
        self.pci().examine(ADDRESS).err().unwrap_or_default()
    }

    /// Adds a network card with this driver.
    fn with(self, address: &str, driver: Option<&str>) -> Self {
        let device = self.pci().device(address);
        create_dir_all(&device).unwrap();
        write(device.join("class"), "0x020000\n").unwrap();
        if let Some(driver) = driver {
            symlink(Path::new("../../drivers").join(driver), device.join("driver")).unwrap();
        }
        self
    }

    /// Puts devices into an IOMMU group.
    fn with_group(self, group: &str, addresses: &[&str]) -> Self {
        let Pci { sys, dev, .. } = self.pci();
        let directory = sys.join("kernel/iommu_groups").join(group);
        create_dir_all(directory.join("devices")).unwrap();
        for address in addresses {
            let device = self.pci().device(address);
            symlink(&directory, device.join("iommu_group")).unwrap();
            symlink(device, directory.join("devices").join(address)).unwrap();
        }
        create_dir_all(dev.join("vfio")).unwrap();
        write(dev.join("vfio").join(group), "").unwrap();
        self
    }

    fn write(&self, file: &str, text: &str) {
        let file = self.pci().device(ADDRESS).join(file);
        create_dir_all(file.parent().unwrap()).unwrap();
        write(file, text).unwrap();
    }

    /// Starts a process that has a file of `/dev` open.
    fn start(&self, process: u32, file: &str) {
        let Pci { proc, dev, .. } = self.pci();
        let process = proc.join(process.to_string());
        create_dir_all(process.join("fd")).unwrap();
        symlink("/dev/null", process.join("fd/0")).unwrap();
        symlink(dev.join(file), process.join("fd/7")).unwrap();
        write(process.join("comm"), "dpdk-testpmd\n").unwrap();
    }
}

#[test]
fn a_device_of_another_driver_is_named_with_the_command_that_binds_it() {
    let machine = Machine::new().with(ADDRESS, Some("ixgbe"));
    let commands = "driverctl set-override 0000:03:00.0 vfio-pci, or until the next boot modprobe \
                    vfio-pci && dpdk-devbind.py --bind=vfio-pci 0000:03:00.0";
    assert_eq!(
        machine.examine(),
        format!(
            "0000:03:00.0 is bound to the kernel's driver ixgbe; expected vfio-pci: {commands}; both \
             take it from the kernel"
        )
    );
    machine.write("net/eth3/mtu", "1500");
    let said = machine.examine();
    assert!(said.contains("kernel's driver ixgbe as eth3; expected"), "{said}");
    assert_eq!(
        Machine::new().with(ADDRESS, None).examine(),
        format!("0000:03:00.0 is bound to no driver; expected vfio-pci: {commands}")
    );
}

#[test]
fn a_device_that_dpdk_can_open_is_sound() {
    for driver in ["vfio-pci", "mlx5_vfio_pci"] {
        let machine = Machine::new().with(ADDRESS, Some(driver)).with_group("7", &[ADDRESS]);
        assert_eq!(machine.examine(), "");
        assert_eq!(machine.pci().in_use(ADDRESS), None);
        assert!(machine.pci().may_interrupt(ADDRESS));
        assert_eq!(machine.pci().advice(ADDRESS, 2048), [""; 0]);
    }
    // The last one is shared with the kernel.
    for driver in ["igb_uio", "uio_pci_generic", "mlx5_core"] {
        let machine = Machine::new().with(ADDRESS, Some(driver));
        assert_eq!(machine.pci().may_interrupt(ADDRESS), driver == "mlx5_core");
        assert_eq!((machine.examine(), machine.pci().in_use(ADDRESS)), (String::new(), None));
    }
}

#[test]
fn a_device_that_is_not_there_or_no_network_card_is_said_to_be_none() {
    let none = Machine::new().examine();
    assert!(none.contains("is not a PCI device of this machine"), "{none}");
    let machine = Machine::new().with(ADDRESS, Some("nvme"));
    machine.write("class", "0x010802\n");
    let disk = machine.examine();
    assert!(disk.contains("no network controller (its class is 0x010802)"), "{disk}");
}

#[test]
fn without_an_iommu_vfio_needs_its_unsafe_mode() {
    let machine = Machine::new().with(ADDRESS, Some("vfio-pci"));
    let said = machine.examine();
    for part in ["in no IOMMU group", "intel_iommu=on", "enable_unsafe_noiommu_mode"] {
        assert!(said.contains(part), "{said}");
    }
    // With it the group's file has another name.
    let machine = machine.with_group("0", &[ADDRESS]);
    let vfio = machine.pci().dev.join("vfio");
    fs::rename(vfio.join("0"), vfio.join("noiommu-0")).unwrap();
    assert_eq!(machine.examine(), "");
    fs::remove_file(vfio.join("noiommu-0")).unwrap();
    let said = machine.examine();
    assert!(said.contains("there is no") && said.contains("container"), "{said}");
}

#[test]
fn a_group_with_a_device_of_the_kernel_is_refused() {
    let shared = |driver: Option<&str>| {
        let machine = Machine::new().with(ADDRESS, Some("vfio-pci")).with(OTHER, driver);
        machine.with_group("7", &[ADDRESS, OTHER])
    };
    assert_eq!(
        shared(Some("ixgbe")).examine(),
        "0000:03:00.0 is in IOMMU group 7 with 0000:03:00.1, and 0000:03:00.1 is bound to the kernel's \
         driver ixgbe; expected all of the group at vfio-pci or at no driver: dpdk-devbind.py \
         --unbind 0000:03:00.1, or another slot"
    );
    for driver in [None, Some("vfio-pci"), Some("pci-stub"), Some("pcieport")] {
        assert_eq!(shared(driver).examine(), "", "{driver:?}");
    }
    let bridge = shared(Some("some_bridge"));
    write(bridge.pci().device(OTHER).join("class"), "0x060400\n").unwrap();
    assert_eq!(bridge.examine(), "");
}

#[test]
fn a_device_that_another_process_has_is_named_with_the_process() {
    let expected = "0000:03:00.0 is in use by dpdk-testpmd, process 4294967295; expected a device of \
                    its own, or the end of that process";
    let machine = Machine::new().with(ADDRESS, Some("vfio-pci")).with_group("7", &[ADDRESS]);
    machine.start(u32::MAX, "vfio/8");
    assert_eq!(machine.pci().in_use(ADDRESS), None);
    let machine = Machine::new().with(ADDRESS, Some("vfio-pci")).with_group("7", &[ADDRESS]);
    // This process may have it.
    machine.start(std::process::id(), "vfio/7");
    assert_eq!(machine.pci().in_use(ADDRESS), None);
    machine.start(u32::MAX, "vfio/7");
    assert_eq!(machine.pci().in_use(ADDRESS).as_deref(), Some(expected));
    assert_eq!(machine.examine(), "", "it passes");
    let machine = Machine::new().with(ADDRESS, Some("uio_pci_generic"));
    machine.write("uio/uio3/name", "uio_pci_generic");
    machine.start(u32::MAX, "uio3");
    assert_eq!(machine.pci().in_use(ADDRESS).as_deref(), Some(expected));
}

#[test]
fn a_virtual_function_needs_its_hosts_trust() {
    let machine = Machine::new().with(ADDRESS, Some("i40e")).with("0000:03:02.1", Some("vfio-pci"));
    machine.write("net/eth3/mtu", "1500");
    let (physical, pci) = (machine.pci().device(ADDRESS), machine.pci());
    symlink(&physical, pci.device("0000:03:02.1").join("physfn")).unwrap();
    symlink("../0000:03:02.0", physical.join("virtfn0")).unwrap();
    symlink("../0000:03:02.1", physical.join("virtfn1")).unwrap();
    let said = pci.advice("0000:03:02.1", 2048).concat();
    assert_eq!(
        said,
        "0000:03:02.1 is a virtual function of 0000:03:00.0 (i40e); it gets frames to other MAC \
         addresses, and may send from them, only if its host allows that: ip link set eth3 vf 1 trust \
         on spoofchk off"
    );
    // Its host's driver is bound to nothing.
    let bound = Machine::new().with(ADDRESS, Some("iavf"));
    assert!(bound.examine().contains("kernel's driver iavf; expected vfio-pci"));
}

#[test]
fn a_vmxnet3_has_a_limit() {
    let machine = Machine::new().with(ADDRESS, Some("vfio-pci"));
    let advice = |vendor: &str, max_frame| {
        machine.write("vendor", vendor);
        machine.write("device", "0x07b0\n");
        machine.pci().advice(ADDRESS, max_frame).concat()
    };
    assert!(advice("0x15ad\n", 2048).contains("is a vmxnet3"));
    assert_eq!(advice("0x15ad\n", 9728), "");
    assert_eq!(advice("0x8086\n", 2048), "");
}

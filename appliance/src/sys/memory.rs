//! Asks the kernel whether it would give memory, without using it.

use memmap2::MmapOptions;

/// Returns whether the kernel gives this process an allocation of so many bytes. Nothing is left of it;
/// that the process may fill all of it is not promised.
pub fn can_map(bytes: u64) -> bool {
    match usize::try_from(bytes) {
        Ok(0) => true,
        Ok(bytes) => MmapOptions::new().len(bytes).map_anon().is_ok(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_refuses_what_no_machine_has() {
        assert!(can_map(0) && can_map(1 << 20));
        assert!(!can_map(1 << 60));
    }
}

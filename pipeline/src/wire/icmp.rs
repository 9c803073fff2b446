//! ICMP errors (RFC 792) and the packet they quote.

/// Bytes in front of the quoted packet.
pub const HEADER: usize = 8;
/// Offset of the checksum.
pub const CHECKSUM: usize = 2;

/// Whether messages of this type quote the packet that caused them: destination
/// unreachable, source quench, redirect, time exceeded, parameter problem.
pub fn is_error(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 5 | 11 | 12)
}

//! Checks whether a SYN may be tagged (op 210).

use crate::packet::buffer::Buffer;
use crate::packet::view::Packet;
use crate::stage::tag;
use crate::verdict::Verdict;
use crate::wire::family::Family;
use crate::wire::tcp::{self, Options};

/// Checks whether a SYN may be tagged. `tag_space` is the size of the tag with its padding, in
/// bytes.
///
/// # Errors
/// The verdict says why the SYN must not be tagged.
pub fn syn<F: Family, B: Buffer>(
    packet: &Packet<B>,
    option_id: tag::OptionId,
    tag_space: usize,
) -> Result<(), Verdict> {
    if packet.has_data() {
        return Err(Verdict::UntaggedData);
    }
    if !packet.ip_checksum_ok() {
        return Err(Verdict::UntaggedIpChecksum);
    }
    if !packet.tcp_checksum_ok::<F>() {
        return Err(Verdict::UntaggedTcpChecksum);
    }
    for option in Options::new(packet.options()) {
        let option = option.map_err(|_| Verdict::UntaggedOptions)?;
        if option_id.matches(&option) {
            return Err(Verdict::UntaggedAlreadyTagged);
        }
        match option.kind {
            tcp::MD5 | tcp::AUTHENTICATION => return Err(Verdict::UntaggedTcpAuth),
            tcp::FAST_OPEN => return Err(Verdict::UntaggedFastOpen),
            tcp::MPTCP if option.bytes.get(2).is_some_and(|byte| byte >> 4 == tcp::MP_JOIN) => {
                return Err(Verdict::UntaggedMpJoin);
            }
            kind if tcp::EXPERIMENTS.contains(&kind)
                && option.bytes.get(2..4) == Some(&tcp::FAST_OPEN_EXID.to_be_bytes()[..]) =>
            {
                return Err(Verdict::UntaggedFastOpen);
            }
            _ => {}
        }
    }
    if packet.options().len() + tag_space > tcp::MAX_OPTIONS {
        return Err(Verdict::UntaggedNoOptionSpace);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buffer::HeapBuffer;
    use crate::testing::{LINUX_OPTIONS, Segment};
    use crate::wire::family::V4;

    fn linux_syn() -> Segment {
        Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7)
    }

    fn check(frame: &[u8]) -> Result<(), Verdict> {
        syn::<V4, _>(&Packet::new(HeapBuffer::new(frame)), tag::OptionId::default(), 8)
    }

    fn with_options(options: &[u8]) -> Result<(), Verdict> {
        check(&linux_syn().options(options).frame())
    }

    #[test]
    fn accepts_a_linux_syn_and_one_without_options() {
        assert_eq!(with_options(&LINUX_OPTIONS), Ok(()));
        assert_eq!(with_options(&[]), Ok(()));
        assert_eq!(with_options(&[1; 32]), Ok(()));
    }

    #[test]
    fn the_verdict_says_why_a_syn_is_not_tagged() {
        assert_eq!(with_options(&[1; 36]), Err(Verdict::UntaggedNoOptionSpace));
        assert_eq!(with_options(&[1; 40]), Err(Verdict::UntaggedNoOptionSpace));
        assert_eq!(check(&linux_syn().payload(b"x").frame()), Err(Verdict::UntaggedData));
        assert_eq!(with_options(&[34, 2, 1, 1]), Err(Verdict::UntaggedFastOpen));
        assert_eq!(with_options(&[254, 4, 0xf9, 0x89]), Err(Verdict::UntaggedFastOpen));
        let join = [30, 12, 0x11, 1, 0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4];
        assert_eq!(with_options(&join), Err(Verdict::UntaggedMpJoin));
        assert_eq!(with_options(&[30, 4, 0x01, 0x01]), Ok(()), "MP_CAPABLE opens a connection");
        assert_eq!(with_options(&[30, 2, 1, 1]), Ok(()), "no subtype");
        assert_eq!(with_options(&[253, 4, 0x4e, 0x52]), Err(Verdict::UntaggedAlreadyTagged));
        let md5 = [&[19, 18][..], &[0; 16], &[1, 1]].concat();
        assert_eq!(with_options(&md5), Err(Verdict::UntaggedTcpAuth));
        assert_eq!(with_options(&[29, 4, 0, 0]), Err(Verdict::UntaggedTcpAuth));
        assert_eq!(with_options(&[8, 10, 0, 0]), Err(Verdict::UntaggedOptions));
        assert_eq!(with_options(&[8, 0, 0, 0]), Err(Verdict::UntaggedOptions));
    }

    #[test]
    fn a_wrong_checksum_is_not_accepted() {
        let mut frame = linux_syn().frame();
        frame[24] ^= 1;
        assert_eq!(check(&frame), Err(Verdict::UntaggedIpChecksum));
        frame[24] ^= 1;
        frame[50] ^= 1;
        assert_eq!(check(&frame), Err(Verdict::UntaggedTcpChecksum));
    }
}

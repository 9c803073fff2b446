//! What is wrong with a frame, and how it lies in its buffer.

use firstack_tests::model::Carrier;
use firstack_tests::model::corpus::Mutation;
use pipeline::wire::tunnel::Format;

use super::carried;

/// Offset of the first byte that is worth changing.
const FROM: usize = 12;

/// Changes a frame as two bytes of its record say: mostly not at all.
pub(super) fn apply(mut frame: Vec<u8>, what: u8, parameter: u8) -> (Vec<u8>, Carrier) {
    let number = usize::from(parameter);
    let mutation = match what {
        0..=179 => return (frame, Carrier::Whole),
        180..=187 => return carried(frame, 0, parameter),
        188..=191 => return carried(frame, 1, parameter),
        192..=199 => {
            frame.truncate(frame.len() * number / 256);
            return (frame, Carrier::Whole);
        }
        200..=223 => {
            let at = FROM + number % frame.len().saturating_sub(FROM).max(1);
            if let Some(byte) = frame.get_mut(at) {
                *byte ^= [1, 0x0f, 0x10, 0x40, 0x80, 0xf0, 0xff, 2][usize::from(what) % 8];
            }
            return (frame, Carrier::Whole);
        }
        224..=227 => Mutation::Vlan([0x8100, 0x88a8, 0x9100][number % 3]),
        228..=231 => Mutation::IpOptions(parameter % 11),
        232..=235 => {
            let kind = [0u8, 43, 44, 60, 51, 50, 135, 59][number % 8];
            Mutation::Extension(kind, [parameter >> 7, 1, 4, parameter, 0, 0])
        }
        236..=239 => Mutation::Length(parameter.cast_signed()),
        240..=243 => Mutation::Pad(parameter),
        244..=249 => Mutation::Wrap(Format::ALL[number % 3], parameter & 0x80 != 0),
        _ => Mutation::Mend,
    };
    (mutation.apply(frame), Carrier::Whole)
}

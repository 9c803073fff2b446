//! TCP options in a scenario's notation, such as `linux,tag` or `mss:1460,nop,ws:7`.
//!
//! | item | option |
//! |---|---|
//! | `linux` | what Linux puts into a SYN |
//! | `mss:N ws:N sack ts:VALUE:ECHO nop eol` | as they are called |
//! | `tag` | permitted, configuration A |
//! | `tag:B`, `tag:05` | permitted and this configuration, or flags by their bits |
//! | `tag:B/1`, `tag:B/none` | permitted, and this number of copies wanted, 1 to 14 or none |
//! | `tag:C:7:KEY` | signed: key id, the name of a key that the MAC is computed with |
//! | `tag:C:7:KEY@2`, `tag:C:7:KEY@-1` | signed so many epochs after that in which scenarios begin |
//! | `tag:C:7:0123456789abcdef`, `tag:81:7:01` | signed: the MAC, of whatever length |
//! | `opt:KIND:HEX` | any other; the length byte is put in |
//! | `hex:BYTES` | just these |

use firstack_packets::tag::{
    EPOCH_SECONDS, EXID, KIND, Key, NO_COPIES, SIGNED, Signature, Signed, copies, mac, wanting,
};

use super::names::Names;
use super::{EPOCH, hex, to_hex};

/// What Linux puts into a SYN.
const LINUX: &str = "mss:1460,sack,ts:1:0,nop,ws:7";
/// The epoch in whose first second scenarios begin.
const FIRST: u32 = (EPOCH.as_secs() / EPOCH_SECONDS) as u32;
/// The farthest epochs that are shown by their number.
const FARTHEST: i32 = 100;
/// The flags of permitted tags, by configuration.
const CONFIGURATIONS: [(&str, u8); 3] = [("A", 0x01), ("B", 0x03), ("C", 0x05)];

/// An option list as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// The bytes, padded with NOPs to a multiple of 4.
    pub bytes: Vec<u8>,
    /// The tag that is to be signed.
    pub signature: Option<Signature>,
}

/// Reads an option list.
pub fn parse(text: &str, names: &Names) -> Result<Area, String> {
    let mut area = Area::default();
    for item in text.split(',').filter(|item| *item != "none") {
        add(item, names, &mut area)?;
    }
    let bytes = &mut area.bytes;
    bytes.resize(bytes.len().next_multiple_of(4), 1);
    if bytes.len() > 40 { Err(format!("{text}: {} bytes", bytes.len())) } else { Ok(area) }
}

fn add(item: &str, names: &Names, area: &mut Area) -> Result<(), String> {
    let bytes = &mut area.bytes;
    let mut parts = item.split(':');
    let kind = parts.next().unwrap_or_default();
    let mut number = |max: u32| -> Result<u32, String> {
        let part = parts.next().ok_or(format!("{item}: something is missing"))?;
        let number = part.parse().map_err(|_| format!("{item}: {part} is no number"))?;
        if number > max { Err(format!("{item}: {part} is too much")) } else { Ok(number) }
    };
    match kind {
        "linux" => LINUX.split(',').try_for_each(|item| add(item, names, area))?,
        "mss" => {
            bytes.extend([2, 4]);
            bytes.extend((number(0xffff)? as u16).to_be_bytes());
        }
        "ws" => bytes.extend([3, 3, number(255)? as u8]),
        "sack" => bytes.extend([4, 2]),
        "ts" => {
            bytes.extend([8, 10]);
            bytes.extend(number(u32::MAX)?.to_be_bytes());
            bytes.extend(number(u32::MAX)?.to_be_bytes());
        }
        "nop" => bytes.push(1),
        "eol" => bytes.push(0),
        "tag" => tag(&parts.collect::<Vec<_>>(), names, area)?,
        "opt" => {
            bytes.push(number(255)? as u8);
            let rest = hex(parts.next().unwrap_or_default())?;
            bytes.push(2 + rest.len() as u8);
            bytes.extend(rest);
        }
        "hex" => bytes.extend(hex(parts.next().unwrap_or_default())?),
        _ => return Err(format!("{item} is no TCP option")),
    }
    Ok(())
}

fn tag(parts: &[&str], names: &Names, area: &mut Area) -> Result<(), String> {
    let mut rest = match parts.first().map(|text| (named(text), text)) {
        None => vec![CONFIGURATIONS[0].1],
        Some((Some(flags), _)) if parts.len() > 1 => vec![flags | SIGNED],
        Some((Some(flags), _)) => vec![flags],
        Some((None, text)) => hex(text)?,
    };
    match parts.get(1..) {
        Some([id, mac]) => {
            rest.push(id.parse().map_err(|_| format!("{id} is no key id"))?);
            let (name, epochs) = mac.split_once('@').unwrap_or((mac, "0"));
            match names.key(name) {
                Some(key) => {
                    rest.extend([0; 8]);
                    let at = area.bytes.len() + 4 + rest.len() - 8;
                    let epochs = epochs.parse().map_err(|_| format!("{epochs} is no number"))?;
                    let epoch = FIRST.wrapping_add_signed(epochs);
                    area.signature = Some(Signature { at, key, epoch });
                }
                None => rest.extend(hex(mac)?),
            }
        }
        None | Some([]) => {}
        _ => return Err("a signed tag has flags, a key id, and a key or MAC".to_owned()),
    }
    area.bytes.extend([KIND, 4 + rest.len() as u8, EXID[0], EXID[1]]);
    area.bytes.extend(rest);
    Ok(())
}

/// The flags of a permitted tag: the letter of a configuration, and perhaps the number of copies
/// wanted.
fn named(text: &str) -> Option<u8> {
    let (letter, wanted) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let (_, flags) = CONFIGURATIONS.iter().find(|(name, _)| *name == letter)?;
    match wanted {
        None => Some(*flags),
        Some("none") => Some(wanting(*flags, NO_COPIES)),
        Some(count) => {
            let count = count.parse().ok().filter(|count| (1..NO_COPIES).contains(count))?;
            Some(wanting(*flags, count))
        }
    }
}

/// The notation for the option area of a start packet, or of any other.
pub fn show(area: &[u8], names: &Names, signed: Signed) -> String {
    let mut items = Vec::new();
    let mut rest = area;
    while let Some((&kind, after)) = rest.split_first() {
        let one = |text: &str| (text.to_owned(), after);
        let (item, next) = match kind {
            0 => one("eol"),
            1 => one("nop"),
            _ => match rest.get(1).map(|&length| usize::from(length)) {
                Some(length) if (2..=rest.len()).contains(&length) => {
                    (option(&rest[..length], names, signed), &rest[length..])
                }
                _ => (format!("hex:{}", to_hex(rest)), &rest[rest.len()..]),
            },
        };
        items.push(item);
        rest = next;
    }
    let mut text = items.join(",").replace(LINUX, "linux");
    // Trailing NOPs that the reader puts in by itself. A MAC takes as much room signed or not.
    let reads = |text: &str| parse(text, names).map(|area| area.bytes.len());
    while let Some(shorter) = text.strip_suffix(",nop") {
        if reads(shorter) != Ok(area.len()) {
            break;
        }
        text = shorter.to_owned();
    }
    text
}

fn option(bytes: &[u8], names: &Names, signed: Signed) -> String {
    let word =
        |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    match (bytes[0], bytes.len()) {
        (2, 4) => format!("mss:{}", u16::from_be_bytes([bytes[2], bytes[3]])),
        (3, 3) => format!("ws:{}", bytes[2]),
        (4, 2) => "sack".to_owned(),
        (8, 10) => format!("ts:{}:{}", word(2), word(6)),
        (KIND, 5) if bytes[2..4] == EXID => match flags(bytes[4], 0) {
            text if text == "A" => "tag".to_owned(),
            text => format!("tag:{text}"),
        },
        (KIND, 6..) if bytes[2..4] == EXID => {
            let (flags_byte, id) = (bytes[4], bytes[5]);
            let key = signer(&bytes[6..], names, signed, (flags_byte, id));
            let mac = key.unwrap_or_else(|| to_hex(&bytes[6..]));
            format!("tag:{}:{}:{mac}", flags(flags_byte, SIGNED), id)
        }
        (kind, _) => format!("opt:{kind}:{}", to_hex(&bytes[2..])),
    }
}

/// The key that a MAC was made with, and the epoch unless it is the first one.
fn signer(bytes: &[u8], names: &Names, signed: Signed, flags_and_id: (u8, u8)) -> Option<String> {
    let all = || names.keys();
    let epochs = (0..=FARTHEST).flat_map(|count| [count, -count]);
    epochs.flat_map(|count| all().map(move |key| (count, key))).find_map(
        |(count, (name, key)): (i32, (&str, Key))| {
            let epoch = FIRST.wrapping_add_signed(count);
            (mac(key, signed, flags_and_id, epoch) == bytes).then(|| match count {
                0 => name.to_owned(),
                count => format!("{name}@{count}"),
            })
        },
    )
}

/// Flags as the letter of a configuration, which stands for this bit too, and the number of copies
/// wanted unless it is all; or by their bits.
fn flags(byte: u8, with: u8) -> String {
    let wanted = copies(byte);
    let named = CONFIGURATIONS.iter().find(|(_, flags)| wanting(flags | with, wanted) == byte);
    match (named, wanted) {
        (None, _) => format!("{byte:02x}"),
        (Some((name, _)), 0) => (*name).to_owned(),
        (Some((name, _)), NO_COPIES) => format!("{name}/none"),
        (Some((name, _)), count) => format!("{name}/{count}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::IpAddr;

    const TO_NOBODY: Signed =
        Signed { ends: (IpAddr::V4(UNSET), IpAddr::V4(UNSET)), ports: (0, 0), seq: 0 };
    const UNSET: std::net::Ipv4Addr = std::net::Ipv4Addr::UNSPECIFIED;

    #[test]
    fn a_linux_syn_with_the_tag_of_the_contract() {
        let names = Names::default();
        let tagged = [
            2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7, 253, 5, 0x4e, 0x52, 1,
            1, 1, 1,
        ];
        assert_eq!(parse("linux,tag", &names).unwrap().bytes, tagged);
        assert_eq!(show(&tagged, &names, TO_NOBODY), "linux,tag");
        let signed = parse("tag:C:7:0102030405060708", &names).unwrap().bytes;
        assert_eq!(signed, [253, 14, 0x4e, 0x52, 0x85, 7, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1]);
    }

    #[test]
    fn what_is_read_can_be_shown() {
        let names = Names::default();
        for (text, shown) in [
            ("ws:7,tag:04,nop,nop,eol,nop", "ws:7,tag:04,nop,nop,eol"),
            ("hex:0800", "hex:08000101"),
            ("tag:A", "tag"),
            ("tag:85:1:0102030405060708", "tag:C:1:0102030405060708"),
            ("tag:7b", "tag:B/none"),
        ] {
            let area = parse(text, &names).unwrap().bytes;
            assert_eq!(show(&area, &names, TO_NOBODY), shown);
            assert_eq!(parse(shown, &names).unwrap().bytes, area);
        }
        for text in [
            "opt:34:0102,sack",
            "mss:1,nop,eol",
            "tag:B,tag:C,tag:00,tag:85",
            "tag:A/1,tag:B/14,tag:C/none",
            "tag:C/2:1:0102030405060708",
            "tag:B:255:0102030405060708,nop,eol",
            "tag:05:1:0102030405060708",
            "tag:A:0:01020304050607,sack",
            "tag:80:9:",
        ] {
            let area = parse(text, &names).unwrap().bytes;
            assert_eq!(show(&area, &names, TO_NOBODY), text);
        }
        for wrong in [
            "mss",
            "frob",
            "ws:256",
            "linux,linux,nop",
            "tag:C:7",
            "tag:C:256:01",
            "tag:A/15",
            "tag:A/0",
        ] {
            assert!(parse(wrong, &names).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tag_is_signed_for_where_it_goes() {
        let names = Names::parse("K 000102030405060708090a0b0c0d0e0f").unwrap();
        let key = names.key("K").unwrap();
        let area = parse("sack,tag:B:7:K", &names).unwrap();
        let (mut bytes, signature) = (area.bytes, area.signature.unwrap());
        let ends = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let signed = Signed { ends, ports: (1, 2), seq: 3 };
        signature.write(&mut bytes, signed);
        assert_eq!(bytes[8..16], mac(key, signed, (0x83, 7), FIRST));
        assert_eq!(show(&bytes, &names, signed), "sack,tag:B:7:K");
        for text in ["tag:A:7:K@2", "tag:A:7:K@-1"] {
            let area = parse(text, &names).unwrap();
            let mut bytes = area.bytes;
            area.signature.unwrap().write(&mut bytes, signed);
            assert_eq!(show(&bytes, &names, signed), text);
        }
        let other = show(&bytes, &names, Signed { seq: 4, ..signed });
        assert!(other.starts_with("sack,tag:B:7:") && !other.ends_with('K'), "{other}");
    }
}

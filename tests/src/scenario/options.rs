//! TCP options in a scenario's notation, such as `linux,tag` or `mss:1460,nop,ws:7`.

use super::hex;

/// What Linux puts into a SYN.
const LINUX: &str = "mss:1460,sack,ts:1:0,nop,ws:7";
/// The tag's kind and ExID where no scenario says otherwise (docs/configuration.md, `[tag]`).
const TAG: [u8; 4] = [253, 5, 0x4e, 0x52];

/// Reads an option list. Padded with NOPs to a multiple of 4.
///
/// Items: `linux`, `mss:N`, `ws:N`, `sack`, `ts:VALUE:ECHO`, `nop`, `eol`, `tag` (permitted,
/// configuration A), `tag:FLAGS`, `opt:KIND:HEX` (length byte put in), `hex:BYTES`.
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    let mut area = Vec::new();
    for item in text.split(',').filter(|item| *item != "none") {
        let mut parts = item.split(':');
        let kind = parts.next().unwrap_or_default();
        let mut number = |max: u32| -> Result<u32, String> {
            let part = parts.next().ok_or(format!("{item}: something is missing"))?;
            let number = part.parse().map_err(|_| format!("{item}: {part} is no number"))?;
            if number > max { Err(format!("{item}: {part} is too much")) } else { Ok(number) }
        };
        match kind {
            "linux" => area.extend(parse(LINUX)?),
            "mss" => {
                area.extend([2, 4]);
                area.extend((number(0xffff)? as u16).to_be_bytes());
            }
            "ws" => area.extend([3, 3, number(255)? as u8]),
            "sack" => area.extend([4, 2]),
            "ts" => {
                area.extend([8, 10]);
                area.extend(number(u32::MAX)?.to_be_bytes());
                area.extend(number(u32::MAX)?.to_be_bytes());
            }
            "nop" => area.push(1),
            "eol" => area.push(0),
            "tag" => {
                area.extend(TAG);
                area.extend(parts.next().map_or(Ok(vec![1]), hex)?);
            }
            "opt" => {
                area.push(number(255)? as u8);
                let rest = hex(parts.next().unwrap_or_default())?;
                area.push(2 + rest.len() as u8);
                area.extend(rest);
            }
            "hex" => area.extend(hex(parts.next().unwrap_or_default())?),
            _ => return Err(format!("{item} is no TCP option")),
        }
    }
    area.resize(area.len().next_multiple_of(4), 1);
    if area.len() > 40 { Err(format!("{text}: {} bytes", area.len())) } else { Ok(area) }
}

/// The notation for an option area.
pub fn show(area: &[u8]) -> String {
    let mut items = Vec::new();
    let mut rest = area;
    while let Some((&kind, after)) = rest.split_first() {
        let one = |text: &str| (text.to_owned(), after);
        let (item, next) = match kind {
            0 => one("eol"),
            1 => one("nop"),
            _ => match rest.get(1).map(|&length| usize::from(length)) {
                Some(length) if (2..=rest.len()).contains(&length) => {
                    (option(&rest[..length]), &rest[length..])
                }
                _ => (format!("hex:{}", super::to_hex(rest)), &rest[rest.len()..]),
            },
        };
        items.push(item);
        rest = next;
    }
    let mut text = items.join(",").replace(LINUX, "linux");
    // Trailing NOPs that the reader puts in by itself.
    while let Some(shorter) = text.strip_suffix(",nop") {
        if parse(shorter).as_deref() != Ok(area) {
            break;
        }
        text = shorter.to_owned();
    }
    text
}

fn option(bytes: &[u8]) -> String {
    let word =
        |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    match (bytes[0], bytes.len()) {
        (2, 4) => format!("mss:{}", u16::from_be_bytes([bytes[2], bytes[3]])),
        (3, 3) => format!("ws:{}", bytes[2]),
        (4, 2) => "sack".to_owned(),
        (8, 10) => format!("ts:{}:{}", word(2), word(6)),
        (253, 5) if bytes[..4] == TAG && bytes[4] == 1 => "tag".to_owned(),
        (253, 5) if bytes[..4] == TAG => format!("tag:{:02x}", bytes[4]),
        (kind, _) => format!("opt:{kind}:{}", super::to_hex(&bytes[2..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linux_syn_with_the_tag_of_the_contract() {
        let tagged = [
            2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7, 253, 5, 0x4e, 0x52, 1,
            1, 1, 1,
        ];
        assert_eq!(parse("linux,tag").unwrap(), tagged);
        assert_eq!(show(&tagged), "linux,tag");
    }

    #[test]
    fn what_is_read_can_be_shown() {
        for text in ["ws:7,tag:04,nop,nop,eol,nop", "opt:34:0102,sack", "hex:0800", "mss:1,nop,eol"]
        {
            let area = parse(text).unwrap();
            assert_eq!(parse(&show(&area)).unwrap(), area, "{text}");
        }
        assert!(parse("mss").is_err() && parse("frob").is_err() && parse("ws:256").is_err());
        assert!(parse("linux,linux,nop").is_err());
    }
}

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_790_000_000;

fn hash() -> Hash {
    Hash {
        key: "firstack:shop:v4".to_owned(),
        service: 0,
        version: Version::V4,
        allowed: vec!["198.51.100.0/22".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        memory: Duration::from_secs(600),
        site_prefix: 24,
    }
}

fn entry(address: &str) -> Entry {
    Entry {
        address: address.parse().unwrap(),
        direct_us: Some(9800),
        heard: NOW - 5,
        gateway: "5f2c0a".to_owned(),
    }
}

fn read(field: &str, entry: &Entry) -> Result<Read, Refused> {
    hash().read(field.as_bytes(), entry.value().as_bytes(), NOW)
}

#[test]
fn what_is_written_is_read() {
    let entry = entry("198.51.100.10");
    let value =
        r#"{"address":"198.51.100.10","direct_us":9800,"heard":1789999995,"gateway":"5f2c0a"}"#;
    assert_eq!(entry.value(), value);
    assert_eq!(hash().field(entry.address), "198.51.100.0/24");
    assert_eq!(read("198.51.100.0/24", &entry), Ok(Read::Fresh(entry.clone())));
    // Gateways may tell sites by other prefixes, and need no direct time.
    let by_switch = Entry { direct_us: None, ..entry };
    assert_eq!(read("198.51.100.10", &by_switch), Err(Refused::Field));
    assert_eq!(read("198.51.100.10/32", &by_switch), Ok(Read::Fresh(by_switch)));
    let v6 = Hash { version: Version::V6, site_prefix: 64, ..hash() };
    assert_eq!(v6.field("2001:db8::7:1".parse().unwrap()), "2001:db8::/64");
}

#[test]
fn an_entry_is_used_for_as_long_as_the_service_remembers() {
    let heard = |heard| Entry { heard, ..entry("198.51.100.10") };
    let read = |heard| read("198.51.100.0/24", &heard);
    assert!(matches!(read(heard(NOW - 599)), Ok(Read::Fresh(_))));
    assert_eq!(read(heard(NOW - 600)), Ok(Read::Expired));
    assert_eq!(read(heard(0)), Ok(Read::Expired));
    // Clocks differ a little.
    assert!(matches!(read(heard(NOW + 60)), Ok(Read::Fresh(_))));
    assert_eq!(read(heard(NOW + 61)), Err(Refused::Clock));
    assert_eq!(read(heard(u64::MAX)), Err(Refused::Clock));
}

#[test]
fn what_could_not_win_here_is_refused() {
    let refused = |field: &str, address| read(field, &entry(address)).unwrap_err();
    assert_eq!(refused("203.0.113.0/24", "203.0.113.10"), Refused::Address);
    assert_eq!(refused("198.51.100.0/24", "198.51.101.10"), Refused::Prefix);
    assert_eq!(refused("2001:db8::/64", "2001:db8::1"), Refused::Address, "the other family");
    assert_eq!(refused("::ffff:198.51.100.0/120", "::ffff:198.51.100.10"), Refused::Address);
    let any = Hash { allowed: vec!["0.0.0.0/0".parse().unwrap()], ..hash() };
    for address in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "0.0.0.9"] {
        let value = entry(address).value();
        let read = any.read(b"0.0.0.0/0", value.as_bytes(), NOW);
        assert_eq!(read, Err(Refused::Address), "{address}");
    }
    let slow = Entry { direct_us: Some(60_000_001), ..entry("198.51.100.10") };
    assert_eq!(read("198.51.100.0/24", &slow), Err(Refused::Time));
    for gateway in ["", "a b", "\u{7f}", &"a".repeat(33)] {
        let odd = Entry { gateway: gateway.to_owned(), ..entry("198.51.100.10") };
        assert_eq!(read("198.51.100.0/24", &odd), Err(Refused::Value), "{gateway:?}");
    }
}

#[test]
fn an_entry_that_says_less_does_not_replace_another_gateways() {
    let with = |direct_us, heard| Entry { direct_us, heard, ..entry("198.51.100.10") };
    assert!(with(Some(9), 10).says_more(&with(None, 20)));
    assert!(!with(None, 20).says_more(&with(Some(9), 10)));
    assert!(with(Some(9), 20).says_more(&with(Some(5), 20)));
    assert!(!with(Some(9), 19).says_more(&with(Some(5), 20)));
}

/// Nearly a field, and nearly a value.
fn nearly() -> impl Strategy<Value = (String, String)> {
    let address = prop_oneof![
        any::<[u8; 4]>().prop_map(|bytes| IpAddr::from(bytes).to_string()),
        any::<[u8; 16]>().prop_map(|bytes| IpAddr::from(bytes).to_string()),
        any::<u8>().prop_map(|last| format!("198.51.100.{last}")),
        any::<u8>().prop_map(|last| format!("203.0.113.{last}")),
    ];
    let number = || {
        prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            Just("null".to_owned()),
            "[0-9.e-]{1,9}"
        ]
    };
    let heard = prop_oneof![Just(NOW.to_string()), number()];
    (address, 0u8..=130, number(), heard, "[0-9a-z ]{0,40}").prop_map(
        |(address, length, direct, heard, gateway)| {
            let value = format!(
                r#"{{"address":"{address}","direct_us":{direct},"heard":{heard},"gateway":"{gateway}"}}"#
            );
            let site = address.parse().ok().and_then(|ip| IpNet::new(ip, length).ok());
            (site.map_or(address, |site| site.trunc().to_string()), value)
        },
    )
}

/// Checks that whatever is accepted may win a race of the service.
fn check(field: &[u8], value: &[u8]) {
    for version in [Version::V4, Version::V6] {
        let hash = Hash { version, ..hash() };
        if let Ok(Read::Fresh(entry)) = hash.read(field, value, NOW) {
            assert_eq!(Version::of(entry.address), version);
            assert!(hash.allowed.iter().any(|prefix| prefix.contains(&entry.address)));
            assert!(entry.heard <= NOW + 60 && NOW < entry.heard + 600);
            assert!(entry.direct_us.is_none_or(|time| time <= LONGEST_TIME));
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_or_allowed(
        field in vec(any::<u8>(), 0..80), value in vec(any::<u8>(), 0..600)
    ) {
        check(&field, &value);
        check(b"198.51.100.0/24", &value);
        check(&field, entry("198.51.100.10").value().as_bytes());
    }

    #[test]
    fn what_is_nearly_an_entry_is_refused_or_allowed((field, value) in nearly()) {
        check(field.as_bytes(), value.as_bytes());
    }
}

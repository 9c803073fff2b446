use super::*;

const NOW: Ticks = Ticks::from_secs(1000);

fn memory() -> Memory {
    let policy = Policy { direct: 2, max_sites: 4, ..Policy::default() };
    Memory::new(vec![ServiceSettings::from(policy)], TunnelPath::default())
}

fn site(number: u8) -> IpAddr {
    [198, 51, number, 10].into()
}

fn learned(number: u8, age: Ticks) -> Learned {
    Learned { service: 0, address: site(number), direct: Some(Ticks(1)), age }
}

fn heard(number: u8) -> Report {
    let event = Event::Answered {
        responder: site(number),
        is_origin: false,
        is_direct: false,
        has_won: false,
        after: Some(Ticks::from_millis(150)),
    };
    Report { at: NOW, service: 0, client: "198.18.1.10:40000".parse().unwrap(), event }
}

#[test]
fn what_others_have_learned_takes_no_place_from_what_is_heard() {
    let mut memory = memory();
    memory.note(&heard(0));
    let new: Vec<_> = (0..6).map(|n| memory.learn(&learned(n, Ticks(0)), NOW)).collect();
    assert_eq!(new, [false, true, true, true, false, false]);
    (10..13).for_each(|number| memory.note(&heard(number)));
    memory.step(NOW);
    let mut kept: Vec<_> = memory.learned(NOW).iter().map(|site| site.address).collect();
    kept.sort_unstable();
    assert_eq!(kept, [0, 10, 11, 12].map(site), "and only what has answered is passed on");
}

#[test]
fn what_others_have_learned_lasts_as_long_as_they_hear_it() {
    let mut memory = memory();
    let sites = |memory: &mut Memory, now: Ticks| {
        memory.step(now);
        memory.shown(now).iter().map(|shown| shown.sites.len()).sum::<usize>()
    };
    assert!(!memory.learn(&learned(1, Ticks::from_secs(600)), NOW), "too old");
    assert!(memory.learn(&learned(1, Ticks::from_secs(500)), NOW));
    assert!(memory.learn(&learned(2, Ticks::from_secs(500)), NOW));
    assert!(!memory.learn(&learned(1, Ticks::from_secs(5)), NOW));
    assert_eq!(sites(&mut memory, NOW + Ticks::from_secs(100)), 2);
    assert_eq!(sites(&mut memory, NOW + Ticks::from_secs(101)), 1);
    assert_eq!(sites(&mut memory, NOW + Ticks::from_secs(596)), 0);
}

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

fn direct(change: impl FnOnce(&mut ServiceSettings)) -> ServiceSettings {
    let mut settings = ServiceSettings::from(Policy { direct: 2, ..Policy::default() });
    change(&mut settings);
    settings
}

fn asked(memory: &Memory, service: u16) -> Vec<IpAddr> {
    let plans = memory.published.current();
    let plan = plans.of(service, Version::V4).unwrap();
    plan.best.iter().map(|number| plan.candidate(*number).unwrap().address).collect()
}

fn reload(memory: &mut Memory, services: Vec<ServiceSettings>) {
    memory.reload(Memory::new(services, TunnelPath::default()), NOW);
}

#[test]
fn a_replica_that_is_not_allowed_any_more_is_not_asked_and_the_others_keep_their_numbers() {
    let mut memory = Memory::new(vec![direct(|_| {})], TunnelPath::default());
    (0..3).for_each(|number| memory.note(&heard(number)));
    memory.step(NOW);
    let number_of = |memory: &Memory, site: IpAddr| {
        let plans = memory.published.current();
        plans.of(0, Version::V4).unwrap().number_of(Policy::default().site(site))
    };
    let before = number_of(&memory, site(1));
    let only = |prefix: &str| AllowList::only([prefix.parse().unwrap()]);
    reload(&mut memory, vec![direct(|own| own.allowed_replicas = only("198.51.1.0/24"))]);
    assert_eq!(asked(&memory, 0), [site(1)]);
    assert_eq!(number_of(&memory, site(1)), before);
    // A worker that has not reloaded yet, or another gateway, may still speak of it.
    memory.note(&heard(0));
    assert!(!memory.learn(&Learned { address: site(2), ..learned(2, Ticks(0)) }, NOW));
    memory.step(NOW);
    assert_eq!(asked(&memory, 0), [site(1)]);
}

#[test]
fn services_come_go_and_come_back_with_what_was_learned() {
    let mut memory = Memory::new(vec![direct(|_| {})], TunnelPath::default());
    memory.note(&heard(0));
    memory.step(NOW);
    let warm = |own: &mut ServiceSettings| own.policy.warm = vec![site(7)];
    reload(&mut memory, vec![direct(|own| own.retired = true), direct(warm)]);
    assert!(asked(&memory, 0).is_empty());
    let plan = memory.plans.of(0, Version::V4).unwrap();
    assert!(plan.number_of(Policy::default().site(site(0))).is_some(), "races are under way");
    assert_eq!(asked(&memory, 1), [site(7)]);
    reload(&mut memory, vec![direct(|_| {}), direct(|_| {})]);
    assert_eq!(asked(&memory, 0), [site(0)]);
    // What is not warm any more is forgotten in its time.
    memory.step(NOW + Policy::default().memory + Ticks::from_secs(1));
    assert!(asked(&memory, 1).is_empty());
}

#[test]
fn the_same_settings_again_change_nothing() {
    let mut memory = memory();
    memory.note(&heard(0));
    memory.step(NOW);
    let before = format!("{:?}", (&memory.services, &memory.plans));
    let policy = Policy { direct: 2, max_sites: 4, ..Policy::default() };
    reload(&mut memory, vec![ServiceSettings::from(policy)]);
    assert_eq!(format!("{:?}", (&memory.services, &memory.plans)), before);
}

//! Direct racing on the simulation's clock: who wins, how fast the connection stands, how many
//! copies that takes, and what deaths, moves, losses and lies do to it.
//!
//! Every run has some hundred connections on a map where all paths are shortest paths.
//! `FIRSTACK_SEEDS` says how many maps each test draws.

use firstack_tests::simulation::address::{ORIGIN, REPLICAS, Site};
use firstack_tests::simulation::course::{Course, Race};
use firstack_tests::simulation::metric::{Events, Metric, Truth};
use firstack_tests::simulation::mutants::Mutant;
use firstack_tests::simulation::plan::{MS, Nanos, SECOND};
use firstack_tests::simulation::racing::Racing;
use firstack_tests::simulation::rng::Rng;
use firstack_tests::simulation::traffic::Copy;

/// Races that a gateway needs to learn who is nearest.
const LEARNING: usize = 100;
/// After a change it needs as many races, or this time: at a low rate the gateway explores every
/// 10 s, at a high rate every 64 races, and the trial that follows takes its turn in 16 races.
const SETTLING: Nanos = 10 * SECOND;
/// The nearest wins at least this share of races, less the share of races that lose its SYN or its
/// SYN/ACK.
const SHARE: f64 = 0.95;
/// Times differ by less than this by chance: a SYN and its SYN/ACK pass at most eight appliances,
/// of which each polls up to 1 ms late.
const NOISE: Nanos = 8 * MS;
/// The gateway is young for so many races, in which it explores more often.
const YOUNG: usize = 128;
/// A site is out of the direct set at the latest so long after its third unanswered copy: the
/// longest time-out, and a round of the control thread.
const OVERDUE: Nanos = 3 * SECOND + 100 * MS;
/// A liar is distrusted after eight connections in a row that clients have ended. Half of the
/// clients end theirs at once, so that is so after 24 with hardly an exception.
const LIES: f64 = 24.0;
/// A server has so long to end its side, before its silence counts.
const ENDS_WITHIN: Nanos = 3 * SECOND + 200 * MS;
/// A liar is distrusted for so long the first time, and twice as long each time after.
const DISTRUST: Nanos = 10 * SECOND;

fn seeds(usual: u64) -> std::ops::Range<u64> {
    let text = std::env::var("FIRSTACK_SEEDS").ok();
    0..text.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// A run with 2 to 6 replicas.
fn few(seed: u64, races: usize) -> Metric {
    Metric::draw(seed, Rng::new(seed ^ 0x66_6577).size(2, 6), races)
}

/// The patent's race on the same map, for the same clients.
fn patent(metric: &Metric) -> Course {
    let racing = Racing { direct: 0, ..metric.racing.clone() };
    Course::run(&Metric { racing, ..metric.clone() }, None)
}

/// Runs a plan, and asserts what holds in every run: all invariants of the simulation, at most one
/// server with an established connection among them, and the completion of every connection that
/// has not met a liar or a dead replica.
fn run(metric: &Metric) -> Course {
    let course = Course::run(metric, None);
    assert!(course.wrong.is_empty(), "{metric:?}: {:#?}", course.wrong);
    let may_break = |race: &Race| race.was_lost || course.died(race).is_some();
    let broken = course.races.iter().filter(|race| !race.is_complete && !may_break(race)).count();
    assert_eq!(broken, 0, "{metric:?}: connections that are not complete");
    course
}

/// Returns the share of races that the nearest has won, among those that `counts` picks.
fn share(course: &Course, counts: impl Fn(usize, &Race) -> bool) -> (usize, usize) {
    let truth = Truth::of(&course.plan);
    let races = course.races.iter().enumerate().filter(|(n, race)| counts(*n, race));
    let won = |race: &Race| race.winner.is_some_and(|w| truth.rank(w, race.at) == Some(1));
    races
        .fold((0, 0), |(all, by_nearest), (_, race)| (all + 1, by_nearest + usize::from(won(race))))
}

fn assert_nearest(metric: &Metric, (all, won): (usize, usize)) {
    assert!(all > 50, "{metric:?}: only {all} races count");
    assert!(wins_often(all, won), "{metric:?}: the nearest won {won} of {all}");
}

fn wins_often(all: usize, won: usize) -> bool {
    won as f64 >= SHARE * all as f64
}

/// Asserts that no connection stands later than by the origin's answer and all that makes it wait.
fn assert_no_later_than_origin(metric: &Metric, course: &Course) {
    let truth = Truth::of(&course.plan);
    let racing = &metric.racing;
    let slack = if racing.affinity > 0 { racing.affinity_slack } else { 0 };
    let waits = racing.origin_after + racing.handicap + slack;
    // In the first race, hosts look for their neighbours.
    for (number, race) in course.races.iter().enumerate().skip(1) {
        let (Some(connect), Some(origin)) = (race.connect, truth.answer(ORIGIN, race.at)) else {
            continue;
        };
        assert!(
            connect <= origin + waits + NOISE,
            "{metric:?}: race {number} took {connect} ns, the origin {origin} ns"
        );
    }
}

/// Asserts that no connection stands later than by the patent's race.
fn assert_no_later_than_patent(metric: &Metric, course: &Course) {
    for (number, (race, before)) in course.races.iter().zip(&patent(metric).races).enumerate() {
        let (Some(now), Some(then)) = (race.connect, before.connect) else { continue };
        assert!(
            now <= then + metric.racing.origin_after + NOISE,
            "{metric:?}: race {number} took {now} ns, and {then} ns by the switch"
        );
    }
}

/// Asserts the number of copies for each race: those that the policy says, one trial in 16 races,
/// and explorations, of which each asks all: one in 64 races, and one in 10 s. With the SYN to the
/// origin that is `direct` + `explore` + 1, and a share that falls with the rate.
fn assert_copies(metric: &Metric, course: &Course) {
    let (copies, most) = copies_of_most(metric, course);
    assert!(copies <= most, "{metric:?}: {copies:.2} copies for each race, not {most:.2}");
}

/// Returns the copies for each race, and the most there may be.
fn copies_of_most(metric: &Metric, course: &Course) -> (f64, f64) {
    let from = course.races[YOUNG].at;
    let until = course.races[course.races.len() - 1].at;
    let span = (until - from) as f64;
    let races = (course.races.len() - YOUNG) as f64;
    let explorations = 1.0 + races / 64.0 + span / (10 * SECOND) as f64;
    let all = explorations / races * metric.replicas as f64;
    let racing = &metric.racing;
    let most = f64::from(racing.direct) + f64::from(racing.explore) + 1.0 / 16.0 + 0.1 + all;
    (course.copies(from, until).iter().sum(), most)
}

/// Asserts that a site gets no direct copies after three that were not answered, until it is heard
/// of again.
fn assert_dead_are_left_alone(metric: &Metric, course: &Course) {
    let copy = copy_to_the_dead(course);
    assert!(copy.is_none(), "{metric:?}: after three that were not answered, {copy:?}");
}

fn copy_to_the_dead(course: &Course) -> Option<Copy> {
    let dead_gets = |site: Site| {
        let answers = course.traffic.answers.iter().filter(|answer| answer.from == site);
        let mut answers = answers.map(|answer| answer.at).peekable();
        let mut unanswered: Vec<Nanos> = Vec::new();
        let copies = course.traffic.copies.iter().filter(|copy| copy.is_direct && copy.to == site);
        copies.copied().find(|copy| {
            while answers.next_if(|at| *at <= copy.at).is_some() {
                unanswered.clear();
            }
            unanswered.push(copy.at);
            unanswered.get(2).is_some_and(|third| copy.at > third + OVERDUE)
        })
    };
    (REPLICAS..course.plan.sites()).find_map(dead_gets)
}

#[test]
fn the_nearest_wins_after_the_first_races() {
    for seed in seeds(40) {
        let metric = few(seed, 300);
        let course = run(&metric);
        assert_nearest(&metric, share(&course, |number, _| number >= LEARNING));
        assert_copies(&metric, &course);
        assert_dead_are_left_alone(&metric, &course);
        assert_no_later_than_origin(&metric, &course);
        assert_no_later_than_patent(&metric, &course);
    }
}

#[test]
fn the_nearest_of_many_wins() {
    for seed in seeds(6) {
        let metric = Metric::draw(seed, [64, 33, 48][seed as usize % 3], 300);
        let course = run(&metric);
        assert_nearest(&metric, share(&course, |number, _| number >= LEARNING));
        assert_copies(&metric, &course);
        assert_no_later_than_origin(&metric, &course);
        if seed < 2 {
            assert_no_later_than_patent(&metric, &course);
        }
    }
}

#[test]
fn a_better_replica_is_found_and_one_that_got_worse_is_left() {
    let kinds =
        Events::ALL.into_iter().filter(|e| !matches!(e, Events::Nothing | Events::AllDrift));
    for (events, seed) in kinds.flat_map(|events| seeds(8).map(move |seed| (events, seed))) {
        let mut metric = few(seed, 0);
        // As many races again after the event as it takes to learn of it, and 150.
        let settling = LEARNING.max((SETTLING / metric.gap) as usize);
        (metric.events, metric.races) = (events, 2 * (settling + 150));
        let course = run(&metric);
        let change = course.plan.changes.last().map_or(0, |(at, _)| *at);
        let after = course.races.iter().filter(|race| race.at < change).count() + settling;
        let changed = share(&course, |number, _| number >= after);
        assert_nearest(&metric, changed);
        let before = |number: usize, race: &Race| number >= LEARNING && race.at + SECOND < change;
        assert_nearest(&metric, share(&course, before));
        assert_dead_are_left_alone(&metric, &course);
        assert_no_later_than_origin(&metric, &course);
    }
}

/// Replicas move all the time. The nearest cannot win always, but the winner is nearly as near.
#[test]
fn the_winner_is_near_while_all_replicas_move() {
    let (mut all, mut near) = (0, 0);
    for seed in seeds(12) {
        let metric = Metric { events: Events::AllDrift, ..few(seed, 300) };
        let course = run(&metric);
        assert_no_later_than_origin(&metric, &course);
        let truth = Truth::of(&course.plan);
        for race in course.races.iter().skip(LEARNING) {
            let time = |site: Site| truth.answer(site, race.at);
            let nearest = truth.contenders(race.at)[0].0;
            all += 1;
            near += usize::from(race.winner.and_then(time).is_some_and(|t| t <= nearest + 10 * MS));
        }
    }
    println!("within 10 ms of the nearest: {near} of {all}");
    assert!(near as f64 >= SHARE * all as f64, "{near} of {all}");
}

/// Each of the nearest's two packets may be lost, and three losses in a row take it out of the
/// direct set for a while, so this holds for all runs together.
#[test]
fn the_nearest_wins_in_spite_of_losses() {
    for loss in [10, 30, 50] {
        let (mut all, mut won) = (0, 0);
        for seed in seeds(8) {
            let metric = Metric { loss, ..few(seed, 300) };
            let counted = share(&run(&metric), |number, _| number >= LEARNING);
            (all, won) = (all + counted.0, won + counted.1);
        }
        let share = won as f64 / all as f64;
        println!("loss {loss} per mille: the nearest wins {:.1} %", 100.0 * share);
        assert!(share >= SHARE - 2.0 * loss as f64 / 1000.0, "loss {loss}: {share:.3}");
    }
}

/// A liar answers SYNs, and is the nearest. It gets connections until it is distrusted, and again
/// after each time that it is not.
#[test]
fn a_liar_gets_few_connections() {
    for (liars, seed) in [1, 2].into_iter().flat_map(|liars| seeds(5).map(move |s| (liars, s))) {
        let metric = Metric { liars, ..Metric::draw(seed, 4, 400) };
        let course = run(&metric);
        let span = metric.gap * metric.races as u64;
        let times = 1 + (1 + span / DISTRUST).ilog2();
        let each = LIES + ENDS_WITHIN as f64 / metric.gap as f64;
        let most = (liars as f64 * f64::from(times) * each) as usize;
        let lost = course.races.iter().filter(|race| race.was_lost).count();
        let (gap, races) = (metric.gap / MS, metric.races);
        println!("{liars} liars, {gap} ms between races: {lost} of {races} lost, at most {most}");
        assert!(lost <= most, "{metric:?}: {lost} lost, not {most}");
    }
}

#[test]
fn policies_keep_their_promises() {
    let mut kept = (0, 0);
    for seed in seeds(40) {
        let racing = Racing::draw(&mut Rng::new(seed ^ 0x706f_6c69));
        let metric = Metric { racing, ..few(seed, 200) };
        let course = run(&metric);
        assert_no_later_than_origin(&metric, &course);
        let racing = &metric.racing;
        if racing.shadow && racing.direct > 0 {
            assert!(course.races.iter().all(|race| race.winner == Some(ORIGIN)), "{metric:?}");
        }
        if racing.warm && racing.direct > 0 {
            let first = &course.races[0];
            let asked = |is_direct| {
                let of_first = course.traffic.copies.iter().filter(|c| c.client == first.client);
                of_first.filter(|copy| copy.is_direct == is_direct).count()
            };
            assert!(asked(true) > 0, "{metric:?}: the first race asks nobody directly");
        }
        if racing.affinity > 0 && racing.direct > 0 {
            for (number, race) in course.races.iter().enumerate().skip(LEARNING) {
                let same = |other: &&Race| other.client.ip() == race.client.ip();
                let last = course.races[..number].iter().rev().find(same);
                kept.0 += 1;
                kept.1 += usize::from(last.is_some_and(|last| last.winner == race.winner));
            }
        }
    }
    println!("clients that kept their server: {} of {}", kept.1, kept.0);
    assert!(kept.1 as f64 >= SHARE * kept.0 as f64, "{kept:?}");
}

#[test]
fn a_broken_memory_is_found_within_few_runs() {
    for mutant in Mutant::OF_MEMORY {
        let found = (0..20).find(|seed| {
            let metric = Metric { events: Events::NearestDies, ..few(*seed, 500) };
            let course = Course::run(&metric, Some(mutant));
            let early = |number: usize, race: &Race| {
                number >= LEARNING && course.plan.changes.iter().all(|(at, _)| race.at < *at)
            };
            let (all, won) = share(&course, early);
            let (copies, most) = copies_of_most(&metric, &course);
            !wins_often(all, won) || copies > most || copy_to_the_dead(&course).is_some()
        });
        let found = found.unwrap_or_else(|| panic!("{mutant:?} was not found in 20 runs"));
        println!("{mutant:?}: seed {found}");
    }
}

//! x
use firstack_tests::simulation::course::Course;
use firstack_tests::simulation::metric::{Metric, Truth};

#[test]
fn explore() {
    let n: u64 = std::env::var("N").ok().and_then(|t| t.parse().ok()).unwrap_or(6);
    let r: usize = std::env::var("R").ok().and_then(|t| t.parse().ok()).unwrap_or(4);
    for seed in 0..n {
        let t = std::time::Instant::now();
        let metric = Metric::draw(seed, r, 300);
        let course = Course::run(&metric);
        let truth = Truth::of(&course.plan);
        let rank = |race: &firstack_tests::simulation::course::Race| {
            race.winner.and_then(|w| truth.rank(w, race.at))
        };
        let share = |from: usize, to: usize| {
            let all = &course.races[from..to];
            all.iter().filter(|r| rank(r) == Some(1)).count() as f64 / all.len() as f64
        };
        let complete = course.races.iter().filter(|r| r.is_complete).count();
        println!(
            "{seed} {:?} d{} e{} gap{} sp{:?} far{} complete {complete} share {:.2} {:.2} {:.2} {:.2} copies {:?} late {:?} ho {:?} {:?} {} ms wrong {:?}",
            course.plan.configuration,
            metric.racing.direct,
            metric.racing.explore,
            metric.gap / 1_000_000,
            metric.racing.site_prefix,
            metric.far_switch,
            share(0, 10),
            share(10, 50),
            share(50, 100),
            share(100, 300),
            course.copies(0, u64::MAX),
            course.copies(course.races[128].at, u64::MAX),
            course.half_open_at(true, 0),
            course.half_open_at(false, 0),
            t.elapsed().as_millis(),
            course.wrong.iter().take(2).collect::<Vec<_>>()
        );
    }
}

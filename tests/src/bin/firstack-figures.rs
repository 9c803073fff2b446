//! `firstack-figures`: the figures of direct racing in docs/direct-racing.md, from the simulation.
//!
//! Every run is on a map where all paths are shortest paths, with the switch beside the origin. The
//! same seeds give the same figures.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use firstack_tests::simulation::course::Course;
use firstack_tests::simulation::metric::{Events, Metric, Truth};
use firstack_tests::simulation::plan::MS;
use firstack_tests::simulation::racing::Racing;

/// Print the figures of direct racing, and draw them.
#[derive(Debug, Parser)]
#[command(name = "firstack-figures", version)]
struct Arguments {
    /// Maps for each figure
    #[arg(long, default_value_t = 12)]
    seeds: u64,
    /// Where to write the picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Races of a run.
const RACES: usize = 300;
/// A point of the picture is the mean of so many races, on all maps.
const WINDOW: usize = 10;
/// Races that count once the gateway has learned.
const LEARNED: std::ops::Range<usize> = 100..RACES;
const REPLICAS: [usize; 3] = [2, 8, 64];
const DIRECT: [(u8, &str); 4] = [(0, "#777777"), (1, "#c8511b"), (2, "#1f6fb4"), (4, "#2a9d4a")];

fn metric(seed: u64, replicas: usize, racing: Racing) -> Metric {
    Metric {
        gap: 150 * MS,
        liars: 0,
        loss: 0,
        max_copies: Some(8),
        far_switch: false,
        events: Events::Nothing,
        racing,
        ..Metric::draw(seed, replicas, RACES)
    }
}

/// The winners of the races of all maps.
#[derive(Default)]
struct Winners {
    /// By number of the race: how many counted, how many the nearest won, and the sum of ranks.
    races: Vec<[f64; 3]>,
    /// The sums of connection times in milliseconds and of their number, once learned.
    connect: [f64; 2],
    /// The sums over maps of direct copies and of copies by the switch per race, once learned.
    copies: [f64; 2],
    maps: f64,
}

impl Winners {
    fn of(seeds: u64, replicas: usize, direct: u8) -> Self {
        let mut all = Self { races: vec![[0.0; 3]; RACES], ..Self::default() };
        for seed in 0..seeds {
            let course = Course::run(&metric(seed, replicas, Racing::of(direct)), None);
            all.add(&course);
        }
        all
    }

    fn add(&mut self, course: &Course) {
        let truth = Truth::of(&course.plan);
        for (number, race) in course.races.iter().enumerate() {
            let rank = race.winner.and_then(|winner| truth.rank(winner, race.at));
            if let (Some(rank), Some(sums)) = (rank, self.races.get_mut(number)) {
                let won = f64::from(u8::from(rank == 1));
                *sums = [sums[0] + 1.0, sums[1] + won, sums[2] + rank as f64];
            }
            if let Some(connect) = race.connect.filter(|_| LEARNED.contains(&number)) {
                self.connect[0] += connect as f64 / MS as f64;
                self.connect[1] += 1.0;
            }
        }
        let learned = course.races.get(LEARNED.start).map_or(0, |race| race.at);
        let [direct, by_switch] = course.copies(learned, u64::MAX);
        self.copies = [self.copies[0] + direct, self.copies[1] + by_switch];
        self.maps += 1.0;
    }

    /// Returns the nearest's share and the winner's mean rank over some races.
    fn mean(&self, races: std::ops::Range<usize>) -> (f64, f64) {
        let sums = self.races[races]
            .iter()
            .fold([0.0; 3], |all, one| [all[0] + one[0], all[1] + one[1], all[2] + one[2]]);
        (sums[1] / sums[0].max(1.0), sums[2] / sums[0].max(1.0))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut picture = Picture::new();
    println!(
        "| replicas | `direct` | nearest wins, races 101 to 300 | winner's mean rank | connect, mean ms | direct copies | copies by the switch |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (column, replicas) in REPLICAS.into_iter().enumerate() {
        for (direct, colour) in DIRECT {
            let winners = Winners::of(arguments.seeds, replicas, direct);
            let (share, rank) = winners.mean(LEARNED);
            println!(
                "| {replicas} | {direct} | {:.1} % | {rank:.2} | {:.1} | {:.2} | {:.2} |",
                share * 100.0,
                winners.connect[0] / winners.connect[1].max(1.0),
                winners.copies[0] / winners.maps,
                winners.copies[1] / winners.maps,
            );
            picture.add(column, replicas, (direct, colour), &winners);
        }
    }
    println!(
        "\n| `origin_after` | half-open at the origin, per race | each lasts, ms | half-open at replicas, per race | each lasts, ms |"
    );
    println!("|---|---|---|---|---|");
    for (text, wait) in [("off", 0), ("20 ms", 20 * MS), ("60 ms", 60 * MS)] {
        half_open(arguments.seeds, text, Racing { origin_after: wait, ..Racing::of(2) });
    }
    match arguments.svg.map(|path| std::fs::write(path, picture.finish())) {
        Some(Err(error)) => {
            eprintln!("firstack-figures: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Prints how many half-open connections a race leaves, and for how long.
fn half_open(seeds: u64, text: &str, racing: Racing) {
    let mut sums = [0.0; 4];
    for seed in 0..seeds {
        let course = Course::run(&metric(seed, 8, racing.clone()), None);
        let learned = course.races.get(LEARNED.start).map_or(0, |race| race.at);
        for (is_origin, at) in [(true, 0), (false, 2)] {
            let (count, lasted) = course.half_open_at(is_origin, learned);
            sums[at] += count;
            sums[at + 1] += count * lasted as f64 / MS as f64;
        }
    }
    let maps = seeds.max(1) as f64;
    let lasts = |at: usize| sums[at + 1] / sums[at].max(f64::MIN_POSITIVE);
    println!(
        "| {text} | {:.2} | {:.0} | {:.2} | {:.0} |",
        sums[0] / maps,
        lasts(0),
        sums[2] / maps,
        lasts(2)
    );
}

/// The picture: the nearest's share over races above, the winner's mean rank below, a column for
/// each number of replicas.
struct Picture(String);

const WIDTH: f64 = 260.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 50.0;
const TOP: f64 = 46.0;
const GAP: [f64; 2] = [40.0, 52.0];

impl Picture {
    fn new() -> Self {
        let (width, height) = (3.0 * (WIDTH + GAP[0]) + LEFT, 2.0 * (HEIGHT + GAP[1]) + TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        for (n, (direct, colour)) in DIRECT.into_iter().enumerate() {
            let x = LEFT + 120.0 * n as f64;
            let _ = writeln!(
                svg,
                "<path d=\"M{x} 12h24\" stroke=\"{colour}\" stroke-width=\"2\"/>\
                 <text x=\"{}\" y=\"16\">direct = {direct}</text>",
                x + 30.0
            );
        }
        Self(svg)
    }

    fn add(&mut self, column: usize, replicas: usize, (direct, colour): (u8, &str), all: &Winners) {
        let most = replicas as f64 + 1.0;
        let x0 = LEFT + column as f64 * (WIDTH + GAP[0]);
        if direct == 0 {
            self.axes(
                x0,
                TOP,
                &format!("{replicas} replicas: share of the nearest"),
                "0 %",
                "100 %",
            );
            let title = format!("{replicas} replicas: winner's mean rank");
            self.axes(x0, TOP + HEIGHT + GAP[1], &title, &format!("{most}"), "1");
        }
        let mut lines = [String::new(), String::new()];
        for start in (0..RACES).step_by(WINDOW) {
            let (share, rank) = all.mean(start..start + WINDOW);
            let x = x0 + (start + WINDOW / 2) as f64 / RACES as f64 * WIDTH;
            let low = TOP + HEIGHT;
            let _ = write!(lines[0], "{x:.1},{:.1} ", low - share * HEIGHT);
            let rank = (rank - 1.0) / (most - 1.0);
            let _ = write!(lines[1], "{x:.1},{:.1} ", low + GAP[1] + rank * HEIGHT);
        }
        for points in lines {
            let points = points.trim_end();
            let _ = writeln!(
                self.0,
                "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
            );
        }
    }

    fn axes(&mut self, x: f64, y: f64, title: &str, low: &str, high: &str) {
        let _ = writeln!(
            self.0,
            "<text x=\"{x}\" y=\"{:.0}\">{title}</text>\
             <path d=\"M{x} {y}v{HEIGHT}h{WIDTH}\" fill=\"none\" stroke=\"#444444\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{high}</text>\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{low}</text>\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">race {RACES}</text>",
            y - 6.0,
            x - 4.0,
            y + 10.0,
            x - 4.0,
            y + HEIGHT,
            x + WIDTH,
            y + HEIGHT + 15.0,
        );
    }

    fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

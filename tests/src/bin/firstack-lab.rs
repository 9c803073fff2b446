//! `firstack-lab`: the laboratory by hand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use firstack_tests::lab::{Content, Curl, Lab, Result, Site, Topology, WebServer};

/// Try the laboratory, or tidy up after a run that was killed.
#[derive(Debug, Parser)]
#[command(name = "firstack-lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Remove namespaces, programs and directories that killed runs have left
    Sweep,
    /// Build the topology without appliances and time a few requests to every site
    Direct {
        /// One-way delay between client and origin, in milliseconds
        #[arg(long, default_value_t = 40.0)]
        origin_ms: f64,
        /// One-way delay between client and each replica; one replica per figure
        #[arg(long, value_delimiter = ',', default_value = "5,20")]
        replica_ms: Vec<f64>,
        /// Requests to each site
        #[arg(long, default_value_t = 5)]
        count: usize,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Sweep => sweep(),
        Command::Direct { origin_ms, replica_ms, count } => direct(origin_ms, &replica_ms, count),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("firstack-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn sweep() -> Result<()> {
    let removed = Lab::sweep()?;
    for name in &removed {
        println!("removed {name}");
    }
    if removed.is_empty() {
        println!("nothing to remove");
    }
    Ok(())
}

fn direct(origin_ms: f64, replica_ms: &[f64], count: usize) -> Result<()> {
    Lab::remove_on_interrupt()?;
    let lab = Lab::new("direct")?;
    let mut builder = Topology::builder().direct(true).replicas(replica_ms.len()).delay(
        Site::Client,
        Site::Origin,
        origin_ms,
    );
    for (number, delay) in (1..).zip(replica_ms) {
        builder = builder.delay(Site::Client, Site::Replica(number), *delay);
    }
    let topology = builder.build(&lab)?;
    let content = Content::default();
    let servers = topology.servers().iter();
    let servers = servers.map(|place| WebServer::start(&lab, place, &content));
    let servers = servers.collect::<Result<Vec<_>>>()?;
    for place in topology.servers() {
        for _ in 0..count {
            let answer = Curl::new(&place.url("/")).run(&topology.client().host)?;
            let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
            let (connect, total) = (ms(answer.connect), ms(answer.total));
            println!("{:<9} connect {connect:7.2} ms   total {total:7.2} ms", answer.site);
        }
    }
    drop(servers);
    print!("{}", topology.finish().to_json_lines());
    Ok(())
}

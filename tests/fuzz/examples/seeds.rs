//! Writes inputs for the target `frame` to begin with: a frame of each kind for each role.
//!
//!     cargo run -p firstack-fuzz --example seeds -- DIRECTORY

use std::path::PathBuf;

use firstack_tests::model::corpus::{prelude, samples};

fn main() -> std::io::Result<()> {
    let directory = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned()));
    std::fs::create_dir_all(&directory)?;
    let begun = prelude(std::time::Duration::ZERO).into_iter().map(|arrival| arrival.frame);
    for (number, frame) in samples().into_iter().chain(begun).enumerate() {
        for role in 0..5 {
            let input = [&[role, number as u8 % 8, number as u8 % 2][..], &frame].concat();
            std::fs::write(directory.join(format!("seed-{number}-{role}")), input)?;
        }
    }
    Ok(())
}

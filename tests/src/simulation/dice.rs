//! Chance: one seeded generator per run, so that a seed stands for a run.

use crate::lab::wan;

/// Dice that always fall alike for one seed.
#[derive(Debug, Clone)]
pub struct Dice(wan::Dice);

impl Dice {
    /// The dice of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(wan::Dice::new(seed))
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0.roll()
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        // The bias is of no matter: ranges are small against 2^64.
        least + self.roll() % (most - least + 1)
    }

    /// The same for sizes and counts.
    pub fn size(&mut self, least: usize, most: usize) -> usize {
        self.between(least as u64, most as u64) as usize
    }

    /// Whether something of this many per mille comes true.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.roll() % 1000 < per_mille
    }

    /// One of these, each as likely as its weight.
    pub fn pick<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let sum = choices.iter().map(|(weight, _)| weight).sum::<u64>();
        let mut at = self.roll() % sum;
        for &(weight, choice) in choices {
            if at < weight {
                return choice;
            }
            at -= weight;
        }
        unreachable!("the weights add up to their sum")
    }
}

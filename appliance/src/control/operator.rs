//! What operators have set while the process ran, so that the next one goes on with it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::socket::{Command, Name};

/// The drains, and whether a replica is busy by an operator's word. It is kept as the commands that lead
/// there again, so that whatever can be drained survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operator {
    /// The whole appliance is drained.
    whole: bool,
    /// The names of what is drained.
    drained: BTreeSet<String>,
    /// A replica counts as busy.
    busy: bool,
}

impl Operator {
    /// Notes a command that has been carried out.
    pub fn note(&mut self, command: &Command) {
        match command {
            Command::Drain { name: None } => self.whole = true,
            Command::Undrain { name: None } => self.whole = false,
            Command::Drain { name: Some(name) } => {
                self.drained.insert(name.as_str().to_owned());
            }
            Command::Undrain { name: Some(name) } => {
                self.drained.remove(name.as_str());
            }
            Command::Busy => self.busy = true,
            Command::Unbusy => self.busy = false,
            _ => {}
        }
    }

    /// Returns the commands that lead here.
    pub fn commands(&self) -> Vec<Command> {
        let whole = self.whole.then_some(Command::Drain { name: None });
        // What is no name any more has been somebody else's.
        let names = self.drained.iter().filter_map(|name| Name::try_from(name.clone()).ok());
        let drained = names.map(|name| Command::Drain { name: Some(name) });
        let busy = self.busy.then_some(Command::Busy);
        whole.into_iter().chain(drained).chain(busy).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_lead_to_the_same_again() {
        let name = |name: &str| Some(name.parse().unwrap());
        let mut operator = Operator::default();
        for command in [
            Command::Drain { name: None },
            Command::Drain { name: name("shop/a") },
            Command::Drain { name: name("shop/b") },
            Command::Undrain { name: name("shop/a") },
            Command::Busy,
            Command::Stats,
        ] {
            operator.note(&command);
        }
        let text = serde_json::to_string(&operator).unwrap();
        let operator: Operator = serde_json::from_str(&text).unwrap();
        let mut again = Operator::default();
        operator.commands().iter().for_each(|command| again.note(command));
        assert_eq!(again, operator);
        let drained = [Command::Drain { name: None }, Command::Drain { name: name("shop/b") }];
        assert_eq!(operator.commands(), [&drained[..], &[Command::Busy]].concat());
        again.note(&Command::Undrain { name: None });
        again.note(&Command::Unbusy);
        assert_eq!(again.commands(), drained[1..]);
    }
}

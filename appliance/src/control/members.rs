//! Which replicas and servers are in, and why others are out.

use crate::roles::Member;

/// One of them, and all that speaks for or against it.
#[derive(Clone, Debug)]
struct State {
    member: Member,
    /// Its number among the probed, if it is.
    target: Option<usize>,
    /// An operator has taken it out.
    drained: bool,
    /// Probes fail.
    down: bool,
    /// Probes of its tunnel are not answered.
    silent: bool,
}

impl State {
    fn is_in(&self) -> bool {
        self.member.enabled && !self.drained && !self.down && !self.silent
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Members(Vec<State>);

impl Members {
    /// All in that are enabled; `target` gives each one's number among the probed.
    pub fn new(members: Vec<Member>, mut target: impl FnMut(&Member) -> Option<usize>) -> Self {
        let state = |member: Member| State {
            target: target(&member),
            member,
            drained: false,
            down: false,
            silent: false,
        };
        Self(members.into_iter().map(state).collect())
    }

    /// Which are in, by their numbers.
    pub fn states(&self) -> Vec<bool> {
        self.0.iter().map(State::is_in).collect()
    }

    /// Takes notice of probes and tunnels; whether any went in or out.
    pub fn update(&mut self, up: impl Fn(usize) -> bool, answers: impl Fn(usize) -> bool) -> bool {
        let mut changed = false;
        for (number, state) in self.0.iter_mut().enumerate() {
            let before = state.is_in();
            state.down = state.target.is_some_and(|target| !up(target));
            let silent = !answers(number);
            if silent != state.silent {
                let name = &state.member.name;
                tracing::warn!(name, silent, "tunnel");
                state.silent = silent;
            }
            changed |= state.is_in() != before;
        }
        changed
    }

    /// Takes one out, or lets it in again; `false` when there is none of that name.
    pub fn set_drained(&mut self, name: &str, value: bool) -> bool {
        let found = self.0.iter_mut().find(|state| state.member.name == name);
        found.map(|state| state.drained = value).is_some()
    }

    /// The name of the one with this number among the probed.
    pub fn name_of_target(&self, target: usize) -> Option<&str> {
        let found = self.0.iter().find(|state| state.target == Some(target))?;
        Some(&found.member.name)
    }

    /// All names.
    pub fn names(&self) -> String {
        self.0.iter().map(|state| state.member.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Those that are out, and why.
    pub fn out(&self) -> Vec<String> {
        let why = |state: &State| {
            let reasons = [
                (!state.member.enabled, "not enabled"),
                (state.drained, "drained"),
                (state.down, "down"),
                (state.silent, "its tunnel is not answered"),
            ];
            let given = reasons.into_iter().filter(|(is, _)| *is).map(|(_, reason)| reason);
            let given = given.collect::<Vec<_>>().join(", ");
            (!given.is_empty()).then(|| format!("{}: {given}", state.member.name))
        };
        self.0.iter().filter_map(why).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        let member = |name: &str, enabled| Member { name: name.to_owned(), enabled, check: None };
        let all = vec![member("a", true), member("b", false), member("c", true)];
        let mut next = 0;
        Members::new(all, |member| {
            (member.name != "b").then(|| {
                next += 1;
                next - 1
            })
        })
    }

    #[test]
    fn every_reason_takes_one_out_and_all_have_to_go() {
        let mut members = members();
        assert_eq!(members.states(), [true, false, true]);
        assert!(members.update(|target| target != 1, |_| true));
        assert_eq!(members.states(), [true, false, false]);
        assert!(members.set_drained("c", true) && !members.set_drained("d", true));
        assert!(!members.update(|_| true, |_| true), "still drained");
        assert_eq!(members.out(), ["b: not enabled", "c: drained"]);
        members.set_drained("c", false);
        assert!(members.update(|_| true, |number| number != 0));
        assert_eq!(members.out(), ["a: its tunnel is not answered", "b: not enabled"]);
        assert_eq!(members.name_of_target(1), Some("c"));
    }
}

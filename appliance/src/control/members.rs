//! Which replicas and servers are in service, and why others are not.

use crate::roles::Member;

/// A member and everything that takes it out of service.
#[derive(Clone, Debug)]
struct State {
    member: Member,
    /// Its number among the probed targets, if it is probed.
    target: Option<usize>,
    /// An operator has drained it.
    drained: bool,
    /// Its health check fails.
    down: bool,
    /// Probes of its tunnel are not answered.
    unanswered: bool,
}

impl State {
    fn in_service(&self) -> bool {
        self.member.enabled && !self.drained && !self.down && !self.unanswered
    }
}

/// What keeps a member out of service, besides that it may be drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remaining {
    /// Nothing.
    InService,
    /// The configuration disables it.
    Disabled,
    /// Its health check fails.
    Down,
    /// Probes of its tunnel are not answered.
    Unanswered,
}

/// All replicas and servers of a role.
#[derive(Clone, Debug, Default)]
pub(super) struct Members(Vec<State>);

impl Members {
    /// Creates the members; `target` returns the number of each among the probed targets. Those that
    /// are enabled are in service at first.
    pub fn new(members: Vec<Member>, mut target: impl FnMut(&Member) -> Option<usize>) -> Self {
        let state = |member: Member| State {
            target: target(&member),
            member,
            drained: false,
            down: false,
            unanswered: false,
        };
        Self(members.into_iter().map(state).collect())
    }

    /// Returns whether each member is in service, by number.
    pub fn states(&self) -> Vec<bool> {
        self.0.iter().map(State::in_service).collect()
    }

    /// Updates all members: `up` by number of the probed target, `answers` (the tunnel) by number of
    /// the member. Returns whether any member went into or out of service.
    pub fn update(&mut self, up: impl Fn(usize) -> bool, answers: impl Fn(usize) -> bool) -> bool {
        let mut changed = false;
        for (number, state) in self.0.iter_mut().enumerate() {
            let before = state.in_service();
            state.down = state.target.is_some_and(|target| !up(target));
            let unanswered = !answers(number);
            if unanswered != state.unanswered {
                log_tunnel(&state.member.name, unanswered);
                state.unanswered = unanswered;
            }
            changed |= state.in_service() != before;
        }
        changed
    }

    /// Returns the members of a changed configuration. What is known of those that stay is kept, by
    /// name; others begin as at the start. `target` is as in [`Members::new`].
    pub fn successors(
        &self,
        members: Vec<Member>,
        target: impl FnMut(&Member) -> Option<usize>,
    ) -> Self {
        let mut successors = Self::new(members, target);
        for state in &mut successors.0 {
            let is_same = |known: &&State| known.member.name == state.member.name;
            if let Some(known) = self.0.iter().find(is_same) {
                state.drained = known.drained;
                state.unanswered = known.unanswered;
            }
        }
        successors
    }

    /// Drains a member, or undrains it. Returns what keeps it out of service besides; `None` if there
    /// is no member of this name.
    pub fn set_drained(&mut self, name: &str, value: bool) -> Option<Remaining> {
        let found = self.0.iter_mut().find(|state| state.member.name == name)?;
        found.drained = value;
        Some(match found {
            State { member: Member { enabled: false, .. }, .. } => Remaining::Disabled,
            State { down: true, .. } => Remaining::Down,
            State { unanswered: true, .. } => Remaining::Unanswered,
            _ => Remaining::InService,
        })
    }

    /// Returns the names of those that are drained.
    pub fn drained(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|state| state.drained).map(|state| state.member.name.as_str())
    }

    /// Returns the name of the member with this number among the probed targets.
    pub fn name_of_target(&self, target: usize) -> Option<&str> {
        let found = self.0.iter().find(|state| state.target == Some(target))?;
        Some(&found.member.name)
    }

    /// Returns all names, separated by commas.
    pub fn names(&self) -> String {
        self.0.iter().map(|state| state.member.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Returns the members that are out of service, each with the reasons.
    pub fn out(&self) -> Vec<String> {
        let why = |state: &State| {
            let reasons = [
                (!state.member.enabled, "disabled"),
                (state.drained, "drained"),
                (state.down, "health check failed"),
                (state.unanswered, "tunnel not answering probes"),
            ];
            let given = reasons.into_iter().filter(|(is, _)| *is).map(|(_, reason)| reason);
            let given = given.collect::<Vec<_>>().join(", ");
            (!given.is_empty()).then(|| format!("{}: {given}", state.member.name))
        };
        self.0.iter().filter_map(why).collect()
    }
}

fn log_tunnel(name: &str, unanswered: bool) {
    match unanswered {
        true => tracing::warn!(name, "replica tunnel not answering probes, copies stopped"),
        false => tracing::info!(name, "replica tunnel answering again"),
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
    fn any_reason_takes_a_member_out_of_service() {
        let mut members = members();
        assert_eq!(members.states(), [true, false, true]);
        assert!(members.update(|target| target != 1, |_| true));
        assert_eq!(members.states(), [true, false, false]);
        assert_eq!(members.set_drained("c", true), Some(Remaining::Down));
        assert_eq!(members.set_drained("d", true), None);
        assert!(!members.update(|_| true, |_| true), "still drained");
        assert_eq!(members.out(), ["b: disabled", "c: drained"]);
        assert_eq!(members.set_drained("c", false), Some(Remaining::InService));
        assert_eq!(members.set_drained("b", false), Some(Remaining::Disabled));
        assert!(members.update(|_| true, |number| number != 0));
        assert_eq!(members.out(), ["a: tunnel not answering probes", "b: disabled"]);
        assert_eq!(members.name_of_target(1), Some("c"));
    }
    #[test]
    fn what_stays_keeps_its_state_and_what_is_new_begins() {
        let mut before = members();
        before.set_drained("a", true);
        before.update(|_| true, |number| number != 2);
        let member = |name: &str| Member { name: name.to_owned(), enabled: true, check: None };
        let after = before.successors(vec![member("d"), member("c"), member("a")], |_| None);
        assert_eq!(after.out(), ["c: tunnel not answering probes", "a: drained"]);
        assert_eq!(after.states(), [true, false, false]);
    }
}

//! The workers as a reload sees them: they are given successors of their roles.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use pipeline::counters::RoleCounters;
use pipeline::role::Role;

use crate::config::Config;
use crate::datapath::slot::{Giver, Taker, slot};
use crate::roles::{self, Controls, Environment, Labels, RoleSet, WithRole};

/// The control thread's part of the successors of the roles.
pub struct Prepared {
    /// The names of their counters.
    pub labels: Labels,
    /// What can be changed while they run.
    pub controls: Controls,
    /// Their counters, by worker. They go on from those before once the worker has taken its
    /// successor.
    pub counters: Vec<Arc<dyn RoleCounters>>,
}

/// The workers of a running process, whatever their role.
pub trait Workers {
    /// Builds successors of the roles; `None` if the configuration is of another role.
    fn prepare(&mut self, config: &Config, environment: &Environment) -> Option<Prepared>;

    /// Hands over what was prepared last.
    fn hand_over(&mut self);

    /// Returns the workers that have not taken their successors yet, and frees what the others have
    /// given back.
    fn waiting(&mut self) -> Vec<usize>;
}

/// The workers of a role, each with a slot.
pub struct Handover<R> {
    givers: Vec<Giver<R>>,
    prepared: Vec<R>,
}

impl<R> Handover<R> {
    /// Returns the control thread's end for so many workers, and the workers' ends.
    pub fn new(workers: usize) -> (Self, Vec<Taker<R>>) {
        let (givers, takers) = (0..workers).map(|_| slot()).unzip();
        (Self { givers, prepared: Vec::new() }, takers)
    }
}

impl<R: Role + Send + 'static> Workers for Handover<R> {
    fn prepare(&mut self, config: &Config, environment: &Environment) -> Option<Prepared> {
        let RoleSet { roles, labels, controls, .. } =
            roles::with_role_set(config, environment, SetOf(PhantomData::<R>))?;
        let counters = roles.iter().map(Role::counters).collect();
        self.prepared = roles;
        Some(Prepared { labels, controls, counters })
    }

    fn hand_over(&mut self) {
        for (giver, successor) in self.givers.iter().zip(self.prepared.drain(..)) {
            giver.give(successor);
        }
    }

    fn waiting(&mut self) -> Vec<usize> {
        let waits = |(number, giver): (usize, &Giver<R>)| (!giver.is_taken()).then_some(number);
        self.givers.iter().enumerate().filter_map(waits).collect()
    }
}

/// Returns a role set of this type.
struct SetOf<R>(PhantomData<R>);

impl<R: 'static> WithRole for SetOf<R> {
    type Output = Option<RoleSet<R>>;

    fn run<Other: Role + Send + 'static>(self, set: RoleSet<Other>) -> Self::Output {
        let set: Box<dyn Any> = Box::new(set);
        set.downcast().ok().map(|set| *set)
    }
}

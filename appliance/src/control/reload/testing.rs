//! Workers for tests: each takes what it is given when the test says so.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::{Prepared, Workers};
use crate::config::Config;
use crate::control::reload::Handover;
use crate::datapath::slot::Taker;
use crate::roles::Environment;

/// What a test sees of the workers.
#[derive(Clone, Default)]
pub struct Watched {
    /// How often successors were handed over.
    pub given: Rc<Cell<usize>>,
    /// The workers take nothing while this is set.
    pub asleep: Rc<Cell<bool>>,
    /// The table capacities that successors were built with.
    pub capacity: Rc<Cell<u32>>,
    /// The environment that they were built in.
    pub environment: Rc<RefCell<Option<Environment>>>,
}

/// Workers that run no packets.
pub struct Puppets<R> {
    handover: Handover<R>,
    takers: Vec<Taker<R>>,
    roles: Vec<R>,
    watched: Watched,
}

impl<R: pipeline::role::Role + Send + 'static> Puppets<R> {
    pub fn new(roles: Vec<R>, watched: Watched) -> Self {
        let (handover, takers) = Handover::new(roles.len());
        Self { handover, takers, roles, watched }
    }
}

impl<R: pipeline::role::Role + Send + 'static> Workers for Puppets<R> {
    fn prepare(&mut self, config: &Config, environment: &Environment) -> Option<Prepared> {
        self.watched.capacity.set(config.table.max_connections);
        *self.watched.environment.borrow_mut() = Some(environment.clone());
        self.handover.prepare(config, environment)
    }

    fn hand_over(&mut self) {
        self.watched.given.set(self.watched.given.get() + 1);
        self.handover.hand_over();
    }

    fn waiting(&mut self) -> Vec<usize> {
        let now = pipeline::base::time::Ticks::from_secs(1);
        for (taker, role) in self.takers.iter().zip(&mut self.roles) {
            if !self.watched.asleep.get() && taker.is_waiting() {
                taker.take(|next| role.reload(next, now));
            }
        }
        self.handover.waiting()
    }
}

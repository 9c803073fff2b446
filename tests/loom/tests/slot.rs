//! A worker that is given successors of its role, in every order of its steps and the control
//! thread's.

use firstack_loom::slot::{Taker, slot};
use firstack_loom::sync::{Arc, Mutex};
use loom::thread::{self, ThreadId};

/// The roles that were freed, each with whether the control thread did it.
type Notes = Arc<Mutex<Vec<(u64, bool)>>>;

/// A role that notes by whom it is freed. Its halves are always equal.
struct Role {
    number: u64,
    copy: Box<u64>,
    control: ThreadId,
    notes: Notes,
}

impl Drop for Role {
    fn drop(&mut self) {
        let by_control = thread::current().id() == self.control;
        self.notes.lock().unwrap().push((self.number, by_control));
    }
}

/// Polls so many times. Returns the role that the worker has in the end.
fn worker(taker: Taker<Role>, mut role: Role, polls: usize) -> (Taker<Role>, Role) {
    for _ in 0..polls {
        poll(&taker, &mut role);
    }
    (taker, role)
}

fn poll(taker: &Taker<Role>, role: &mut Role) {
    let before = role.number;
    if taker.is_waiting() {
        taker.take(|next| std::mem::replace(role, next));
    }
    assert!(role.number >= before, "an earlier one came later");
    assert_eq!(role.number, *role.copy, "torn");
}

/// Gives a worker so many successors while it polls.
fn successors(given: u64, polls: usize) {
    loom::model(move || {
        let (notes, control) = (Notes::default(), thread::current().id());
        let role = |number| {
            let notes = Arc::clone(&notes);
            Role { number, copy: Box::new(number), control, notes }
        };
        let (giver, taker) = slot();
        let first = role(0);
        let running = thread::spawn(move || worker(taker, first, polls));
        let mut taken = 0;
        for number in 1..=given {
            giver.give(role(number));
            taken += u64::from(giver.is_taken());
        }
        let (taker, mut last) = running.join().unwrap();
        // Nobody has the lock any more: the next poll takes what waits.
        poll(&taker, &mut last);
        assert_eq!(last.number, given);
        assert!(giver.is_taken());
        let freed = notes.lock().unwrap().clone();
        assert!(freed.iter().all(|(_, by_control)| *by_control), "by the worker: {freed:?}");
        let mut freed: Vec<_> = freed.iter().map(|(number, _)| *number).collect();
        freed.sort_unstable();
        assert_eq!(freed, (0..given).collect::<Vec<_>>(), "{taken} taken at once");
        drop(last);
    });
}

#[test]
fn one_successor() {
    successors(1, 3);
}

#[test]
fn two_successors() {
    successors(2, 3);
}

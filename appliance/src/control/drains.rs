//! What an operator has taken out of service. It outlives a restart: names, not numbers, because the
//! next configuration may number differently.

use std::collections::BTreeSet;
use std::fmt;

use pipeline::policy::drain::Drain;
use serde::{Deserialize, Serialize};

/// Everything that an operator has drained, or marked busy.
///
/// # Examples
/// ```
/// use firstack::control::drains::Drains;
///
/// let drains: Drains = serde_json::from_str(r#"{"services": ["shop"]}"#).unwrap();
/// assert!(drains.services.contains("shop") && !drains.whole && !drains.is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drains {
    /// The whole gateway, switch or replica.
    pub whole: bool,
    /// Services of a gateway or a switch.
    pub services: BTreeSet<String>,
    /// Replicas and servers, as "service/name".
    pub members: BTreeSet<String>,
    /// A replica counts as busy whatever its load (op 406).
    pub busy: bool,
}

impl Drains {
    /// Returns whether nothing is drained or busy.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Drains the same at a gateway or switch with these services, by number. Those that it does not
    /// have are passed over.
    pub fn apply(&self, drain: &Drain, services: &[String]) {
        if self.whole {
            drain.set_whole(true);
        }
        for (number, _) in services.iter().enumerate().filter(|(_, s)| self.services.contains(*s)) {
            drain.set_service(number, true);
        }
    }
}

impl fmt::Display for Drains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.whole.then_some("the whole").into_iter();
        let named = self.services.iter().chain(&self.members).map(String::as_str);
        let busy = self.busy.then_some("busy").into_iter();
        f.write_str(&whole.chain(named).chain(busy).collect::<Vec<_>>().join(", "))
    }
}

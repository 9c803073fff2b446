//! stub
#![allow(missing_docs, dead_code)]
mod select;
mod settings;
use super::*;
use crate::neighbours::Neighbours;
use crate::shared::Reader;
use crate::stage::sign::Keys;
pub use select::{Alive, Selection};
pub use settings::{Delivery, Probing, Server, Service, Settings, Timeouts};
pub struct TunnelHealth;
impl TunnelHealth {
    pub fn new(_: usize) -> Self {
        Self
    }
    pub fn is_alive(&self, _: usize) -> bool {
        true
    }
}
#[derive(Clone)]
pub struct Shares {
    pub tunnels: Arc<TunnelHealth>,
    pub neighbours: Arc<Neighbours>,
}
pub struct Switch {
    counters: Arc<Counters>,
}
impl Switch {
    pub fn new(_: Settings, _: Shares, _: Reader<Selection>, _: Reader<Keys>) -> Self {
        Self { counters: Arc::default() }
    }
}
impl Role for Switch {
    const STATES: &'static [&'static str] = &[];
    fn process<P: Pool>(
        &mut self,
        from: Side,
        burst: &mut Burst<P::Buffer>,
        context: &mut Context<'_, P>,
    ) {
        let Burst { frames, views, verdicts } = burst;
        for (buffer, view) in frames.drain(..).zip(views.iter()) {
            verdicts.push(Verdict::NoService);
            finish(
                &self.counters,
                from,
                Packet { buffer, view: *view },
                Verdict::NoService,
                context,
            );
        }
    }
    fn housekeep<P: Pool>(&mut self, _: &mut Context<'_, P>) {}
    fn owner<B: Buffer>(_: Side, _: &Packet<B>) -> Option<IpAddr> {
        None
    }
    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

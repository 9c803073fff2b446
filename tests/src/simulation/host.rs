//! A host: smoltcp's TCP/IP on a segment of Ethernet.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{Socket, tcp};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, ETHERNET_HEADER_LEN, EthernetAddress, EthernetFrame,
    EthernetProtocol, HardwareAddress, IpCidr, IpEndpoint,
};

use super::address::{self, ROUTER, Site, prefix};
use super::plan::{Nanos, Plan};
use super::pmtu::{self, Paths};
use super::rng::Rng;
use super::segment::{self, Segment};
use super::station::Frame;

/// Minimum interval between two polls due to time only.
const TICK: Nanos = 1_000;

/// Silence after which a socket asks its peer for a sign of life. It gets smoltcp out of a
/// standstill too: an acknowledgement that was overtaken closes the window for good when the
/// retransmission timer runs.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The frames in a host's network card.
#[derive(Debug, Default)]
struct Card {
    received: Option<Frame>,
    sent: Vec<Frame>,
}

struct Received(Frame);
struct Sending<'a>(&'a mut Vec<Frame>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        Some((Received(self.received.take()?), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// A host with its sockets.
pub struct Host {
    /// Its MAC address.
    pub mac: address::Mac,
    /// Its IP address.
    pub address: IpAddr,
    interface: Interface,
    card: Card,
    sockets: SocketSet<'static>,
    buffers: [usize; 2],
    timestamps: bool,
    /// The last segment of each peer, by our port.
    acknowledged: BTreeMap<(u16, SocketAddr), Segment>,
    /// Its path MTUs.
    pub paths: Paths,
}

impl Host {
    /// A host at a site: `number` is that of its MAC address; the first one of the addresses that
    /// it bears is its own.
    pub fn new(plan: &Plan, site: Site, number: u8, bears: &[IpAddr], rng: &mut Rng) -> Self {
        let mac = address::mac(site, number);
        let mut card = Card::default();
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        config.random_seed = rng.next_u64();
        let mut interface = Interface::new(config, &mut card, Instant::ZERO);
        let nets = [plan.family, plan.family.other()].map(|family| prefix(family, site));
        let length = |address: &IpAddr| match nets.iter().find(|net| net.contains(address)) {
            Some(net) => net.prefix_len(),
            None => IpNet::from(*address).prefix_len(),
        };
        let local = IpCidr::new(IpAddr::from(address::link_local(mac)).into(), 64);
        interface.update_ip_addrs(|addresses| {
            let own = bears.iter().map(|address| IpCidr::new((*address).into(), length(address)));
            addresses.extend(own.chain([local]));
        });
        let routes = interface.routes_mut();
        for family in [plan.family, plan.family.other()] {
            // The table has room for one route of each family.
            let _ = match address::address(family, site, ROUTER) {
                IpAddr::V4(router) => routes.add_default_ipv4_route(router).map(drop),
                IpAddr::V6(router) => routes.add_default_ipv6_route(router).map(drop),
            };
        }
        let address = bears[0];
        let sockets = SocketSet::new(Vec::new());
        let acknowledged = BTreeMap::new();
        let timestamps = plan.timestamps;
        Self {
            mac,
            address,
            interface,
            card,
            sockets,
            buffers: plan.buffers,
            timestamps,
            acknowledged,
            paths: Paths::default(),
        }
    }

    /// Creates a socket.
    pub fn open(&mut self) -> SocketHandle {
        let [receive, send] = self.buffers.map(|size| tcp::SocketBuffer::new(vec![0; size]));
        let mut socket = tcp::Socket::new(receive, send);
        socket.set_keep_alive(Some(KEEP_ALIVE));
        if self.timestamps {
            socket.set_tsval_generator(Some(|| 7));
        }
        self.sockets.add(socket)
    }

    /// Creates a socket that connects. Returns `None` when smoltcp refuses.
    pub fn connect(&mut self, to: SocketAddr, port: u16) -> SocketHandle {
        let handle = self.open();
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        let from = IpEndpoint::new(self.address.into(), port);
        let begun = socket.connect(self.interface.context(), IpEndpoint::from(to), from);
        begun.expect("a new socket connects");
        handle
    }

    /// Removes a socket without notifying its peer.
    pub fn forget(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    /// Returns a socket.
    pub fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Processes a frame, or the passing of time.
    pub fn poll(&mut self, frame: Option<Frame>, now: Nanos) {
        if let Some(answer) = frame.as_deref().and_then(|frame| self.answer_probe(frame)) {
            self.card.sent.push(answer);
        }
        if let Some(error) = frame.as_deref().and_then(pmtu::read) {
            self.paths.note(error);
        }
        let frame = frame.filter(|frame| !self.would_stall(frame));
        if frame.is_some() {
            self.card.received = frame;
        }
        self.interface.poll(instant(now), &mut self.card, &mut self.sockets);
    }

    /// Whether a frame is an acknowledgement that says nothing new when nothing but our FIN is
    /// under way. Three of them make smoltcp try a fast retransmission of data that there is
    /// none of, for which it forgets the timer that would have repeated the FIN.
    fn would_stall(&mut self, frame: &[u8]) -> bool {
        let Some(segment) = segment::read(frame) else { return false };
        let bare = segment.ack && !segment.syn && !segment.rst && segment.length == 0;
        let known = self.acknowledged.insert((segment.to.port(), segment.from), segment);
        if !bare || known.is_none_or(|k| k.acknowledgement != segment.acknowledgement) {
            return false;
        }
        let mine = |socket: &&tcp::Socket<'_>| {
            let is = |end: IpEndpoint, address: SocketAddr| end == IpEndpoint::from(address);
            socket.local_endpoint().is_some_and(|end| is(end, segment.to))
                && socket.remote_endpoint().is_some_and(|end| is(end, segment.from))
        };
        let socket = self.sockets.iter().filter_map(|(_, socket)| match socket {
            Socket::Tcp(socket) => Some(socket).filter(mine),
        });
        socket.into_iter().any(|socket| {
            use tcp::State::{Closing, FinWait1, LastAck};
            matches!(socket.state(), FinWait1 | Closing | LastAck) && socket.send_queue() == 0
        })
    }

    /// The answer to an ARP probe (RFC 5227): smoltcp leaves one that comes from no address alone.
    fn answer_probe(&self, frame: &[u8]) -> Option<Frame> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        if ethernet.ethertype() != EthernetProtocol::Arp {
            return None;
        }
        let arp = ArpRepr::parse(&ArpPacket::new_checked(ethernet.payload()).ok()?).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = arp
        else {
            return None;
        };
        let own = self.interface.has_ip_addr(target_protocol_addr);
        let probe = operation == ArpOperation::Request && source_protocol_addr.is_unspecified();
        if !probe || !own {
            return None;
        }
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: EthernetAddress(self.mac),
            source_protocol_addr: target_protocol_addr,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: source_protocol_addr,
        };
        let mut answer = vec![0; ETHERNET_HEADER_LEN + reply.buffer_len()];
        let mut ethernet = EthernetFrame::new_unchecked(&mut answer[..]);
        ethernet.set_src_addr(EthernetAddress(self.mac));
        ethernet.set_dst_addr(source_hardware_addr);
        ethernet.set_ethertype(EthernetProtocol::Arp);
        reply.emit(&mut ArpPacket::new_unchecked(ethernet.payload_mut()));
        Some(answer)
    }

    /// Takes what is to be sent, as its paths have room for it.
    pub fn send(&mut self) -> Vec<Frame> {
        let frames = std::mem::take(&mut self.card.sent);
        self.paths.cut(frames)
    }

    /// Frames to be sent so far.
    pub fn sending(&mut self) -> &mut Vec<Frame> {
        &mut self.card.sent
    }

    /// When to poll again, whatever comes in.
    pub fn next_poll(&mut self, now: Nanos) -> Option<Nanos> {
        let at = self.interface.poll_at(instant(now), &self.sockets)?;
        Some((at.total_micros() as Nanos * 1_000).max(now + TICK))
    }
}

fn instant(now: Nanos) -> Instant {
    Instant::from_micros((now / 1_000) as i64)
}

//! What a port does for the workers, seen on net_tap: checksum flags of received packets, and events to
//! wait for. As root, where the kernel has tap devices.

#![cfg(feature = "dpdk")]

mod alone;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use alone::{alone, eal};
use arrayvec::ArrayVec;
use firstack::dpdk::{DEFAULT_DATA_ROOM, Mbuf, MbufPool, Port, PortConfig, RxEvent, RxQueue};
use firstack_packets::Segment;
use pipeline::packet::buffer::Buffer;

const MAX_WAIT: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(1);

/// Returns whether this user can make tap devices.
fn has_taps() -> bool {
    nix::unistd::geteuid().is_root() && Path::new("/dev/net/tun").exists()
}

fn config(checksums: bool) -> PortConfig<'static> {
    PortConfig {
        queues: 1,
        rx_descriptors: 256,
        tx_descriptors: 256,
        max_frame: 1514,
        rss: None,
        checksums,
        interrupts: true,
    }
}

/// Opens a port whose kernel interface says nothing by itself.
fn opened(eal: &firstack::dpdk::Eal, interface: &str) -> Port {
    let port = Port::by_device(eal, &format!("net_tap0,iface={interface}")).unwrap();
    let quiet = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    // Some kernels have no IPv6.
    let _ = std::fs::write(quiet, "1");
    port
}

/// Makes the kernel send frames on an interface.
fn send(interface: &str, frames: &[&[u8]]) {
    let program = "import socket, sys\n\
                   s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
                   s.bind((sys.argv[1], 0))\n\
                   for frame in sys.argv[2:]: s.send(bytes.fromhex(frame))";
    let hex = frames.iter().map(|f| f.iter().map(|b| format!("{b:02x}")).collect::<String>());
    let status =
        Command::new("python3").args(["-c", program, interface]).args(hex).status().unwrap();
    assert!(status.success());
}

/// Receives until each of the frames has come. Returns the port's verdicts on IP and TCP checksums.
fn received(rx: &mut RxQueue, frames: &[&[u8]]) -> Vec<(bool, bool)> {
    let mut verdicts = vec![None; frames.len()];
    let (start, mut burst) = (Instant::now(), ArrayVec::<Mbuf, 32>::new());
    while verdicts.contains(&None) {
        assert!(start.elapsed() < MAX_WAIT, "{verdicts:?}");
        rx.burst(&mut burst);
        for mbuf in burst.drain(..) {
            if let Some(number) = frames.iter().position(|frame| *frame == mbuf.head()) {
                verdicts[number] = Some((mbuf.ip_checksum_is_good(), mbuf.l4_checksum_is_good()));
            }
        }
    }
    verdicts.into_iter().flatten().collect()
}

#[test]
fn a_port_marks_right_checksums_of_the_outermost_packet() {
    if !has_taps() {
        return;
    }
    alone("a_port_marks_right_checksums_of_the_outermost_packet", || {
        let segment = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7);
        let right = segment.frame();
        let changed = |at: usize| {
            let mut frame = right.clone();
            frame[at] ^= 1;
            frame
        };
        let (wrong_ip, wrong_tcp) = (changed(24), changed(50));
        let six = Segment::syn("[2001:db8::1]:40000", "[2001:db8::2]:80", 7).frame();
        let tunnelled = segment.tunnelled("203.0.113.10", "198.51.100.10");
        let frames: [&[u8]; 5] = [&right, &wrong_ip, &wrong_tcp, &six, &tunnelled];

        let eal = eal(1);
        let pool = MbufPool::new(&eal, "frames", 1023, 0, DEFAULT_DATA_ROOM, None).unwrap();
        let mut port = opened(&eal, "fst_sums");
        for asked in [true, false] {
            port.configure(&config(asked), &pool).unwrap();
            let mut started = port.start().unwrap();
            assert_eq!((started.report.checksums, started.report.strips_vlan), (asked, false));
            send("fst_sums", &frames);
            let verdicts = received(&mut started.rx[0], &frames);
            let [right, wrong_ip, wrong_tcp, six, tunnelled] = verdicts[..] else { panic!() };
            assert_eq!((right, wrong_tcp), ((asked, asked), (asked, false)));
            assert!(!wrong_ip.0);
            assert_eq!(six.1, asked);
            assert_eq!(tunnelled, (false, false), "it has not looked at the outer header");
            drop(started);
            port.stop().unwrap();
        }
        port.close().unwrap();
        assert_eq!(pool.available(), pool.size());
    });
}

#[test]
fn a_frame_ends_the_wait_for_events() {
    if !has_taps() {
        return;
    }
    alone("a_frame_ends_the_wait_for_events", || {
        let frame = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).frame();
        let eal = eal(1);
        let pool = MbufPool::new(&eal, "frames", 1023, 0, DEFAULT_DATA_ROOM, None).unwrap();
        let mut port = opened(&eal, "fst_events");
        port.configure(&config(true), &pool).unwrap();
        assert!(port.rx_events().is_empty(), "it is not started");
        let mut started = port.start().unwrap();
        let events = port.rx_events();
        assert_eq!(events.len(), 1);
        events.iter().for_each(RxEvent::arm);
        for _ in 0..3 {
            send("fst_events", &[&frame]);
            assert!(RxEvent::wait_any(&events, MAX_WAIT));
            assert_eq!(received(&mut started.rx[0], &[&frame]), [(true, true)]);
            events.iter().for_each(RxEvent::disarm);
            // Once all is received, there is nothing to wake up for.
            let (start, mut burst) = (Instant::now(), ArrayVec::<Mbuf, 32>::new());
            while RxEvent::wait_any(&events, SHORT) {
                assert!(start.elapsed() < MAX_WAIT);
                started.rx[0].burst(&mut burst);
                burst.clear();
            }
        }
        drop((events, started));
        port.close().unwrap();
        assert_eq!(pool.available(), pool.size());
    });
}

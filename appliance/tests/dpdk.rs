//! The safe layer against the real DPDK, with virtual devices, no hugepages and no NIC.

#![cfg(feature = "dpdk")]

mod alone;

use std::fs::File;
use std::path::Path;

use alone::{alone, eal};
use arrayvec::ArrayVec;
use firstack::datapath::rss::toeplitz::Toeplitz;
use firstack::dpdk::{
    DEFAULT_DATA_ROOM, Eal, Error, Mbuf, MbufPool, OneAddress, Port, PortConfig, Rss, RssField,
    RssScope, RxQueue, Started, TxQueue,
};
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use pipeline::packet::buffer::{Buffer, Pool};
use pipeline::wire::family::Version;
use std::time::Duration;

const MAX_FRAME: u32 = 9014;

fn config(queues: u16) -> PortConfig<'static> {
    PortConfig {
        queues,
        rx_descriptors: 256,
        tx_descriptors: 256,
        max_frame: MAX_FRAME,
        rss: None,
        checksums: true,
        interrupts: false,
    }
}

fn started(eal: &Eal, device: &str, pool: &MbufPool) -> (Port, RxQueue, TxQueue) {
    let mut port = Port::by_device(eal, device).unwrap();
    port.configure(&config(1), pool).unwrap();
    let Started { mut rx, mut tx, report } = port.start().unwrap();
    println!("{}: {report:?}", port.device());
    (port, rx.remove(0), tx.remove(0))
}

/// Returns a frame in which every byte depends on its position and on the seed.
fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|place| (place * 7 + place / 256 + seed * 13) as u8).collect()
}

fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(File::create(path).unwrap()).unwrap();
    for frame in frames {
        let packet = PcapPacket::new(Duration::ZERO, frame.len() as u32, frame);
        writer.write_packet(&packet).unwrap();
    }
}

fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet.unwrap().data.into_owned());
    }
    frames
}

fn whole(mbuf: &Mbuf) -> Vec<u8> {
    mbuf.segments().flatten().copied().collect()
}

/// Receives until nothing comes, passes each frame to `change`, and sends it. Returns how many were
/// sent.
fn forward(rx: &mut RxQueue, tx: &mut TxQueue, mut change: impl FnMut(&mut Mbuf)) -> usize {
    let mut burst = ArrayVec::<Mbuf, 32>::new();
    let mut out = Vec::with_capacity(32);
    let mut sent = 0;
    while rx.burst(&mut burst) > 0 {
        burst.iter_mut().for_each(&mut change);
        out.extend(burst.drain(..));
        sent += tx.burst(&mut out);
        assert!(out.is_empty());
    }
    sent
}

#[test]
fn a_capture_passes_byte_for_byte_on_a_worker() {
    alone("a_capture_passes_byte_for_byte_on_a_worker", || {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in.pcap"), folder.path().join("out.pcap"));
        let frames: Vec<_> = (0..200).map(|seed| pattern(seed, 60 + seed * 7)).collect();
        write_pcap(&input, &frames);

        let eal = eal(1);
        let pool = MbufPool::new(&eal, "frames", 1023, 64, DEFAULT_DATA_ROOM, None).unwrap();
        let device = format!("net_pcap0,rx_pcap={},tx_pcap={}", input.display(), output.display());
        let (port, mut rx, mut tx) = started(&eal, &device, &pool);
        assert!(port.link().unwrap().up);
        assert_ne!(port.mac().unwrap(), [0; 6]);

        assert_eq!(eal.worker_lcores(), [1]);
        let worker = eal.launch(1, move || forward(&mut rx, &mut tx, |_| ())).unwrap();
        assert_eq!(worker.join().unwrap(), frames.len());
        let stats = port.stats().unwrap();
        println!("{stats:?}");
        assert_eq!((stats.ipackets, stats.opackets), (200, 200));
        assert_eq!((stats.ierrors, stats.oerrors, stats.rx_nombuf), (0, 0, 0));
        port.close().unwrap();
        assert!(read_pcap(&output) == frames);
        assert_eq!(pool.available(), pool.size());
    });
}

#[test]
fn a_jumbo_frame_passes_in_chained_buffers() {
    alone("a_jumbo_frame_passes_in_chained_buffers", || {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in.pcap"), folder.path().join("out.pcap"));
        let frames: Vec<_> = (0..40).map(|seed| pattern(seed, 9014 - seed)).collect();
        write_pcap(&input, &frames);

        let eal = eal(1);
        let pool = MbufPool::new(&eal, "small", 1023, 32, 512, None).unwrap();
        let device = format!("net_pcap0,rx_pcap={},tx_pcap={}", input.display(), output.display());
        let (port, mut rx, mut tx) = started(&eal, &device, &pool);
        let mut wanted = frames.clone();
        let mut seen = 0;
        let sent = forward(&mut rx, &mut tx, |mbuf| {
            assert!(whole(mbuf) == frames[seen]);
            assert_eq!((mbuf.frame_len(), mbuf.head().len()), (9014 - seen, 512));
            assert!(mbuf.segment_count() > 10 && !mbuf.is_contiguous());
            reshape(seen, mbuf, &mut wanted[seen]);
            assert!(whole(mbuf) == wanted[seen]);
            assert_eq!(mbuf.segments().count(), mbuf.segment_count());
            seen += 1;
        });
        assert_eq!((sent, seen), (frames.len(), frames.len()));
        drop((rx, tx));
        port.close().unwrap();
        assert!(read_pcap(&output) == wanted);
        assert_eq!(pool.available(), pool.size());
    });
}

/// Changes a chained frame and its copy in the same way, selected by `choice`.
fn reshape(choice: usize, mbuf: &mut Mbuf, copy: &mut Vec<u8>) {
    // The first segment has 512 bytes; the others, without headroom, 640.
    let cut = [9000, 5000, 512 + 640, 512 + 641, 513, 512, 511, 60];
    match choice % 10 {
        0 => mbuf.truncate(copy.len() + 1),
        1 => {
            mbuf.trim_front(512);
            assert!(mbuf.head().is_empty());
            assert!(mbuf.prepend(20));
            mbuf.head_mut().fill(0xee);
            copy.splice(..512, [0xee; 20]);
        }
        other => {
            mbuf.truncate(cut[other - 2]);
            copy.truncate(cut[other - 2]);
        }
    }
}

#[test]
fn a_ring_takes_what_it_has_room_for() {
    alone("a_ring_takes_what_it_has_room_for", || {
        let eal = eal(1);
        let pool = MbufPool::new(&eal, "ring", 4095, 128, 256, None).unwrap();
        let (mut port, mut rx, mut tx) = started(&eal, "net_ring0", &pool);
        let mut handle = pool.handle();
        let mut frames: Vec<Mbuf> = (0..2000)
            .map(|seed| {
                let mut mbuf = handle.alloc(64).unwrap();
                mbuf.head_mut().copy_from_slice(&pattern(seed, 64));
                assert!(mbuf.prepend(128) && !mbuf.prepend(1));
                mbuf.trim_front(100);
                mbuf.head_mut()[..28].fill(seed as u8);
                mbuf.truncate(80);
                mbuf
            })
            .collect();
        let sent = tx.burst(&mut frames);
        println!("the ring took {sent} of 2000");
        assert!(sent > 0 && sent < 2000);
        assert_eq!(frames.len(), 2000 - sent);
        assert_eq!(frames[0].head()[0], sent as u8);

        let mut got = ArrayVec::<Mbuf, 100>::new();
        let mut received = 0;
        while rx.burst(&mut got) > 0 {
            for mbuf in got.drain(..) {
                assert_eq!(mbuf.head()[..28], [received as u8; 28]);
                assert_eq!(mbuf.head()[28..], pattern(received, 64)[..52]);
                received += 1;
            }
        }
        assert_eq!(received, sent);

        assert!(matches!(port.stop(), Err(Error::State { .. })));
        drop((rx, tx));
        port.stop().unwrap();
        let again = port.start().unwrap();
        assert_eq!((again.rx.len(), again.tx.len()), (1, 1));
        drop((again, frames, handle));
        port.close().unwrap();
        assert_eq!(pool.available(), pool.size());
    });
}

#[test]
fn a_port_reports_what_it_does() {
    alone("a_port_reports_what_it_does", || {
        let eal = eal(1);
        let pool = MbufPool::new(&eal, "null", 1023, 32, DEFAULT_DATA_ROOM, None).unwrap();
        let mut port = Port::by_device(&eal, "net_null0,size=100").unwrap();
        let key: Vec<u8> = [0x6d, 0x5a].repeat(26);
        let rss = Some(Rss { key: &key, field: RssField::Source, one_address: true });
        port.configure(&PortConfig { rss, ..config(2) }, &pool).unwrap();
        let Started { mut rx, mut tx, report } = port.start().unwrap();
        println!("{report:?}");
        assert_eq!(report.driver, "net_null");
        assert_eq!((rx.len(), tx.len()), (2, 2));
        assert_eq!((report.rx_queues, report.tx_queues), (2, 2));
        assert_ne!(report.rss.scope, RssScope::Address(RssField::Source));
        assert!(report.rss.note.is_some() && report.rss.hashes(Version::V4).is_err());

        // The table is accepted, read back, and refused if its length differs from the port's.
        let table: Vec<u16> = (0..report.rss.entries).map(|entry| entry / 3 % 2).collect();
        assert_eq!(table.len(), 128);
        assert!(port.set_table(&table).unwrap());
        assert!(port.set_table(&table[..64]).is_err());

        let mut burst = ArrayVec::<Mbuf, 32>::new();
        assert_eq!(rx[1].burst(&mut burst), 32);
        assert!(burst.iter().all(|mbuf| mbuf.frame_len() == 100 && mbuf.port() == port.id()));
        assert_eq!(rx[0].burst(&mut burst), 0, "there is no room for more");
        let mut out: Vec<Mbuf> = burst.drain(..).collect();
        assert_eq!(tx[0].burst(&mut out), 32);
        assert_eq!(port.stats().unwrap().opackets, 32);
        // The port is dropped last, with its queues.
        drop(port);
        drop((rx, tx));
        assert_eq!(pool.available(), pool.size());
    });
}

/// net_null has hash functions and a table, and no flow rules.
#[test]
fn a_port_that_refuses_flow_rules_hashes_by_the_key() {
    alone("a_port_that_refuses_flow_rules_hashes_by_the_key", || {
        let eal = eal(1);
        let pool = MbufPool::new(&eal, "null", 1023, 32, DEFAULT_DATA_ROOM, None).unwrap();
        let mut port = Port::by_device(&eal, "net_null0,size=100").unwrap();
        let offer = port.rss_offer(RssField::Source).unwrap();
        assert_eq!(offer.entries, 128);
        assert!(matches!(offer.one_address, OneAddress::No(_)));
        let (key, other) = ([0x6d; 64], Toeplitz::default());
        let rss = |key| Rss { key, field: RssField::Source, one_address: false };
        assert!(port.set_rss(rss(&key)).is_err(), "it is not configured");
        port.configure(&PortConfig { rss: Some(rss(&key)), ..config(2) }, &pool).unwrap();
        let mut started = port.start().unwrap();

        let refused = port.hash_one_address(RssField::Source).unwrap_err();
        println!("{refused}");
        assert_eq!((refused.rule, refused.reason.code()), ("eth / ipv4", libc::ENOSYS));
        let report = port.set_rss(rss(other.source_key())).unwrap();
        println!("{report:?}");
        // It states no length of a key, so it is given none and not relied on.
        assert_eq!((report.scope, report.verified), (RssScope::Ports, false));
        for family in [Version::V4, Version::V6] {
            assert!(report.hashes(family).is_err());
        }
        let table: Vec<u16> = (0..128).map(|entry| entry % 2).collect();
        assert!(port.set_table(&table).unwrap());
        let mut burst = ArrayVec::<Mbuf, 32>::new();
        assert_eq!(started.rx[1].burst(&mut burst), 32);
        drop((burst, started));
        port.close().unwrap();
        assert_eq!(pool.available(), pool.size());
    });
}

#[test]
fn an_empty_pool_gives_nothing_and_takes_all_back() {
    alone("an_empty_pool_gives_nothing_and_takes_all_back", || {
        let eal = eal(1);
        let pool = MbufPool::new(&eal, "few", 100, 8, 256, None).unwrap();
        assert_eq!((pool.size(), pool.available(), pool.data_room()), (100, 100, 256));
        let mut handle = pool.handle();
        assert!(handle.alloc(257).is_none());
        let mut held: Vec<Mbuf> = std::iter::from_fn(|| handle.alloc(256)).collect();
        assert_eq!((held.len(), pool.available()), (100, 0));
        assert!(held.iter().all(|mbuf| mbuf.frame_len() == 256 && mbuf.is_contiguous()));
        held.pop();
        assert_eq!(handle.alloc(0).unwrap().frame_len(), 0);
        let other = std::thread::spawn(move || drop(held));
        other.join().unwrap();
        drop(handle);
        assert_eq!(pool.available(), pool.size());
        let twice = MbufPool::new(&eal, "few", 100, 8, 256, None).unwrap_err();
        println!("{twice}");
        assert!(twice.to_string().contains("few"));
    });
}

#[test]
fn an_error_names_the_device() {
    alone("an_error_names_the_device", || {
        let eal = eal(1);
        for device in [
            "net_nosuch0",
            "0000:ff:1f.7",
            "",
            "net_pcap0,rx_pcap=/nonexistent/in.pcap",
            "net_null0,nosuch=1",
        ] {
            let error = Port::by_device(&eal, device).unwrap_err();
            println!("{error}");
            assert!(matches!(error, Error::NoDevice { .. } | Error::NoDriver { .. }), "{error:?}");
            assert!(error.to_string().contains(device));
        }
        let mut port = Port::by_device(&eal, "net_null1").unwrap();
        let taken = Port::by_device(&eal, "net_null1").unwrap_err();
        println!("{taken}");
        assert!(matches!(taken, Error::PortTaken { .. }));
        let early = port.start().unwrap_err();
        println!("{early}");
        assert!(matches!(early, Error::State { .. }));
        let again = Eal::init(&[]).unwrap_err();
        println!("{again}");
        assert!(matches!(again, Error::AlreadyInitialised));
    });
}

#[test]
fn bad_arguments_do_not_start_dpdk() {
    alone("bad_arguments_do_not_start_dpdk", || {
        let error = Eal::init(&["--no-such-argument".to_owned()]).unwrap_err();
        println!("{error}");
        assert!(error.to_string().contains("--no-such-argument"));
    });
}

#[test]
fn a_workers_panic_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    const NAME: &str = "a_workers_panic_ends_the_process";
    const INNER: &str = "FIRSTACK_PANIC_TEST";
    if std::env::var_os(INNER).is_some() {
        let eal = eal(1);
        let worker = eal.launch(1, || panic!("on purpose")).unwrap();
        let _: Result<(), _> = worker.join();
        unreachable!("the process goes on");
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args([NAME, "--exact", "--nocapture"]).env(INNER, "").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(nix::libc::SIGABRT), "{}: {said}", output.status);
    assert!(said.contains("on purpose"), "{said}");
}

#[test]
fn a_workers_result_reaches_its_owner() {
    alone("a_workers_result_reaches_its_owner", || {
        let eal = eal(1);
        assert!(eal.cycles_per_second() > 1_000_000);
        assert!(matches!(eal.launch(0, || ()), Err(Error::Launch { .. })));
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let worker = eal.launch(1, move || receive.recv()).unwrap();
        assert!(matches!(eal.launch(1, || ()), Err(Error::Launch { .. })));
        let worker = worker.try_join().unwrap_err();
        send.send(()).unwrap();
        assert_eq!(worker.join().unwrap(), Ok(()));
    });
}

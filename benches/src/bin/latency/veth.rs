//! A gateway's process between two namespaces, on net_af_packet: its CPU use when idle, and the
//! latency of a datagram after a pause. The gateway forwards the datagrams unmodified.
//!
//! The sender reads the clock right before it sends, and the kernel reports the arrival, so the
//! latency does not include the receiver's wake-up.

use std::fs::{self, File};
use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use firstack_tests::lab::{Lab, Namespace, Process};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};

use crate::figures::{AtRest, Report, Row, Times};
use crate::{Arguments, Result};

/// Pauses between two datagrams.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(1),
    Duration::from_micros(200),
    Duration::from_micros(50),
];
const START: Duration = Duration::from_secs(20);
const END: Duration = Duration::from_secs(10);
const CLIENT: &str = "10.9.0.1";
const SERVER: &str = "10.9.0.2";

/// Measures busy and adaptive polling.
pub fn run(arguments: &Arguments, report: &mut Report) -> Result<()> {
    for poll in ["busy", "adaptive"] {
        let lab = Lab::new("latency")?;
        let [client, gateway, server] =
            [lab.namespace("c")?, lab.namespace("g")?, lab.namespace("s")?];
        lab.veth((&client, "eth0"), (&gateway, "in0"))?;
        lab.veth((&server, "eth0"), (&gateway, "out0"))?;
        client.address("eth0", &format!("{CLIENT}/24"))?;
        server.address("eth0", &format!("{SERVER}/24"))?;
        let mut process = start(&lab, &gateway, arguments, poll)?;
        process.wait_for("forwarding", START)?;
        thread::sleep(Duration::from_millis(500));
        let tasks = PathBuf::from(format!("/proc/{}/task", process.id()));
        let before = (used(&tasks)?, Instant::now());
        thread::sleep(Duration::from_secs(arguments.seconds));
        report.at_rest.push(AtRest { poll, cpu_percent: share(&tasks, before)? });
        let sockets = [(&client, CLIENT), (&server, SERVER)].map(|(at, own)| socket(at, own));
        let [from, to] = sockets;
        let (from, to) = (from?, to?);
        setsockopt(&to, sockopt::ReceiveTimestampns, &true)?;
        to.set_read_timeout(Some(Duration::from_secs(1)))?;
        from.connect(to.local_addr()?)?;
        for pause in PAUSES {
            let before = (used(&tasks)?, Instant::now());
            let mut row = datagrams(&from, &to, pause, arguments.seconds)?;
            row.poll = poll;
            row.cpu_percent = Some(share(&tasks, before)?);
            report.rows.push(row);
        }
        process.signal(Signal::SIGTERM);
        let status = process.wait(END)?;
        if !status.success() {
            return Err(format!("firstack: {status}: {}", process.stderr()).into());
        }
    }
    Ok(())
}

fn start(lab: &Lab, at: &Namespace, arguments: &Arguments, poll: &str) -> Result<Process> {
    let beside = || Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name("firstack"));
    let binary = arguments.binary.clone().map_or_else(beside, Ok)?;
    let directory = lab.directory().display();
    let text = format!(
        "role = \"gateway\"\n\
         [eal]\nfile_prefix = \"{}\"\nargs = [\"--no-huge\", \"-m\", \"128\"]\n\
         [control]\nsocket = \"{directory}/socket\"\n\
         [port.inside]\ndevice = \"net_af_packet0,iface=in0\"\n\
         [port.outside]\ndevice = \"net_af_packet1,iface=out0\"\n\
         [worker]\ncores = [{}]\npoll = \"{poll}\"\n\
         [[gateway.service]]\naddress = \"any\"\nallowed_replicas = [\"any\"]\n",
        at.name(),
        arguments.cores[0],
    );
    let config = lab.directory().join("gateway.toml");
    fs::write(&config, text)?;
    let runtime = format!("RUNTIME_DIRECTORY={directory}");
    let (binary, config) = (binary.to_string_lossy(), config.to_string_lossy());
    Ok(lab.spawn(at, &["env", &runtime, &*binary, "run", "-c", &*config])?)
}

/// Returns a socket in a namespace.
fn socket(at: &Namespace, address: &str) -> Result<UdpSocket> {
    let namespace = File::open(format!("/var/run/netns/{}", at.name()))?;
    let address = address.to_owned();
    // Only this thread enters the namespace, and ends afterwards. The socket stays in it.
    let open = move || -> Result<UdpSocket> {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(UdpSocket::bind((address.as_str(), 0))?)
    };
    thread::spawn(open).join().map_err(|_| "the thread panicked")?
}

/// Returns the CPU time of all threads of a process, in nanoseconds.
fn used(tasks: &PathBuf) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(tasks)? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(sum)
}

/// Returns the CPU use since then, in per cent of a core.
fn share(tasks: &PathBuf, before: (u64, Instant)) -> Result<f64> {
    let used = used(tasks)? - before.0;
    Ok(used as f64 / before.1.elapsed().as_nanos() as f64 * 100.0)
}

fn since_epoch() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64)
}

/// Sends a datagram after each pause, once the last one has arrived or is lost.
fn datagrams(from: &UdpSocket, to: &UdpSocket, pause: Duration, seconds: u64) -> Result<Row> {
    // Resolve addresses and fill caches.
    for _ in 0..5 {
        from.send(&[0; 16])?;
        let _ = arrival(to);
    }
    let mut times = Times::new()?;
    let (mut packets, mut lost) = (0, 0);
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        // The sleep does not need to be exact.
        thread::sleep(pause);
        let sent = since_epoch()?;
        from.send(&sent.to_ne_bytes())?;
        packets += 1;
        match arrival(to) {
            Ok(arrived) => times.add(arrived.saturating_sub(sent).max(1)),
            Err(_) => lost += 1,
        }
    }
    Ok(Row {
        way: "veth",
        poll: "",
        load: format!("pauses {pause:?}"),
        offered: packets as f64 / seconds as f64,
        packets,
        lost,
        latency_ns: times.distribution(),
        late_ns: None,
        cpu_percent: None,
    })
}

/// Returns the time at which the next datagram reached the kernel.
fn arrival(to: &UdpSocket) -> Result<u64> {
    let mut bytes = [0; 64];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let fd = to.as_raw_fd();
    let message = recvmsg::<()>(fd, &mut slices, Some(&mut space), MsgFlags::empty())?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmTimestampns(time) = control {
            return Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64);
        }
    }
    Err("the kernel did not say when".into())
}

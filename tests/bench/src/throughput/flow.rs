//! Sends UDP along a path and counts what arrives.

use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use std::{fs, io, mem, ptr};

use anyhow::{Context, Result, ensure};
use nix::libc;

use super::paths::{PORT, Path};
use super::ratio;

/// Packets in one system call: in a user-mode kernel that costs as much as forwarding several.
const BATCH: usize = 64;
/// For packets that other threads of the kernel still encrypt.
const SETTLE: Duration = Duration::from_millis(20);

/// Packets a second that arrive at the end of a path while one flow is sent as fast as possible for `slice`.
///
/// A system call that sends returns when its packets have come through the whole path. So the median of what a batch takes is not
/// moved by the moments in which the machine does something else. Where the kernel queues packets, only the count tells.
pub fn rate(path: &Path, bytes: usize, slice: Duration) -> Result<f64> {
    let socket = connected(path)?;
    let payload = vec![0u8; bytes];
    let mut part = libc::iovec { iov_base: payload.as_ptr() as *mut _, iov_len: bytes };
    // SAFETY: all zeroes is an empty message.
    let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
    message.msg_hdr.msg_iov = ptr::from_mut(&mut part);
    message.msg_hdr.msg_iovlen = 1;
    let mut batch = [message; BATCH];
    let before = arrived(path)?;
    let (start, mut times, mut total) = (Instant::now(), Vec::new(), 0);
    while start.elapsed() < slice || times.len() < 4 {
        let begun = Instant::now();
        // SAFETY: every message points at `part`, which points at `payload`; the kernel only reads both.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), batch.as_mut_ptr(), BATCH as u32, 0) };
        let error = io::Error::last_os_error();
        ensure!(sent >= 0 || error.raw_os_error() == Some(libc::ENOBUFS), "{}: send: {error}", path.name);
        times.push(begun.elapsed().as_secs_f64() / sent.max(1) as f64);
        total += sent.max(0);
    }
    let took = start.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    let packets = arrived(path)? - before;
    ensure!(packets > 0, "{}: no packet arrived", path.name);
    let each = if path.queued { took / total as f64 } else { ratio::median(&times) };
    Ok(packets as f64 / total as f64 / each)
}

/// Median seconds from sending the first packet of a new flow to its arrival, of `flows` flows. A queue may drop one; half must arrive.
pub fn first_packet(path: &Path, flows: usize) -> Result<f64> {
    let sink = path.dst.run(|| Ok(UdpSocket::bind((path.target, PORT + 1))?))?;
    sink.set_read_timeout(Some(Duration::from_secs(2)))?;
    let sockets = path.src.run(|| (0..flows).map(|_| Ok(UdpSocket::bind("0.0.0.0:0")?)).collect::<Result<Vec<_>>>())?;
    let mut seconds = Vec::new();
    for socket in sockets {
        let start = Instant::now();
        socket.send_to(b"first", (path.target, PORT + 1))?;
        match sink.recv(&mut [0; 16]) {
            Ok(_) => seconds.push(start.elapsed().as_secs_f64()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    let arrived = seconds.len();
    ensure!(arrived > 0 && 2 * arrived >= flows, "{}: {arrived} of {flows} first packets arrived", path.name);
    Ok(ratio::median(&seconds))
}

fn connected(path: &Path) -> Result<UdpSocket> {
    path.src.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(SocketAddrV4::new(path.target, PORT))?;
        Ok(socket)
    })
}

/// Packets that the last interface of the path has received. Its namespace has a rule that drops them then.
fn arrived(path: &Path) -> Result<u64> {
    let text = path.dst.run(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("no eth0")?;
    line.split_whitespace().nth(1).and_then(|packets| packets.parse().ok()).context("no count of packets")
}

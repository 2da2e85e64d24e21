//! A socket for requests, and the thread that waits at it.
//!
//! The kernel carries a request out within send(2), and there it waits for its lock on the network's configuration as long as it
//! takes. No timeout of a socket bounds that. So a thread sends, and the caller stops waiting for it after a limit.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::mpsc,
    thread,
    time::Duration,
};

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NetlinkBuffer};
use netlink_sys::{Socket, SocketAddr};
use nix::{
    errno::Errno,
    libc::{NLMSG_DONE, NLMSG_ERROR},
    sys::{
        socket::{MsgFlags, recv, send, setsockopt, sockopt::ReceiveTimeout},
        time::TimeVal,
    },
};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    error::{Answered, Failure, Refusal},
    message::{Attributes, Request, messages},
};

/// The bound on each exchange, which takes milliseconds.
const LIMIT: Duration = Duration::from_secs(5);
/// Requests in one datagram. The socket must have room for all their acknowledgements (`docs/facts.md`, "Interfaces and routes").
const BATCH: usize = 64;
/// The kernel fills at most 32 kB at a time with a list, unless one entry is larger.
const BUFFER: usize = 1 << 16;
/// The text of an error (`NLMSGERR_ATTR_MSG`).
const ERROR_TEXT: u16 = 1;

/// What the kernel answers to one request.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The messages that were asked for, without netlink's header.
    pub(crate) parts: Vec<Vec<u8>>,
    /// Whether what was listed has changed meanwhile, so that the list may not be whole.
    pub(crate) interrupted: bool,
    pub(crate) refusal: Option<Refusal>,
    complete: bool,
}

impl Answer {
    /// The answer's messages, or the refusal.
    pub(crate) fn done(self) -> Answered<Vec<Vec<u8>>> {
        self.refusal.map_or(Ok(self.parts), |refusal| Err(Failure::Refused(refusal)))
    }

    pub(crate) fn is_refused(&self, errno: Errno) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| refusal.errno == errno)
    }

    /// Success, also if the kernel's refusal is one of these, which say that it is so already.
    pub(crate) fn done_or(self, already: &[Errno]) -> Answered<()> {
        match self.refusal {
            Some(refusal) if !already.contains(&refusal.errno) => Err(Failure::Refused(refusal)),
            _ => Ok(()),
        }
    }
}

struct Job {
    requests: Vec<Request>,
    done: oneshot::Sender<Answered<Vec<Answer>>>,
}

/// The socket. Its thread ends with it.
#[derive(Debug)]
pub(crate) struct Wire {
    jobs: mpsc::Sender<Job>,
    limit: Duration,
}

impl Wire {
    /// Opens a socket for a protocol (`NETLINK_*`) in the thread's network namespace.
    pub(crate) fn open(protocol: isize) -> std::io::Result<Wire> {
        let socket = Socket::new(protocol)?;
        // The kernel then sends the text of an error, leaves the request out of it, and lists one table only.
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        socket.set_netlink_get_strict_chk(true)?;
        // From nobody but the kernel.
        socket.connect(&SocketAddr::new(0, 0))?;
        Wire::over(socket.as_fd().try_clone_to_owned()?, LIMIT)
    }

    fn over(socket: OwnedFd, limit: Duration) -> std::io::Result<Wire> {
        // Much shorter than the limit: a request that was given up must not use up the next one's time.
        let wake = limit / 10;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(wake.as_secs() as _, wake.subsec_micros() as _))?;
        let (jobs, queue) = mpsc::channel();
        thread::Builder::new().name("netlink".into()).spawn(move || serve(&socket, &queue))?;
        Ok(Wire { jobs, limit })
    }

    /// Sends requests, each independent of the others' success, and returns an answer for each. An error means that it is
    /// unknown how many of them were carried out.
    pub(crate) async fn exchange(&self, requests: &[Request]) -> Answered<Vec<Answer>> {
        let mut answers = Vec::with_capacity(requests.len());
        for batch in requests.chunks(BATCH) {
            let (done, answered) = oneshot::channel();
            let gone = |_| Failure::Socket(Errno::EPIPE);
            self.jobs.send(Job { requests: batch.to_vec(), done }).map_err(|_| Failure::Socket(Errno::EPIPE))?;
            let answered = timeout(self.limit, answered).await.map_err(|_| Failure::TimedOut(self.limit))?;
            answers.extend(answered.map_err(gone)??);
        }
        Ok(answers)
    }

    /// Sends one request.
    pub(crate) async fn ask(&self, request: Request) -> Answered<Answer> {
        Ok(self.exchange(&[request]).await?.pop().unwrap_or_default())
    }
}

fn serve(socket: &OwnedFd, queue: &mpsc::Receiver<Job>) {
    let (mut sequence, mut buffer) = (0, vec![0; BUFFER]);
    while let Ok(mut job) = queue.recv() {
        // What nobody waits for any more is not carried out: meanwhile it may be the opposite of what is wanted.
        if !job.done.is_closed() {
            let answers = converse(socket, &mut job, &mut sequence, &mut buffer);
            let _ = job.done.send(answers);
        }
    }
}

/// Sends a job's requests, and reads until each has its answer.
fn converse(socket: &OwnedFd, job: &mut Job, sequence: &mut u32, buffer: &mut [u8]) -> Answered<Vec<Answer>> {
    let (first, mut datagram) = (*sequence, Vec::new());
    for request in &job.requests {
        request.write(*sequence, &mut datagram);
        *sequence = sequence.wrapping_add(1);
    }
    send(socket.as_raw_fd(), &datagram, MsgFlags::empty()).map_err(Failure::Socket)?;
    let mut answers: Vec<Answer> = job.requests.iter().map(|_| Answer::default()).collect();
    while answers.iter().any(|answer| !answer.complete) && !job.done.is_closed() {
        let length = match recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
            Ok(length) => length,
            // After a while without an answer, to see whether the caller still waits.
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            Err(errno) => return Err(Failure::Socket(errno)),
        };
        for message in messages(buffer.get(..length).ok_or(Failure::Garbage)?) {
            let message = message?;
            // Other numbers are those of requests that were given up.
            let number = message.sequence_number().wrapping_sub(first) as usize;
            if let Some(answer) = answers.get_mut(number).filter(|answer| !answer.complete) {
                take(answer, &message)?;
            }
        }
    }
    Ok(answers)
}

/// Adds a message to the answer that it belongs to.
fn take(answer: &mut Answer, message: &NetlinkBuffer<&[u8]>) -> Answered<()> {
    let payload = message.payload();
    answer.interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
    let kind = i32::from(message.message_type());
    if kind != NLMSG_ERROR && kind != NLMSG_DONE {
        answer.parts.push(payload.to_vec());
        return Ok(());
    }
    answer.complete = true;
    let code = i32::from_ne_bytes(*payload.first_chunk().ok_or(Failure::Garbage)?);
    if code != 0 {
        // The request's header, and all of it if the kernel does not know the option to leave it out.
        let request = match kind {
            NLMSG_DONE => 0,
            _ if message.flags() & NLM_F_CAPPED != 0 => 16,
            _ => {
                payload.get(4..8).and_then(|length| length.first_chunk()).map_or(0, |l| u32::from_ne_bytes(*l) as usize)
            }
        };
        let told = message.flags() & NLM_F_ACK_TLVS != 0;
        let said = Attributes::read(payload, 4 + request.next_multiple_of(4)).ok().filter(|_| told);
        let text = said.and_then(|said| said.text(ERROR_TEXT)).unwrap_or_default();
        answer.refusal = Some(Refusal { errno: Errno::from_raw(code.wrapping_neg()), text });
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;

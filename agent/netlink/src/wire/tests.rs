//! What the kernel does not do on demand: hang, be slow, list what changes meanwhile, and talk nonsense. A pair of sockets stands for
//! it.

use std::{os::unix::net::UnixDatagram, sync::mpsc as channel};

use netlink_packet_core::{Emitable, NetlinkHeader};

use super::*;

/// Long enough for an answer on a busy machine.
const SHORT: Duration = Duration::from_secs(1);
const DUMP: u16 = 18;
const LINK: u16 = 16;

/// A kernel that answers each datagram as `answer` says.
pub(crate) fn kernel(mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Wire {
    let (ours, its) = UnixDatagram::pair().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(length @ 1..) = its.recv(&mut buffer) {
            for datagram in answer(&buffer[..length]) {
                its.send(&datagram).unwrap();
            }
        }
    });
    Wire::over(ours.into(), SHORT).unwrap()
}

/// A message of the kernel.
pub(crate) fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.length = 16 + payload.len() as u32;
    header.message_type = kind;
    header.flags = flags;
    header.sequence_number = sequence;
    let mut bytes = vec![0; 16];
    header.emit(&mut bytes);
    bytes.extend(payload);
    bytes
}

/// The sequence numbers in a datagram of requests.
pub(crate) fn numbers(datagram: &[u8]) -> Vec<u32> {
    messages(datagram).map(|message| message.unwrap().sequence_number()).collect()
}

fn acknowledgement(sequence: u32) -> Vec<u8> {
    message(NLMSG_ERROR as u16, 0, sequence, &[0; 20])
}

fn request() -> Request {
    Request::new(DUMP, 0, &[0; 16])
}

pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

#[test]
fn a_kernel_that_does_not_answer_is_given_up_after_the_limit() {
    run(async {
        let wire = kernel(|_| Vec::new());
        for _ in 0..2 {
            assert!(matches!(wire.ask(request()).await, Err(Failure::TimedOut(SHORT))));
        }
    });
}

#[test]
fn a_request_that_was_given_up_before_it_was_sent_is_never_sent() {
    run(async {
        let (tell, told) = channel::channel();
        let (go_on, may_go_on) = channel::channel();
        // The first request keeps the thread busy, as the kernel's lock does.
        let (ours, its) = UnixDatagram::pair().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(length @ 1..) = its.recv(&mut buffer) {
                tell.send(numbers(&buffer[..length])).unwrap();
            }
        });
        let wire = Wire::over(ours.into(), SHORT).unwrap();
        let (jobs, queue) = mpsc::channel();
        let held = Wire { jobs, limit: SHORT };
        thread::spawn(move || {
            may_go_on.recv().unwrap();
            queue.into_iter().for_each(|job| wire.jobs.send(job).unwrap());
        });
        assert!(matches!(held.ask(request()).await, Err(Failure::TimedOut(_))));
        go_on.send(()).unwrap();
        assert!(matches!(held.ask(request()).await, Err(Failure::TimedOut(_))));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [[0]], "only the second request was sent");
    });
}

#[test]
fn a_late_answer_is_not_mistaken_for_the_next_requests() {
    run(async {
        let mut first = None;
        let wire = kernel(move |datagram| match first.replace(numbers(datagram)[0]) {
            None => Vec::new(),
            Some(earlier) => {
                let now = numbers(datagram)[0];
                let late = [message(LINK, 0, earlier, b"late"), acknowledgement(earlier)].concat();
                vec![late, message(LINK, 0, now, b"good"), acknowledgement(now)]
            }
        });
        assert!(wire.ask(request()).await.is_err());
        assert_eq!(wire.ask(request()).await.unwrap().done().unwrap(), [b"good"]);
    });
}

#[test]
fn many_requests_go_together_and_each_has_its_own_answer() {
    run(async {
        let wire = kernel(|datagram| {
            let numbers = numbers(datagram);
            assert!(numbers.len() <= BATCH);
            let refused = |number: u32| {
                let code = if number.is_multiple_of(3) { -(Errno::EEXIST as i32) } else { 0 };
                message(NLMSG_ERROR as u16, 0, number, &[code.to_ne_bytes().as_slice(), &[0; 16]].concat())
            };
            // Backwards, and several in one datagram.
            numbers.rchunks(5).map(|some| some.iter().rev().flat_map(|n| refused(*n)).collect()).collect()
        });
        let answers = wire.exchange(&vec![request(); 200]).await.unwrap();
        let refused: Vec<bool> = answers.iter().map(|answer| answer.is_refused(Errno::EEXIST)).collect();
        assert_eq!(refused, (0..200).map(|n| n % 3 == 0).collect::<Vec<_>>());
    });
}

#[test]
fn a_list_that_changed_while_it_was_read_is_marked() {
    run(async {
        let wire = kernel(|datagram| {
            let number = numbers(datagram)[0];
            let done = message(NLMSG_DONE as u16, 0, number, &[0; 4]);
            vec![message(LINK, NLM_F_DUMP_INTR, number, b"some"), done]
        });
        let answer = wire.ask(request()).await.unwrap();
        assert!(answer.interrupted);
    });
}

#[test]
fn the_kernels_words_for_a_refusal_are_read_with_and_without_the_request_before_them() {
    run(async {
        let wire = kernel(|datagram| {
            let number = numbers(datagram)[0];
            let text = crate::message::attribute(ERROR_TEXT, "no\u{1b}[31m such thing\0");
            let head = (-(Errno::EINVAL as i32)).to_ne_bytes();
            let (flags, echoed) = if number == 0 { (NLM_F_CAPPED, &datagram[..16]) } else { (0, datagram) };
            vec![message(NLMSG_ERROR as u16, flags | NLM_F_ACK_TLVS, number, &[&head, echoed, &text].concat())]
        });
        for _ in 0..2 {
            let Err(failure) = wire.ask(request()).await.unwrap().done() else { panic!("it was refused") };
            assert_eq!(failure.to_string(), "Invalid argument (no\u{fffd}[31m such thing)");
        }
    });
}

#[test]
fn nonsense_is_an_error_and_ends_nothing() {
    let nonsense: [Vec<u8>; 5] = [
        vec![1; 3],
        vec![0; 16],
        message(NLMSG_ERROR as u16, 0, 0, &[1]),
        vec![255; 70_000],
        [&1_000u32.to_ne_bytes(), [0; 12].as_slice()].concat(),
    ];
    for bytes in nonsense {
        run(async {
            let said = bytes.clone();
            let wire = kernel(move |datagram| match numbers(datagram)[0] {
                0 => vec![said.clone()],
                number => vec![acknowledgement(number)],
            });
            assert!(matches!(wire.ask(request()).await, Err(Failure::Garbage)), "{:?}", &bytes[..3]);
            wire.ask(request()).await.unwrap().done().unwrap();
        });
    }
}

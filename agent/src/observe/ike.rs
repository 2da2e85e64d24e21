//! Whether IKE comes through to a peer and back: a request that no gateway can accept, to each of its two ports, and whatever answers it.
//!
//! The only proposal is one that nothing has used for decades, so the peer refuses it with NO_PROPOSAL_CHOSEN (RFC 7296, section 2.7) and
//! keeps nothing of it. It comes from a port of its own, as charon has 500 and 4500.

#![allow(clippy::disallowed_methods, reason = "edge: bounded waits for answers")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use futures_util::future::join_all;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::{net::UdpSocket, time::timeout};

use crosswan_core::doctor::{IKE_PORTS, Probe};

/// The pauses after each of the three packets to a port.
const PAUSES: [Duration; 3] = [Duration::from_millis(300), Duration::from_millis(700), Duration::from_millis(1500)];
/// At most so many peers: a hub without any tunnel has more than it could try at once.
const MOST: usize = 64;
/// What tells IKE on port 4500 from ESP (RFC 3948, section 2.2).
const NON_ESP: [u8; 4] = [0; 4];

/// Tries the first [`MOST`] of these peers at once, for 2.5 seconds at most. By peer: what came of it, by port.
pub async fn probe(peers: &BTreeSet<Ipv4Addr>) -> BTreeMap<Ipv4Addr, [Probe; 2]> {
    let each = peers.iter().take(MOST).map(|peer| async move {
        let [ike, nat_t] = IKE_PORTS.map(|port| SocketAddrV4::new(*peer, port));
        let (ike, nat_t) = tokio::join!(port(ike, &[]), port(nat_t, &NON_ESP));
        (*peer, [ike, nat_t])
    });
    join_all(each).await.into_iter().collect()
}

async fn port(to: SocketAddrV4, before: &[u8]) -> Probe {
    asked(to, before).await.unwrap_or_else(|e| match e.kind() {
        ErrorKind::ConnectionRefused => Probe::Refused,
        _ => Probe::Unsent(e.to_string()),
    })
}

async fn asked(to: SocketAddrV4, before: &[u8]) -> std::io::Result<Probe> {
    let mut random = [0; 40];
    SystemRandom::new().fill(&mut random).map_err(|_| ErrorKind::Other)?;
    let request = [before, &request(&random)].concat();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(to).await?;
    for pause in PAUSES {
        socket.send(&request).await?;
        let answered = async {
            let mut answer = [0; 1500];
            loop {
                let length = socket.recv(&mut answer).await?;
                if answers(&request[before.len()..], answer[..length].strip_prefix(before).unwrap_or_default()) {
                    return Ok(Probe::Answered);
                }
            }
        };
        if let Ok(answered) = timeout(pause, answered).await {
            return answered;
        }
    }
    Ok(Probe::Silent)
}

/// Whether it is a message of IKE to the one who sent this request: the SPI is the initiator's, and unknown to everybody else.
fn answers(request: &[u8], answer: &[u8]) -> bool {
    answer.len() >= 28 && answer[..8] == request[..8]
}

/// IKE_SA_INIT (RFC 7296, section 1.2) with an SPI and a nonce out of `random`: 3DES with HMAC-MD5 and a 768-bit group.
fn request(random: &[u8; 40]) -> Vec<u8> {
    let (spi, nonce) = random.split_at(8);
    let transforms: [[u8; 8]; 4] =
        [[3, 0, 0, 8, 1, 0, 0, 3], [3, 0, 0, 8, 2, 0, 0, 1], [3, 0, 0, 8, 3, 0, 0, 1], [0, 0, 0, 8, 4, 0, 0, 1]];
    let payload = |next: u8, body: &[u8]| {
        let length = u16::try_from(4 + body.len()).unwrap_or_default().to_be_bytes();
        [&[next, 0], &length[..], body].concat()
    };
    // One proposal for IKE: number 1, protocol 1, no SPI, four transforms.
    let proposal = [&[0, 0, 0, 40, 1, 1, 0, 4], &transforms.concat()[..]].concat();
    let (sa, key_exchange) = (payload(34, &proposal), payload(40, &[&[0, 1, 0, 0], &[0x5a; 96][..]].concat()));
    let payloads = [sa, key_exchange, payload(0, nonce)].concat();
    let length = u32::try_from(28 + payloads.len()).unwrap_or_default().to_be_bytes();
    // Next payload SA, version 2.0, exchange IKE_SA_INIT, flag Initiator, message 0.
    [spi, &[0; 8], &[33, 0x20, 34, 0x08, 0, 0, 0, 0], &length, &payloads].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_in_the_request_is_right() {
        let request = request(&[7; 40]);
        let length = |at: usize| usize::from(u16::from_be_bytes([request[at], request[at + 1]]));
        assert_eq!(u32::from_be_bytes(request[24..28].try_into().unwrap()), 212);
        assert_eq!(request.len(), 212);
        let (mut at, mut next, mut seen) = (28, request[16], Vec::new());
        while next != 0 {
            seen.push((next, length(at + 2)));
            (next, at) = (request[at], at + length(at + 2));
        }
        assert_eq!((at, seen), (212, vec![(33, 44), (34, 104), (40, 36)]));
    }

    #[tokio::test]
    async fn only_an_answer_to_this_request_counts() {
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, peer.local_addr().unwrap().port());
        for (before, foreign, expected) in
            [(&NON_ESP[..], false, Probe::Answered), (&[], false, Probe::Answered), (&[], true, Probe::Silent)]
        {
            let play = async {
                let mut asked = [0; 1500];
                for _ in 0..if foreign { 3 } else { 1 } {
                    let (length, from) = peer.recv_from(&mut asked).await.unwrap();
                    assert!(asked[..length].starts_with(before));
                    let mut answer = asked[..before.len() + 28].to_vec();
                    answer[before.len()] ^= u8::from(foreign);
                    peer.send_to(&answer, from).await.unwrap();
                }
            };
            let (probe, ()) = tokio::join!(port(to, before), play);
            assert_eq!(probe, expected);
        }
        drop(peer);
        assert_eq!(port(to, &[]).await, Probe::Refused);
    }
}

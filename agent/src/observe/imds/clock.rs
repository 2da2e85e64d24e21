//! The time by IMDS: the date of its answer, for which no session token is needed.

#![allow(clippy::disallowed_methods, reason = "edge: a bounded wait for IMDS")]

use std::{env, time::Duration};

use aws_smithy_types::{DateTime, date_time::Format};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crosswan_core::model::Timestamp;

/// Far more than the head of an answer has.
const LARGEST: u64 = 8 << 10;

/// The time by IMDS; `None` if it does not answer within `limit`, or without a date.
pub async fn clock(limit: Duration) -> Option<Timestamp> {
    timeout(limit, asked()).await.ok()?
}

async fn asked() -> Option<Timestamp> {
    let endpoint = env::var("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_default();
    let host = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let host = if host.is_empty() { "169.254.169.254" } else { host };
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET /latest/meta-data/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.take(LARGEST).read_to_end(&mut answer).await.ok()?;
    date(&String::from_utf8_lossy(&answer))
}

/// The date in the head of an answer (RFC 9110, section 6.6.1).
fn date(answer: &str) -> Option<Timestamp> {
    let mut head = answer.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':'));
    let (_, text) = head.find(|(name, _)| name.eq_ignore_ascii_case("date"))?;
    DateTime::from_str(text.trim(), Format::HttpDate).ok().map(|date| Timestamp(date.secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_found_in_the_head_alone() {
        let answer = |head: &str| {
            date(&format!("HTTP/1.1 401 Unauthorized\r\n{head}\r\n\r\nDate: Thu, 01 Jan 1970 00:00:07 GMT\r\n"))
        };
        assert_eq!(answer("Server: EC2ws\r\ndate: Thu, 26 Nov 2026 15:00:00 GMT"), Some(Timestamp(1_795_705_200)));
        for head in ["Server: EC2ws", "Date: now", "Date: \u{1b}", "Date", "Date: Thu, 99 Nov 2026 15:00:00 GMT"] {
            assert_eq!(answer(head), None, "{head:?}");
        }
    }
}

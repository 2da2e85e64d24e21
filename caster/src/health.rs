//! A health check as plans and observations write it: `HTTP:80/up every 30 s, healthy after 3, unhealthy after 5`.

use std::fmt;

/// Protocol in AWS's spelling; interval in seconds, thresholds in checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub protocol: String,
    pub port: u16,
    /// Of HTTP and HTTPS.
    pub path: Option<String>,
    pub interval: u16,
    pub healthy: u8,
    pub unhealthy: u8,
}

impl Check {
    /// `None` if the text is not one that `Display` gives.
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, unhealthy) = text.rsplit_once(", unhealthy after ")?;
        let (rest, healthy) = rest.rsplit_once(", healthy after ")?;
        let (target, interval) = rest.rsplit_once(" every ")?;
        let (protocol, rest) = target.split_once(':')?;
        let (port, path) = match rest.find('/') {
            Some(slash) => (&rest[..slash], Some(rest[slash..].to_owned())),
            None => (rest, None),
        };
        Some(Check {
            protocol: protocol.to_owned(),
            port: port.parse().ok()?,
            path,
            interval: interval.strip_suffix(" s")?.parse().ok()?,
            healthy: healthy.parse().ok()?,
            unhealthy: unhealthy.parse().ok()?,
        })
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Check { protocol, port, path, interval, healthy, unhealthy } = self;
        let path = path.as_deref().unwrap_or_default();
        write!(f, "{protocol}:{port}{path} every {interval} s, healthy after {healthy}, unhealthy after {unhealthy}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for path in [None, Some("/".to_owned()), Some("/a every 1 s/b".to_owned())] {
            let protocol = if path.is_some() { "HTTP" } else { "TCP" }.to_owned();
            let check = Check { protocol, port: 80, path, interval: 30, healthy: 3, unhealthy: 5 };
            assert_eq!(Check::parse(&check.to_string()), Some(check));
        }
        assert_eq!(Check::parse("HTTP:80/"), None);
    }
}

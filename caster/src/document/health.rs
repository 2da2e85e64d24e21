//! A health check's target: `HTTP:80/`, `HTTPS:443/up`, `TCP:80`, `SSL:443`.

use serde::{Deserialize, Deserializer, Serialize, de::Error};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub protocol: HealthProtocol,
    pub port: u16,
    /// Of HTTP and HTTPS; begins with a slash.
    pub path: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum HealthProtocol {
    Http,
    Https,
    Tcp,
    Ssl,
}

impl Health {
    /// `None` if the text is not a health check. The protocol may be in small letters, as classic load balancers took it.
    pub fn parse(text: &str) -> Option<Self> {
        let (protocol, rest) = text.split_once(':')?;
        let (port, path) = match rest.find('/') {
            Some(slash) => (&rest[..slash], Some(rest[slash..].to_owned())),
            None => (rest, None),
        };
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|p| digits && *p != 0)?;
        let protocol = match (protocol.to_ascii_uppercase().as_str(), &path) {
            ("HTTP", Some(_)) => HealthProtocol::Http,
            ("HTTPS", Some(_)) => HealthProtocol::Https,
            ("TCP", None) => HealthProtocol::Tcp,
            ("SSL", None) => HealthProtocol::Ssl,
            _ => return None,
        };
        let fits = path.as_ref().is_none_or(|p| p.len() <= 1024 && p.bytes().all(|b| (b'!'..=b'~').contains(&b)));
        fits.then_some(Health { protocol, port, path })
    }
}

impl<'de> Deserialize<'de> for Health {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        Health::parse(&String::deserialize(value)?).ok_or_else(|| D::Error::custom("not a health check"))
    }
}

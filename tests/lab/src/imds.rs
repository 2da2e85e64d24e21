//! IMDSv2 inside one gateway, answering from what EC2 says now. moto's own lacks the token's TTL header.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use ipnet::Ipv4Net;
use socket2::SockRef;

use crate::ec2::{Instance, VpcView};
use crate::http::{Request, Response, Service};
use crate::lock;
use crate::netns::Netns;

/// Where every instance finds it.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const TOKEN: &str = "AQAEALabTokenLabTokenLabTokenLabTokenLabTokenLabToken==";

/// What goes wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImdsFault {
    /// Connections are reset.
    Down,
    /// The status, with an empty body.
    Status(u16),
    /// The right answer, this much later.
    Slow(Duration),
    /// 200 with this text.
    Garbage(String),
    /// The right answer, dated this many seconds later.
    Late(u64),
}

/// What an instance's IMDS knows about it.
#[derive(Debug)]
pub struct Imds {
    /// The instance.
    pub instance: String,
    /// Its region; the zone is its `a`.
    pub region: String,
    /// CIDR of its subnet.
    pub subnet: Ipv4Net,
    /// Its IAM role's name and access key, if it has one.
    pub role: Option<(String, String)>,
    /// Its VPC as EC2 tells it, kept current by the lab.
    pub vpc: Arc<Mutex<VpcView>>,
    /// See [`Imds::set`].
    pub(crate) faults: Mutex<BTreeMap<String, ImdsFault>>,
}

impl Imds {
    /// Breaks a path below `/latest/` (empty: every path without its own fault), or with `None` repairs it.
    pub fn set(&self, path: &str, fault: Option<ImdsFault>) {
        let mut faults = lock(&self.faults);
        match fault {
            Some(fault) => faults.insert(path.to_string(), fault),
            None => faults.remove(path),
        };
    }

    /// Serves inside `ns`, which has [`ADDRESS`].
    pub fn serve(self: &Arc<Self>, ns: &Netns) -> Result<Service> {
        let imds = self.clone();
        Service::tcp(ns, ADDRESS, 80, move |mut stream| {
            let _ = imds.connection(&mut stream);
        })
    }

    fn connection(&self, stream: &mut TcpStream) -> Result<()> {
        let request = Request::read(stream)?;
        let path = request.path.trim_start_matches("/latest/");
        let fault = {
            let faults = lock(&self.faults);
            faults.get(path).or_else(|| faults.get("")).cloned()
        };
        let late = if let Some(ImdsFault::Late(seconds)) = &fault { *seconds } else { 0 };
        let mut response = match fault {
            Some(ImdsFault::Down) => return Ok(SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?),
            Some(ImdsFault::Status(status)) => Response::new(status, ""),
            Some(ImdsFault::Garbage(text)) => Response::new(200, text),
            Some(ImdsFault::Slow(delay)) => {
                std::thread::sleep(delay);
                self.answer(&request, path)
            }
            None | Some(ImdsFault::Late(_)) => self.answer(&request, path),
        };
        response.headers.push(("Date", http_date(SystemTime::now() + Duration::from_secs(late))));
        Ok(stream.write_all(&response.bytes())?)
    }

    fn answer(&self, request: &Request, path: &str) -> Response {
        if request.header("x-forwarded-for").is_some() {
            return Response::new(403, "");
        }
        if path == "api/token" {
            let ttl = request.header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|ttl| ttl.parse::<u32>().ok());
            return match (request.method.as_str(), ttl) {
                ("PUT", Some(ttl @ 1..=21600)) => {
                    let mut response = Response::new(200, TOKEN);
                    response.headers.push(("X-aws-ec2-metadata-token-ttl-seconds", ttl.to_string()));
                    response
                }
                ("PUT", _) => Response::new(400, ""),
                _ => Response::new(405, ""),
            };
        }
        if request.header("x-aws-ec2-metadata-token") != Some(TOKEN) {
            return Response::new(401, "");
        }
        match self.value(path) {
            Some(text) => Response::new(200, text),
            None => Response::new(404, ""),
        }
    }

    /// The text at `path`; `None` is a 404.
    fn value(&self, path: &str) -> Option<String> {
        let vpc = lock(&self.vpc).clone();
        let me = vpc.instance(&self.instance)?;
        if path == "dynamic/instance-identity/document" {
            return Some(self.identity(me));
        }
        let path = path.strip_prefix("meta-data/")?;
        let interface = format!("network/interfaces/macs/{}/", me.mac);
        match path {
            "mac" => Some(me.mac.clone()),
            "instance-id" => Some(me.id.clone()),
            "placement/region" => Some(self.region.clone()),
            "placement/availability-zone" => Some(format!("{}a", self.region)),
            "local-ipv4" => Some(me.private.to_string()),
            "public-ipv4" => Some(me.public?.to_string()),
            "network/interfaces/macs/" => Some(format!("{}/", me.mac)),
            "iam/security-credentials/" => Some(self.role.as_ref()?.0.clone()),
            _ => match path.strip_prefix("iam/security-credentials/") {
                Some(role) => self.role.as_ref().filter(|(name, _)| name == role).map(|(_, key)| credentials(key)),
                None => self.interface(path.strip_prefix(&interface)?, me, &vpc),
            },
        }
    }

    fn identity(&self, me: &Instance) -> String {
        format!(
            "{{\"accountId\":\"123456789012\",\"architecture\":\"x86_64\",\"region\":\"{region}\",\
             \"availabilityZone\":\"{region}a\",\"instanceId\":\"{id}\",\"privateIp\":\"{ip}\",\"version\":\"2017-09-30\"}}",
            region = self.region,
            id = me.id,
            ip = me.private
        )
    }

    fn interface(&self, key: &str, me: &Instance, vpc: &VpcView) -> Option<String> {
        match key {
            "vpc-id" => Some(vpc.id.clone()),
            "vpc-ipv4-cidr-block" => Some(vpc.cidrs.first()?.to_string()),
            "vpc-ipv4-cidr-blocks" => Some(vpc.cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
            "subnet-ipv4-cidr-block" => Some(self.subnet.to_string()),
            "subnet-id" => Some(me.subnet.clone()),
            "local-ipv4s" => Some(me.private.to_string()),
            "public-ipv4s" => Some(me.public?.to_string()),
            "interface-id" => Some(me.interface.clone()),
            "device-number" => Some("0".into()),
            _ => None,
        }
    }
}

/// Nobody here checks a signature, so any secret does; the access key tells the lab's IAM who asks.
fn credentials(access_key: &str) -> String {
    format!(
        "{{\"Code\":\"Success\",\"LastUpdated\":\"2025-01-01T00:00:00Z\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"{access_key}\",\
         \"SecretAccessKey\":\"lab\",\"Token\":\"lab\",\"Expiration\":\"2099-01-01T00:00:00Z\"}}"
    )
}

/// As HTTP writes it (RFC 9110, section 5.6.7).
fn http_date(time: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 0;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let weekday = DAYS[(days % 7) as usize];
    format!("{weekday}, {:02} {} {year} {hour:02}:{minute:02}:{:02} GMT", day + 1, MONTHS[month], second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_as_http_writes_it() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
        ] {
            assert_eq!(http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}

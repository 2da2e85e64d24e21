//! The internet of the lab: routes public addresses to VPCs, drops private ones, and has the EC2 endpoint and an echo host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use ipnet::Ipv4Net;

use crate::ec2::Ec2;
use crate::follow::Follow;
use crate::host::Host;
use crate::http::Service;
use crate::iam::Iam;
use crate::lock;
use crate::moto::{self, Moto};
use crate::netns::Netns;
use crate::proxy::{self, Faults};

/// The host that answers with the address it sees.
pub const ECHO: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
/// The EC2 endpoint of every region: port 80 is the fault proxy.
pub const EC2: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// Elastic addresses come from here (RFC 5737, TEST-NET-2).
pub const PUBLIC: &str = "198.51.100.0/24";

/// What moto assigns to instances without an Elastic IP comes from here.
const ASSIGNED: &str = "54.214.0.0/16";

/// Both ends of the wire between the internet and a VPC.
#[derive(Clone, Debug)]
pub struct Link {
    name: String,
    /// The internet's end.
    pub internet: Ipv4Addr,
    vpc: Ipv4Addr,
}

/// See the module.
#[derive(Debug)]
pub struct Internet {
    /// Its network namespace: where captures are taken.
    pub ns: Arc<Netns>,
    /// The lab's own, faultless way to EC2.
    pub ec2: Ec2,
    /// The faults of the gateways' EC2 endpoint.
    pub faults: Arc<Faults>,
    /// What the gateways' roles may do there.
    pub iam: Arc<Iam>,
    /// The echo host; it can ping and send, too.
    pub echo: Host,
    /// Where public addresses are.
    pub public: Arc<PublicRoutes>,
    /// The networks that follow what is changed there.
    pub follow: Arc<Follow>,
    links: AtomicU32,
    moto: Moto,
    _proxy: Service,
}

/// Which VPC each public address is routed to.
#[derive(Debug)]
pub struct PublicRoutes {
    ns: Arc<Netns>,
    /// Link name by public address, as routed now.
    by: Mutex<BTreeMap<Ipv4Addr, String>>,
}

impl Internet {
    /// Brings it up; moto is still starting when this returns, see [`Internet::wait_ready`].
    /// `images` is a file of images for moto.
    pub fn new(dir: &Path, private: &[Ipv4Net], images: Option<&Path>) -> Result<Internet> {
        let ns = Arc::new(Netns::new()?);
        ns.ip(&format!("addr add {ECHO}/32 dev lo\naddr add {EC2}/32 dev lo\nroute add blackhole default"))?;
        let moto = moto::start(&ns, EC2, images, &dir.join("moto.log"))?;
        ns.sysctl(&[("ipv4/ip_forward".into(), "1")])?;
        let private = private.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        // After the capture's tap, before routing: nobody on the internet carries these.
        ns.nft(&format!(
            "table ip internet {{
               set private {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {private} }} }}
               set cut {{ type ipv4_addr; }}
               chain bogons {{
                 type filter hook prerouting priority raw;
                 iifname \"vpc*\" ip saddr != {{ {PUBLIC}, {ASSIGNED} }} drop
                 iifname \"vpc*\" ip daddr @private drop
                 udp dport {{ 500, 4500 }} ip saddr @cut drop
                 udp dport {{ 500, 4500 }} ip daddr @cut drop
               }}
             }}"
        ))?;
        let address = SocketAddr::from((EC2, moto::PORT));
        let (faults, iam, follow) =
            (Arc::new(Faults::default()), Arc::new(Iam::default()), Arc::new(Follow::default()));
        Ok(Internet {
            ec2: Ec2::new(ns.clone(), address),
            _proxy: proxy::serve(&ns, EC2, address, faults.clone(), iam.clone(), follow.clone())?,
            echo: Host::new("internet", ns.clone(), ECHO)?,
            faults,
            iam,
            follow,
            public: Arc::new(PublicRoutes { ns: ns.clone(), by: Mutex::default() }),
            links: AtomicU32::new(0),
            moto,
            ns,
        })
    }

    /// Drops IKE and ESP-in-UDP from and to a public address from now on, or no longer; all else goes on.
    pub fn cut_ipsec(&self, address: Ipv4Addr, cut: bool) -> Result<()> {
        let verb = if cut { "add" } else { "delete" };
        self.ns.nft(&format!("{verb} element ip internet cut {{ {address} }}"))
    }

    /// Waits for moto.
    pub fn wait_ready(&self, limit: Duration) -> Result<()> {
        self.moto.wait_ready(&self.ns, EC2, limit)
    }

    /// Wires a VPC's router to the internet; its end is called `igw`.
    pub fn link(&self, router: &Netns) -> Result<Link> {
        let n = self.links.fetch_add(1, Ordering::Relaxed);
        let base = Ipv4Addr::new(100, 64, 0, 0).to_bits() + 2 * n;
        let link =
            Link { name: format!("vpc{n}"), internet: Ipv4Addr::from_bits(base), vpc: Ipv4Addr::from_bits(base + 1) };
        let Link { name, internet, vpc } = &link;
        self.ns.ip(&format!(
            "link add {name} mtu 1500 type veth peer name igw mtu 1500 netns {}
             addr add {internet}/31 dev {name}
             link set {name} up",
            router.path().display()
        ))?;
        router.ip(&format!("addr add {vpc}/31 dev igw\nlink set igw up"))?;
        Ok(link)
    }
}

impl PublicRoutes {
    /// Routes exactly these public addresses to that VPC.
    pub fn announce(&self, link: &Link, addresses: BTreeSet<Ipv4Addr>) -> Result<()> {
        let mut announced = lock(&self.by);
        let mut batch = String::new();
        for (address, _) in
            announced.iter().filter(|(address, name)| **name == link.name && !addresses.contains(address))
        {
            batch += &format!("route del {address}/32\n");
        }
        announced.retain(|address, name| *name != link.name || addresses.contains(address));
        for address in addresses {
            if announced.insert(address, link.name.clone()).as_deref() != Some(&link.name) {
                batch += &format!("route replace {address}/32 via {} dev {}\n", link.vpc, link.name);
            }
        }
        self.ns.ip(&batch)
    }
}

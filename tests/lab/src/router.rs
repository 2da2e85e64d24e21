//! A VPC's router and internet gateway: forwards by EC2's route tables, checks source and destination, does 1:1 NAT.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use ipnet::Ipv4Net;

use crate::ec2::{Instance, Target, VpcView};
use crate::internet::{Internet, Link, PublicRoutes};
use crate::lock;
use crate::netns::Netns;

/// Name of an instance's interface, as on Nitro; nobody may rely on `eth0`.
pub const INTERFACE: &str = "ens5";
/// MTU inside a VPC.
pub const VPC_MTU: u32 = 9001;
/// The kernel's main routing table: what holds for packets from the internet.
const MAIN: u32 = 254;

/// Packets that should never have been sent, counted before the internet drops them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaks {
    /// Left through the internet gateway for an address of the private network.
    pub private_out: u64,
    /// Left through the internet gateway from an instance without a public address.
    pub no_public_address: u64,
    /// Sent by a gateway, outside any tunnel, for a private address that is not in its VPC. The route tables send such
    /// a packet back to it, so it never gets to the internet gateway; it is a hole in the clear-text guard all the same.
    pub clear_from_gateway: u64,
    /// Dropped by the source/destination check.
    pub source_dest_check: u64,
}

/// The router of one VPC.
#[derive(Debug)]
pub struct Router {
    /// Its network namespace.
    pub ns: Arc<Netns>,
    link: Link,
    public: Arc<PublicRoutes>,
    wiring: Mutex<Wiring>,
}

#[derive(Debug, Default)]
struct Wiring {
    ports: BTreeMap<String, Port>,
    /// Routes in the kernel: table and destination, and the rest of the `ip route` line.
    routes: BTreeMap<(u32, Ipv4Net), String>,
    sequence: u32,
}

/// The router's end of an instance's interface.
#[derive(Clone, Debug)]
struct Port {
    name: String,
    /// Routing table of packets that come in here.
    table: u32,
}

impl Router {
    /// A router linked to the internet; `private` is what must not leave through the internet gateway.
    pub fn new(internet: &Internet, private: &[Ipv4Net]) -> Result<Router> {
        let ns = Arc::new(Netns::new()?);
        ns.sysctl(&[
            ("ipv4/ip_forward".into(), "1"),
            ("ipv4/conf/all/send_redirects".into(), "0"),
            ("ipv4/conf/default/send_redirects".into(), "0"),
        ])?;
        let link = internet.link(&ns)?;
        let private = private.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        ns.nft(&format!(
            "table ip vpc {{
               counter private_out {{ }}
               counter no_public_address {{ }}
               counter clear_from_gateway {{ }}
               counter source_dest_check {{ }}
               set private {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {private} }} }}
               set cidrs {{ type ipv4_addr; flags interval; auto-merge; }}
               set gateways {{ type ifname; }}
               set checked {{ type ifname; }}
               set own {{ type ifname . ipv4_addr; }}
               map to_private {{ type ipv4_addr : ipv4_addr; }}
               map to_public {{ type ipv4_addr : ipv4_addr; }}
               # 1:1 and stateless: no port is ever changed, even when both ends send from 4500 to 4500 first.
               chain igw_in {{
                 type filter hook prerouting priority raw;
                 iifname igw ip daddr set ip daddr map @to_private
                 iifname @gateways ip daddr @private ip daddr != @cidrs counter name clear_from_gateway
               }}
               chain check {{
                 type filter hook forward priority filter;
                 iifname @checked iifname . ip saddr != @own counter name source_dest_check drop
                 oifname @checked oifname . ip daddr != @own counter name source_dest_check drop
               }}
               # A leak is counted here and let through: the internet drops it after a capture has seen it.
               chain igw_out {{
                 type filter hook postrouting priority 300;
                 oifname igw ip daddr @private counter name private_out
                 oifname igw ip saddr set ip saddr map @to_public accept
                 oifname igw counter name no_public_address
               }}
               # A VPC's router never speaks to the internet itself.
               chain own_words {{ type filter hook output priority filter; oifname igw drop; }}
             }}"
        ))?;
        Ok(Router { ns, link, public: internet.public.clone(), wiring: Mutex::default() })
    }

    /// Gives the router a subnet's first address. On loopback: with proxy ARP even neighbours talk through the router.
    pub fn add_subnet(&self, subnet: Ipv4Net) -> Result<()> {
        self.ns.ip(&format!("addr add {}/32 dev lo", first(subnet)))
    }

    /// Plugs `node` in as the interface of `instance`; packets flow after the next [`Router::apply`].
    pub fn attach(&self, node: &Netns, instance: &Instance, subnet: Ipv4Net) -> Result<()> {
        // Until the interface is there, nothing may be routed to it: another thread may apply a view.
        let mut wiring = lock(&self.wiring);
        wiring.sequence += 1;
        let port = Port { name: format!("eni{}", wiring.sequence), table: 1000 + wiring.sequence };
        let Port { name, table } = &port;
        self.ns.ip(&format!(
            "link add {name} mtu {VPC_MTU} type veth peer name {INTERFACE} mtu {VPC_MTU} address {mac} netns {node}
             link set {name} up
             rule add pref {table} iif {name} lookup {table}",
            mac = instance.mac,
            node = node.path().display(),
        ))?;
        self.ns.sysctl(&[
            (format!("ipv4/conf/{name}/proxy_arp"), "1"),
            // The default holds every proxied answer back for up to 0.8 s.
            (format!("ipv4/neigh/{name}/proxy_delay"), "0"),
        ])?;
        wiring.ports.insert(instance.id.clone(), port);
        drop(wiring);
        let (address, prefix, router) = (instance.private, subnet.prefix_len(), first(subnet));
        node.ip(&format!(
            "addr add {address}/{prefix} dev {INTERFACE}
             link set {INTERFACE} up
             route add default via {router}"
        ))
    }

    /// Unplugs an instance. Call [`Router::apply`] without it before, so that no packet meets a missing interface.
    pub fn detach(&self, instance: &str) -> Result<()> {
        let mut wiring = lock(&self.wiring);
        let Some(port) = wiring.ports.remove(instance) else { return Ok(()) };
        wiring.routes.retain(|(table, _), _| *table != port.table);
        let Port { name, table } = port;
        self.ns.ip(&format!("route flush table {table}\nrule del pref {table}\nlink del {name}"))
    }

    /// Makes routes, checks and NAT fit `view`, changing only what differs: no packet of others is lost.
    pub fn apply(&self, view: &VpcView) -> Result<()> {
        let mut wiring = lock(&self.wiring);
        let wanted = self.routes(&wiring.ports, view);
        let mut batch = String::new();
        for ((table, to), rest) in &wanted {
            if wiring.routes.get(&(*table, *to)) != Some(rest) {
                let kind = if rest.is_empty() { "blackhole " } else { "" };
                writeln!(batch, "route replace {kind}{to} table {table} {rest}")?;
            }
        }
        for (table, to) in wiring.routes.keys().filter(|key| !wanted.contains_key(key)) {
            writeln!(batch, "route del {to} table {table}")?;
        }
        self.ns.ip(&batch)?;
        wiring.routes = wanted;
        self.ns.nft(&filters(&wiring.ports, view))
    }

    /// All routes of all tables. A real VPC is silent about what it cannot deliver: blackhole, not unreachable.
    fn routes(&self, ports: &BTreeMap<String, Port>, view: &VpcView) -> BTreeMap<(u32, Ipv4Net), String> {
        let plugged: Vec<(&Instance, &Port)> = view
            .instances
            .iter()
            .filter(|i| i.state == "running")
            .filter_map(|i| Some((i, ports.get(&i.id)?)))
            .collect();
        let via = |target: &Target| match target {
            Target::Internet => Some(format!("via {} dev igw", self.link.internet)),
            Target::Instance(id) | Target::Interface(id) => {
                let (instance, port) = plugged.iter().find(|(i, _)| i.id == *id || i.interface == *id)?;
                Some(format!("via {} dev {} onlink", instance.private, port.name))
            }
            Target::Local | Target::Nowhere => None,
        };
        let mut routes = BTreeMap::new();
        let tables = plugged.iter().map(|(instance, port)| (port.table, view.routes(&instance.subnet)));
        for (table, own) in tables.chain([(MAIN, [].as_slice())]) {
            routes.insert((table, Ipv4Net::default()), String::new());
            for (to, target) in own {
                routes.insert((table, *to), via(target).unwrap_or_default());
            }
            for cidr in &view.cidrs {
                routes.insert((table, *cidr), String::new());
            }
            for (instance, port) in &plugged {
                routes.insert((table, instance.private.into()), format!("dev {} scope link", port.name));
            }
        }
        routes
    }

    /// What was sent that should not have been, since the VPC was made.
    pub fn leaks(&self) -> Result<Leaks> {
        let limit = std::time::Duration::from_secs(10);
        let text = self.ns.command("nft", &["list", "counters"], "", limit)?.ok()?.stdout;
        let count = |name: &str| {
            let after = text.split_once(&format!("counter {name} {{")).context("no such counter")?.1;
            let number = after.split_whitespace().nth(1).context("no count")?;
            number.parse().context("count")
        };
        Ok(Leaks {
            private_out: count("private_out")?,
            no_public_address: count("no_public_address")?,
            clear_from_gateway: count("clear_from_gateway")?,
            source_dest_check: count("source_dest_check")?,
        })
    }

    /// Tells the internet which public addresses are here now.
    pub fn announce(&self, view: &VpcView) -> Result<()> {
        let running = view.instances.iter().filter(|i| i.state == "running");
        self.public.announce(&self.link, running.filter_map(|i| i.public).collect::<BTreeSet<Ipv4Addr>>())
    }
}

/// The address a subnet's router has.
fn first(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.network().to_bits() + 1)
}

/// One nft transaction that refills the sets and maps.
fn filters(ports: &BTreeMap<String, Port>, view: &VpcView) -> String {
    let (mut checked, mut own, mut gateways) = (Vec::new(), Vec::new(), Vec::new());
    let (mut to_private, mut to_public) = (Vec::new(), Vec::new());
    for instance in &view.instances {
        if let Some(port) = ports.get(&instance.id) {
            if instance.source_dest_check {
                checked.push(port.name.clone());
                own.push(format!("{} . {}", port.name, instance.private));
            }
            // Hosts have no public address, and a gateway may have lost its own.
            if instance.public.is_some() || !instance.source_dest_check {
                gateways.push(port.name.clone());
            }
        }
        if let Some(public) = instance.public {
            to_private.push(format!("{public} : {}", instance.private));
            to_public.push(format!("{} : {public}", instance.private));
        }
    }
    let cidrs = view.cidrs.iter().map(ToString::to_string).collect();
    let mut script = String::new();
    for (name, elements) in [
        ("set ip vpc cidrs", cidrs),
        ("set ip vpc gateways", gateways),
        ("set ip vpc checked", checked),
        ("set ip vpc own", own),
        ("map ip vpc to_private", to_private),
        ("map ip vpc to_public", to_public),
    ] {
        script += &format!("flush {name}\n");
        if !elements.is_empty() {
            let name = name.trim_start_matches("set ").trim_start_matches("map ");
            script += &format!("add element {name} {{ {} }}\n", elements.join(", "));
        }
    }
    script
}

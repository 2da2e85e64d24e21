//! The ways packets take: namespaces from a sender over gateways to a receiver, one chain for each variant.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crosswan_core::iptables::render;
use crosswan_core::model::{Nat, Place, Realm, SegmentName, Segments};
use crosswan_core::system::address_of;
use crosswan_lab::Netns;
use nix::libc;

/// The discard port of the receiver; the next one is read from.
pub const PORT: u16 = 9;
/// Set-up of 1,000 tunnels on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Segments of the hub that has some.
const SEGMENTS: usize = 50;

/// What the agent writes on a nat-vpn with 10.1.0.0/16 and on a hub with 10.0.0.0/16, by the golden cases.
const NAT_VPN: [&str; 2] = [
    include_str!("../../../golden/spoke-first-boot/expected/iptables.rules"),
    include_str!("../../../golden/spoke-first-boot/expected/routing.batch"),
];
const VPN_HUB: [&str; 2] = [
    include_str!("../../../golden/hub-first-boot/expected/iptables.rules"),
    include_str!("../../../golden/hub-first-boot/expected/routing.batch"),
];

/// See the module.
pub struct Path {
    pub name: String,
    pub src: Netns,
    pub dst: Netns,
    pub target: Ipv4Addr,
    /// Whether other threads of the kernel take part, so that sending does not wait for arrival.
    pub queued: bool,
    /// Keeps the gateways, and the sockets that decapsulate ESP.
    _gateways: Vec<Netns>,
    _sockets: Vec<UdpSocket>,
}

/// A wire between two namespaces: each end's interface and its address with a prefix length.
fn wire(left: (&Netns, &str, &str), right: (&Netns, &str, &str)) -> Result<()> {
    let (near, name, address) = left;
    let (far, far_name, far_address) = right;
    near.ip(&format!(
        "link add {name} type veth peer name {far_name} netns {}\naddr add {address} dev {name}\nlink set {name} up\n",
        far.path().display()
    ))?;
    far.ip(&format!("addr add {far_address} dev {far_name}\nlink set {far_name} up\n"))
}

fn gateway() -> Result<Netns> {
    let ns = Netns::new()?;
    let settings = ["all", "default"]
        .iter()
        .flat_map(|at| ["rp_filter", "send_redirects"].map(|key| (format!("ipv4/conf/{at}/{key}"), "0")));
    let forward = ("ipv4/ip_forward".to_string(), "1");
    ns.sysctl(&settings.chain([forward]).collect::<Vec<_>>())?;
    Ok(ns)
}

/// A host behind a gateway: 10.N.1.2 behind 10.N.1.1.
fn host(gateway: &Netns, n: u8) -> Result<Netns> {
    let ns = Netns::new()?;
    wire((gateway, "in0", &format!("10.{n}.1.1/24")), (&ns, "eth0", &format!("10.{n}.1.2/24")))?;
    ns.ip(&format!("route add default via 10.{n}.1.1\n"))?;
    Ok(ns)
}

/// The receiver drops at once what is only counted.
fn receives(ns: &Netns) -> Result<()> {
    ns.nft(&format!(
        "table ip sink {{ chain in {{ type filter hook prerouting priority -500; udp dport {PORT} drop; }}; }};\n"
    ))
}

fn iptables(ns: &Netns, rules: &str) -> Result<()> {
    ns.command("iptables-restore", &["--noflush"], rules, LIMIT)?.ok().context("iptables-restore")?;
    Ok(())
}

/// A text of the golden nat-vpn, for the one with 10.N.0.0/16.
fn renumbered(text: &str, n: u8) -> String {
    text.replace("10.1.0.10", &format!("10.{n}.1.1")).replace("10.1.0.0/16", &format!("10.{n}.0.0/16"))
}

/// From a private host to the internet: nat-vpn's rules alone, fck-nat, no rules, and nat-vpn with what leads packets into its tunnels.
pub fn nat() -> Result<Vec<Path>> {
    let fck = "*nat\n-A POSTROUTING -o ens5 -j MASQUERADE\nCOMMIT\n";
    let routing = renumbered(NAT_VPN[1], 1);
    let variants = [
        ("nat-vpn", NAT_VPN[0], ""),
        ("fck-nat", fck, ""),
        ("no rules", "", ""),
        ("nat-vpn with its tunnels' routes", NAT_VPN[0], &routing),
    ];
    let path = |(name, rules, routing): (&str, &str, &str)| -> Result<Path> {
        let gateway = gateway()?;
        let src = host(&gateway, 1)?;
        let dst = Netns::new()?;
        wire((&gateway, "ens5", "203.0.113.1/24"), (&dst, "eth0", "203.0.113.2/24"))?;
        dst.ip("route add default via 203.0.113.1\n")?;
        receives(&dst)?;
        if !rules.is_empty() {
            iptables(&gateway, rules)?;
        }
        if !routing.is_empty() {
            gateway.ip(routing)?;
        }
        let target = Ipv4Addr::new(203, 0, 113, 2);
        Ok(Path { name: name.into(), src, dst, target, queued: false, _gateways: vec![gateway], _sockets: Vec::new() })
    };
    variants.into_iter().map(path).collect()
}

/// Both ends' SAs and policies of one tunnel.
struct Tunnel<'a> {
    /// Outer address and selector of the near end, and of the far end.
    near: (&'a str, &'a str),
    far: (&'a str, &'a str),
    /// SPI of the way out; the way in has the next.
    spi: u32,
    /// `if_id 1`, or nothing with policies alone.
    extra: &'a str,
}

impl Tunnel<'_> {
    /// Lines of `ip -batch` as charon would install it: AES-256-GCM in UDP 4500, replay window 1024.
    fn batch(&self) -> String {
        let Tunnel { near: (own, local), far: (peer, remote), spi, extra } = self;
        let (mut text, reqid) = (String::new(), spi / 2);
        for (src, dst, spi, flag) in [(own, peer, *spi, ""), (peer, own, spi ^ 1, "flag af-unspec")] {
            let _ = writeln!(
                text,
                "xfrm state add src {src} dst {dst} proto esp spi {spi:#x} reqid {reqid} mode tunnel replay-window 1024 {flag} \
                 aead rfc4106(gcm(aes)) 0x{} 128 encap espinudp 4500 4500 0.0.0.0 {extra}",
                "5a".repeat(36)
            );
        }
        for (dir, src, dst, from, to) in
            [("out", local, remote, own, peer), ("in", remote, local, peer, own), ("fwd", remote, local, peer, own)]
        {
            let _ = writeln!(
                text,
                "xfrm policy add src {src} dst {dst} dir {dir} priority 1000 tmpl src {from} dst {to} proto esp reqid {reqid} mode tunnel {extra}"
            );
        }
        text
    }
}

/// The socket that charon would have: the kernel decapsulates what comes to it.
fn decapsulate(ns: &Netns) -> Result<UdpSocket> {
    const UDP_ENCAP: i32 = 100;
    let espinudp: i32 = 2;
    let socket = ns.run(|| Ok(UdpSocket::bind("0.0.0.0:4500")?))?;
    // SAFETY: a valid descriptor and an integer of the size that is given.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_UDP, UDP_ENCAP, (&raw const espinudp).cast(), 4) };
    ensure!(done == 0, "set UDP_ENCAP: {}", std::io::Error::last_os_error());
    Ok(socket)
}

const OUTER: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
const NET: &str = "10.0.0.0/8";

/// Between two private hosts through one tunnel: ours, plain policies, WireGuard.
pub fn tunnel() -> Result<Vec<Path>> {
    ["crosswan", "plain swanctl", "WireGuard"].into_iter().map(one_tunnel).collect()
}

fn one_tunnel(name: &str) -> Result<Path> {
    let ends = [gateway()?, gateway()?];
    let (src, dst) = (host(&ends[0], 1)?, host(&ends[1], 2)?);
    receives(&dst)?;
    wire((&ends[0], "ens5", "192.0.2.1/24"), (&ends[1], "ens5", "192.0.2.2/24"))?;
    let mut sockets = Vec::new();
    for (n, other) in [(0, 1), (1, 0)] {
        let (ns, own, theirs) = (&ends[n], n as u8 + 1, other as u8 + 1);
        if name == "WireGuard" {
            wireguard(ns, n, other)?;
            continue;
        }
        let crosswan = name == "crosswan";
        let (local, remote) = (format!("10.{own}.0.0/16"), format!("10.{theirs}.0.0/16"));
        // The golden cases' far end has the whole private network.
        let tunnel = Tunnel {
            near: (OUTER[n], &local),
            far: (OUTER[other], &remote),
            spi: 0x1000 + n as u32,
            extra: if crosswan { "if_id 1" } else { "" },
        };
        if crosswan {
            ns.ip(&renumbered(NAT_VPN[1], own))?;
            iptables(ns, &renumbered(NAT_VPN[0], own))?;
        } else {
            ns.ip(&format!("route add {remote} via {}\n", OUTER[other]))?;
        }
        ns.ip(&tunnel.batch())?;
        sockets.push(decapsulate(ns)?);
    }
    let target = Ipv4Addr::new(10, 2, 1, 2);
    Ok(Path {
        name: name.into(),
        src,
        dst,
        target,
        queued: name == "WireGuard",
        _gateways: ends.into(),
        _sockets: sockets,
    })
}

/// One end of a WireGuard tunnel, with keys for a test.
fn wireguard(ns: &Netns, n: usize, other: usize) -> Result<()> {
    let private = |n: usize| format!("{}AAE=\n", ["ME", "QE"][n].repeat(20));
    // wg opens its input by name, which needs a pipe: what it is given here is a file without one.
    let run = |args: &[&str], input: &str| {
        let argv = [&["-c", "cat | wg \"$@\"", "wg"], args].concat();
        let done = ns.command("sh", &argv, input, LIMIT)?.ok();
        done.context("WireGuard needs wg (apt-get install wireguard-tools) and a kernel that has it")
    };
    let public = run(&["pubkey"], &private(other))?.stdout;
    ns.ip("link add wg0 type wireguard\n")?;
    let (endpoint, allowed) = (format!("{}:51820", OUTER[other]), format!("10.{}.0.0/16", other + 1));
    let peer = ["peer", public.trim(), "endpoint", &endpoint, "allowed-ips", &allowed];
    let own = ["set", "wg0", "listen-port", "51820", "private-key", "/proc/self/fd/0"];
    run(&[&own[..], &peer].concat(), &private(n))?;
    ns.ip(&format!("link set wg0 up\nroute add {allowed} dev wg0\n"))
}

/// From client 1 to client 2 over hubs that have so many tunnels.
pub fn hub(tunnels: &[usize]) -> Result<Vec<Path>> {
    let mut all: Vec<Path> = tunnels.iter().map(|tunnels| one_hub(*tunnels, 0)).collect::<Result<_>>()?;
    all.push(one_hub(tunnels[0], SEGMENTS)?);
    Ok(all)
}

/// The rules of the golden hub with so many segments, each of which may initiate to every other: no rules of segments are more. Also the
/// realm of the last one, which packets find last.
fn segmented(segments: usize) -> Result<(String, String)> {
    let names: BTreeSet<SegmentName> = (0..segments).map(|n| format!("s{n:02}").parse()).collect::<Result<_, _>>()?;
    let nets = |net: &str| Ok::<_, anyhow::Error>([net.parse()?].into());
    let last = names.last().map(Realm::of).context("no segment")?;
    let nat = Nat {
        private_net: nets(NET)?,
        own: nets("10.0.0.0/16")?,
        masquerade: None,
        sources: BTreeSet::new(),
        exclude: BTreeSet::new(),
        input: BTreeSet::new(),
        tunnels: true,
        segments: Some(Segments {
            reach: names.iter().map(|name| (name.clone(), names.clone())).collect(),
            hub: names.first().cloned(),
            ..Segments::default()
        }),
        beats: None,
        across: false,
        far: None,
    };
    Ok((render(&nat), format!(" realm {last}")))
}

/// From client 1 to client 2, which are in the last of so many segments; 0 is without any.
fn one_hub(tunnels: usize, segments: usize) -> Result<Path> {
    let (rules, realm) = match segments {
        0 => (VPN_HUB[0].to_owned(), String::new()),
        segments => segmented(segments)?,
    };
    let (hub, clients) = (gateway()?, [gateway()?, gateway()?]);
    let (src, dst) = (host(&clients[0], 1)?, host(&clients[1], 2)?);
    receives(&dst)?;
    hub.ip("link add ens5 type dummy\nlink set ens5 up\naddr add 10.0.0.10/16 dev ens5\n")?;
    hub.ip(VPN_HUB[1])?;
    iptables(&hub, &rules)?;
    if segments > 0 {
        let to_clients = VPN_HUB[1].lines().filter(|line| line.starts_with("route replace 10."));
        let routes: String = to_clients.map(|line| line.replace(" table", &format!("{realm} table")) + "\n").collect();
        hub.ip(&format!("addr replace {}/32 dev cw1 scope host\n{routes}", address_of(Place::One)))?;
    }
    let mut sockets = vec![decapsulate(&hub)?];
    for (n, client) in clients.iter().enumerate() {
        let own = n as u8 + 1;
        let (near, far) = (format!("192.0.2.{}", own * 4 + 1), format!("192.0.2.{}", own * 4 + 2));
        wire((&hub, &format!("to{n}"), &format!("{near}/30")), (client, "ens5", &format!("{far}/30")))?;
        let cidr = format!("10.{own}.0.0/16");
        let spi = 0x1000 + 2 * n as u32;
        let at_hub = Tunnel { near: (&near, NET), far: (&far, &cidr), spi, extra: "if_id 1" };
        let at_client = Tunnel { near: (&far, &cidr), far: (&near, NET), spi: spi ^ 1, extra: "if_id 1" };
        hub.ip(&at_hub.batch())?;
        client.ip(&at_client.batch())?;
        client.ip(&renumbered(NAT_VPN[1], own))?;
        iptables(client, &renumbered(NAT_VPN[0], own))?;
        sockets.push(decapsulate(client)?);
    }
    let mut others = String::new();
    for n in 2..tunnels as u32 {
        let cidr = format!("{}/24", Ipv4Addr::from_bits(0x0a40_0000 + (n << 8)));
        let peer = Ipv4Addr::from_bits(0xc612_0000 + n).to_string();
        let spi = 0x1000 + 2 * n;
        others += &Tunnel { near: ("192.0.2.5", NET), far: (&peer, &cidr), spi, extra: "if_id 1" }.batch();
        let _ = writeln!(others, "route replace {cidr} dev cw1 src 10.0.0.10{realm} table 7105 proto 205");
    }
    hub.ip(&others)?;
    let [first, second] = clients;
    let with = if segments > 0 { format!(", {segments} segments") } else { String::new() };
    let (target, name) = (Ipv4Addr::new(10, 2, 1, 2), format!("{tunnels} tunnels{with}"));
    Ok(Path { name, src, dst, target, queued: false, _gateways: vec![hub, first, second], _sockets: sockets })
}

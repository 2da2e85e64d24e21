//! Point 3: what the internet gets to see, also while a tunnel is down.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crosswan_lab::internet::{EC2, ECHO};
use crosswan_lab::{Capture, Packet, Packets, PingStream};

use super::boot::UP;
use super::screen::{count, seconds};
use super::{Demo, signals};

/// How much traffic goes on without a tunnel, and how fast.
const PACKETS: u32 = 50;
const EVERY: Duration = Duration::from_millis(50);

/// Takes client A's tunnel down under traffic, brings it back, and counts what was captured since before the boot.
pub fn outage(demo: &mut Demo) -> Result<String> {
    demo.screen.text(
        "Everything VPCs have sent to the internet since before the boot is captured. Now strongSwan ends on client A's \
         gateway, and private hosts on both sides go on sending, twenty packets a second each.",
    );
    let (a, b) = (demo.lab.gateway("a/nat-vpn")?, demo.lab.gateway("b/nat-vpn")?);
    let hub = demo.lab.gateway("hub/vpn-hub")?;
    let (host_a, host_b) = (demo.lab.host("a/host")?, demo.lab.host("b/host")?);
    demo.screen.command(&a.name, "kill -TERM charon");
    a.stop_charon()?;
    let streams = [(&host_a, &host_b), (&host_b, &host_a)].map(|(from, to)| {
        let stream = PingStream::start(&from.ns, from.address, to.address, EVERY, PACKETS);
        stream.map(|stream| (from.name.clone(), to.name.clone(), stream))
    });
    signals::sleep(EVERY * PACKETS);
    let internet = host_a.whoami_tcp(ECHO)?;
    for stream in streams {
        let (from, to, mut stream) = stream?;
        let report = stream.finish()?;
        let mut told: Vec<Ipv4Addr> = report.errors.iter().filter(|(_, kind, _)| *kind == 3).map(|e| e.0).collect();
        told.sort();
        told.dedup();
        let by = told.iter().map(|by| name_of(demo, *by)).collect::<Vec<_>>().join(", ");
        let errors = report.errors.len();
        let told = if told.is_empty() {
            String::new()
        } else {
            format!("; {by} said \"unreachable\" {errors} times, as often as the kernel lets it")
        };
        let text = format!("{from} sent {} packets to {to}: {} answered{told}", report.sent, report.received);
        demo.check(report.sent > 20 && report.received == 0, &text);
    }
    let public = a.public().context("client A has no Elastic IP")?;
    demo.check(internet == public, &format!("NAT goes on: {} is seen on the internet as {internet}", host_a.name));

    demo.screen.command(&a.name, "charon; swanctl --load-all");
    let before = demo.screen.elapsed();
    a.start_charon()?;
    host_a.wait_for(host_b.address, UP)?;
    let back = seconds(demo.screen.elapsed() - before);
    demo.check(
        true,
        &format!("crosswan keep has the tunnel up again: {} reaches {} after {back}", host_a.name, host_b.name),
    );

    // The next capture before the end of this one: no packet between them.
    let next = demo.lab.capture_internet()?;
    let packets = finish(demo.capture.replace(next))?;
    demo.screen.text("The capture, from before the boot until now:");
    judge(demo, &packets)?;
    let (public_b, public_hub) = (b.public().context("no address")?, hub.public().context("no address")?);
    let [a_hub, b_hub, a_b] = [(public, public_hub), (public_b, public_hub), (public, public_b)]
        .map(|(one, other)| packets.ipsec_between(one, other));
    let text =
        format!("IPsec packets: client A and hub {a_hub}, client B and hub {b_hub}, client A and client B {a_b}");
    demo.check(a_hub > 0 && b_hub > 0 && a_b == 0, &format!("{text}: the hub is the way"));
    guarded(demo)?;
    Ok(format!(
        "{}, tunnel up and down: {} private in the clear",
        count(packets.all.len() as u64, "packet"),
        packets.clear_private().len()
    ))
}

/// The capture of everything after point 3.
pub fn rest(demo: &mut Demo) -> Result<String> {
    let packets = finish(demo.capture.take())?;
    judge(demo, &packets)?;
    guarded(demo)?;
    let (all, clear) = (packets.all.len() as u64, packets.clear_private().len());
    Ok(format!("{} more, a VPC coming and one going: {clear} private in the clear", count(all, "packet")))
}

/// Ends a capture and leaves out what the lab says to EC2 itself, which never was on a wire.
fn finish(capture: Option<Capture>) -> Result<Packets> {
    let mut packets = capture.context("no capture runs")?.stop()?;
    packets.all.retain(|packet| packet.src != packet.dst);
    Ok(packets)
}

/// Every packet on the internet is one of these, or it should not be there.
#[derive(Default)]
struct Kinds {
    ipsec: usize,
    refusals: usize,
    internet: usize,
    ec2: usize,
    other: Vec<Packet>,
}

fn judge(demo: &mut Demo, packets: &Packets) -> Result<()> {
    ensure!(!packets.all.is_empty(), "the capture is empty: it saw nothing, which proves nothing");
    let mut kinds = Kinds::default();
    for packet in &packets.all {
        let with = |address| packet.src == address || packet.dst == address;
        match packet {
            _ if with(ECHO) => kinds.internet += 1,
            _ if with(EC2) => kinds.ec2 += 1,
            Packet { refuses_ipsec: true, .. } => kinds.refusals += 1,
            packet if packet.is_ipsec() => kinds.ipsec += 1,
            packet => kinds.other.push(*packet),
        }
    }
    let Kinds { ipsec, refusals, internet, ec2, other } = kinds;
    let refused = if refusals == 0 { String::new() } else { format!(", {refusals} ICMP refusals of those") };
    let text = format!(
        "between Elastic IPs {} of IKE and ESP in UDP{refused}; {internet} to the internet host, {ec2} to EC2; {} of any other kind",
        count(ipsec as u64, "packet"),
        other.len()
    );
    demo.check(ipsec > 0 && other.is_empty(), &text);
    let clear = packets.clear_private();
    let examples: String = clear.iter().take(3).map(|packet| format!("; {packet}")).collect();
    let text = format!(
        "{} from or to a private address, or unencrypted between VPCs{examples}",
        count(clear.len() as u64, "packet")
    );
    demo.check(clear.is_empty(), &text);
    Ok(())
}

/// What the VPC routers counted: closer to the gateways than the internet is.
fn guarded(demo: &mut Demo) -> Result<()> {
    let (mut out, mut clear) = (0, 0);
    let names: std::collections::BTreeSet<_> =
        demo.lab.gateways().iter().map(|gateway| super::reach::vpc(&gateway.name).to_owned()).collect();
    for vpc in names {
        let leaks = demo.lab.leaks(&vpc)?;
        (out, clear) = (out + leaks.private_out, clear + leaks.clear_from_gateway);
    }
    let text = format!(
        "at the VPC routers: {out} private packets towards the internet gateway, {clear} sent in the clear by a gateway"
    );
    demo.check(out + clear == 0, &text);
    Ok(())
}

fn name_of(demo: &Demo, address: Ipv4Addr) -> String {
    let gateways = demo.lab.gateways();
    let found = gateways.iter().find(|gateway| gateway.address == address);
    found.map_or_else(|| address.to_string(), |gateway| gateway.name.clone())
}

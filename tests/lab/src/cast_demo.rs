//! `crosswan-lab cast-demo`: cloudcaster casts a hub and its clients from documents, and packets cross what it made.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crosswan_lab::{AgentProcess, Gateway, Host, Lab, Output, account};

use crate::demo::boot::{UP, boot};
use crate::demo::reach::{seen_by, vpc};
use crate::demo::screen::{Screen, seconds};
use crate::demo::signals;

const PICTURE: &str = r"
cloudcaster makes a VPC environment from one document. Here: the hub of 2014 and two clients, with a host each, in a region
on this machine.

   a.json              hub.json                        b.json
   203.0.113.128/26    203.0.113.0/26                  203.0.113.192/26
   nat-vpn, host       vpn-hub, nat-hub, host          nat-vpn, host

moto plays AWS, made as strict as AWS where it is more lenient. What EC2 then holds is wired with network namespaces; gateways
boot with the real strongSwan, iptables and crosswan. This machine's own network and files are not touched.";

type Show = fn(&mut CastDemo) -> Result<String>;

const POINTS: [(&str, Show); 5] = [
    ("The hub and two clients are cast from their documents", cast_all),
    ("The gateways boot, and private hosts of all three VPCs reach each other", reach),
    ("A second cast changes nothing", unchanged),
    ("A client's gateway is terminated and cast again: same address, same routes", again),
    ("A third client is cast beside them", third),
];

struct CastDemo {
    keepers: BTreeMap<String, AgentProcess>,
    lab: Lab,
    screen: Screen,
    program: PathBuf,
}

/// Shows every point; `agent` and `cloudcaster` are the programs.
pub fn run(agent: &Path, cloudcaster: &Path) -> Result<ExitCode> {
    signals::catch()?;
    let screen = Screen::new();
    screen.raw(PICTURE);
    let private = "203.0.113.0/24".parse().context("the private network")?;
    let builder = Lab::builder(agent).private_net(&[private]).region(account::REGION).images(&account::images());
    let lab = builder.build().context("the region did not come up (it has to be root, to make network namespaces)")?;
    lab.prepare_account()?;
    let mut demo = CastDemo { keepers: BTreeMap::new(), lab, screen, program: cloudcaster.into() };
    demo.documents()?;
    let (mut table, mut good) = (Vec::new(), true);
    for (n, (title, show)) in POINTS.into_iter().enumerate() {
        demo.screen.heading(&format!("{}. {title}", n + 1));
        let before = demo.screen.elapsed();
        let shown = show(&mut demo);
        let took = demo.screen.elapsed() - before;
        let ok = shown.is_ok();
        let shown = shown.unwrap_or_else(|e| format!("{title}: {e:#}"));
        demo.screen.finding(ok, &shown);
        table.push((n + 1, shown, ok, took));
        good &= ok;
        // Later points stand on earlier ones.
        if !ok || signals::interrupted() {
            break;
        }
    }
    let screen = &demo.screen;
    screen.raw("\n");
    screen.row("", "what was shown", None, "seconds");
    for (n, shown, ok, took) in &table {
        screen.row(&n.to_string(), shown, Some(*ok), &format!("{:.1}", took.as_secs_f64()));
    }
    let elapsed = seconds(screen.elapsed());
    let all = table.len() == POINTS.len();
    let verdict = if good && all {
        format!("All {} points were seen, in {elapsed}.", table.len())
    } else {
        format!("FAILED, after {elapsed}.")
    };
    screen.verdict(good && all, &verdict);
    Ok(if good && all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl CastDemo {
    fn file(&self, name: &str) -> String {
        self.lab.dir().join(format!("{name}.json")).display().to_string()
    }

    fn documents(&self) -> Result<()> {
        let all = [("hub", 0), ("a", 128), ("b", 192), ("c", 64)];
        all.into_iter().try_for_each(|(name, base)| self.lab.document(name, base).map(drop))
    }

    fn cast(&self, names: &[&str]) -> Result<Output> {
        let files: Vec<String> = names.iter().map(|name| self.file(name)).collect();
        let shown = names.iter().map(|name| format!("{name}.json")).collect::<Vec<_>>().join(" ");
        self.screen.command("operator", &format!("cloudcaster cast --yes {shown}"));
        let mut arguments = vec!["cast", "--yes"];
        arguments.extend(files.iter().map(String::as_str));
        let output = self.lab.cloudcaster(&self.program, "operator", &arguments)?;
        ensure!(output.code == 0, "cloudcaster ended with {}:\n{}{}", output.code, output.stderr, output.stdout);
        self.screen.quote(output.stdout.trim_end());
        Ok(output)
    }

    /// What systemd does at the boot of each gateway that has not booted yet, all at once.
    fn boot(&mut self) -> Result<usize> {
        let all = self.lab.gateways();
        let new: Vec<_> = all.iter().filter(|g| !self.keepers.contains_key(&g.instance)).collect();
        let booted = std::thread::scope(|scope| {
            let each: Vec<_> = new.iter().map(|gateway| scope.spawn(|| boot(gateway))).collect();
            each.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("the boot panicked"))).collect::<Vec<_>>()
        });
        for (gateway, booted) in new.iter().zip(booted) {
            let booted = booted.with_context(|| gateway.name.clone())?;
            let last = booted.passes.last().context("no refresh")?;
            ensure!(last.code == 0, "{}: crosswan refresh ended with {}:\n{}", gateway.name, last.code, last.stdout);
            self.keepers.extend(booted.keeper.map(|keeper| (gateway.instance.clone(), keeper)));
        }
        Ok(new.len())
    }

    /// Every private host to every other one of another VPC, by ping and TCP, with its own address.
    fn all_pairs(&self) -> Result<usize> {
        let hosts = self.lab.hosts();
        let mut pairs = 0;
        for from in &hosts {
            for to in hosts.iter().filter(|to| vpc(&to.name) != vpc(&from.name)) {
                from.wait_for(to.address, UP).with_context(|| format!("{} to {}", from.name, to.name))?;
                let saw = seen_by(from, to.address)?;
                ensure!(saw == from.address, "{} saw {} as {saw}", to.name, from.name);
                pairs += 1;
            }
        }
        Ok(pairs)
    }

    fn gateway(&self, name: &str) -> Result<Arc<Gateway>> {
        self.lab.gateway(name)
    }
}

fn cast_all(demo: &mut CastDemo) -> Result<String> {
    let output = demo.cast(&["hub", "a", "b"])?;
    let steps = output.stdout.matches("done, and read back").count();
    ensure!(steps == 3, "not three casts:\n{}", output.stdout);
    Ok(format!("3 documents cast and read back in {}", seconds(output.elapsed)))
}

fn reach(demo: &mut CastDemo) -> Result<String> {
    for (name, cidr) in [("hub", "203.0.113.0/26"), ("a", "203.0.113.128/26"), ("b", "203.0.113.192/26")] {
        demo.lab.adopt_cidr(name, cidr)?;
    }
    let booted = demo.boot()?;
    let pairs = demo.all_pairs()?;
    let echo = crosswan_lab::internet::ECHO;
    for host in demo.lab.hosts() {
        seen_outside(demo, &host, echo)?;
    }
    Ok(format!(
        "{booted} gateways booted; {pairs} of {pairs} pairs of private hosts reach each other, and the internet"
    ))
}

/// A private host is seen on the internet with its NAT gateway's Elastic IP.
fn seen_outside(demo: &CastDemo, host: &Host, echo: Ipv4Addr) -> Result<()> {
    let role = if vpc(&host.name) == "hub" { "nat-hub" } else { "nat-vpn" };
    let gateway = demo.gateway(&format!("{}/{role}", vpc(&host.name)))?;
    let saw = host.whoami_tcp(echo)?;
    ensure!(Some(saw) == gateway.public(), "{} is seen as {saw}, not as {:?}", host.name, gateway.public());
    Ok(())
}

fn unchanged(demo: &mut CastDemo) -> Result<String> {
    let output = demo.cast(&["hub", "a", "b"])?;
    let nothing = output.stdout.matches("nothing to do").count();
    ensure!(nothing == 3, "{}", output.stdout);
    Ok(format!("nothing to do, three times, in {}", seconds(output.elapsed)))
}

fn again(demo: &mut CastDemo) -> Result<String> {
    let old = demo.gateway("a/nat-vpn")?;
    let (instance, address, public) = (old.instance.clone(), old.address, old.public());
    demo.screen.command("operator", &format!("aws ec2 terminate-instances --instance-ids {instance}"));
    demo.lab.ec2().call(account::REGION, "TerminateInstances", &[("InstanceId.1", &instance)])?;
    drop(old);
    demo.keepers.remove(&instance);
    demo.lab.adopt_cidr("a", "203.0.113.128/26")?;
    let output = demo.cast(&["a"])?;
    ensure!(output.stdout.contains(": 1 step done"), "not one step:\n{}", output.stdout);
    demo.lab.adopt_cidr("a", "203.0.113.128/26")?;
    let new = demo.gateway("a/nat-vpn")?;
    ensure!(new.instance != instance, "the old instance");
    ensure!((new.address, new.public()) == (address, public), "another address: {} {:?}", new.address, new.public());
    // The hub learns of the new instance's key at its next refresh, as its timer would have it.
    demo.boot_with_hub()?;
    let pairs = demo.all_pairs()?;
    Ok(format!(
        "one step, {} and {address} kept; {pairs} of {pairs} pairs",
        public.map_or("none".into(), |p| p.to_string())
    ))
}

fn third(demo: &mut CastDemo) -> Result<String> {
    let output = demo.cast(&["c"])?;
    demo.lab.adopt_cidr("c", "203.0.113.64/26")?;
    demo.boot_with_hub()?;
    let pairs = demo.all_pairs()?;
    Ok(format!("cast in {}; {pairs} of {pairs} pairs of four VPCs reach each other", seconds(output.elapsed)))
}

impl CastDemo {
    /// New gateways boot while the hub's timer refreshes: each needs the other's key.
    fn boot_with_hub(&mut self) -> Result<()> {
        let hub = self.gateway("hub/vpn-hub")?;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stop = &stop;
            let refreshing = scope.spawn(move || {
                let mut last = Ok(());
                while !stop.load(Ordering::Relaxed) {
                    last = hub.agent(&["refresh"]).map(drop);
                    signals::sleep(Duration::from_millis(500));
                }
                last
            });
            let booted = self.boot();
            let reached = booted.and_then(|_| self.all_pairs());
            stop.store(true, Ordering::Relaxed);
            refreshing.join().unwrap_or_else(|_| bail!("the hub's refresh panicked"))?;
            reached.map(drop)
        })
    }
}

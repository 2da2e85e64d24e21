//! Two nat-hub of one VPC: a pair without charon, and one that each of them can do without.

use std::{fs, net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan_faults::{
    clock::Clock,
    pair::{self, CUT, SETTING, SOON, alone, believes},
};
use crosswan_lab::{Gateway, Lab, Role, VpcSpec, iam::Policy};
use serde_json::{Value, json};

use crate::region::{Region, UP, agent, eventually, lines, refresh, refresh_with, status};

const REGION: &str = "us-west-2";
const DEFAULT: &str = "0.0.0.0/0";
/// Settings ask for a pair in so many words.
fn ask(gateway: &Gateway) -> Result<()> {
    gateway.write_file(SETTING, "pair.enabled = true\n", 0o644)
}

/// A hub VPC with a nat-hub alone, which has taken its routes.
fn alone_in(builder: crosswan_lab::Builder) -> Result<Region> {
    let hub = VpcSpec::new("hub", REGION, &["10.0.0.0/16"], &[Role::NatHub])?.bare();
    Region::booted(builder.vpc(hub).build()?)
}

fn leads_to(lab: &Lab, gateway: &Gateway, table: &str) -> Result<bool> {
    pair::leads_to(lab, REGION, gateway, table, DEFAULT)
}

/// The calls of EC2 that would move or make a route, by anybody.
fn moves(lab: &Lab) -> u64 {
    let calls = lab.ec2_calls();
    let of = |action: &str| calls.get(&(REGION.into(), action.into())).copied().unwrap_or_default();
    of("ReplaceRoute") + of("CreateRoute")
}

fn input(gateway: &Gateway) -> Result<Vec<String>> {
    let rules = gateway.sh("iptables-save -t filter")?.ok()?.stdout;
    Ok(rules.lines().filter(|line| line.starts_with("-A INPUT")).map(str::to_owned).collect())
}

#[test]
fn of_two_nat_hub_the_one_that_lives_takes_the_routes_and_the_one_that_returns_takes_nothing() -> Result<()> {
    let region = alone_in(Lab::builder(agent()?))?;
    let (lab, one, host) = (&region.lab, region.gateway("hub/nat-hub")?, region.lab.host("hub/host")?);
    let internet = lab.internet().address;
    let [_, table] = lab.route_tables("hub")?;
    host.wait_for(internet, UP)?;
    // Alone it has a key, which a second one will know, and is otherwise as without a pair.
    let report = refresh(&one)?;
    ensure!(report["key"]["announced"] == true && input(&one)?.is_empty(), "{report:#}");
    ensure!(report["outcome"] == "unchanged" && !lines(&report, "notes").concat().contains("pair"), "{report:#}");
    let watch_one = one.spawn_agent(&["pair"])?;
    let two = lab.add_gateway("hub", Role::NatHub)?;
    // Whether the other one watches it is not known yet, and another pass follows soon.
    let report = refresh_with(&two, &[], 3)?;
    let left = format!("leads to {}, the other member of the pair", one.instance);
    ensure!(report["routes"].to_string().contains(&left), "{report:#}");
    ensure!(report["awaited"].to_string().contains("has not been heard yet"), "{report:#}");
    let _watch_two = two.spawn_agent(&["pair"])?;
    watch_one.wait_for_log("sends beats, and is not known as a member of a pair: asked for a refresh", SOON)?;
    refresh(&one)?;
    believes(&one, "alive")?;
    believes(&two, "alive")?;
    eventually(SOON, "neither misses charon or a tunnel, and both know where the routes lead", || {
        let is = |gateway: &Arc<Gateway>, role: &str| {
            let pair = &status(gateway)?["pair"];
            let well = pair["own_health"] == "well" && pair["its_health"] == "well";
            Ok::<_, anyhow::Error>(well && pair["role"] == role)
        };
        Ok(is(&one, "active")? && is(&two, "standby")?)
    })?;
    // Nothing of INPUT but the port of the beats, and that from the other one alone.
    ensure!(input(&one)? == ["-A INPUT -p udp -m udp --dport 4795 -j CROSSWAN-IN"], "{:?}", input(&one)?);
    let refused = || Ok::<_, anyhow::Error>(status(&one)?["pair"]["refused"].clone());
    let before = refused()?;
    let flood = format!(
        "import socket; [socket.socket(2, 2).sendto(bytes(108), ('{}', 4795)) for _ in range(50)]",
        one.address
    );
    host.exec("python3", &["-c", &flood])?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(refused()? == before, "a stranger's datagrams reach nobody");

    let before = moves(lab);
    let stream = host.ping_stream(internet)?;
    one.ns()?.nft(CUT)?;
    eventually(SOON, "the route has moved", || leads_to(lab, &two, &table))?;
    host.wait_for(internet, SOON)?;
    let report = stream.stop()?;
    println!(
        "nat-hub: cut off: nothing reached the internet for {:?} ({} of {} lost)",
        report.longest_gap, report.lost, report.sent
    );
    ensure!(report.lost > 0 && host.whoami_tcp(internet).map(Some)? == two.public(), "{report:?}");
    eventually(SOON, "the takeover is shown", || Ok(!status(&two)?["pair"]["taken"].is_null()))?;

    // It is back, stands by, and takes nothing: neither by itself nor by a refresh.
    let after = moves(lab);
    ensure!(after > before);
    let stream = host.ping_stream(internet)?;
    one.ns()?.nft("delete table ip cut")?;
    watch_one.wait_for_log("this gateway stands by", SOON)?;
    believes(&one, "alive")?;
    believes(&two, "alive")?;
    for gateway in [&one, &two, &one] {
        refresh(gateway)?;
    }
    let report = stream.stop()?;
    ensure!(report.lost == 0 && moves(lab) == after && leads_to(lab, &two, &table)?, "{report:?}");

    // A new key of one: the other one reads it, and nothing moves.
    ensure!(two.agent(&["rotate-key"])?.code == 0);
    refresh(&one)?;
    ensure!(two.agent(&["refresh"])?.code == 0);
    eventually(SOON, "the new key has taken over and is known", || {
        refresh(&one)?;
        Ok(status(&two)?["last_refresh"]["key"]["next"].is_null())
    })?;
    believes(&one, "alive")?;
    believes(&two, "alive")?;
    ensure!(moves(lab) == after);

    // Without the setting all of it is gone, and NAT goes on.
    for gateway in [&one, &two] {
        alone(gateway)?;
        refresh(gateway)?;
        ensure!(input(gateway)?.is_empty() && gateway.read_file("/var/lib/crosswan/pair.json").is_err());
    }
    // What was taken over is still told.
    let told = status(&two)?;
    let last = &told["takeovers"]["last"];
    ensure!(told["pair"].is_null() && last["from"] == one.instance.as_str() && last["calls_ms"].is_u64(), "{told:#}");
    ensure!(
        last["silent_ms"].as_u64().is_some_and(|silent| silent > 0) && told["takeovers"]["recent"] == 1,
        "{told:#}"
    );
    ensure!(status(&one)?["takeovers"]["last"].is_null());
    ensure!(host.reaches(internet)?);
    Ok(())
}

#[test]
fn a_nat_hub_that_may_not_announce_a_key_or_has_no_role_works_alone_and_says_so_where_a_pair_was_asked_for()
-> Result<()> {
    let internet = |region: &Region| -> Result<Ipv4Addr> { Ok(region.lab.internet().address) };
    let told = |report: &Value, what: &str| lines(report, "notes").concat().contains(what);

    let hub = VpcSpec::new("hub", REGION, &["10.0.0.0/16"], &[Role::NatHub])?;
    let region = Region::booted(Lab::builder(agent()?).without_role(Role::NatHub).vpc(hub).build()?)?;
    let nat = region.gateway("hub/nat-hub")?;
    let before = refresh(&nat)?;
    ensure!(!told(&before, "pair") && before["key"]["announced"] == false, "{before:#}");
    ensure!(nat.agent(&["doctor"])?.code == 0, "{}", nat.agent(&["doctor"])?.stdout);
    ask(&nat)?;
    let report = refresh(&nat)?;
    ensure!(told(&report, "no pair: this gateway may not look at its VPC"), "{report:#}");
    ensure!(report["outcome"] == "unchanged" && report["key"]["announced"] == false, "{report:#}");
    ensure!(input(&nat)?.is_empty() && refresh(&nat)?["outcome"] == "unchanged");
    ensure!(region.lab.host("hub/host")?.reaches(internet(&region)?)? && region.lab.ec2_calls().is_empty());
    drop(region);

    // A role of before: it may do all but that.
    let region = alone_in(Lab::builder(agent()?))?;
    let nat = region.gateway("hub/nat-hub")?;
    let policy = fs::read_to_string(format!("{}/docs/iam/nat-hub.json", env!("CARGO_MANIFEST_DIR")))?;
    let mut policy: Value = serde_json::from_str(&policy)?;
    let statements = policy["Statement"].as_array_mut().context("statements")?;
    statements.retain(|statement| statement["Action"] != json!("ec2:CreateTags"));
    region.lab.iam().enforce([("crosswan-nat-hub", Policy::new(&policy)?)]);
    // That is tried once, and nobody misses it.
    let key = [("ResourceId.1", nat.instance.as_str()), ("Tag.1.Key", "crosswan-key")];
    region.lab.ec2().call(REGION, "DeleteTags", &key)?;
    let tries = || region.lab.ec2_calls().get(&(REGION.into(), "CreateTags".into())).copied().unwrap_or_default();
    let before = tries();
    for _ in 0..3 {
        let report = refresh(&nat)?;
        ensure!(report["outcome"] == "unchanged" && !told(&report, "pair"), "{report:#}");
        ensure!(tries() == before + 1 && report["key"]["announced"] == false, "{report:#}");
    }
    let diagnosis = nat.agent(&["doctor"])?;
    ensure!(diagnosis.code == 0, "{}", diagnosis.stdout);
    ask(&nat)?;
    for _ in 0..2 {
        let report = refresh_with(&nat, &[], 0)?;
        ensure!(told(&report, "no pair: this gateway may not announce its key: not permitted"), "{report:#}");
        ensure!(report["routes"][0]["is"] == "here" && report["key"]["announced"] == false, "{report:#}");
    }
    ensure!(region.lab.host("hub/host")?.reaches(internet(&region)?)?);
    Ok(())
}

/// An older version, a unit that is not enabled, a port that is closed: whoever is never heard is replaced as without a pair.
#[test]
fn of_two_nat_hub_that_never_hear_each_other_the_newer_one_takes_the_routes_once_two_minutes_later() -> Result<()> {
    let region = alone_in(Lab::builder(agent()?))?;
    let (lab, one, host) = (&region.lab, region.gateway("hub/nat-hub")?, region.lab.host("hub/host")?);
    let internet = lab.internet().address;
    let [_, table] = lab.route_tables("hub")?;
    host.wait_for(internet, UP)?;
    let clock = Clock::new(lab.dir())?;
    let two = lab.add_gateway("hub", Role::NatHub)?;
    clock.give(&two);
    let before = moves(lab);
    for seconds in [0, 60, 110] {
        clock.set(seconds)?;
        let report = refresh_with(&two, &[], 3)?;
        ensure!(report["awaited"].to_string().contains("has not been heard yet"), "{report:#}");
        ensure!(moves(lab) == before && leads_to(lab, &one, &table)?, "{report:#}");
    }
    clock.set(300)?;
    let report = refresh(&two)?;
    let took = format!("it led to {}, which is older", one.instance);
    ensure!(lines(&report, "steps").concat().contains(&took) && leads_to(lab, &two, &table)?, "{report:#}");
    host.wait_for(internet, UP)?;
    ensure!(host.whoami_tcp(internet).map(Some)? == two.public());
    // Nobody takes it back, also not once they hear each other, or nobody listens any more.
    let after = moves(lab);
    refresh(&one)?;
    let watching = [one.spawn_agent(&["pair"])?, two.spawn_agent(&["pair"])?];
    believes(&one, "alive")?;
    believes(&two, "alive")?;
    let both = || [&one, &two].into_iter().try_for_each(|gateway| refresh(gateway).map(drop));
    both()?;
    drop(watching);
    clock.set(100_000)?;
    both()?;
    ensure!(moves(lab) == after && leads_to(lab, &two, &table)?);
    // The older one has been heard, so it keeps what it has, whatever becomes of the processes that watch.
    lab.ec2().call(
        REGION,
        "ReplaceRoute",
        &[("RouteTableId", &table), ("DestinationCidrBlock", DEFAULT), ("InstanceId", &one.instance)],
    )?;
    lab.sync("hub")?;
    let report = refresh(&two)?;
    ensure!(report["routes"].to_string().contains("the other member of the pair"), "{report:#}");
    ensure!(leads_to(lab, &one, &table)?);
    // And what EC2 shows as stopped keeps nothing, although nobody watches.
    lab.stop_instance(&one)?;
    refresh(&two)?;
    ensure!(leads_to(lab, &two, &table)?);
    host.wait_for(internet, UP).map(drop)
}

/// What EC2 makes in the hub's region, and one element of its answer.
fn made(lab: &Lab, action: &str, parameters: &[(&str, &str)], element: &str) -> Result<String> {
    lab.ec2().get(REGION, action, parameters, element)
}

fn tag(lab: &Lab, of: &str, key: &str, value: &str) -> Result<()> {
    lab.ec2().call(REGION, "CreateTags", &[("ResourceId.1", of), ("Tag.1.Key", key), ("Tag.1.Value", value)]).map(drop)
}

/// A subnet in a zone, with a route table of its own. Gateways may write into it once it has the tag.
fn subnet(lab: &Lab, vpc: &str, zone: &str, cidr: &str) -> Result<[String; 2]> {
    let zone = format!("{REGION}{zone}");
    let subnet =
        made(lab, "CreateSubnet", &[("VpcId", vpc), ("CidrBlock", cidr), ("AvailabilityZone", &zone)], "subnetId")?;
    let table = made(lab, "CreateRouteTable", &[("VpcId", vpc)], "routeTableId")?;
    lab.ec2().call(REGION, "AssociateRouteTable", &[("RouteTableId", &table), ("SubnetId", &subnet)])?;
    Ok([subnet, table])
}

fn launch(lab: &Lab, subnet: &str, name: &str, address: Option<&str>) -> Result<String> {
    let of = [("ImageId", "ami-00000001"), ("MinCount", "1"), ("MaxCount", "1"), ("SubnetId", subnet)];
    let id = made(lab, "RunInstances", &of, "instanceId")?;
    tag(lab, &id, "Name", name)?;
    if let Some(address) = address {
        tag(lab, &id, "service", "nat")?;
        let address = made(lab, "AllocateAddress", &[("Domain", "vpc"), ("Address", address)], "allocationId")?;
        lab.ec2().call(REGION, "AssociateAddress", &[("AllocationId", &address), ("InstanceId", &id)])?;
    }
    Ok(id)
}

#[test]
fn each_zone_s_table_is_its_own_member_s_at_launch_and_the_other_one_s_after_its_death() -> Result<()> {
    let lab = Lab::builder(agent()?).region(REGION).build()?;
    let vpc = made(&lab, "CreateVpc", &[("CidrBlock", "10.0.0.0/16")], "vpcId")?;
    let igw = made(&lab, "CreateInternetGateway", &[], "internetGatewayId")?;
    lab.ec2().call(REGION, "AttachInternetGateway", &[("VpcId", &vpc), ("InternetGatewayId", &igw)])?;
    let (mut publics, mut tables) = (Vec::new(), Vec::new());
    for (zone, public, private) in [("a", "10.0.0.0/24", "10.0.16.0/24"), ("b", "10.0.1.0/24", "10.0.32.0/24")] {
        let [subnet_id, table] = subnet(&lab, &vpc, zone, public)?;
        let out = [("RouteTableId", table.as_str()), ("DestinationCidrBlock", DEFAULT), ("GatewayId", &igw)];
        lab.ec2().call(REGION, "CreateRoute", &out)?;
        publics.push(subnet_id);
        let [subnet_id, table] = subnet(&lab, &vpc, zone, private)?;
        launch(&lab, &subnet_id, zone, None)?;
        tag(&lab, &table, "crosswan-routes", "managed")?;
        tables.push(table);
    }
    let [_, later] = subnet(&lab, &vpc, "b", "10.0.33.0/24")?;
    for (n, subnet) in publics.iter().enumerate() {
        launch(&lab, subnet, "nat-hub", Some(&format!("198.51.100.{}", 200 + n)))?;
    }
    lab.adopt("hub", REGION, &vpc)?;
    let (internet, all) = (lab.internet().address, lab.gateways());
    // EC2 alone knows which of them is in which zone.
    let in_zone = |n: usize| -> Result<Arc<Gateway>> {
        let is = |gateway: &&Arc<Gateway>| {
            lab.ec2().instance(REGION, &gateway.instance).is_ok_and(|instance| instance.subnet == publics[n])
        };
        all.iter().find(is).cloned().context("a gateway in each zone")
    };
    let (a, b) = (in_zone(0)?, in_zone(1)?);

    // The first one that boots leaves the other zone's table to the one that boots after it, and says so.
    let report = refresh_with(&a, &[], 3)?;
    let waits = format!("it belongs to {}, the member in {REGION}b, which was launched", b.instance);
    ensure!(report["awaited"].to_string().contains(&waits) && leads_to(&lab, &a, &tables[0])?, "{report:#}");
    ensure!(!leads_to(&lab, &a, &tables[1])?);
    // The newer one would take the other zone's table, too, if the other one were never heard. EC2 tells launches to the second.
    for gateway in [&b, &a] {
        let output = gateway.agent(&["refresh"])?;
        ensure!([0, 3].contains(&output.code), "{output:?}");
    }
    ensure!(leads_to(&lab, &a, &tables[0])? && leads_to(&lab, &b, &tables[1])?);
    let region = Region::from(lab);
    let lab = &region.lab;
    let (host_a, host_b) = (lab.host("hub/a")?, lab.host("hub/b")?);
    for (host, gateway) in [(&host_a, &a), (&host_b, &b)] {
        host.wait_for(internet, UP)?;
        ensure!(host.whoami_tcp(internet).map(Some)? == gateway.public(), "each zone leaves by its own member");
    }
    let (_watch_a, watch_b) = (a.spawn_agent(&["pair"])?, b.spawn_agent(&["pair"])?);
    for gateway in [&a, &b] {
        believes(gateway, "alive")?;
        eventually(SOON, "each has some of the routes", || Ok(status(gateway)?["pair"]["role"] == "shared"))?;
    }

    // A table that comes later is its owner's, too, which sees it by itself. The other one leaves it that long.
    tag(lab, &later, "crosswan-routes", "managed")?;
    let report = refresh_with(&a, &[], 3)?;
    let owner = format!("{DEFAULT} of {later}: it belongs to {}, the member in {REGION}b, which ", b.instance);
    ensure!(report["awaited"].to_string().contains(&owner), "{report:#}");
    watch_b.wait_for_log(&format!("{DEFAULT} of {later} leads nowhere: asked for a refresh"), SOON)?;
    refresh(&b)?;
    ensure!(leads_to(lab, &b, &later)?);

    // One dies: its zone goes on by the other one, and stays there when it is back.
    b.ns()?.nft(CUT)?;
    eventually(SOON, "the route of zone b has moved", || leads_to(lab, &a, &tables[1]))?;
    host_b.wait_for(internet, SOON)?;
    ensure!(host_b.whoami_tcp(internet).map(Some)? == a.public() && leads_to(lab, &a, &tables[0])?);
    b.ns()?.nft("delete table ip cut")?;
    believes(&a, "alive")?;
    let before = moves(lab);
    let its = refresh(&b)?;
    let report = refresh(&a)?;
    let more = moves(lab) - before;
    ensure!(
        more == 0 && leads_to(lab, &a, &tables[1])?,
        "it takes nothing back: {more} moves, {its:#}\n{}",
        watch_b.log()
    );
    let owner =
        &report["routes"].as_array().context("routes")?.iter().find(|route| route["table"] == tables[1].as_str());
    ensure!(
        owner.is_some_and(|route| route["owner"]["member"] == b.instance.as_str() && route["is"] == "here"),
        "{report:#}"
    );
    Ok(())
}

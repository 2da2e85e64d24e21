//! Keys that lie in SSM and Secrets Manager: fetched at each refresh, changed without losing a packet, kept while the store
//! cannot be asked.

use std::{fs, sync::Arc};

use anyhow::{Context, Result, ensure};
use crosswan_faults::look::{SECRETS, all_well, sas, stream, unharmed};
use crosswan_lab::{Auth, Fault, Gateway, Lab};

use crate::region::{Region, UP, agent, eventually, lines, refresh, refresh_with, show};

/// Where every gateway looks for its key, unless a test says otherwise.
const HOME: &str = "us-west-2";
const PARAMETERS: &str = "GetParameters";

/// A gateway whose image holds no key, only the name of the store's entry.
fn keyless(gateway: &Gateway, auth: &str) -> Result<()> {
    let settings = gateway.read_file("/etc/crosswan/crosswan.toml")?;
    let file = "psk_file = \"/etc/crosswan/psk\"";
    ensure!(settings.contains(file), "{settings}");
    gateway.write_settings(&settings.replace(file, auth))?;
    gateway.write_file("/etc/crosswan/conf.d/50-test.toml", "[ec2]\ntimeout = \"6s\"\n", 0o644)?;
    match fs::remove_file(gateway.path("/etc/crosswan/psk")) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// A key for this test, a different one for each `n`.
fn key(n: u8) -> String {
    format!("{n:02}-7c1fQz0aXk93LmPvWy5TgHdR-{n:02}")
}

fn three(lab: &Lab) -> Result<[Arc<Gateway>; 3]> {
    Ok([lab.gateway("hub/vpn-hub")?, lab.gateway("a/nat-vpn")?, lab.gateway("b/nat-vpn")?])
}

/// Ends every IKE_SA of the spoke, so that the next needs the key.
fn end_tunnel(spoke: &Gateway) -> Result<()> {
    for sa in sas(spoke)? {
        spoke.swanctl(&["--terminate", "--ike-id", &sa.id.to_string(), "--force", "--timeout", "5"])?;
    }
    Ok(())
}

/// Only keys were loaded, and written.
fn ensure_only_keys(report: &serde_json::Value) -> Result<()> {
    let steps = lines(report, "steps");
    let is_key = |step: &String| step.starts_with("load secret ") || *step == "write crosswan-secrets.conf (changed)";
    ensure!(!steps.is_empty() && steps.iter().all(is_key), "{report:#}");
    Ok(())
}

#[test]
fn a_key_in_a_store_is_changed_without_losing_a_packet() -> Result<()> {
    let lab = Lab::standard(agent()?, Auth::Psk)?;
    let [hub, a, b] = three(&lab)?;
    // One for all in the hub's region, and one that only `b` has, in its own.
    let of_b = lab.vpc_id("b")?;
    lab.ec2().put_parameter(HOME, "/crosswan/psk", &format!("{}\n", key(1)))?;
    lab.ec2().put_secret(&b.region, &format!("crosswan/{of_b}"), &key(9))?;
    keyless(&hub, "psk_parameter = \"/crosswan/psk\"")?;
    hub.write_file(&format!("/etc/crosswan/psk.d/{of_b}"), &key(9), 0o600)?;
    keyless(&a, &format!("psk_parameter = \"/crosswan/psk\"\npsk_region = \"{HOME}\""))?;
    keyless(&b, "psk_secret = \"crosswan/{vpc}\"")?;
    let region = Region::booted(lab)?;
    region.settle()?;
    ensure!(hub.read_file(SECRETS)?.contains(&hex(&key(1))) && b.read_file(SECRETS)?.contains(&hex(&key(9))));
    for gateway in [&hub, &a, &b] {
        ensure!(refresh(gateway)?["outcome"] == "unchanged", "{}: a second pass has something to do", gateway.name);
    }

    // Changed in the store, then fetched by one end after the other.
    let streams = [("a/host", "hub/host"), ("hub/host", "a/host"), ("a/host", "b/host")]
        .map(|(from, to)| stream(&region, from, to));
    region.lab.ec2().put_parameter(HOME, "/crosswan/psk", &key(2))?;
    let mut said = String::new();
    for gateway in [&hub, &a] {
        ensure_only_keys(&refresh_with(gateway, &["--dry-run"], 0)?)?;
        let output = gateway.agent(&["refresh", "--json", "-vv"])?.ok()?;
        said += &show(&output);
        ensure_only_keys(&serde_json::from_str(&output.stdout)?)?;
        let secrets = gateway.read_file(SECRETS)?;
        ensure!(secrets.contains(&hex(&key(2))) && !secrets.contains(&hex(&key(1))), "{}", gateway.name);
    }
    // Everything that was logged, including the parts of the answer.
    ensure!(said.contains("GetParameters") && said.contains("load secret"));
    for trace in [&key(2)[3..20], &hex(&key(2))[6..40]] {
        ensure!(!said.contains(trace), "a key in the output");
    }
    for packets in streams {
        unharmed(packets?, "while the key changed")?;
    }

    // The new key is the one that counts: a tunnel comes up with it, and with no other.
    end_tunnel(&a)?;
    all_well(&region, UP)?;
    let others = stream(&region, "b/host", "hub/host")?;
    region.lab.ec2().put_parameter(HOME, "/crosswan/psk", &key(3))?;
    ensure_only_keys(&refresh(&hub)?)?;
    let refused = a.charon_log().matches("AUTH_FAILED").count();
    end_tunnel(&a)?;
    eventually(UP, "AUTHENTICATION_FAILED", || Ok(a.charon_log().matches("AUTH_FAILED").count() > refused))?;
    ensure!(!region.lab.host("a/host")?.reaches(region.address("hub/host")?)?);
    ensure_only_keys(&refresh(&a)?)?;
    all_well(&region, UP)?;
    unharmed(others, "the other spoke").map(drop)
}

#[test]
fn a_store_that_cannot_be_asked_changes_nothing() -> Result<()> {
    let lab = Lab::standard(agent()?, Auth::Psk)?;
    let [hub, a, b] = three(&lab)?;
    let parameter = format!("psk_parameter = \"/crosswan/psk\"\npsk_region = \"{HOME}\"");
    for gateway in [&hub, &a, &b] {
        keyless(gateway, &parameter)?;
    }
    // There was never a key: NAT does not wait, and the report distinguishes a missing key from a silent store.
    a.start_charon()?;
    let report = refresh_with(&a, &[], 2)?;
    let waiting = report["waiting_for"].as_str().unwrap_or_default();
    ensure!(
        waiting.starts_with("parameter /crosswan/psk: it does not exist in us-west-2; create it with: "),
        "{report:#}"
    );
    lab.ec2().put_parameter(HOME, "/crosswan/psk", "change-me-change-me")?;
    let report = refresh_with(&a, &[], 2)?;
    let waiting = report["waiting_for"].as_str().unwrap_or_default();
    ensure!(waiting.starts_with("parameter /crosswan/psk: a well-known default pre-shared key; "), "{report:#}");
    lab.ec2_fault("*", PARAMETERS, Fault::Unauthorized);
    let report = refresh_with(&a, &[], 3)?;
    ensure!(report["waiting_for"].is_null() && lines(&report, "tunnels").is_empty(), "{report:#}");
    ensure!(report["refused"].to_string().contains("not permitted"), "{report:#}");
    let host = lab.host("a/host")?;
    ensure!(Some(host.whoami_tcp(lab.internet().address)?) == a.public(), "NAT is there");
    lab.ec2_heal();

    lab.ec2().put_parameter(HOME, "/crosswan/psk", &key(1))?;
    let mut region = Region::from(lab);
    for gateway in region.lab.gateways().iter().filter(|g| g.name != a.name) {
        region.boot(gateway)?;
    }
    ensure!(refresh(&a)?["outcome"] == "changed");
    region.keepers.insert(a.name.clone(), a.spawn_agent(&["keep"])?);
    region.settle()?;

    let packets = [("a/host", "hub/host"), ("b/host", "a/host")].map(|(from, to)| stream(&region, from, to));
    // Whatever is in the store meanwhile.
    region.lab.ec2().put_parameter(HOME, "/crosswan/psk", &key(2))?;
    for (fault, words) in [
        (Fault::Unauthorized, "not permitted: the instance's role needs ssm:GetParameters, and kms:Decrypt"),
        (Fault::Throttle, "throttled: SSM answered \"ThrottlingException\""),
        (Fault::ServerError, "SSM answered 500 to GetParameters"),
        (Fault::Garbage, "a web page came in place of SSM's answer to GetParameters"),
        (Fault::Reset, "cannot reach SSM in us-west-2"),
        (Fault::Silent, "timed out"),
    ] {
        region.lab.ec2_fault(HOME, PARAMETERS, fault);
        for gateway in [&hub, &a] {
            let report = refresh_with(gateway, &[], 3).with_context(|| format!("{fault:?}"))?;
            ensure!(report["outcome"] == "unchanged" && lines(&report, "steps").is_empty(), "{fault:?}: {report:#}");
            let unasked = lines(&report, "unasked");
            let place = "parameter /crosswan/psk in us-west-2: ";
            ensure!(unasked.len() == 1 && unasked[0].starts_with(place), "{fault:?}: {unasked:?}");
            ensure!(unasked[0].contains(words), "{fault:?}: {unasked:?}");
            let kept = report["kept"].to_string();
            ensure!(kept.contains("the pre-shared key in use stays"), "{report:#}");
            ensure!(gateway.read_file(SECRETS)?.contains(&hex(&key(1))));
        }
        region.lab.ec2_heal();
    }
    let text = {
        region.lab.ec2_fault(HOME, PARAMETERS, Fault::Unauthorized);
        a.agent(&["refresh"])?
    };
    ensure!(text.code == 3 && text.stdout.contains("UNASKED   parameter /crosswan/psk in us-west-2: not permitted"));
    // The tunnel even comes back: what charon needs is on disk.
    for packets in packets {
        unharmed(packets?, "while the store could not be asked")?;
    }
    end_tunnel(&a)?;
    all_well(&region, UP)?;
    // A failure that passes by itself is retried until it has passed.
    region.lab.ec2_heal();
    region.lab.ec2_fault_times(HOME, PARAMETERS, Fault::Throttle, 2);
    ensure_only_keys(&refresh(&hub)?)?;
    [&a, &b].into_iter().try_for_each(|spoke| ensure_only_keys(&refresh(spoke)?))?;
    end_tunnel(&a)?;
    all_well(&region, UP)
}

#[test]
fn a_key_per_peer_by_its_vpc() -> Result<()> {
    let lab = Lab::standard(agent()?, Auth::Psk)?;
    let [hub, a, b] = three(&lab)?;
    let name = |vpc: &str| Ok::<_, anyhow::Error>(format!("crosswan/psk/{}", lab.vpc_id(vpc)?));
    let (of_a, of_b) = (name("a")?, name("b")?);
    for gateway in [&hub, &a, &b] {
        keyless(gateway, &format!("psk_secret = \"crosswan/psk/{{vpc}}\"\npsk_region = \"{HOME}\""))?;
    }
    lab.ec2().put_secret(HOME, &of_a, &key(1))?;
    // `b` has no key yet: only `b` is refused.
    let mut region = Region::from(lab);
    for gateway in region.lab.gateways().iter().filter(|g| g.name != b.name) {
        region.boot(gateway)?;
    }
    let refused = refresh(&hub)?["refused"].to_string();
    ensure!(refused.contains(&format!("secret {of_b}: it does not exist in us-west-2")), "{refused}");
    b.start_charon()?;
    let report = refresh_with(&b, &[], 2)?;
    ensure!(report["waiting_for"].to_string().contains(&of_b), "{report:#}");
    region.lab.host("a/host")?.wait_for(region.address("hub/host")?, UP)?;

    let packets = stream(&region, "a/host", "hub/host")?;
    region.lab.ec2().put_secret(HOME, &of_b, &key(2))?;
    ensure!(refresh(&hub)?["refused"].as_array().is_some_and(Vec::is_empty));
    region.keepers.insert(b.name.clone(), b.spawn_agent(&["keep"])?);
    refresh(&b)?;
    region.settle()?;
    for (gateway, own, other) in [(&a, 1, 2), (&b, 2, 1)] {
        let secrets = gateway.read_file(SECRETS)?;
        ensure!(secrets.contains(&hex(&key(own))) && !secrets.contains(&hex(&key(other))), "{}", gateway.name);
    }

    // The same keys under other names, in the other store: nothing to do.
    for (name, n) in [(&of_a, 1), (&of_b, 2)] {
        region.lab.ec2().put_parameter(HOME, &format!("/{name}"), &key(n))?;
    }
    let settings = hub.read_file("/etc/crosswan/crosswan.toml")?;
    hub.write_settings(&settings.replace("psk_secret = \"", "psk_parameter = \"/"))?;
    let report = refresh(&hub)?;
    ensure!(report["outcome"] == "unchanged", "{report:#}");
    let asked = region.lab.ec2_calls().get(&(HOME.to_owned(), PARAMETERS.to_owned())).copied();
    ensure!(asked == Some(1), "{asked:?}");
    unharmed(packets, "the tunnel of the other peer").map(drop)
}

/// As the secrets file has it.
fn hex(key: &str) -> String {
    key.bytes().map(|b| format!("{b:02x}")).collect()
}

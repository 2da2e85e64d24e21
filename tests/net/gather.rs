//! `crosswan gather`: one archive with everything, whatever fails or hangs, and without any secret.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use crosswan_lab::{Auth, Gateway};

use crate::region::{Region, refresh, show};

/// What it promises.
const LIMIT: Duration = Duration::from_secs(60);

/// Gathers, and returns the texts in the archive by their names, and what it said on the way.
fn gathered(gateway: &Gateway, file: &str) -> Result<(BTreeMap<String, String>, String)> {
    let output = gateway.agent(&["gather", "-o", file])?;
    ensure!(output.code == 0 && output.stdout.trim() == file, "{}", show(&output));
    ensure!(output.elapsed < LIMIT, "took {:?}", output.elapsed);
    let folder = format!("{file}.d");
    gateway.sh(&format!("mkdir {folder} && tar -xzf {file} -C {folder}"))?.ok()?;
    let names = gateway.sh(&format!("cd {folder}/crosswan-gather && find . -type f"))?.ok()?.stdout;
    let mut texts = BTreeMap::new();
    for name in names.lines().map(|name| name.trim_start_matches("./")) {
        let text = gateway.sh(&format!("cat {folder}/crosswan-gather/{name}"))?.ok()?.stdout;
        texts.insert(name.to_owned(), text);
    }
    Ok((texts, output.stderr))
}

/// Every form in which a secret could be printed.
fn forms(secret: &[u8]) -> Vec<String> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = std::str::from_utf8(secret).ok().map(str::to_owned);
    // base64 of what begins at each of three offsets; its ends depend on what stands beside it.
    let shifted = (0..3).filter_map(|n| secret.get(n..)).map(|part| {
        let whole = STANDARD.encode(&part[..part.len() / 3 * 3]);
        whole[..whole.len().saturating_sub(4)].to_owned()
    });
    shifted.chain([hex.to_uppercase(), hex]).chain(text).collect()
}

/// The keys of the kernel's states, each as its digits.
fn kernel_keys(gateway: &Gateway) -> Result<Vec<Vec<u8>>> {
    let states = gateway.sh("ip xfrm state")?.ok()?.stdout;
    let keys = states.split_whitespace().filter_map(|word| word.strip_prefix("0x")).filter(|hex| hex.len() >= 32);
    let bytes = |hex: &str| (0..hex.len() / 2).map(|n| Ok(u8::from_str_radix(&hex[2 * n..2 * n + 2], 16)?)).collect();
    keys.map(bytes).collect()
}

/// The own private key: all of its DER, and within it the 32 bytes of Ed25519 (RFC 8410).
fn private_key(gateway: &Gateway) -> Result<Vec<Vec<u8>>> {
    let pem = gateway.read_file("/etc/swanctl/private/crosswan.pem")?;
    let body = pem.lines().skip_while(|line| !line.starts_with("-----BEGIN")).skip(1);
    let body: String = body.take_while(|line| !line.starts_with("-----END")).collect();
    let der = STANDARD.decode(&body)?;
    let at = der.windows(2).position(|two| two == [0x04, 0x20]).context("no Ed25519 key")?;
    let seed = der[at + 2..at + 34].to_vec();
    Ok(body.as_bytes().chunks(64).map(<[u8]>::to_vec).chain([der, seed]).collect())
}

fn without(secrets: Vec<Vec<u8>>, texts: &BTreeMap<String, String>) -> Result<()> {
    ensure!(!secrets.is_empty(), "nothing to look for");
    for form in secrets.iter().flat_map(|secret| forms(secret)) {
        ensure!(form.len() > 8, "too short to mean anything: {form}");
        let found = texts.iter().find(|(_, text)| text.contains(&form));
        ensure!(found.is_none(), "a secret is in {:?}", found.map(|(name, _)| name));
    }
    Ok(())
}

#[test]
fn the_archive_has_everything_and_no_secret_of_a_gateway_with_keys() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    let spoke = region.gateway("a/nat-vpn")?;
    refresh(&spoke)?;
    // Somebody kept the old pre-shared key beside the settings.
    spoke.write_file("/etc/crosswan/conf.d/90-old.toml", "# psk = \"a-very-old-key\"\n", 0o600)?;
    let (texts, said) = gathered(&spoke, "/run/all.tar.gz")?;
    without([private_key(&spoke)?, kernel_keys(&spoke)?, vec![b"a-very-old-key".to_vec()]].concat(), &texts)?;
    ensure!(spoke.sh("stat -c %a /run/all.tar.gz")?.ok()?.stdout.trim() == "600");

    for (name, part) in [
        ("doctor.txt", "peer-hub"),
        ("doctor.json", "\"checks\""),
        ("status.txt", "own key"),
        ("status.json", "\"tunnels\""),
        ("refresh-dry-run.txt", "nat-vpn"),
        ("rules/iptables-save.txt", "CROSSWAN-NAT"),
        ("rules/nft.txt", "table"),
        ("network/addresses.txt", "ens5"),
        ("network/routes.txt", "cw"),
        ("network/policy-rules.txt", "lookup"),
        ("network/sysctls.txt", "net.ipv4.ip_forward = 1"),
        ("xfrm/states.txt", "proto esp"),
        ("charon/sas.txt", "ESTABLISHED"),
        ("charon/connections.txt", "crosswan-hub-"),
        ("files/etc/crosswan/crosswan.toml", "mode = \"nat-vpn\""),
        ("files/etc/crosswan/conf.d/90-old.toml", "# psk = [left out]"),
        ("files/etc/swanctl/conf.d/crosswan.conf", "remote_addrs"),
        ("files/var/lib/crosswan/state.json", "{"),
        ("files/proc/net/xfrm_stat", "XfrmInError"),
        ("files/proc/net/snmp", "Ip:"),
        ("summary.txt", "ok      doctor.txt"),
    ] {
        let text = texts.get(name).with_context(|| format!("no {name} in {:?}\n{said}", texts.keys()))?;
        ensure!(text.contains(part), "{name}: {text}");
    }
    // Each part is named on the terminal while it comes.
    ensure!(texts["summary.txt"].lines().skip(1).all(|line| said.contains(line)), "{said}");

    // What is there is never overwritten.
    let again = spoke.agent(&["gather", "--output", "/run/all.tar.gz"])?;
    ensure!(again.code == 2 && again.stderr.contains("/run/all.tar.gz exists"), "{}", show(&again));

    // A program that hangs, and one that is not there.
    spoke.write_file("/etc/fake/swanctl", "#!/bin/sh\nsleep 100\n", 0o755)?;
    spoke.write_file("/etc/fake/ss", "#!/bin/sh\necho broken >&2; exit 7\n", 0o755)?;
    spoke.set_env("PATH", "/etc/fake:/usr/sbin:/usr/bin:/sbin:/bin");
    let (texts, said) = gathered(&spoke, "/run/half.tar.gz")?;
    for line in ["FAILED  charon/sas.txt: ", "FAILED  network/sockets.txt: "] {
        ensure!(said.contains(line) && texts["summary.txt"].contains(line), "{line}: {said}");
    }
    ensure!(said.contains("no answer within 10s") && said.contains("broken"), "{said}");
    ensure!(!texts.contains_key("charon/sas.txt") && texts.contains_key("network/routes.txt"), "{said}");
    Ok(())
}

#[test]
fn the_archive_has_no_pre_shared_key() -> Result<()> {
    let region = Region::with(Auth::Psk)?;
    for name in ["hub/vpn-hub", "a/nat-vpn"] {
        let gateway = region.gateway(name)?;
        refresh(&gateway)?;
        let psk = gateway.read_file("/etc/crosswan/psk")?;
        let loaded = gateway.read_file("/etc/swanctl/conf.d/crosswan-secrets.conf")?;
        ensure!(loaded.contains("secret = "), "{loaded}");
        let loaded = loaded.lines().filter_map(|line| line.split_once("secret = 0x"));
        let loaded: Vec<Vec<u8>> = loaded.map(|(_, hex)| hex.trim().as_bytes().to_vec()).collect();
        let (texts, _) = gathered(&gateway, "/run/all.tar.gz")?;
        without([vec![psk.trim().as_bytes().to_vec()], loaded, kernel_keys(&gateway)?].concat(), &texts)?;
        let shown = &texts["files/etc/swanctl/conf.d/crosswan-secrets.conf"];
        ensure!(shown.contains("secret = [left out]") && shown.contains("id-2"), "{shown}");
    }
    // Without a name it is in the current folder, named after host and time.
    let spoke = region.gateway("a/nat-vpn")?;
    let program = crate::region::agent()?;
    spoke.sh(&format!("install -m 755 {} /run/agent", Path::new(&program).display()))?.ok()?;
    let output = spoke.sh("mkdir /run/here && cd /run/here && /run/agent gather")?.ok()?;
    let name = output.stdout.trim();
    ensure!(name.starts_with("crosswan-gather-") && name.ends_with("Z.tar.gz"), "{}", show(&output));
    spoke.sh(&format!("test -s /run/here/{name}"))?.ok().map(drop)
}

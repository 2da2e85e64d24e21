//! `--keep`: how to look around in the region, until Enter or a signal.

use std::fmt::Write;
use std::fs::{self, Permissions};
use std::io::{IsTerminal, stdin};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use crosswan_lab::internet::{EC2, ECHO};
use crosswan_lab::{Netns, WHOAMI, kernel};

use super::{Demo, signals};

/// Says how, and waits.
pub fn look_around(demo: &Demo, agent: &Path) -> Result<()> {
    let dir = demo.lab.dir();
    write_script(demo, agent)?;
    let c = demo.lab.host("c/host").or_else(|_| demo.lab.host("hub/host"))?.address;
    // Another terminal of this machine does not lead into a kernel of the lab's own.
    let shell = std::env::var_os(kernel::INSIDE).is_some() && stdin().is_terminal();
    let way = if shell { "This is a shell in it" } else { "In another terminal, as root" };
    let end = match (shell, stdin().is_terminal()) {
        (true, _) => "The shell's exit",
        (_, true) => "Enter or Ctrl-C",
        (_, false) => "SIGTERM or SIGINT",
    };
    let machines: Vec<String> = names(demo).into_iter().map(|(name, _)| name).collect();
    demo.screen.raw(&format!(
        "
The region stays up; agents, tunnels and EC2 keep running. {way}:

  cd {}
  ./on MACHINE [COMMAND]                      a command there, or a shell. MACHINE is one of
     {}

  ./on hub/vpn-hub crosswan status --watch
  ./on hub/vpn-hub crosswan refresh --dry-run
  ./on hub/vpn-hub swanctl --list-sas
  ./on a/nat-vpn crosswan rotate-key          its next key: in use once the hub, then it, has refreshed
  ./on a/nat-vpn iptables-save
  ./on a/host ping {c}
  ./on a/host bash -c 'cat </dev/tcp/{ECHO}/{WHOAMI}; echo'    the address the internet sees
  ./on internet tcpdump -ni any udp           what is on the wire (apt-get install tcpdump)
  ./on internet aws --endpoint-url http://{EC2} --region eu-west-1 ec2 describe-instances
                                              EC2, if you have the AWS CLI; any key will do

There are the files and logs of the gateways, too. {end} ends it (process {}).",
        dir.display(),
        machines.join(" "),
        std::process::id(),
    ));
    if shell {
        Command::new("/bin/bash").current_dir(dir).status().context("start bash")?;
    } else {
        signals::wait_for_the_end();
    }
    Ok(())
}

/// Every machine, with the options of `nsenter` that lead there.
fn names(demo: &Demo) -> Vec<(String, String)> {
    let net = |ns: &Netns| format!("--net={}", ns.path().display());
    let gateways = demo.lab.gateways().into_iter().filter_map(|gateway| {
        let enter = gateway.enter_command().ok()?;
        Some((gateway.name.clone(), enter.trim_start_matches("nsenter ").to_owned()))
    });
    let hosts = demo.lab.hosts().into_iter().map(|host| (host.name.clone(), net(&host.ns)));
    let internet = [("internet".to_owned(), net(&demo.lab.internet().ns))];
    gateways.chain(hosts).chain(internet).collect()
}

/// Writes the script that leads into every machine, with the agent in PATH and EC2 where the lab has it.
fn write_script(demo: &Demo, agent: &Path) -> Result<()> {
    let path = demo.lab.dir().join("on");
    let agent = std::path::absolute(agent)?;
    let bin = agent.parent().context("an agent without a folder")?.display();
    let mut script =
        String::from("#!/bin/sh\n# Runs a command, or a shell, on a machine of the lab.\ncase \"$1\" in\n");
    for (name, options) in names(demo) {
        writeln!(script, "{name}) enter='{options}' ;;")?;
    }
    // A clean environment: a CROSSWAN_ variable of the caller would be a setting of the gateway.
    write!(
        script,
        "*) echo \"no machine '$1'\" >&2; exit 2 ;;
esac
shift
[ $# -gt 0 ] || set -- /bin/bash
exec nsenter $enter -- env -i HOME=\"$HOME\" TERM=\"$TERM\" LANG=C.UTF-8 AWS_ENDPOINT_URL_EC2=http://{EC2} \\
  PATH='{bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \"$@\"
"
    )?;
    fs::write(&path, script)?;
    Ok(fs::set_permissions(&path, Permissions::from_mode(0o700))?)
}

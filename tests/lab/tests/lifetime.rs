//! Labs side by side do not meet, and nothing of a lab outlives it, however it ends.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crosswan_lab::{Auth, Lab};

const LIMIT: Duration = Duration::from_secs(20);

/// Every process below `root`, by the parents /proc tells.
fn descendants(root: u32) -> Result<BTreeSet<u32>> {
    let mut all = BTreeSet::from([root]);
    loop {
        let before = all.len();
        for (pid, parent, _) in processes()? {
            if all.contains(&parent) {
                all.insert(pid);
            }
        }
        if all.len() == before {
            return Ok(all);
        }
    }
}

/// Process id, parent and state of everything that runs.
fn processes() -> Result<Vec<(u32, u32, char)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((pid, rest)) = stat.split_once(' ') else { continue };
        let mut fields = rest.rsplit(") ").next().unwrap_or_default().split(' ');
        let state = fields.next().and_then(|state| state.chars().next());
        if let (Ok(pid), Some(state), Some(Ok(parent))) = (pid.parse(), state, fields.next().map(str::parse)) {
            all.push((pid, parent, state));
        }
    }
    Ok(all)
}

/// Whether anything still holds one of these namespaces: a process in it, or an open descriptor.
fn held(namespaces: &BTreeSet<String>) -> Result<bool> {
    let is_one = |path: &Path| fs::read_link(path).is_ok_and(|link| namespaces.contains(&*link.to_string_lossy()));
    for entry in fs::read_dir("/proc")?.flatten() {
        let fds = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        if is_one(&entry.path().join("ns/net")) || fds.into_iter().any(|fd| is_one(&fd.path())) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn within_limit(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !done()? {
        if started.elapsed() > LIMIT {
            bail!("{what}: not within {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A lab in a process of its own: the process, its namespaces as /proc shows them, its directory.
fn lab_process() -> Result<(Child, BTreeSet<String>, String)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crosswan-lab"));
    let mut child =
        command.arg("up").env("CROSSWAN_BIN", "/bin/true").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let lines: Vec<String> = {
        let mut lines = Vec::new();
        for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
            lines.push(line?);
            if lines.last().is_some_and(|line| line.starts_with("up ")) {
                break;
            }
        }
        lines
    };
    let up = lines.last().and_then(|line| line.strip_prefix("up ")).context("the lab did not come up")?;
    let namespaces = up.split(' ').map(|inode| format!("net:[{inode}]")).collect();
    let dir = lines.iter().find_map(|line| line.strip_prefix("files are in ")?.split(';').next());
    Ok((child, namespaces, dir.context("no directory named")?.to_string()))
}

#[test]
fn a_killed_lab_leaves_no_process_no_namespace_and_its_directory_is_swept() -> Result<()> {
    let (mut child, namespaces, dir) = lab_process()?;
    let family = descendants(child.id())?;
    assert!(family.len() >= 5, "moto and three charons run: {family:?}");
    assert!(held(&namespaces)? && Path::new(&dir).exists());
    child.kill()?;
    child.wait()?;
    // A dead process may stay a zombie where process 1 does not reap.
    within_limit("processes gone", || {
        Ok(!processes()?.iter().any(|(pid, _, state)| family.contains(pid) && *state != 'Z'))
    })?;
    within_limit("namespaces gone", || Ok(!held(&namespaces)?))?;
    drop(Lab::builder("/bin/true").build()?);
    assert!(!Path::new(&dir).exists(), "the next lab sweeps");
    Ok(())
}

#[test]
fn labs_side_by_side_do_not_meet_and_a_dropped_one_is_gone() -> Result<()> {
    let build = || Lab::standard("/bin/true", Auth::Key);
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(build);
        (build(), other.join())
    });
    let (one, two) = (one?, two.map_err(|_| anyhow::anyhow!("a lab panicked"))??);
    let names = |lab: &Lab| lab.namespaces().iter().map(|inode| format!("net:[{inode}]")).collect::<BTreeSet<_>>();
    assert!(names(&one).is_disjoint(&names(&two)));
    // The same addresses in both, each with its own counters.
    let (gateway, kept) = (one.gateway("a/nat-vpn")?, two.gateway("a/nat-vpn")?);
    assert_eq!(gateway.address, kept.address);
    one.source_dest_check(&gateway, false)?;
    assert!(!one.host("a/host")?.reaches(one.internet().address)?);
    assert_eq!((one.leaks("a")?.no_public_address, two.leaks("a")?.no_public_address), (3, 0));
    gateway.start_charon()?;
    let (gone, dir) = (names(&one), one.dir().to_path_buf());
    drop(one);
    assert!(!dir.exists() && !gateway.charon_running());
    within_limit("namespaces gone", || Ok(!held(&gone)?))?;
    assert!(kept.host()?.reaches(two.internet().address)?, "the other lab goes on");
    Ok(())
}

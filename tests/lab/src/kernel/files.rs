//! The files inside: this machine's, with everything that is written in memory, except below a few folders.
//!
//! So an ordinary user's program can make sockets, devices and owners that this machine would refuse it, and nobody's program can
//! change this machine's own files, for the lifetime of the kernel.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

use super::job::Job;

/// A folder that every machine has and nobody needs before it is covered again.
const STAGE: &str = "/proc";
/// Temporary files. Not in /run, which gateways cover, and not in /tmp, which may hold the checkout. Short: paths of sockets are.
pub const TEMPORARY: &str = "/lab";

/// Changes the root to an overlay over this machine's, with fresh /proc, /sys, /dev and /run, and goes to the job's folder.
pub fn set_up(job: &Job) -> Result<()> {
    special(STAGE.into(), "tmpfs", "mode=755,size=80%")?;
    let root = Path::new(STAGE).join("root");
    for folder in ["root", "up", "work"] {
        fs::create_dir(Path::new(STAGE).join(folder))?;
    }
    special(root.clone(), "overlay", &format!("lowerdir=/,upperdir={STAGE}/up,workdir={STAGE}/work"))?;
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    for (path, kind, options) in [
        ("/proc", "proc", ""),
        ("/sys", "sysfs", ""),
        ("/dev", "devtmpfs", ""),
        ("/dev/pts", "devpts", "mode=620,ptmxmode=666"),
        ("/dev/shm", "tmpfs", "mode=1777"),
        ("/run", "tmpfs", "mode=755"),
        (TEMPORARY, "tmpfs", "mode=1777,size=80%"),
    ] {
        // Most are there already.
        let _ = fs::create_dir_all(below(path));
        special(below(path), kind, options)?;
    }
    let _ = special(below("/sys/fs/cgroup"), "cgroup2", "");
    for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        symlink(format!("/proc/self/fd{target}"), below("/dev").join(name))?;
    }
    for path in &job.through {
        let target = root.join(path.strip_prefix("/")?);
        fs::create_dir_all(&target).with_context(|| format!("make {}", target.display()))?;
        let none = None::<&Path>;
        mount(Some(path), &target, none, MsFlags::MS_BIND, none).with_context(|| format!("bind {}", path.display()))?;
    }
    chdir(&root)?;
    mount(Some("."), "/", None::<&Path>, MsFlags::MS_MOVE, None::<&Path>).context("move the root")?;
    chroot(".").context("change the root")?;
    chdir("/")?;
    chdir(&job.cwd).with_context(|| format!("go to {}", job.cwd.display()))?;
    Ok(())
}

fn special(target: PathBuf, kind: &str, options: &str) -> Result<()> {
    mount(Some(kind), &target, Some(kind), MsFlags::empty(), Some(options))
        .with_context(|| format!("mount {kind} on {}", target.display()))
}

/// The job's environment, for the program inside.
pub fn environment(job: &Job, out: &Path) -> Vec<(OsString, OsString)> {
    let own = |name: &OsString| name.to_string_lossy().starts_with("CROSSWAN_KERNEL");
    let mut env: Vec<_> = job.env.iter().filter(|(name, _)| !own(name)).cloned().collect();
    let mut set = |name: &str, value: OsString| {
        env.retain(|(known, _)| known != name);
        env.push((name.into(), value));
    };
    // An ordinary user's has no folders of administration on Debian.
    let path = job.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone()).unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
    set("PATH", std::env::join_paths(folders).unwrap_or(path));
    set("TMPDIR", TEMPORARY.into());
    if job.colours {
        set("CLICOLOR_FORCE", "1".into());
    }
    set(super::INSIDE, out.into());
    env
}

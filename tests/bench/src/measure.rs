//! What a program and its children cost: this program as a wrapper around it, and the wrapper's last line read back.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crosswan_lab::Gateway;
use nix::libc;

/// Longest run: ten thousand connections into a charon, which takes minutes, on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);
const MARK: &str = "crosswan-bench measured:";

/// One run of a program.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Seconds from start to end.
    pub wall: f64,
    /// Seconds of CPU, user and system, its children included.
    pub cpu: f64,
    /// Peak resident memory of the largest process among them, MB (10^6 bytes).
    pub memory: f64,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Of two runs of the same work the smaller figures, disturbed least; but the larger memory.
    pub fn least(self, other: Run) -> Run {
        let (wall, cpu) = (self.wall.min(other.wall), self.cpu.min(other.cpu));
        Run { wall, cpu, memory: self.memory.max(other.memory), ..self }
    }
}

/// Runs `argv` inside a gateway and measures it; an error unless it exits with 0.
pub fn run(gateway: &Gateway, argv: &[&str]) -> Result<Run> {
    limited(gateway, argv, LIMIT)
}

/// [`run`] for what may be cut off: `None` if it was still running after `limit`.
pub fn run_within(gateway: &Gateway, argv: &[&str], limit: Duration) -> Result<Option<Run>> {
    let start = Instant::now();
    match limited(gateway, argv, limit) {
        Err(_) if start.elapsed() >= limit => Ok(None),
        run => run.map(Some),
    }
}

fn limited(gateway: &Gateway, argv: &[&str], limit: Duration) -> Result<Run> {
    let own = std::env::current_exe().context("find this program")?;
    let output = gateway.output(&own, &[&["measure"], argv].concat(), "", limit)?;
    ensure!(output.code == 0, "{argv:?}: exit code {}\n{}{}", output.code, tail(&output.stdout), tail(&output.stderr));
    let (stderr, line) = output.stderr.rsplit_once(MARK).context("nothing was measured")?;
    let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [wall, cpu, memory] = numbers[..] else { anyhow::bail!("measured {line:?}") };
    Ok(Run { wall, cpu, memory, stdout: output.stdout, stderr: stderr.to_string() })
}

/// The end of a long output.
fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(4000);
    text.get(from..).unwrap_or(text)
}

/// `crosswan-bench measure PROGRAM ARGUMENT…`: runs it, says what it cost, ends as it ended.
pub fn wrapper(argv: &[String]) -> Result<ExitCode> {
    let (program, args) = argv.split_first().context("measure what?")?;
    let start = Instant::now();
    // SAFETY: prctl with plain values; a wrapper that is killed must not leave the program behind.
    let child = unsafe {
        Command::new(program)
            .args(args)
            .pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            })
            .spawn()
            .with_context(|| format!("start {program}"))?
    };
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: the child is ours and was not waited for; both pointers are valid; a zeroed rusage is one.
    let usage = unsafe {
        ensure!(libc::wait4(child.id() as i32, &raw mut status, 0, usage.as_mut_ptr()) > 0, "wait for {program}");
        usage.assume_init()
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    let cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    eprintln!("{MARK} {:.6} {cpu:.6} {:.3}", start.elapsed().as_secs_f64(), usage.ru_maxrss as f64 * 1024.0 / 1e6);
    Ok(ExitCode::from(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) as u8 } else { 128 }))
}

/// The clock ticks of CPU that a process has had.
pub fn ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    Ok([11, 12].iter().filter_map(|n| fields.get(*n)?.parse::<u64>().ok()).sum())
}

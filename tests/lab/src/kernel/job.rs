//! What is to be run in a user-mode kernel, as a file that both halves know.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

/// In the first process's environment: the job's file.
pub const VARIABLE: &str = "CROSSWAN_LAB_JOB";

/// A program and its surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The program by its path, and its arguments.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its folder.
    pub cwd: PathBuf,
    /// Folders whose files are this machine's own: what is written there stays. Everything else is written into memory.
    pub through: BTreeSet<PathBuf>,
    /// Whether its output ends on a terminal, which a program that writes into a pipe cannot see.
    pub colours: bool,
    /// A terminal of so many rows and columns in place of pipes.
    pub terminal: Option<(u16, u16)>,
}

impl Job {
    /// A program with the environment and folder of this one.
    pub fn here(argv: Vec<OsString>, writes: &[PathBuf]) -> Result<Job> {
        let cwd = std::env::current_dir().context("the current folder")?;
        let exe = std::env::current_exe().context("where is this program?")?;
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut through = BTreeSet::new();
        let program = argv.first().map(PathBuf::from).unwrap_or_default();
        let build = [&exe, &program].map(|path| build_folder(path));
        let profile = std::env::var_os("LLVM_PROFILE_FILE").map(PathBuf::from);
        let wanted =
            [Some(cwd.clone()), Some(checkout), profile].into_iter().flatten().chain(build.into_iter().flatten());
        for path in wanted.chain(writes.iter().cloned()) {
            // What does not exist yet is made in the folder above.
            let existing = path.ancestors().find_map(|path| path.canonicalize().ok().filter(|path| path.is_dir()));
            // The root as a whole never is written through: that would be this machine's /etc and /run.
            through.extend(existing.filter(|path| path != Path::new("/")));
        }
        Ok(Job {
            argv,
            env: std::env::vars_os().collect(),
            cwd,
            through,
            colours: io::stdout().is_terminal(),
            terminal: None,
        })
    }

    /// Writes it.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = |text: &OsStr| BASE64.encode(text.as_bytes());
        let pairs = self.env.iter().map(|(key, value)| json!([text(key), text(value)])).collect::<Vec<_>>();
        let value = json!({
            "argv": self.argv.iter().map(|arg| text(arg)).collect::<Vec<_>>(),
            "env": pairs,
            "cwd": text(self.cwd.as_os_str()),
            "through": self.through.iter().map(|path| text(path.as_os_str())).collect::<Vec<_>>(),
            "colours": self.colours,
            "terminal": self.terminal.map(|(rows, columns)| [rows, columns]),
        });
        fs::write(path, value.to_string()).with_context(|| format!("write {}", path.display()))
    }

    /// Reads what [`Job::write`] wrote.
    pub fn read(path: &Path) -> Result<Job> {
        let value: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
        let job = Job {
            argv: texts(&value["argv"])?,
            env: list(&value["env"])?
                .iter()
                .map(|pair| Ok((text(&pair[0])?, text(&pair[1])?)))
                .collect::<Result<_>>()?,
            cwd: text(&value["cwd"])?.into(),
            through: texts(&value["through"])?.into_iter().map(PathBuf::from).collect(),
            colours: value["colours"] == true,
            terminal: value["terminal"].as_array().and_then(|size| {
                let number = |at: usize| u16::try_from(size.get(at)?.as_u64()?).ok();
                Some((number(0)?, number(1)?))
            }),
        };
        ensure!(!job.argv.is_empty(), "a job without a program");
        Ok(job)
    }
}

/// The folder cargo builds in, by the tag it leaves there.
fn build_folder(program: &Path) -> Option<PathBuf> {
    program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists()).map(Path::to_path_buf)
}

fn list(value: &Value) -> Result<&Vec<Value>> {
    value.as_array().context("not a list")
}

fn texts(value: &Value) -> Result<Vec<OsString>> {
    list(value)?.iter().map(text).collect()
}

fn text(value: &Value) -> Result<OsString> {
    Ok(OsString::from_vec(BASE64.decode(value.as_str().context("not a text")?)?))
}

/// Seconds of an environment variable.
pub fn seconds(name: &str) -> Result<Option<Duration>> {
    let Some(value) = std::env::var_os(name) else { return Ok(None) };
    let number = value.to_str().and_then(|value| value.parse().ok());
    let number = number.with_context(|| format!("{name}: expected a number of seconds, found {value:?}"))?;
    Ok(Some(Duration::from_secs(number)))
}

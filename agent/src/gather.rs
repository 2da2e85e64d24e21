//! `crosswan gather`: one archive of what somebody needs to know who looks for a mistake from afar, without any secret.
//!
//! Every part is asked for by itself and for a bounded time. One that fails is named in the archive, and the others are there.

#![allow(clippy::disallowed_methods, reason = "edge: one deadline for everything, and the names of files")]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    pin::pin,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use futures_util::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream};
use tokio::time::{Instant, timeout_at};

use crate::{doctor, files, host, paths::Paths, status};
use crosswan_core::{
    doctor::diagnose,
    error::{Context, Error, Kind, Result},
    model::Timestamp,
    redact::Redactor,
    settings::Flags,
    swanctl,
    system::ManagedFile,
};

/// How long one part may take.
const EACH: Duration = Duration::from_secs(10);
/// How long all of them may take.
const ALL: Duration = Duration::from_secs(60);
/// So many at once: a gateway has other work.
const AT_ONCE: usize = 4;

/// What is printed by programs: the name of the part, and the command.
const COMMANDS: [(&str, &[&str]); 18] = [
    ("rules/iptables-save.txt", &["iptables-save", "-c"]),
    ("rules/nft.txt", &["nft", "list", "ruleset"]),
    ("network/addresses.txt", &["ip", "-d", "-s", "addr"]),
    ("network/routes.txt", &["ip", "-d", "route", "show", "table", "all"]),
    ("network/policy-rules.txt", &["ip", "rule"]),
    ("network/neighbours.txt", &["ip", "neighbour"]),
    ("network/sockets.txt", &["ss", "-nlup"]),
    ("network/sysctls.txt", &["sysctl", "-a", "--pattern", "^net\\.(ipv4|netfilter|core|ipv6\\.conf)"]),
    ("xfrm/states.txt", &["ip", "-s", "xfrm", "state", "list", "nokeys"]),
    ("xfrm/policies.txt", &["ip", "-s", "xfrm", "policy"]),
    ("charon/sas.txt", &["swanctl", "--list-sas"]),
    ("charon/connections.txt", &["swanctl", "--list-conns"]),
    ("charon/certificates.txt", &["swanctl", "--list-certs"]),
    ("charon/algorithms.txt", &["swanctl", "--list-algs"]),
    ("charon/counters.txt", &["swanctl", "--stats"]),
    ("system/units.txt", &["systemctl", "--no-pager", "--all", "list-units", "crosswan*", "strongswan*"]),
    (
        "system/journal.txt",
        &[
            "journalctl",
            "--no-pager",
            "-o",
            "short-iso",
            "-n",
            "20000",
            "--since",
            "-3 days",
            "-u",
            "crosswan*",
            "-u",
            "strongswan*",
        ],
    ),
    ("system/kernel.txt", &["uname", "-a"]),
];

/// What is in files, by their paths below the root. One that does not exist is no failure.
const FILES: [&str; 12] = [
    "etc/crosswan/crosswan.toml",
    "etc/default/vpn-hub",
    "etc/default/nat-hub",
    "etc/default/nat-vpn",
    "etc/os-release",
    "proc/meminfo",
    "proc/net/snmp",
    "proc/net/netstat",
    "proc/net/xfrm_stat",
    "proc/net/stat/nf_conntrack",
    "proc/sys/net/netfilter/nf_conntrack_count",
    "proc/uptime",
];

/// What came of one part.
type Part = (String, std::result::Result<String, String>);

/// Writes the archive to `output`, or to a file of the current folder that is named after host and time, and returns where it is. `say` is
/// called with a line about each part. It never overwrites a file. It ends within [`ALL`] and what writing takes.
///
/// # Errors
/// The file exists, or cannot be written. What could not be gathered is no error.
pub async fn gather(
    root: &Path,
    env: &BTreeMap<String, String>,
    flags: &Flags,
    paths: &Paths,
    output: Option<PathBuf>,
    say: impl Fn(&str),
) -> Result<PathBuf> {
    let now = host::now();
    let output = output.unwrap_or_else(|| default_name(now));
    if output.symlink_metadata().is_ok() {
        return Err(Error::settings(format!("{} exists; name another file with --output", output.display())));
    }
    let redactor = Redactor::new(secrets(root, env, paths));
    let deadline = Instant::now() + ALL;
    let bounded = |part| bounded(part, deadline);
    let mut parts = parts(root, env, flags, paths).into_iter();
    // The doctor measures how soon others answer, so nothing else is asked meanwhile.
    let diagnosis = stream::iter(parts.next()).then(bounded);
    let mut asked = pin!(diagnosis.chain(stream::iter(parts).map(bounded).buffer_unordered(AT_ONCE)));
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut summary = format!("crosswan {} gathered at {}\n", env!("CARGO_PKG_VERSION"), written(now));
    while let Some(parts) = asked.next().await {
        for (name, part) in parts {
            let line = match &part {
                Ok(text) => format!("ok      {name} ({} bytes)", text.len()),
                Err(why) => format!("FAILED  {name}: {}", crosswan_core::model::plain(&redactor.redact(why))),
            };
            say(&line);
            summary += &line;
            summary.push('\n');
            all.extend(part.ok().map(|text| (name, redactor.redact(&text))));
        }
    }
    all.insert("summary.txt".into(), summary);
    let archive = archive(&all, now).context(|| Error::new(Kind::Other, "pack the archive"))?;
    files::write_new(&output, &archive, 0o600)?;
    Ok(output)
}

/// The part, or that it came too late.
async fn bounded((names, part): Asked<'_>, deadline: Instant) -> Vec<Part> {
    let late = |name| (name, Err(format!("no answer within {EACH:?}")));
    let until = deadline.min(Instant::now() + EACH);
    timeout_at(until, part).await.unwrap_or_else(|_| names.into_iter().map(late).collect())
}

fn written(at: Timestamp) -> String {
    let since = Duration::from_secs(u64::try_from(at.0).unwrap_or_default());
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since).to_string()
}

fn default_name(now: Timestamp) -> PathBuf {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    format!("crosswan-gather-{host}-{}.tar.gz", written(now).replace(':', "")).into()
}

/// A part, or several that come of one look, with their names.
type Asked<'a> = (Vec<String>, LocalBoxFuture<'a, Vec<Part>>);

fn asked<'a>(names: &[&str], part: impl Future<Output = Vec<Part>> + 'a) -> Asked<'a> {
    (names.iter().map(|name| (*name).to_owned()).collect(), part.boxed_local())
}

/// All parts: the doctor's, then what takes longest.
fn parts<'a>(root: &'a Path, env: &'a BTreeMap<String, String>, flags: &'a Flags, paths: &'a Paths) -> Vec<Asked<'a>> {
    let diagnosis = async move {
        let diagnosis = diagnose(&doctor::examine(root, env, flags, paths).await);
        let text = Ok(format!("{diagnosis}\n"));
        vec![("doctor.txt".to_owned(), text), ("doctor.json".to_owned(), json(&diagnosis))]
    };
    let status = async move {
        let status = status::look(paths).await;
        let text = Ok(format!("{status}\n"));
        vec![("status.txt".to_owned(), text), ("status.json".to_owned(), json(&status))]
    };
    let dry_run = async move {
        let program = env::current_exe().unwrap_or_else(|_| "crosswan".into());
        let given = [
            ("--mode", &flags.mode),
            ("--private-net", &flags.private_net),
            ("--regions", &flags.regions),
            ("--hub", &flags.hub),
        ];
        let given = given.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value.clone()?])).flatten();
        let all =
            [program.to_string_lossy().into_owned(), "refresh".into(), "--dry-run".into()].into_iter().chain(given);
        vec![("refresh-dry-run.txt".to_owned(), printed(&all.collect::<Vec<_>>()).await)]
    };
    let mut parts = vec![
        asked(&["doctor.txt", "doctor.json"], diagnosis),
        asked(&["refresh-dry-run.txt"], dry_run),
        asked(&["status.txt", "status.json"], status),
    ];
    parts.extend(COMMANDS.iter().map(|(name, argv)| {
        asked(&[*name], async move {
            let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
            vec![((*name).to_owned(), printed(&argv).await)]
        })
    }));
    let settings = async move { vec![("settings.txt".to_owned(), Ok(environment(env, flags)))] };
    let files = async move { files_below(root, paths) };
    parts.extend([asked(&["settings.txt"], settings), asked(&["files"], files)]);
    parts
}

fn json(value: &impl serde::Serialize) -> std::result::Result<String, String> {
    serde_json::to_string_pretty(value).map_err(|e| e.to_string())
}

/// What a program prints, and how it ended if that was not well.
async fn printed(argv: &[String]) -> std::result::Result<String, String> {
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    host::printed(&argv, EACH).await.map_err(|e| e.chain())
}

/// The settings that are in no file.
fn environment(env: &BTreeMap<String, String>, flags: &Flags) -> String {
    let set = env.iter().filter(|(name, _)| name.starts_with("CROSSWAN_"));
    set.map(|(name, value)| format!("{name}={value}\n")).collect::<String>() + &format!("{flags:?}\n")
}

/// The files, as far as they exist.
fn files_below(root: &Path, paths: &Paths) -> Vec<Part> {
    let managed =
        [ManagedFile::Connections, ManagedFile::Secrets, ManagedFile::Routing, ManagedFile::Rules, ManagedFile::Pair];
    let own = [
        &paths.swanctl_conf,
        &paths.state,
        &paths.status,
        &paths.failure,
        &paths.put_back,
        &paths.unfinished,
        &paths.pair_status,
        &paths.pair_moves,
        &paths.pair_taken,
        &paths.followed,
    ];
    let own = managed.into_iter().map(|file| paths.of(file).to_owned()).chain(own.into_iter().cloned());
    let drop_ins = inside(&root.join("etc/crosswan/conf.d"));
    let system =
        FILES.iter().map(|path| if path.starts_with("proc/") { Path::new("/").join(path) } else { root.join(path) });
    let all = own.chain(drop_ins).chain(system).filter(|path| path.exists());
    let text = |path: &Path| match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) => Err(e.to_string()),
    };
    let name = |path: &Path| format!("files/{}", path.strip_prefix(root).unwrap_or(path).display());
    all.map(|path| (name(&path), text(&path))).collect()
}

/// The files of a folder; none if there is no such folder.
fn inside(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_file()).collect()
}

/// Every secret of this gateway, as far as it can be read: its private keys, the pre-shared keys in files and those
/// that charon has, and the external ids of accounts.
fn secrets(root: &Path, env: &BTreeMap<String, String>, paths: &Paths) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for path in inside(&root.join("etc/swanctl/private")) {
        let text = fs::read_to_string(path).unwrap_or_default();
        let inside = text.lines().skip_while(|line| !line.starts_with("-----BEGIN")).skip(1);
        let body: Vec<&str> = inside.take_while(|line| !line.starts_with("-----END")).map(str::trim).collect();
        all.extend(STANDARD.decode(body.concat()).ok());
        all.extend(body.into_iter().map(|line| line.as_bytes().to_vec()));
    }
    let mut psks = inside(&root.join("etc/crosswan/psk.d"));
    psks.push(root.join("etc/crosswan/psk"));
    psks.extend(env.get("CREDENTIALS_DIRECTORY").map(|folder| Path::new(folder).join("crosswan.psk")));
    let settings = crate::settings::load(root, env, &Flags::default()).ok();
    let accounts = settings.iter().flat_map(|settings| settings.accounts.values());
    all.extend(accounts.filter_map(|account| Some(account.external_id.as_ref()?.bytes().to_vec())));
    psks.extend(settings.and_then(|settings| settings.auth.psk.file));
    all.extend(psks.into_iter().filter_map(|path| fs::read(path).ok()).map(|key| key.trim_ascii().to_vec()));
    let loaded =
        fs::read_to_string(&paths.secrets).ok().and_then(|text| swanctl::secrets(&swanctl::parse(&text).ok()?).ok());
    all.extend(loaded.into_iter().flatten().map(|(_, shared)| shared.secret.bytes().to_vec()));
    let words = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"];
    all.extend(words.iter().filter_map(|name| Some(env.get(*name)?.as_bytes().to_vec())));
    all
}

/// The files as a compressed archive, below one folder.
fn archive(files: &BTreeMap<String, String>, now: Timestamp) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(now.0).unwrap_or_default());
        tar.append_data(&mut header, format!("crosswan-gather/{name}"), text.as_bytes())?;
    }
    tar.into_inner()?.finish()
}

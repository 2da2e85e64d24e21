//! The user-mode kernel: what goes in and comes out, how it fails, and that nothing of it is left. amd64 only, as it is itself.
#![cfg(target_arch = "x86_64")]

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const LAB: &str = env!("CARGO_BIN_EXE_crosswan-lab");
const BUILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernel/build.sh");
/// More than any of these takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// A folder for one test's temporary files, which must be empty at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("kernel test {name} {}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// `crosswan-lab kernel` with these words.
    fn kernel(&self, words: &[&str]) -> Command {
        self.lab("kernel", words)
    }

    fn lab(&self, subcommand: &str, words: &[&str]) -> Command {
        let mut command = Command::new(LAB);
        command.arg(subcommand).args(words).env("CROSSWAN_KERNEL", "uml").env("CROSSWAN_KERNEL_MEMORY", "256");
        command.env("CROSSWAN_KERNEL_LIMIT", LIMIT.as_secs().to_string()).env("TMPDIR", &self.0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.kernel(words).output().unwrap()
    }

    /// Whether a process of this machine names the folder: every user-mode kernel that was booted from it does.
    fn in_use(&self) -> bool {
        let name = self.0.to_string_lossy().into_owned();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        lines.any(|line| String::from_utf8_lossy(&line).contains(&name))
    }

    fn assert_nothing_is_left(&self) {
        let started = Instant::now();
        while self.in_use() {
            assert!(started.elapsed() < LIMIT, "a process of {} is left", self.0.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        let left: Vec<_> = fs::read_dir(&self.0).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?} is left");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn arguments_environment_folder_and_input_go_in_and_outputs_and_exit_code_come_out() {
    let folder = Folder::new("in and out");
    let script = "printf '<%s>' \"$@\" \"$GREETING\" \"$PWD\" \"$(id -u)\" \"$(cat)\"; printf 'a word' >&2; exit 7";
    let mut command = folder.kernel(&["sh", "-c", script, "sh", "two words", "", "'\"$x\\", "--help", "ü\n"]);
    let mut child = command
        .env("GREETING", "good \"morning\" = yes")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"from outside").unwrap();
    let output = child.wait_with_output().unwrap();
    let expected = concat!(
        "<two words><><'\"$x\\><--help><ü\n><good \"morning\" = yes><",
        env!("CARGO_MANIFEST_DIR"),
        "><0><from outside>"
    );
    assert_eq!((out(&output).as_str(), output.status.code()), (expected, Some(7)), "{}", err(&output));
    let said = err(&output);
    let (lab, program) = said.rsplit_once('\n').unwrap();
    assert_eq!(program, "a word");
    assert!(lab.contains("the lab runs in a user-mode kernel: as CROSSWAN_KERNEL asks"), "{lab}");
    assert!(!lab.contains("ptrace"), "{lab}");
    folder.assert_nothing_is_left();
}

#[test]
fn every_byte_passes_as_it_is_and_a_lot_of_them() {
    let folder = Folder::new("bytes");
    let bytes: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(folder.0.join("bytes"), &bytes).unwrap();
    let input = fs::File::open(folder.0.join("bytes")).unwrap();
    let output = folder.kernel(&["cat"]).stdin(input).output().unwrap();
    assert!(output.stdout == bytes, "{} of {} bytes; {}", output.stdout.len(), bytes.len(), err(&output));
    fs::remove_file(folder.0.join("bytes")).unwrap();
    folder.assert_nothing_is_left();
}

#[test]
fn files_change_in_memory_but_below_the_checkout_they_stay() {
    let folder = Folder::new("files");
    let checkout = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kernel-{}", std::process::id()));
    let stays = checkout.to_str().unwrap();
    let script = format!(
        "mkdir -p '{stays}' && echo stays >'{stays}/file' && echo goes >/etc/crosswan-test && mknod /tmp/crosswan-test b 7 0 \
         && chown 7:7 /etc/hostname && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/var/tmp/crosswan-test\")'"
    );
    let output = folder.run(&["sh", "-c", &script]);
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(fs::read_to_string(checkout.join("file")).unwrap(), "stays\n");
    for path in ["/etc/crosswan-test", "/tmp/crosswan-test", "/var/tmp/crosswan-test"] {
        assert!(!Path::new(path).exists(), "{path}");
    }
    fs::remove_dir_all(&checkout).unwrap();
    folder.assert_nothing_is_left();
}

#[test]
fn it_has_what_a_lab_needs() {
    let folder = Folder::new("lab");
    let script = "set -e; ip link add cw1 type xfrm if_id 1; ip link add name vrf7 type vrf table 7; ip link add name wg7 type wireguard
        ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 1 mode tunnel aead 'rfc4106(gcm(aes))' \
            0x000102030405060708090a0b0c0d0e0f10111213 128
        iptables-nft -A FORWARD -m policy --dir in --pol ipsec -m conntrack --ctstate NEW -j DROP
        iptables-legacy -t nat -A POSTROUTING -j MASQUERADE; nft add table inet x
        ip link add name left type veth peer name right; tc qdisc add dev left root netem delay 40ms; test -c /dev/net/tun; unshare -Un true
        test $(($(date +%s) - $1)) -lt 60; test $(hostname) = lab; head -c 64 /dev/random | wc -c";
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    let output = folder.run(&["sh", "-c", script, "sh", &now]);
    assert_eq!((out(&output).trim(), output.status.code()), ("64", Some(0)), "{}", err(&output));
}

#[test]
fn a_panic_is_a_failure_that_shows_the_console() {
    let folder = Folder::new("panic");
    let output = folder.run(&["sh", "-c", "echo 2 >/proc/sys/vm/panic_on_oom; tail /dev/zero"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("Kernel panic - not syncing: Out of memory"), "{}", err(&output));
    folder.assert_nothing_is_left();
}

#[test]
fn a_program_that_hangs_ends_at_its_limit() {
    let folder = Folder::new("hang");
    let started = Instant::now();
    let output = folder.kernel(&["sleep", "1000"]).env("CROSSWAN_KERNEL_LIMIT", "4").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("still running after 4 s (CROSSWAN_KERNEL_LIMIT)"), "{}", err(&output));
    assert!(started.elapsed() < LIMIT);
    folder.assert_nothing_is_left();
}

/// Boots one whose program says `up` when it is there.
fn booted(folder: &Folder, script: &str) -> Child {
    let mut child = folder.kernel(&["sh", "-c", script]).spawn().unwrap();
    let mut word = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
    assert_eq!(&word, b"up\n");
    child
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: plain system call on a child that was not reaped.
    unsafe { libc::kill(child.id() as i32, signal) };
}

#[test]
fn ctrl_c_reaches_the_program_and_a_killed_runner_leaves_nothing() {
    let folder = Folder::new("signals");
    let child = booted(&folder, "trap 'echo caught; exit 130' INT; echo up; while :; do sleep 0.1; done");
    signal(&child, libc::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_eq!((out(&output).as_str(), output.status.code()), ("caught\n", Some(130)), "{}", err(&output));
    folder.assert_nothing_is_left();

    let mut child = booted(&folder, "echo up; sleep 1000");
    assert!(folder.in_use());
    signal(&child, libc::SIGKILL);
    child.wait().unwrap();
    // Its folder is swept by the next.
    assert!(folder.run(&["true"]).status.success());
    folder.assert_nothing_is_left();
}

#[test]
fn two_at_once_do_not_meet() {
    let folder = Folder::new("two");
    let children = ["one", "two"].map(|name| booted(&folder, &format!("echo up; touch /run/{name}; sleep 2; ls /run")));
    for (child, name) in children.into_iter().zip(["one\n", "two\n"]) {
        let output = child.wait_with_output().unwrap();
        assert_eq!(out(&output), name, "{}", err(&output));
    }
    folder.assert_nothing_is_left();
}

/// A shell in place of cargo's test program: it knows three tests, of which the last fails.
const TESTS: &str = "case $* in
    *--list*) printf '%s: test\\n' one two three; echo 'four: benchmark' ;;
    *) printf 'arguments %s\\nprocessors %s\\n' \"$*\" \"$(nproc)\"; case $* in *three*) exit 101 ;; esac ;;
    esac";

#[test]
fn each_processor_has_a_kernel_and_each_of_them_its_share_of_the_tests() {
    let folder = Folder::new("tests");
    let kernels = std::thread::available_parallelism().unwrap().get().min(3);
    let output = folder.lab("tests", &["sh", "-c", TESTS, "program", "--skip", "five"]).output().unwrap();
    let said = out(&output);
    let shares: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("arguments ")).collect();
    assert_eq!((shares.len(), output.status.code()), (kernels, Some(101)), "{said}{}", err(&output));
    assert_eq!(said.matches("processors 1\n").count(), kernels, "{said}");
    if kernels > 1 {
        for test in ["one", "two", "three"] {
            assert_eq!(
                shares.iter().filter(|share| share.ends_with(test) || share.contains(&format!("{test} "))).count(),
                1,
                "{said}"
            );
        }
        assert!(
            shares.iter().all(|share| share.starts_with("--skip five --exact ") && !share.contains("four")),
            "{said}"
        );
    }
    folder.assert_nothing_is_left();
}

/// Ordinary users may have 1024 files open at a time, and an import of moto reads more.
#[test]
fn more_files_can_be_read_than_a_user_may_have_open_at_a_time() {
    let folder = Folder::new("many");
    let many = folder.0.join("many");
    fs::create_dir(&many).unwrap();
    (0..400).for_each(|n| fs::write(many.join(n.to_string()), "x").unwrap());
    let script = format!("cat '{}'/* | wc -c", many.display());
    let mut command = folder.kernel(&["sh", "-c", &script]);
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // SAFETY: one async-signal-safe system call.
    unsafe { command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NOFILE, 200, most)?)) };
    let output = command.output().unwrap();
    assert_eq!(out(&output).trim(), "400", "{}", err(&output));
    fs::remove_dir_all(&many).unwrap();
    folder.assert_nothing_is_left();
}

#[test]
fn its_memory_is_bounded() {
    let folder = Folder::new("memory");
    let output = folder.run(&["sh", "-c", "sed -n 's/MemTotal: *//p' /proc/meminfo; tail /dev/zero; echo $?"]);
    let said = out(&output);
    let mut lines = said.lines();
    let total: u64 = lines.next().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((128_000..262_144).contains(&total), "{said}");
    assert_eq!(lines.next(), Some("137"), "the program is killed and not the kernel: {}", err(&output));
}

/// Runs a command where a mount hides what this machine has at its place.
fn with_mount(mount: &str, mut command: Command) -> Output {
    let program = command.get_program().to_owned();
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut outer = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        outer.args(["--user", "--map-root-user"]);
    }
    outer.args(["--mount", "sh", "-c", &format!("{mount} && exec \"$@\""), "sh"]).arg(program).args(arguments);
    for (name, value) in command.get_envs() {
        outer.env(name, value.unwrap());
    }
    command = outer;
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn where_shared_memory_is_small_or_not_executable_its_memory_lies_in_tmpdir() {
    let folder = Folder::new("shm");
    for (options, why) in [("size=64m", "has 64 MiB free"), ("noexec", "is mounted noexec")] {
        let mount = format!("mount -t tmpfs -o {options} none /dev/shm");
        let output = with_mount(&mount, folder.kernel(&["echo", "fine"]));
        assert_eq!(out(&output), "fine\n", "{}", err(&output));
        let said =
            format!("kernel: its memory lies in {}, which is slower, because /dev/shm {why}", folder.0.display());
        assert!(err(&output).contains(&said), "{}", err(&output));
    }
    folder.assert_nothing_is_left();
    let mount =
        format!("for at in /dev/shm '{}'; do mount -t tmpfs -o size=64m none \"$at\"; done", folder.0.display());
    let output = with_mount(&mount, folder.kernel(&["echo", "fine"]));
    assert_eq!((out(&output).as_str(), output.status.code()), ("", Some(1)));
    assert!(
        err(&output).contains("set TMPDIR to a folder with more room, or CROSSWAN_KERNEL_MEMORY"),
        "{}",
        err(&output)
    );
}

/// Lets these system calls fail, in the command and in everything that it starts.
fn forbid(command: &mut Command, calls: &[i64]) {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = vec![op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for call in calls {
        filter.push(op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, *call as u32));
        filter.push(op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    }
    filter.push(op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    // SAFETY: two system calls on a filter that was made before the fork.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            let done = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0;
            if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
}

#[test]
fn without_seccomp_it_takes_ptrace_and_without_both_it_says_what_to_allow() {
    let folder = Folder::new("forbidden");
    let mut command = folder.kernel(&["echo", "fine"]);
    forbid(&mut command, &[libc::SYS_seccomp]);
    let output = command.output().unwrap();
    assert_eq!(out(&output), "fine\n", "{}", err(&output));
    assert!(err(&output).contains("trying ptrace, which is slower"), "{}", err(&output));

    let mut command = folder.kernel(&["echo", "fine"]);
    forbid(&mut command, &[libc::SYS_seccomp, libc::SYS_ptrace]);
    let output = command.output().unwrap();
    assert_eq!((out(&output).as_str(), output.status.code()), ("", Some(1)));
    let said = err(&output);
    assert!(said.contains("neither by seccomp nor by ptrace") && said.contains("--cap-add SYS_PTRACE"), "{said}");
    folder.assert_nothing_is_left();
}

/// `build.sh` with an empty cache, and only these programs besides what every Debian has.
fn build(folder: &Folder, programs: &[(&str, &str)]) -> Command {
    let bin = folder.0.join("bin");
    fs::create_dir_all(&bin).unwrap();
    for name in [
        "awk",
        "bash",
        "cat",
        "cut",
        "date",
        "df",
        "dirname",
        "grep",
        "mkdir",
        "rm",
        "sha256sum",
        "sort",
        "tail",
        "uname",
    ] {
        let found = ["/usr/bin", "/bin"].map(|at| Path::new(at).join(name)).into_iter().find(|path| path.exists());
        let _ = symlink(found.unwrap(), bin.join(name));
    }
    for (name, script) in programs {
        fs::write(bin.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(bin.join(name), Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(BUILD);
    command.env("PATH", &bin).env("XDG_CACHE_HOME", folder.0.join("cache")).env_remove("CROSSWAN_MIRROR");
    command.env("CROSSWAN_MIRROR", "http://127.0.0.1:9/debian");
    command
}

/// Everything that building it needs, doing nothing.
const TOOLS: [(&str, &str); 10] = [
    ("gcc", "cat >/dev/null"),
    ("make", ""),
    ("flex", ""),
    ("bison", ""),
    ("bc", ""),
    ("xz", ""),
    ("perl", ""),
    ("apt-get", ""),
    ("dpkg-deb", ""),
    ("flock", ""),
];

#[test]
fn what_keeps_it_from_being_built_is_said_in_a_line_with_the_remedy() {
    let folder = Folder::new("build");
    let fails = |command: &mut Command, what: &str| {
        let output = command.output().unwrap();
        let said = err(&output);
        assert!(
            !output.status.success() && said.lines().last().is_some_and(|line| line.contains(what)),
            "{what}: {said}"
        );
        let cache = folder.0.join("cache/crosswan");
        let left: Vec<_> = fs::read_dir(&cache).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
        assert!(left.iter().all(|name| name == "kernel.lock"), "{left:?}");
    };
    // No compiler, and the like.
    let without: Vec<_> = TOOLS.iter().copied().filter(|(name, _)| !["gcc", "flex"].contains(name)).collect();
    let mut command = build(&folder, &without);
    let output = command.output().unwrap();
    assert!(err(&output).contains("As root: apt-get install -y "), "{}", err(&output));
    assert!(err(&output).contains(" gcc") && err(&output).contains(" flex"), "{}", err(&output));
    // No network: apt itself.
    let apt = TOOLS.map(|(name, script)| {
        if name == "apt-get" { (name, "exec /usr/bin/apt-get -o Acquire::Retries=0 \"$@\"") } else { (name, script) }
    });
    fails(&mut build(&folder, &apt), "is the network there? Another mirror: CROSSWAN_MIRROR");
    // A mirror without it.
    let gone = [&TOOLS[..], &[("apt-cache", "")]].concat();
    fails(&mut build(&folder, &gone), "trixie-backports has no linux-source-* at http://127.0.0.1:9/debian");
    // No space.
    fs::create_dir_all(folder.0.join("cache")).unwrap();
    let mount = format!("mount -t tmpfs -o size=100m none '{}'", folder.0.join("cache").display());
    let output = with_mount(&mount, {
        let mut command = build(&folder, &TOOLS);
        command.env("PATH", format!("{}:/usr/bin:/bin", folder.0.join("bin").display()));
        command
    });
    assert!(
        err(&output).contains("MiB in ") && err(&output).contains("make room, or set XDG_CACHE_HOME"),
        "{}",
        err(&output)
    );
}

/// `script` is util-linux's, and gives a program a terminal.
#[test]
fn a_program_that_a_person_talks_to_has_a_terminal_inside() {
    let folder = Folder::new("terminal");
    let mut command = folder.kernel(&[]);
    let line = format!("{LAB} up");
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("CROSSWAN_BIN", "/bin/true");
    command = script;
    command.env_remove("CROSSWAN_KERNEL_MEMORY").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("up ") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut output, &mut line).unwrap() > 0, "it did not come up");
    }
    // Ctrl-C, as a key.
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    folder.assert_nothing_is_left();
}

"""What builds for the other architecture: what is in the package, and what is said where something is missing.

The programs are the real ones. A mirror without backports is Debian's own, behind a proxy that does not find them."""

import os
import re
import shutil
import subprocess
import tempfile
import threading
import unittest
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target")).resolve()
NATIVE = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
OTHER = {"amd64": "arm64", "arm64": "amd64"}[NATIVE]
EMULATOR = {"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}


def run(*command, top=TOP, environment=None, limit=900):
    """Runs a script of the repository, or another program there."""
    return subprocess.run([str(word) for word in command], cwd=top, env=os.environ | (environment or {}), timeout=limit,
                          capture_output=True, text=True)


class Mirror(ThreadingHTTPServer):
    """A proxy for apt that answers 404 to every address with `lacking` in it."""

    def __init__(self, lacking: str):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                try:
                    if lacking in self.path:
                        raise urllib.error.HTTPError(self.path, 404, "Not Found", None, None)
                    # Straight on, whatever proxy is in the environment.
                    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                    with opener.open(self.path, timeout=60) as answer:
                        body = answer.read()
                except urllib.error.HTTPError as error:
                    self.send_error(error.code)
                    return
                except OSError:
                    self.send_error(502)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.environment = {"http_proxy": f"http://127.0.0.1:{self.server_address[1]}"}


class Package(unittest.TestCase):
    """The arm64 package, and the same of amd64 from an arm64 machine."""

    @classmethod
    def setUpClass(cls):
        built = run("images/deb/build.sh", "crosswan", OTHER, "dev", limit=3000)
        if built.returncode:
            raise AssertionError(built.stderr)
        cls.deb = TOP / built.stdout.strip()

    def field(self, name):
        return run("dpkg-deb", "-f", self.deb, name).stdout.strip()

    def test_it_is_for_the_other_architecture_and_needs_what_debian_has_there(self):
        self.assertRegex(self.deb.name, rf"^crosswan_[\d.]+~dev_{OTHER}\.deb$")
        self.assertEqual(self.field("Architecture"), OTHER)
        # Not the libraries of a cross compiler, which no instance has.
        needs = {need.split()[0] for need in self.field("Depends").split(", ")}
        self.assertEqual(needs & {"libc6", "libgcc-s1"}, {"libc6", "libgcc-s1"})
        self.assertEqual([need for need in needs if "cross" in need], [])

    def test_its_program_runs(self):
        """Under an emulator, in the tree it was built in."""
        machine = {"amd64": "x86_64", "arm64": "aarch64"}[OTHER]
        program = f"/target/{machine}-unknown-linux-gnu/debug/crosswan"
        said = run("images/builder.sh", f"qemu-{machine}", program, "--version")
        self.assertRegex(said.stdout, r"^crosswan \d+\.\d+\.\d+\n$", said.stderr)

    def test_it_has_the_files_of_this_machines_package(self):
        def files(deb):
            lines = run("dpkg-deb", "-c", deb).stdout.splitlines()
            return {(line.split()[0], line.split()[5]) for line in lines}

        # Its manual comes from the build script, which runs on the machine that builds.
        names = {name for _, name in files(self.deb)}
        self.assertLessEqual({"./usr/bin/crosswan", "./usr/share/man/man1/crosswan.1.gz", "./usr/lib/crosswan/guard"}, names)
        native = run("images/deb/build.sh", "crosswan", NATIVE, "dev", limit=3000)
        self.assertEqual(files(self.deb), files(TOP / native.stdout.strip()), native.stderr)


class Debian:
    """A plain Debian 13 in a chroot, as a newcomer or an instance has it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name) / "root"
        self.root.mkdir()
        tree = Path(folder.name) / "tree.tar"
        made = run("images/base.sh", "--tree", tree)
        self.assertEqual(made.returncode, 0, made.stderr)
        subprocess.run(["tar", "-C", self.root, "--numeric-owner", "--xattrs", "-xf", tree], check=True)
        (self.root / "etc/resolv.conf").unlink()
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")

    def inside(self, *command, environment=None):
        """Runs it there, with nothing of this machine's environment."""
        own = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", *[f"{name}={value}" for name, value in (environment or {}).items()]]
        mounts = 'cd "$1"; shift; mount --bind /dev dev; mount -t proc proc proc; exec chroot . env -i "$@"'
        return run("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "bash", "-euc", mounts, "-",
                   self.root, *own, *command)


class Cloudcaster(Debian, unittest.TestCase):
    """The package of cloudcaster, for this machine: installed, used and purged."""

    def setUp(self):
        super().setUp()
        built = run("images/deb/build.sh", "cloudcaster", NATIVE, "dev", limit=3000)
        self.assertEqual(built.returncode, 0, built.stderr)
        shutil.copy(TOP / built.stdout.strip(), self.root / "tmp/cloudcaster.deb")

    def test_it_works_where_it_is_installed_and_leaves_nothing(self):
        def files():
            # What dpkg, apt and man write about any package.
            own = re.compile("var/(lib|log|cache)/|etc/ld.so.cache$")
            return {name for name in (str(file.relative_to(self.root)) for file in self.root.rglob("*")) if not own.match(name)}

        before = files()
        # Without apt's lists: it needs no package that a plain Debian lacks.
        installed = self.inside("dpkg", "--install", "/tmp/cloudcaster.deb")
        self.assertEqual(installed.returncode, 0, installed.stdout + installed.stderr)
        self.assertEqual(self.inside("dpkg", "--verify", "cloudcaster").stdout, "")
        self.assertRegex(self.inside("cloudcaster", "--version").stdout, r"^cloudcaster \d+\.\d+\.\d+\n$")
        examples = "/usr/share/doc/cloudcaster/examples"
        checked = self.inside("cloudcaster", "check", f"{examples}/hub.json", f"{examples}/client.json")
        self.assertEqual(checked.returncode, 0, checked.stderr)
        new = files() - before
        self.assertLessEqual({"usr/share/man/man1/cloudcaster.1.gz", "usr/share/man/man1/cloudcaster-cast.1.gz",
                              "usr/share/bash-completion/completions/cloudcaster", "usr/share/doc/cloudcaster/copyright"}, new)
        # It is a program and no service, and has no settings of its own.
        self.assertEqual([name for name in new if name.startswith(("etc/", "usr/lib/"))], [])
        self.inside("dpkg", "--purge", "cloudcaster")
        self.assertEqual(files(), before)


class Rust(Debian, unittest.TestCase):
    """How a newcomer's Debian 13 gets its Rust."""

    def setUp(self):
        super().setUp()
        shutil.copytree(TOP / "tests/setup", self.root / "src/tests/setup")
        shutil.copy(TOP / "Cargo.toml", self.root / "src")

    def test_it_comes_from_backports(self):
        said = self.inside("/src/tests/setup/rust.sh")
        self.assertEqual(said.returncode, 0, said.stderr)
        self.assertRegex(said.stderr, r"installing Rust 1\.\d+\.\d+ from trixie-backports")
        version = self.inside("dpkg-query", "-W", "-f", "${Version}", "rustc").stdout
        self.assertIn("~bpo13", version)
        # A second time there is nothing to do, and nothing is said.
        self.assertEqual(self.inside("/src/tests/setup/rust.sh").stderr, "")

    def test_where_backports_are_gone_it_comes_from_rustup(self):
        # No server of toolchains: how far it came is enough here.
        environment = Mirror("trixie-backports").environment | {"RUSTUP_DIST_SERVER": "http://127.0.0.1:9"}
        said = self.inside("/src/tests/setup/rust.sh", environment=environment).stderr
        self.assertRegex(said, "(?s)adding trixie-backports.*there is no rustc in trixie-backports, or it cannot be reached.*"
                               "installing Debian's rustup.*fetching the stable")
        self.assertEqual(list((self.root / "etc/apt/sources.list.d").glob("crosswan*")), [])


class Missing(unittest.TestCase):
    """Each failure says what is missing and what to do, and leaves nothing behind."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = Path(self.folder.name)

    def fails(self, expected, *command, **how):
        ran = run(*command, **how)
        self.assertNotEqual(ran.returncode, 0, ran.stderr)
        self.assertRegex(ran.stderr, expected)
        return ran.stderr

    def path_without(self, *programs):
        """A PATH with everything that this one leads to but those."""
        folder = Path(tempfile.mkdtemp(dir=self.path))
        for place in reversed(os.environ["PATH"].split(":") + ["/usr/sbin", "/sbin"]):
            for program in Path(place).glob("*"):
                if program.name not in programs:
                    link = folder / program.name
                    link.unlink(missing_ok=True)
                    link.symlink_to(program)
        return {"PATH": str(folder)}

    def test_a_mirror_without_backports(self):
        mirror = Mirror("trixie-backports")
        self.fails("has no trixie-backports, where Rust [0-9.]+ comes from. Name a mirror that has it: CROSSWAN_MIRROR=",
                   "images/builder.sh", "true", environment=mirror.environment | {"CROSSWAN_CACHE": str(self.path)})
        self.assertEqual([file.name for file in self.path.iterdir()], ["builder.lock"])

    def test_a_mirror_without_the_other_architecture(self):
        mirror = Mirror(f"binary-{OTHER}")
        self.fails(f"has no packages for {OTHER}. Name a mirror that has them: CROSSWAN_MIRROR=",
                   "images/builder.sh", "true", environment=mirror.environment | {"CROSSWAN_CACHE": str(self.path)})

    def test_a_rust_that_is_older_than_the_code_wants(self):
        shutil.copytree(TOP / "images", self.path / "images")
        manifest = re.sub(r'(?m)^rust-version = ".*"', 'rust-version = "9.99"', (TOP / "Cargo.toml").read_text())
        (self.path / "Cargo.toml").write_text(manifest)
        self.fails(r"needs Rust 9.99 or newer, and \S+/builder-\w+ has 1\.\d+\.\d+\. Remove that folder and run this again", "images/builder.sh", "true", top=self.path)

    def test_an_emulator_of_programs(self):
        self.fails(f"programs for {OTHER} need an emulator on this machine: apt-get install qemu-user-static arch-test",
                   "images/emulate.sh", OTHER, "true", environment=self.path_without("arch-test"))

    def test_an_emulator_of_machines(self):
        self.fails(f"needs {EMULATOR[OTHER]} to provision a disk for {OTHER}: apt-get install qemu-system-",
                   "packer/image.sh", OTHER, self.path, "nat-vpn", environment=self.path_without(EMULATOR[OTHER]))

    def test_an_architecture_that_is_neither(self):
        for command in (["images/deb/build.sh", "crosswan", "riscv64"], ["packer/image.sh", "riscv64", self.path, "nat-vpn"],
                        ["images/base.sh", self.path / "base.raw", "riscv64"]):
            self.fails("ARCH is amd64 or arm64; found 'riscv64'", *command)

    def test_a_package_that_there_is_none_of(self):
        self.fails("PACKAGE is one of: cloudcaster crosswan", "images/deb/build.sh", "crosswon")


if __name__ == "__main__":
    unittest.main()

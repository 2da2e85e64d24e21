"""`make dist`: what it leaves, and that the same commit gives the same bytes. In the dev profile, and for one architecture, to be quick."""

import hashlib
import json
import os
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

from test_builds import OTHER, TARGET, TOP, run

# Only the commit may matter, so the second release is made under other conditions: with an uncommitted change, in another time zone,
# and with another language.
STRANGER = {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "LANG": "de_DE.UTF-8"}


def release(top, out, environment=None):
    ran = run("bash", "-c", 'umask 077; exec "$@"', "-", "images/dist.sh", out, "dev", OTHER, top=top, limit=3000,
              environment={"CARGO_TARGET_DIR": str(TARGET), "PACKAGES": "crosswan"} | (environment or {}))
    if ran.returncode:
        raise AssertionError(ran.stderr)
    return ran


class Dist(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.out, cls.again = Path(folder.name) / "one", Path(folder.name) / "two"
        clone = Path(folder.name) / "clone"
        subprocess.run(["git", "clone", "--quiet", "--shared", TOP, clone], check=True)
        cls.said = release(clone, cls.out)
        with open(clone / "CHANGELOG.md", "a") as changelog:
            changelog.write("not committed\n")
        cls.stranger = release(clone, cls.again, STRANGER)
        manifest = tomllib.loads((clone / "Cargo.toml").read_text())
        cls.version = manifest["workspace"]["package"]["version"] + "~dev"
        cls.lock = {(package["name"], package["version"]) for package in tomllib.loads((clone / "Cargo.lock").read_text())["package"]}

    def test_its_files(self):
        name = f"crosswan_{self.version}"
        files = {file.name for file in self.out.iterdir()}
        self.assertEqual(files, {f"{name}_{OTHER}.deb", f"{name}_man.tar.gz", f"{name}.cdx.json", "SHA256SUMS"})
        for file in files:
            self.assertIn(f"  {file}\n", self.said.stdout)
        manual = run("tar", "-tf", self.out / f"{name}_man.tar.gz").stdout.split()
        self.assertIn("man1/crosswan.1.gz", manual)

    def test_the_same_commit_gives_the_same_bytes(self):
        def digests(folder):
            return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}

        self.assertEqual(digests(self.out), digests(self.again))
        self.assertIn("uncommitted changes are not part of the release", self.stranger.stderr)

    def test_the_checksums_are_those_of_all_other_files(self):
        checked = run("sha256sum", "--check", "--strict", "SHA256SUMS", top=self.out)
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertEqual(len(checked.stdout.splitlines()), len(list(self.out.iterdir())) - 1)

    def test_the_bill_of_materials_names_what_the_lock_file_pins(self):
        bill = json.loads((self.out / f"crosswan_{self.version}.cdx.json").read_text())
        self.assertEqual((bill["bomFormat"], bill["metadata"]["component"]["name"]), ("CycloneDX", "crosswan"))
        named = {(part["name"], part["version"]) for part in bill["components"]}
        self.assertLessEqual(named, self.lock)
        self.assertLessEqual({"ring", "rustls", "aws-sdk-ec2", "tokio"}, {name for name, _ in named})
        # A test's tools are not in what is shipped, nor is this machine.
        self.assertNotIn("proptest", {name for name, _ in named})
        self.assertNotIn(os.fspath(TOP), json.dumps(bill))


if __name__ == "__main__":
    unittest.main()

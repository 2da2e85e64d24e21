"""packer/ with a current Packer: the templates are well formed and valid, and each amazon-ebs source builds its AMI."""

import json
import os
import re
import subprocess
import tempfile
import time
import tomllib
import unittest
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ec2 import REGIONS, Ec2
from instance import Instance

TOP = Path(__file__).resolve().parents[2]
TEMPLATES, SITE = TOP / "packer", TOP / "packer/example.pkrvars.hcl"
WORK, TOOLS = Path(os.environ["CROSSWAN_WORK"]), Path(os.environ["CROSSWAN_PACKER"])
HUBS = ["198.51.100.100", "203.0.113.100"]
MODES, ARCHES = ["vpn-hub", "nat-hub", "nat-vpn"], ["amd64", "arm64"]
NATIVE = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
INSTANCE = {"amd64": "t3.small", "arm64": "t4g.small"}
NAT_UNITS = {"crosswan-guard.service", "crosswan-watch.service", "crosswan-refresh.service", "crosswan-refresh.timer", "crosswan-pair.service"}
IPSEC_UNITS = {"crosswan-keep.service", "crosswan-refresh.path", "strongswan.service"}
VERSION = re.search(r'(?m)^version = "(.+)"$', (TOP / "Cargo.toml").read_text())[1]


def packer(*args, environment=None, limit=300, ask=""):
    """Runs Packer as a user would, but with the pinned plugins, and without asking HashiCorp for news. Returns what it said."""
    own = {"PACKER_PLUGIN_PATH": TOOLS / "plugins", "PACKER_CONFIG_DIR": WORK, "CHECKPOINT_DISABLE": "1", "PACKER_NO_COLOR": "1",
           "HOME": str(WORK), "PATH": os.environ["PATH"]}
    ran = subprocess.run([TOOLS / "packer", *map(str, args)], cwd=TOP, env=own | (environment or {}), timeout=limit, input=ask,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ran.returncode:
        raise AssertionError(f"packer {' '.join(map(str, args))}: exit code {ran.returncode}\n{ran.stdout}")
    return ran.stdout


def baked(mode, site):
    """The settings that an image of this mode would get."""
    variables = [f"-var={name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in site.items()]
    return tomllib.loads(packer("console", *variables, TEMPLATES, ask=f'local.baked["{mode}"]'))


class Templates(unittest.TestCase):
    def test_format(self):
        packer("fmt", "-check", "-diff", "-recursive", TEMPLATES)

    def test_valid_for_all_modes_and_arches(self):
        with tempfile.TemporaryDirectory() as packages:
            key = Path(packages) / "key"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
            for arch in ARCHES:
                deb = Path(packages) / f"crosswan_{VERSION}_{arch}.deb"
                deb.touch()
                for mode in MODES:
                    for site in ([], ["-var-file", SITE]):
                        with self.subTest(mode=mode, arch=arch, site=bool(site)):
                            packer("validate", f"-only=*.{mode}", *site, "-var", f"arch={arch}", "-var", f"deb={deb}",
                                   "-var", f"ssh_key={key}", TEMPLATES)

    def test_every_variable_is_in_the_manual(self):
        declared = re.findall(r'(?m)^variable "(\w+)"', (TEMPLATES / "variables.pkr.hcl").read_text())
        described = re.findall(r"(?m)^\| `(\w+)` \|", (TEMPLATES / "README.md").read_text())
        self.assertEqual(sorted(declared), sorted(described))

    def test_a_wrong_value_is_refused_in_words(self):
        for wrong, said in (("arch=riscv", "The arch must be amd64 or arm64"), ("auth_method=none", "The auth_method must be key or psk"),
                            ('hub=["hub.example"]', "The hub must be a list of one address or two"),
                            (f"hub={json.dumps(HUBS + HUBS)}", "The hub must be a list of one address or two")):
            with self.assertRaisesRegex(AssertionError, said):
                packer("validate", "-var", wrong, TEMPLATES)

    def test_settings_by_mode(self):
        """What each mode's image gets of the same variables; by default gateways have keys of their own, and no setting says so."""
        common = {"private_net": ["10.0.0.0/8"]}
        for site, all_modes, hub, vpn in (
            ({}, {}, {}, {}),
            ({"regions": REGIONS}, {}, {"regions": REGIONS}, {"regions": REGIONS}),
            ({"regions": REGIONS, "hub_region": "us-west-2", "max_key_age": "90days"}, {"auth": {"max_key_age": "90days"}},
             {"regions": REGIONS}, {"regions": ["us-west-2"]}),
            ({"regions": REGIONS, "hub": HUBS[:1], "auth_method": "psk"}, {"auth": {"method": "psk"}},
             {"regions": REGIONS}, {"regions": REGIONS, "hub": HUBS[:1]}),
            ({"hub": HUBS, "regions": REGIONS}, {}, {"regions": REGIONS}, {"regions": REGIONS, "hub": HUBS}),
        ):
            for mode, own in (("vpn-hub", hub), ("nat-hub", {}), ("nat-vpn", vpn)):
                with self.subTest(mode=mode, **site):
                    self.assertEqual(baked(mode, site), {"mode": mode} | common | all_modes | own)

    def test_each_mode_gets_the_settings_that_it_uses(self):
        """Of a site that sets everything, an image has what docs/settings.md gives its mode, and nothing else."""
        tag = {"key": "k", "value": "v"}
        site = {"private_net": ["10.0.0.0/8"], "auth_method": "psk", "max_key_age": "90days", "hub": HUBS, "hub_tag": tag,
                "hub_region": "us-west-2", "regions": REGIONS, "gateway_tag": tag, "environment_tag": tag, "routes_tag": tag,
                "routes_overrule": True, "address_allocation": "eipalloc-0a1b2c3d", "address_tag": tag}
        rows = re.findall(r"(?m)^\| `([\w.]+)`<br>.* \| ([\w, -]+) \|$", (TOP / "docs/settings.md").read_text())
        modes = {name: MODES if used == "all" else used.split(", ") for name, used in rows}
        known = {"mode"} | {name for name in modes if {name.replace(".", "_"), name.split(".")[-1]} & site.keys()}
        self.assertEqual(len(known), len(site.keys() - {"hub_region"} | {"mode"}))
        for mode in MODES:
            with self.subTest(mode=mode):
                settings = baked(mode, site)
                sections = {name: settings.pop(name) for name in ("auth", "routes", "address") if name in settings}
                names = {f"{section}.{name}" for section, inside in sections.items() for name in inside} | settings.keys()
                self.assertEqual(names, {name for name in known if mode in modes[name]})
                self.assertEqual(sections["routes"], {"tag": tag, "overrule": True})
                self.assertEqual(sections["address"], {"tag": tag, "allocation": "eipalloc-0a1b2c3d"})


class Images(unittest.TestCase):
    """`packer build` of each mode, from Debian's AMI to the shared copies in two regions."""

    @classmethod
    def setUpClass(cls):
        cls.instance = Instance(WORK)
        cls.addClassCleanup(cls.instance.close)
        cls.ec2 = Ec2(WORK, cls.instance.launch)

    def test_vpn_hub(self):
        self.each_arch("vpn-hub", NAT_UNITS | IPSEC_UNITS, {"regions": REGIONS, "environment_tag": {"key": "env", "value": "prod"}})

    def test_nat_hub(self):
        self.each_arch("nat-hub", NAT_UNITS, {"environment_tag": {"key": "env", "value": "prod"}})

    def test_nat_vpn(self):
        self.each_arch("nat-vpn", NAT_UNITS | IPSEC_UNITS,
                       {"regions": ["us-west-2"], "environment_tag": {"key": "env", "value": "prod"}})

    def each_arch(self, mode, units, settings):
        """Builds the AMI for every architecture that there is a package of."""
        for arch in [arch for arch in ARCHES if f"CROSSWAN_DEB_{arch}" in os.environ]:
            with self.subTest(arch=arch):
                self.assertEqual(self.built(mode, arch), {"mode": mode, "private_net": ["10.0.0.0/8"]} | settings)
                self.assertEqual(self.instance.units(), units)

    def test_a_package_for_another_architecture_is_refused_by_name(self):
        [other] = set(ARCHES) - {NATIVE}
        said = f"crosswan.deb is a package for {other}, and this image is for {NATIVE}: make deb ARCH={NATIVE} builds the right one"
        with self.assertRaisesRegex(AssertionError, said):
            self.build("nat-hub", NATIVE, self.package_for(other), WORK / "output/wrong")
        self.assertEqual(self.ec2.left("us-west-2"), [])

    def package_for(self, arch):
        """The native package, declared to be for another architecture: quicker to have than a built one."""
        folder = WORK / "package"
        subprocess.run(["dpkg-deb", "-R", os.environ[f"CROSSWAN_DEB_{NATIVE}"], folder], check=True)
        control = folder / "DEBIAN/control"
        control.write_text(control.read_text().replace(f"Architecture: {NATIVE}", f"Architecture: {arch}"))
        subprocess.run(["dpkg-deb", "-Znone", "-b", folder, WORK / "wrong.deb"], check=True, capture_output=True)
        return WORK / "wrong.deb"

    def build(self, mode, arch, deb, output):
        output.mkdir(parents=True)
        self.ec2.calls.clear()
        self.instance.arch = arch
        packer("build", f"-only=amazon-ebs.{mode}", "-var-file", SITE, "-var", f"arch={arch}", "-var", f"deb={deb}",
               "-var", f"output={output}", TEMPLATES, environment=self.ec2.environment, limit=900)
        self.instance.stop()

    def built(self, mode, arch):
        start, output = time.monotonic(), WORK / "output" / mode / arch
        self.build(mode, arch, os.environ[f"CROSSWAN_DEB_{arch}"], output)
        print(f"\npacker build -only=amazon-ebs.{mode} -var arch={arch}: {time.monotonic() - start:.0f} s")
        self.arch, self.name = arch, f"crosswan-{mode}-{VERSION}-{datetime.now(timezone.utc):%Y%m%d}-{arch}"
        self.amis_are_right(mode)
        self.asked_of_ec2()
        self.manifest_is_right(mode, json.loads((output / "manifest.json").read_text()))
        self.image_is_clean()
        return tomllib.loads(self.instance.text("etc/crosswan/crosswan.toml"))

    def amis_are_right(self, mode):
        images = self.ec2.own_images()
        for region in REGIONS:
            image = images[region, self.name]
            self.assertEqual(image["tags"], {
                "Name": self.name, "crosswan:mode": mode, "crosswan:version": VERSION, "crosswan:arch": self.arch,
                "crosswan:base": f"debian-13-{self.arch}-20261015-2266", "team": "network"})
            self.assertEqual(image["shared"], [
                {"OrganizationArn": "arn:aws:organizations::111122223333:organization/o-example1234"}])

    def asked_of_ec2(self):
        [(region, run)] = self.ec2.asked("RunInstances")
        self.assertEqual((region, run["MetadataOptions.HttpTokens"], run["InstanceType"]), ("us-west-2", "required", INSTANCE[self.arch]))
        v2 = {region for region, r in self.ec2.asked("ModifyImageAttribute") if r.get("ImdsSupport.Value") == "v2.0"}
        self.assertEqual(v2, set(REGIONS))
        copies = {(region, r["Encrypted"], r["KmsKeyId"]) for region, r in self.ec2.asked("CopyImage")}
        self.assertEqual(copies, {(region, "true", "alias/images") for region in REGIONS})
        year = datetime.now(timezone.utc) + timedelta(days=365)
        for region, request in self.ec2.asked("EnableImageDeprecation"):
            self.assertLess(abs(datetime.fromisoformat(request["DeprecateAt"]) - year), timedelta(minutes=15))
        self.assertEqual({region for region, _ in self.ec2.asked("EnableImageDeprecation")}, set(REGIONS))
        self.assertEqual(self.ec2.left("us-west-2"), [])

    def manifest_is_right(self, mode, manifest):
        [build] = manifest["builds"]
        ids = {f"{region}:{image['id']}" for (region, name), image in self.ec2.own_images().items() if name == self.name}
        self.assertEqual(set(build["artifact_id"].split(",")), ids)
        self.assertEqual(build["custom_data"], {"mode": mode, "version": VERSION, "arch": self.arch})

    def image_is_clean(self):
        left = self.instance.files("etc/ssh/ssh_host_*", "home/*/.ssh/authorized_keys", "root/.ssh/authorized_keys", "tmp/*",
                                   "var/lib/apt/lists/*", "var/log/*.log", "etc/crosswan/psk*", "usr/sbin/policy-rc.d",
                                   "etc/credstore/*", "etc/swanctl/private/*", "etc/swanctl/conf.d/*crosswan*", "var/lib/crosswan")
        self.assertEqual(left, [])
        self.assertEqual(self.instance.text("etc/machine-id"), "")
        self.assertTrue(self.instance.files("usr/bin/crosswan"))

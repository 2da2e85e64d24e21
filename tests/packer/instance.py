"""The instance that moto says is running: Debian 13 in a chroot, reached by SSH at whatever address EC2 gave it."""

import os
import shutil
import subprocess
from pathlib import Path

# What a gateway's own disk would bring: no image may keep it. Then what cloud-init does at a Debian AMI's first boot:
# sudo without a password and the launch key for `admin`, new host keys.
FIRST_BOOT = r"""
install -d -m 700 /etc/swanctl/private /etc/credstore
mkdir -p /etc/swanctl/conf.d /etc/crosswan /var/lib/crosswan
for secret in swanctl/private/crosswan.pem swanctl/private/crosswan-next.pem swanctl/private/.crosswan.pem.new \
    swanctl/conf.d/crosswan-secrets.conf swanctl/conf.d/.crosswan-secrets.conf.new credstore/crosswan.psk crosswan/psk; do
    echo secret >/etc/$secret
done
echo '{}' >/var/lib/crosswan/state.json
useradd --create-home --shell /bin/bash "$@" admin
echo 'admin ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/90-cloud-init-users
install -d -m 700 -o admin -g admin /home/admin/.ssh
install -m 600 -o admin -g admin /dev/stdin /home/admin/.ssh/authorized_keys
ssh-keygen -A >/dev/null
mkdir -p /run/sshd /run/systemd/resolve
"""


class Instance:
    """One at a time: a launch replaces the one before, whose files can be looked at until then."""

    def __init__(self, work: Path):
        self.work, self.root, self.mounted, self.arch = work, work / "instance", False, ""
        # sshd is started per connection, in the network that only instances have; the socket stays in this one.
        connection = ["nsenter", f"--net={work}/internet", "chroot", self.root, "/usr/sbin/sshd", "-i"]
        with open(work / "sshd.log", "w") as log:
            self.listener = subprocess.Popen(
                ["systemd-socket-activate", "--listen=0.0.0.0:22", "--accept", "--inetd", "--", *connection],
                stderr=log, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})

    def close(self):
        self.listener.kill()
        self.listener.wait()
        self.stop()

    def launch(self, public_key: str):
        """Of the architecture that is set beforehand."""
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        tree = os.environ[f"CROSSWAN_TREE_{self.arch}"]
        subprocess.run(["tar", "-C", self.root, "--numeric-owner", "--xattrs", "-xf", tree], check=True)
        self.mounted = True
        for mount in (["--bind", "/dev", "dev"], ["-t", "proc", "proc", "proc"], ["-t", "sysfs", "-o", "ro", "sysfs", "sys"],
                      ["-t", "tmpfs", "tmpfs", "run"]):
            subprocess.run(["mount", *mount[:-1], self.root / mount[-1]], check=True)
        # Its network is this machine's: nothing in it may set that up.
        subprocess.run(["mount", "--bind", "-o", "ro", self.root / "proc/sys", self.root / "proc/sys"], check=True)
        # Debian has the kernel start QEMU without the rights of a setuid program, so that sudo works for root alone.
        emulated = self.arch != subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
        admin = ["--non-unique", "--uid", "0"] if emulated else []
        subprocess.run(["chroot", self.root, "/bin/bash", "-euc", FIRST_BOOT, "-", *admin], input=public_key.encode(), check=True)
        shutil.copy("/etc/resolv.conf", self.root / "run/systemd/resolve/stub-resolv.conf")

    def stop(self):
        """As the disk would be without the instance running."""
        if self.mounted:
            for mount in ("run", "sys", "proc/sys", "proc", "dev"):
                subprocess.run(["umount", "--lazy", self.root / mount], check=True)
            self.mounted = False

    def text(self, path: str) -> str:
        return (self.root / path).read_text()

    def files(self, *patterns: str):
        return sorted(str(f.relative_to(self.root)) for p in patterns for f in self.root.glob(p))

    def units(self):
        """The units of crosswan and strongSwan that start at boot. Their links lead to the image's root, not to here."""
        links = (self.root / "etc/systemd/system").glob("*.wants/*")
        return {link.name for link in links if link.name.startswith(("crosswan", "strongswan"))}

# Disks for QEMU, from the plain Debian 13 that images/base.sh makes: the same images where there is no AWS.

locals {
  machine = {
    amd64 = { binary = "qemu-system-x86_64", type = "q35", console = "ttyS0" }
    arm64 = { binary = "qemu-system-aarch64", type = "virt", console = "ttyAMA0" }
  }
  # What cloud-init does in an instance: a key for root and SSH host keys, for this one boot. They come in as systemd credentials.
  public_key = try(file("${abspath(var.ssh_key)}.pub"), "")
  credentials = {
    "ssh.authorized_keys.root"        = local.public_key
    "systemd.unit-dropin.ssh.service" = "[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n"
  }
}

source "qemu" "gateway" {
  iso_url              = "${var.base}.raw"
  iso_checksum         = "none"
  disk_image           = true
  format               = "raw"
  skip_resize_disk     = true
  skip_compaction      = true
  use_backing_file     = false
  headless             = true
  accelerator          = var.accelerator
  qemu_binary          = local.machine[var.arch].binary
  machine_type         = local.machine[var.arch].type
  cpu_model            = "max"
  cpus                 = 2
  memory               = 1024
  disk_interface       = "virtio"
  disable_vnc          = true
  boot_wait            = "-1s"
  net_device           = "virtio-net"
  disk_cache           = "unsafe"
  communicator         = "ssh"
  ssh_username         = "root"
  ssh_timeout          = "10m"
  ssh_private_key_file = var.ssh_key
  shutdown_command     = "systemctl poweroff"

  # No boot loader: QEMU is the one.
  qemuargs = [
    ["-kernel", "${var.base}.vmlinuz"],
    ["-initrd", "${var.base}.initrd"],
    ["-append", "root=/dev/vda rw quiet console=${local.machine[var.arch].console} mitigations=off"],
    ["-smbios", join(",", concat(["type=11"], [for name, value in local.credentials : "value=io.systemd.credential.binary:${name}=${base64encode(value)}"]))],
  ]
}

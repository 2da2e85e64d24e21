# Disks for QEMU, from the plain Debian 13 that images/base.sh makes: the same images where there is no AWS.

locals {
  machine = {
    amd64 = { binary = "qemu-system-x86_64", type = "q35", console = "ttyS0" }
    arm64 = { binary = "qemu-system-aarch64", type = "virt", console = "ttyAMA0" }
  }
  # The base disk has no password; a key comes in for this one boot, as a systemd credential.
  public_key = try(file("${abspath(var.ssh_key)}.pub"), "")
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
    ["-smbios", "type=11,value=io.systemd.credential.binary:ssh.authorized_keys.root=${base64encode(local.public_key)}"],
  ]
}

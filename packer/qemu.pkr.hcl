# Disks for QEMU, from the plain Debian 13 that images/base.sh makes: the same images for places without AWS.

locals {
  machine = {
    amd64 = { binary = "qemu-system-x86_64", type = "q35", cpu = "max", firmware = null }
    # Without KVM use the core of a t4g: emulating the pointer authentication of newer cores is slow.
    arm64 = {
      binary   = "qemu-system-aarch64", type = "virt", cpu = var.accelerator == "kvm" ? "max" : "neoverse-n1",
      firmware = "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"
    }
  }
  # In an instance cloud-init does this: a key for root, for this one boot. Here it comes in as a systemd credential.
  public_key = base64encode(try(file("${abspath(var.ssh_key)}.pub"), ""))
}

source "qemu" "gateway" {
  iso_url              = var.base
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
  firmware             = local.machine[var.arch].firmware
  cpu_model            = local.machine[var.arch].cpu
  cpus                 = 1 # without KVM, the processors of several machines would wait for each other
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

  qemuargs = [["-smbios", "type=11,value=io.systemd.credential.binary:ssh.authorized_keys.root=${local.public_key}"]]
}

# The three gateway images: their sources, and the provisioning that they share.

packer {
  required_version = ">= 1.11"
  required_plugins {
    amazon = {
      version = ">= 1.8.0"
      source  = "github.com/hashicorp/amazon"
    }
    qemu = {
      version = ">= 1.0.9"
      source  = "github.com/hashicorp/qemu"
    }
  }
}

locals {
  now     = timestamp()
  version = coalesce(var.crosswan_version, regex("(?m)^version = \"(.+)\"$", file("../Cargo.toml"))[0])
  deb     = coalesce(var.deb, "${path.root}/../target/package/crosswan_${local.version}_${var.arch}.deb")
  settings = {
    private_net        = var.private_net
    hub                = var.hub
    hub_tag            = var.hub_tag
    hub_region         = var.hub_region
    regions            = var.regions
    gateway_tag        = var.gateway_tag
    environment_tag    = var.environment_tag
    routes_tag         = var.routes_tag
    routes_overrule    = var.routes_overrule
    auth_method        = var.auth_method
    max_key_age        = var.max_key_age
    address_allocation = var.address_allocation
    address_tag        = var.address_tag
  }
  # By mode.
  baked = {
    for mode in ["vpn-hub", "nat-hub", "nat-vpn"] :
    mode => templatefile("crosswan.toml.pkrtpl.hcl", merge(local.settings, { mode = mode }))
  }
  suffix = "${local.version}-${formatdate("YYYYMMDD", local.now)}-${var.arch}"
}

# A source is named by the mode of its image. The source's block here may add only what amazon.pkr.hcl and qemu.pkr.hcl leave open.
build {
  source "amazon-ebs.gateway" {
    name     = "vpn-hub"
    ami_name = "crosswan-vpn-hub-${local.suffix}"
    tags     = merge({ Name = "crosswan-vpn-hub-${local.suffix}", "crosswan:mode" = "vpn-hub" }, local.tags)
  }
  source "amazon-ebs.gateway" {
    name     = "nat-hub"
    ami_name = "crosswan-nat-hub-${local.suffix}"
    tags     = merge({ Name = "crosswan-nat-hub-${local.suffix}", "crosswan:mode" = "nat-hub" }, local.tags)
  }
  source "amazon-ebs.gateway" {
    name     = "nat-vpn"
    ami_name = "crosswan-nat-vpn-${local.suffix}"
    tags     = merge({ Name = "crosswan-nat-vpn-${local.suffix}", "crosswan:mode" = "nat-vpn" }, local.tags)
  }

  source "qemu.gateway" {
    name             = "vpn-hub"
    vm_name          = "vpn-hub.raw"
    output_directory = "${var.output}/vpn-hub"
  }
  source "qemu.gateway" {
    name             = "nat-hub"
    vm_name          = "nat-hub.raw"
    output_directory = "${var.output}/nat-hub"
  }
  source "qemu.gateway" {
    name             = "nat-vpn"
    vm_name          = "nat-vpn.raw"
    output_directory = "${var.output}/nat-vpn"
  }

  # Debian's first boot installs and resizes. cloud-init exits with 2 after errors that it recovered from.
  provisioner "shell" {
    inline = [
      "if command -v cloud-init >/dev/null; then sudo cloud-init status --wait >/dev/null || [ $? -eq 2 ]; fi",
      "mkdir /tmp/crosswan",
    ]
  }
  provisioner "file" {
    source      = local.deb
    destination = "/tmp/crosswan/crosswan.deb"
  }
  provisioner "file" {
    source      = "${path.root}/../images"
    destination = "/tmp/crosswan"
  }
  provisioner "file" {
    content     = local.baked[source.name]
    destination = "/tmp/crosswan/crosswan.toml"
  }
  # This comes last: it removes the key that let Packer in, and nothing may change the image after it.
  provisioner "shell" {
    inline     = ["sudo /tmp/crosswan/images/provision.sh ${source.name}"]
    skip_clean = true
  }

  post-processor "manifest" {
    output     = "${var.output}/manifest.json"
    strip_path = true
    custom_data = {
      mode    = source.name
      version = local.version
      arch    = var.arch
    }
  }
}

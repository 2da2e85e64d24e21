# AMIs: an instance of Debian's AMI is provisioned over SSH, imaged, copied and shared.

locals {
  debian_arch = { amd64 = "x86_64", arm64 = "arm64" }
  instance    = { amd64 = "t3.small", arm64 = "t4g.small" }

  tags = merge({
    "crosswan:version" = local.version
    "crosswan:arch"    = var.arch
    "crosswan:base"    = "{{ .SourceAMIName }}"
  }, var.tags)
}

source "amazon-ebs" "gateway" {
  region                      = var.region
  instance_type               = coalesce(var.instance_type, local.instance[var.arch])
  subnet_id                   = var.subnet_id
  associate_public_ip_address = var.public_ip
  ssh_interface               = var.public_ip ? "public_ip" : "private_ip"
  ssh_username                = "admin"
  temporary_key_pair_type     = "ed25519"

  source_ami_filter {
    owners      = ["136693071363"] # Debian: https://wiki.debian.org/Cloud/AmazonEC2Image
    most_recent = true
    filters = {
      name                = "debian-13-${var.arch}-*"
      architecture        = local.debian_arch[var.arch]
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = var.volume_size
    delete_on_termination = true
  }

  # IMDSv2 only, in the instance that is provisioned and in every instance of the AMI.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  imds_support = "v2.0"

  # The build region is always listed, because Packer accepts a KMS key only for a listed region.
  ami_description    = "crosswan ${local.version} on Debian 13"
  ami_regions        = distinct(concat([var.region], var.copy_to))
  encrypt_boot       = var.encrypt ? true : null
  region_kms_key_ids = var.kms_keys
  ami_org_arns       = var.share_with_organizations
  ami_ou_arns        = var.share_with_organizational_units
  ami_users          = var.share_with_accounts
  deprecate_at       = timeadd(local.now, var.deprecate_after)

  skip_ami_run_tags = true
  run_tags          = merge({ Name = "crosswan image build" }, var.tags)
  snapshot_tags     = local.tags
}

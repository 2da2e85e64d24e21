# Every variable; README.md has the same list as a table.

# --- The gateway's settings, baked as /etc/crosswan/crosswan.toml. Secrets are never baked.

variable "private_net" {
  description = "The private network: excluded from NAT, reached through the hub."
  type        = list(string)
  default     = ["10.0.0.0/8"]
}

variable "auth_method" {
  description = "vpn-hub, nat-vpn: key or psk. Default: the agent's, key: each gateway makes and announces a key of its own."
  type        = string
  default     = null
  validation {
    condition     = contains(["key", "psk"], coalesce(var.auth_method, "key"))
    error_message = "The auth_method must be key or psk."
  }
}

variable "max_key_age" {
  description = "vpn-hub, nat-vpn: a gateway's key is rotated when it is older than this, as in 90days. Default: only by hand."
  type        = string
  default     = null
}

variable "hub" {
  description = "nat-vpn: the hub's Elastic IP. Without it the hub is looked for by hub_tag, or user data names it."
  type        = string
  default     = null
}

variable "hub_tag" {
  description = "nat-vpn: the tag of the hub, { key, value }, looked for in hub_region."
  type        = object({ key = string, value = string })
  default     = null
}

variable "hub_region" {
  description = "nat-vpn: where to look for the hub and its key. Default: in all of regions."
  type        = string
  default     = null
}

variable "regions" {
  description = "vpn-hub: where to look for gateways."
  type        = list(string)
  default     = []
}

variable "gateway_tag" {
  description = "vpn-hub: the tag of the gateways to connect, { key, value }."
  type        = object({ key = string, value = string })
  default     = null
}

variable "environment_tag" {
  description = "A second tag that a gateway or hub must have, { key, value }."
  type        = object({ key = string, value = string })
  default     = null
}

# --- What is built

variable "arch" {
  description = "amd64 or arm64."
  type        = string
  default     = "amd64"
  validation {
    condition     = contains(["amd64", "arm64"], var.arch)
    error_message = "The arch must be amd64 or arm64."
  }
}

variable "crosswan_version" {
  description = "The agent's version, for names and tags. Default: Cargo.toml's."
  type        = string
  default     = null
}

variable "deb" {
  description = "The agent's package. Default: where `make deb` puts it."
  type        = string
  default     = null
}

variable "output" {
  description = "Where manifest.json and the disks of the qemu sources go."
  type        = string
  default     = "target/packer"
}

# --- AMIs

variable "region" {
  description = "The region to build in."
  type        = string
  default     = "us-east-1"
}

variable "copy_to" {
  description = "More regions to copy the AMI to."
  type        = list(string)
  default     = []
}

variable "encrypt" {
  description = "Encrypt the AMI's snapshots, with each region's default KMS key or that of kms_keys."
  type        = bool
  default     = false
}

variable "kms_keys" {
  description = "The KMS key to encrypt with in each region, as region = key, also for the build region. Needed to share an encrypted AMI."
  type        = map(string)
  default     = {}
}

variable "share_with_organizations" {
  description = "ARNs of organizations whose accounts may launch the AMI."
  type        = list(string)
  default     = []
}

variable "share_with_organizational_units" {
  description = "ARNs of organizational units whose accounts may launch the AMI."
  type        = list(string)
  default     = []
}

variable "share_with_accounts" {
  description = "Accounts that may launch the AMI."
  type        = list(string)
  default     = []
}

variable "tags" {
  description = "More tags, on the AMI, its snapshots and the instance that is provisioned."
  type        = map(string)
  default     = {}
}

variable "deprecate_after" {
  description = "The time after which EC2 stops listing the AMI to others, in hours, such as 8760h."
  type        = string
  default     = "8760h"
}

variable "instance_type" {
  description = "The instance to provision in. Default: t3.small or t4g.small."
  type        = string
  default     = null
}

variable "subnet_id" {
  description = "The subnet to provision in. Default: the default VPC's."
  type        = string
  default     = null
}

variable "public_ip" {
  description = "Give the instance a public address and connect to that; false connects to its private one."
  type        = bool
  default     = true
}

variable "volume_size" {
  description = "GB of the root volume. Debian's AMI needs 8."
  type        = number
  default     = 8
}

# --- Disks for QEMU

variable "base" {
  description = "The base disk, a Debian 13 that boots. images/base.sh makes one for amd64."
  type        = string
  default     = "target/images/base.raw"
}

variable "ssh_key" {
  description = "A private key to provision with; its public key is beside it as .pub. Make it for one build: ssh-keygen -t ed25519."
  type        = string
  default     = null
}

variable "accelerator" {
  description = "QEMU's accelerator: kvm, or tcg where there is none."
  type        = string
  default     = "tcg"
}

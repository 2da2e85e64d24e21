# Every variable; README.md has the same list as a table.

# --- The gateway's settings, baked as /etc/crosswan/crosswan.toml. Secrets are never baked.

variable "private_net" {
  description = "These networks are excluded from NAT and reached through the hub. Modes: all."
  type        = list(string)
  default     = ["10.0.0.0/8"]
}

variable "auth_method" {
  description = "With \"key\" each gateway makes and announces a key of its own. With \"psk\" there are pre-shared keys only. Modes: all. Default: \"key\"; \"psk\" where a 2014 file holds VPN_PSK."
  type        = string
  default     = null
  validation {
    condition     = contains(["key", "psk"], coalesce(var.auth_method, "key"))
    error_message = "The auth_method must be key or psk."
  }
}

variable "max_key_age" {
  description = "This gateway's key is rotated when it is older than this, for instance \"90days\". Modes: all. Default: no rotation by age."
  type        = string
  default     = null
}

variable "hub" {
  description = "The hub's address, or the addresses of two hubs. Of two hubs a nat-vpn keeps both tunnels up and uses one: at first the hub that is named first, and another one only when the tunnel in use is down. Where auth.method is \"psk\", a nat-vpn then asks EC2 for nothing. Otherwise the hub's key must be found as well: set regions or auth.hub_key. Modes: nat-vpn. Default: the hub that is found by hub_tag."
  type        = list(string)
  default     = null
  validation {
    condition     = var.hub == null || can(regex("^[0-9.]+( [0-9.]+)?$", join(" ", var.hub)))
    error_message = "The hub must be a list of one address or two."
  }
}

variable "hub_tag" {
  description = "A nat-vpn looks for the hub in regions by this tag. Modes: nat-vpn. Default: { key = \"service\", value = \"vpn-hub\" }."
  type        = object({ key = string, value = string })
  default     = null
}

variable "hub_region" {
  description = "nat-vpn: where to look for the hub and its key. Default: in all of regions."
  type        = string
  default     = null
}

variable "regions" {
  description = "A vpn-hub looks for gateways in these regions, and a nat-vpn for the hub and its key. Modes: vpn-hub, nat-vpn."
  type        = list(string)
  default     = []
}

variable "gateway_tag" {
  description = "The hub connects the gateways that have this tag, and a nat-hub or nat-vpn finds others of its mode in its VPC by it. Modes: all. Default: { key = \"service\", value = \"nat\" }."
  type        = object({ key = string, value = string })
  default     = null
}

variable "environment_tag" {
  description = "A gateway or hub must have this second tag as well, and so must the other member of a pair. Modes: all. Default: none."
  type        = object({ key = string, value = string })
  default     = null
}

variable "routes_tag" {
  description = "This gateway writes its routes into the route tables of its own VPC that have this tag, and into no others. Modes: all. Default: { key = \"crosswan-routes\", value = \"managed\" }."
  type        = object({ key = string, value = string })
  default     = null
}

variable "routes_overrule" {
  description = "In these tables, a route that leads to a living target which is not crosswan's (a peering, a Transit Gateway, another's interface) is taken as well. Without this it is left and reported. Modes: all. Default: false."
  type        = bool
  default     = null
}

variable "address_allocation" {
  description = "This gateway takes this Elastic IP before it makes a tunnel or takes a route. It never takes it from an instance that runs. Modes: all. Default: none."
  type        = string
  default     = null
}

variable "address_tag" {
  description = "As address.allocation, with any Elastic IP that has this tag and that no running instance has. A replacement without an outage needs one that is free, so two for one gateway. Modes: all. Default: none."
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
  description = "The base disk, a Debian 13 that boots, of the architecture. images/base.sh makes one."
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

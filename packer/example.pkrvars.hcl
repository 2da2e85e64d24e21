# An example of a site: copy it, change it, and pass it to Packer with -var-file.

# The gateways' settings. Each gateway makes its own key and finds its peers by their tags, so there is nothing to hand out.
private_net     = ["10.0.0.0/8"]
hub_region      = "us-west-2"
regions         = ["us-west-2", "eu-west-1"]
environment_tag = { key = "env", value = "prod" }

# The AMIs
region   = "us-west-2"
copy_to  = ["eu-west-1"]
encrypt  = true
kms_keys = { us-west-2 = "alias/images", eu-west-1 = "alias/images" }
tags     = { team = "network" }

share_with_organizations = ["arn:aws:organizations::111122223333:organization/o-example1234"]

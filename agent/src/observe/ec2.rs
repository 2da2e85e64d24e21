//! EC2: the running gateways of every listed region.

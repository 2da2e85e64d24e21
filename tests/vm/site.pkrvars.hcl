# The site that the images of `make vm-test` are built for: the lab's.
private_net = ["10.0.0.0/8"]
hub_region  = "us-west-2"
regions     = ["us-west-2", "eu-west-1"]

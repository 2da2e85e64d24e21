//! EC2 and IMDS that fail: nothing that works is lost.

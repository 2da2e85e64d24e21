//! IMDSv2: who am I.

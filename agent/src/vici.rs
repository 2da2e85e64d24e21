//! VICI: the few requests crosswan makes to charon, each with a timeout.

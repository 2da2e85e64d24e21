//! Settings: files, environment and flags into one checked value.

//! Processes that die, and others that interfere: it heals.

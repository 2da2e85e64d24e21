//! What goes wrong around a gateway: a region in which everything runs, ways to look at it, and every fault as a row of
//! the campaign. Shared by `crosswan-faults` (`make faults`, `make churn`) and the tests in tests/net.

mod account;
pub mod attended;
pub mod campaign;
pub mod churn;
pub mod clock;
pub mod faults;
pub mod kills;
pub mod look;
pub mod memory;
pub mod pair;
pub mod paper;
pub mod peer;
pub mod region;
pub mod stage;
pub mod strace;

//! A pair of vpn-hub: what is lost when the one that has the routes dies, is handed over or returns, and that nothing is while nobody dies.

mod cold;
mod few;
mod load;
mod many;
mod mass;
mod stage;

pub use few::bench as few;
pub use load::bench as load;
pub use many::bench as many;

/// The budget, seconds, to which EC2's time comes where EC2 decides.
const GAP: f64 = 0.6;

//! crosswan-lab

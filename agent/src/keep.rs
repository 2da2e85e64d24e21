//! The small resident loop that keeps the tunnels of the last refresh up.

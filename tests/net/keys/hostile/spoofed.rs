//! A spoke sends, through its own good tunnel, packets that say they come from somebody else.

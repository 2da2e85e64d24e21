//! Own chains in iptables: the rules as text, and the text read back.

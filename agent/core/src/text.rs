//! Small pieces of text for people.

/// A count with its noun: `1 rule`, `2 rules`. `what` is a noun whose plural ends in `s`.
pub fn plural(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

//! Foreign text made safe to print, and the nearest of some known words.

pub use crosswan_core::model::{plain, printable as quoted};

/// The known word that somebody probably meant. None if nothing is near.
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The distance is quadratic in the length, and nothing this long is a typing error.
    if found.len() > 80 {
        return None;
    }
    let found = found.to_lowercase();
    let scored = known.into_iter().map(|k| (strsim::damerau_levenshtein(&found, &k.to_lowercase()), k));
    let (distance, word) = scored.min()?;
    (distance <= 1 + found.chars().count() / 4).then_some(word)
}

/// `n thing` or `n things`.
pub fn count(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// `a, b and c`.
pub fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    match items.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

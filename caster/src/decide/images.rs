//! Which image a document means, and whether it can be launched.

use super::input::Input;
use crate::{
    desired::{Choice, Fault},
    seen::{Image, InstanceType},
    text,
    tree::KeyPath,
};

/// What of a document asks for an image.
pub(super) struct Wish<'a> {
    pub path: KeyPath,
    pub ami: Option<&'a str>,
    pub aminame: Option<&'a str>,
    pub instance_type: &'a str,
    pub zones: Vec<&'a str>,
}

impl Input<'_> {
    /// The image and why it was taken, or everything that hinders a launch of it.
    pub(super) fn image(&self, wish: &Wish) -> Result<Choice, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, what: String| faults.push(Fault { path: wish.path.key(key), what });
        let name = wish.instance_type;
        let kind = self.seen.instance_types.get(name);
        match kind {
            None => {
                let near = text::nearest(name, self.seen.instance_types.keys().map(String::as_str));
                let near = near.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
                fault("type", format!("{name} is not an instance type of {}{near}", self.seen.region));
            }
            Some(kind) => {
                for zone in wish.zones.iter().filter(|zone| !kind.zones.contains(**zone)) {
                    fault("type", format!("{name} is not offered in {zone}"));
                }
            }
        }
        let choice = match (wish.ami, wish.aminame) {
            (Some(id), _) => match self.seen.images.get(id) {
                None => Err(("ami", format!("there is no image {id} in {}", self.seen.region))),
                Some(image) if !image.available => Err(("ami", format!("{id} is not available"))),
                Some(image) => match kind.and_then(|kind| misfit(image, kind)) {
                    Some(why) => Err(("ami", format!("{id} is {why} of {name}"))),
                    None => Ok(Choice { image: id.to_owned(), why: "named by the document".to_owned() }),
                },
            },
            (None, Some(x)) => self.newest(x, kind).ok_or_else(|| ("aminame", self.none(x, name))),
            (None, None) => Err(("aminame", "missing: without aminame or ami nothing can be launched".to_owned())),
        };
        match choice {
            Ok(choice) if faults.is_empty() => Ok(choice),
            Ok(_) => Err(faults),
            Err((key, what)) => {
                faults.push(Fault { path: wish.path.key(key), what });
                Err(faults)
            }
        }
    }

    /// The environment's images before those of all, those before unmarked ones; of each the newest.
    fn newest(&self, x: &str, kind: Option<&InstanceType>) -> Option<Choice> {
        for prefix in [format!("{}-{x}-", self.document.aws.env), format!("all-{x}-"), format!("{x}-")] {
            let named = self.seen.images.iter().filter(|(_, i)| i.name.strip_prefix(&prefix).is_some_and(stamped));
            let fits = named.filter(|(_, i)| {
                i.available && self.is_trusted(i) && kind.is_none_or(|kind| misfit(i, kind).is_none())
            });
            if let Some((id, image)) = fits.max_by_key(|(id, i)| (i.name.clone(), (*id).clone())) {
                let why = format!("{}, the newest of {prefix}*", text::plain(&image.name));
                return Some(Choice { image: id.clone(), why });
            }
        }
        None
    }

    /// Anybody may publish an image of any name, so only those of listed owners count.
    fn is_trusted(&self, image: &Image) -> bool {
        self.document.aws.image_owners.iter().any(|owner| match owner.as_str() {
            "self" => image.owner == self.seen.account,
            owner => image.owner == owner || image.owner_alias.as_deref() == Some(owner),
        })
    }

    /// Why no image of a name can be taken, with those that nearly could.
    fn none(&self, x: &str, kind: &str) -> String {
        let env = &self.document.aws.env;
        let owners = text::list(&self.document.aws.image_owners);
        let mut what = format!(
            "no image is called {env}-{x}-, all-{x}- or {x}- with 14 digits after it, belongs to {owners}, is available and fits {kind}"
        );
        let near = self.seen.images.iter().find(|(_, i)| i.name == x || i.name.contains(&format!("{x}-")));
        if let Some((id, image)) = near {
            let name = text::quoted(&image.name);
            let why = match self.seen.instance_types.get(kind).and_then(|kind| misfit(image, kind)) {
                _ if !image.available => "is not available".to_owned(),
                _ if !self.is_trusted(image) => format!("belongs to {}", text::plain(&image.owner)),
                Some(why) => format!("is {why}"),
                None => "has no such ending".to_owned(),
            };
            what.push_str(&format!("; {id} {name} {why}"));
        }
        what
    }
}

/// Whether the rest of an image's name begins with the 14 digits of a time.
fn stamped(rest: &str) -> bool {
    rest.len() >= 14 && rest.bytes().take(14).all(|b| b.is_ascii_digit())
}

/// Why an image does not fit an instance type, if it does not.
fn misfit(image: &Image, kind: &InstanceType) -> Option<String> {
    if !kind.architectures.contains(&image.architecture) {
        let known = text::list(kind.architectures.iter().map(|a| text::plain(a)));
        return Some(format!("{}, not {known}", text::plain(&image.architecture)));
    }
    if !kind.virtualizations.contains(&image.virtualization) {
        let known = text::list(kind.virtualizations.iter().map(|v| text::plain(v)));
        return Some(format!("{}, not {known}", text::plain(&image.virtualization)));
    }
    None
}

//! Fuzzing of everything in crosswan that reads foreign bytes: a target per source of them, all in one program.
//!
//! Built by `tests/fuzz/run` it is libFuzzer (`crosswan-fuzz --TARGET [libFuzzer's options] [FOLDER…]`); built plainly it
//! takes the same target over the files of folders once, which is what `cargo test` does with the corpus. Without a target
//! it lists them.

mod caster;
mod ec2;
mod fake;
mod imds;
mod iptables;
mod oracle;
mod pair;
mod settings;
mod state;
mod stores;
mod strongswan;
mod swanctl;
mod tags;
mod vici;
mod wire;

use std::{env, panic, process::abort};

/// Reads the bytes as the agent would, and panics when a property does not hold.
type Target = fn(&[u8]);

/// By the source of the bytes.
const TARGETS: [(&str, Target); 12] = [
    ("settings", settings::toml),
    ("legacy", settings::legacy),
    ("swanctl", swanctl::target),
    ("vici", vici::target),
    ("imds", imds::target),
    ("state", state::target),
    ("iptables", iptables::target),
    ("ec2", ec2::target),
    ("stores", stores::target),
    ("tags", tags::target),
    ("caster", caster::target),
    ("pair", pair::target),
];

fn main() {
    // With two dashes, because libFuzzer leaves such arguments alone, and passes them on when it starts itself again.
    let name = env::args().nth(1).unwrap_or_default();
    let Some((_, target)) = TARGETS.into_iter().find(|(known, _)| name.strip_prefix("--") == Some(known)) else {
        TARGETS.iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    // libFuzzer must see a panic as a crash, also one in a task that would swallow it.
    let said = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        said(info);
        abort();
    }));
    run(target);
}

/// Hands over to libFuzzer, which calls the target for ever or until its options say stop.
#[cfg(fuzzing)]
fn run(target: Target) {
    use std::{
        ffi::{CString, c_char, c_int},
        process, ptr, slice,
        sync::OnceLock,
    };

    static TARGET: OnceLock<Target> = OnceLock::new();
    unsafe extern "C" {
        fn LLVMFuzzerRunDriver(
            argc: *mut c_int,
            argv: *mut *mut *mut c_char,
            one: extern "C" fn(*const u8, usize) -> c_int,
        ) -> c_int;
    }
    extern "C" fn one(data: *const u8, len: usize) -> c_int {
        // SAFETY: libFuzzer's own buffer; of an empty one it may give a null pointer.
        let data = if len == 0 { &[] } else { unsafe { slice::from_raw_parts(data, len) } };
        TARGET.get().expect("set before")(data);
        0
    }

    TARGET.set(target).expect("set once");
    let arguments = env::args().map(|a| CString::new(a).expect("no NUL").into_raw());
    let mut pointers: Vec<*mut c_char> = arguments.chain([ptr::null_mut()]).collect();
    let (mut argc, mut argv) = ((pointers.len() - 1) as c_int, pointers.as_mut_ptr());
    // SAFETY: argc and argv as main gets them, alive until the process ends.
    process::exit(unsafe { LLVMFuzzerRunDriver(&mut argc, &mut argv, one) });
}

/// Each file of the folders, once.
#[cfg(not(fuzzing))]
fn run(target: Target) {
    for folder in env::args().skip(2) {
        for file in std::fs::read_dir(&folder).expect("a folder") {
            let path = file.expect("a file").path();
            eprintln!("{}", path.display());
            target(&std::fs::read(&path).expect("readable"));
        }
    }
}

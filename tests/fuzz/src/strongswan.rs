//! strongSwan's own reader of settings text, out of the library charon runs on: what ours takes, it must take for the same.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr,
    sync::OnceLock,
};

use crosswan_core::swanctl::{Node, Tree};

/// Where Debian's libstrongswan is.
const LIBRARY: &CStr = c"/usr/lib/ipsec/libstrongswan.so.0";
/// Sections in sections, and the key: as many as our parser allows, and one.
const DEEPEST: usize = 18;
/// strongSwan looks a longer name up by its beginning.
const LONGEST: usize = 127;

unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

type Settings = *mut *mut c_void;
type Init = unsafe extern "C" fn(*const c_char, *const c_char) -> bool;
type Create = unsafe extern "C" fn(*const c_char) -> Settings;
type GetStr = unsafe extern "C" fn(Settings, *const c_char, *const c_char, ...) -> *const c_char;
type Destroy = unsafe extern "C" fn(Settings);

/// The methods' places in `settings_t` (strongSwan's `settings/settings.h`, the same since 5.2).
const GET_STR: usize = 0;
const DESTROY: usize = 18;

static CREATE: OnceLock<Create> = OnceLock::new();

/// Every value of `tree`, which ours made of `text`, is where and what strongSwan finds it.
pub fn agrees(text: &str, tree: &Tree) {
    // SAFETY: the signatures are those of library.h and settings.h.
    let create = CREATE.get_or_init(|| unsafe {
        const RTLD_NOW: c_int = 2;
        let library = dlopen(LIBRARY.as_ptr(), RTLD_NOW);
        assert!(!library.is_null(), "{LIBRARY:?} is missing: install charon-systemd");
        let init: Init = std::mem::transmute(dlsym(library, c"library_init".as_ptr()));
        assert!(init(c"".as_ptr(), c"crosswan-fuzz".as_ptr()));
        std::mem::transmute::<*mut c_void, Create>(dlsym(library, c"settings_create_string".as_ptr()))
    });
    let terminated = CString::new(text).expect("ours takes no NUL");
    // SAFETY: as above; the object lives until it is destroyed here.
    unsafe {
        let settings = create(terminated.as_ptr());
        assert!(!settings.is_null(), "strongSwan refuses what ours takes: {text:?}");
        values(settings, tree, &mut Vec::new());
        let destroy: Destroy = std::mem::transmute(*settings.add(DESTROY));
        destroy(settings);
    }
}

/// # Safety
/// `settings` is a `settings_t` of strongSwan's.
unsafe fn values(settings: Settings, tree: &Tree, path: &mut Vec<CString>) {
    for (name, node) in tree.iter().filter(|(name, _)| name.len() <= LONGEST) {
        path.push(CString::new(name.as_str()).expect("no NUL"));
        match node {
            // SAFETY: the caller's.
            Node::Section(inner) => unsafe { values(settings, inner, path) },
            Node::Value(value) => {
                let format = CString::new(vec!["%s"; path.len()].join(".")).expect("no NUL");
                let mut p = [ptr::null(); DEEPEST];
                p.iter_mut().zip(&*path).for_each(|(p, name)| *p = name.as_ptr());
                // SAFETY: as many names as the format has places; the others are not looked at.
                let found = unsafe {
                    let get: GetStr = std::mem::transmute(*settings.add(GET_STR));
                    let found = get(
                        settings,
                        format.as_ptr(),
                        ptr::null(),
                        p[0],
                        p[1],
                        p[2],
                        p[3],
                        p[4],
                        p[5],
                        p[6],
                        p[7],
                        p[8],
                        p[9],
                        p[10],
                        p[11],
                        p[12],
                        p[13],
                        p[14],
                        p[15],
                        p[16],
                        p[17],
                    );
                    (!found.is_null()).then(|| CStr::from_ptr(found).to_bytes())
                };
                assert_eq!(found, Some(value.as_bytes()), "strongSwan reads another value of {path:?}");
            }
            Node::List(_) => unreachable!("text has no lists"),
        }
        path.pop();
    }
}

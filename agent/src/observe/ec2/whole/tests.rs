use proptest::{prelude::*, sample::select};

use super::*;

const PAGE: &str = r#"<?xml version="1.0"?><R xmlns="x"><set><item><a>1</a></item><b/></set></R>"#;
/// As EC2 sends it.
const PLAIN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeXResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\n    \
     <requestId>0-0</requestId><set><item><a>größe &amp; 1 > 0</a></item><b/></set>\n</DescribeXResponse>\n";

#[test]
fn a_page_cut_anywhere_is_not_whole() {
    assert!(well_formed(b"<R/>\n"));
    for page in [PAGE.as_bytes(), PLAIN.as_bytes()] {
        assert!(well_formed(page));
        // Within the root's own start tag the decoder finds no root element and says so itself.
        let root = page.windows(5).position(|w| w == b"<set>").unwrap();
        for cut in root..page.trim_ascii_end().len() {
            assert!(!well_formed(&page[..cut]), "{}", String::from_utf8_lossy(&page[..cut]));
        }
    }
    assert!(!well_formed(b"<R><a>1</a><<</R>"));
    assert!(!well_formed(b"<R>\xff</R>"));
}

#[test]
fn what_ec2_sends_is_plain_and_the_rest_of_xml_is_not() {
    assert!(plain::well_formed(PLAIN.as_bytes()));
    for whole in [
        "<R/>",
        "<R><!-- > --></R>",
        "<R><![CDATA[</R>]]></R>",
        "<R a='>'></R>",
        "<R><a b=\">\"/></R>",
        "<R><?a?></R>",
        "<n:R></n:R>",
        "<R>]</R>",
        "<R></R ><!-- -->",
    ] {
        assert!(!plain::well_formed(whole.as_bytes()) && well_formed(whole.as_bytes()), "{whole}");
    }
    for broken in [
        "",
        "<R>",
        "<R></a>",
        "<R></R></R>",
        "<R></R><R></R>",
        "<R></R>x",
        "<R></R>\u{c}",
        "x<R></R>",
        "<1></1>",
        "<R>\u{1}</R>",
    ] {
        assert!(!plain::well_formed(broken.as_bytes()), "{broken}");
    }
}

#[test]
fn elements_are_cut_out_by_their_place_and_name() {
    let page = "<R><a><x>1<x/></x><b/><y/>t<x/></a><x><x></x><a><b/></a></x></R>\n";
    let only =
        |path: &[&str], names: &[&str]| String::from_utf8(plain::only(page.as_bytes(), path, names).unwrap()).unwrap();
    assert_eq!(only(&["R", "a"], &["b"]), "<R><a><b/>t</a><x><x></x><a><b/></a></x></R>\n");
    assert_eq!(only(&["R", "x"], &["x"]), "<R><a><x>1<x/></x><b/><y/>t<x/></a><x><x></x></x></R>\n");
    assert_eq!(only(&["R"], &["x"]), "<R><x><x></x><a><b/></a></x></R>\n");
    assert_eq!(only(&[], &[]), "\n");
    for elsewhere in [&["a"][..], &["R", "b"], &["R", "x", "a", "b"]] {
        assert_eq!(only(elsewhere, &[]), page);
    }
    assert_eq!(plain::only(&page.as_bytes()[..page.len() - 2], &["R"], &[]), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The direction in which `plain` may not be wrong.
    #[test]
    fn what_is_plain_decodes(
        parts in proptest::collection::vec(
            select(vec![
                "<a>", "</a>", "<b>", "</b>", "<b/>", "<", ">", "/", "a", " ", "\n", "&", "]", "]]>", "\u{1}", "\u{ffff}", "\u{fffd}", "ä",
                "\u{7f}", "=", "\"", "<!--", "-->", "<![CDATA[", "<?", "?>", ":", "<a b=\"\">", "1", "-", "\u{feff}", "\u{c}",
            ]),
            0..12,
        ),
        declared in any::<bool>(),
    ) {
        let head = if declared { "<?xml version=\"1.0\" encoding=\"UTF-8\"?>" } else { "" };
        let text = parts.concat();
        for body in [format!("{head}{text}"), format!("{head}<a>{text}</a>"), format!("{head}<a></a>{text}")] {
            prop_assert!(!plain::well_formed(body.as_bytes()) || decodes(body.as_bytes()), "{body:?}");
            let cut = plain::only(body.as_bytes(), &["a"], &["b"]);
            prop_assert_eq!(cut.is_some(), plain::well_formed(body.as_bytes()));
            prop_assert!(cut.is_none_or(|cut| plain::well_formed(&cut)), "{:?}", body);
        }
    }

    /// The same, from a page of EC2's with something broken in it.
    #[test]
    fn a_broken_page_is_never_plain_alone(changes in proptest::collection::vec((0..PLAIN.len(), any::<u8>()), 1..4), cut in 0..=PLAIN.len()) {
        let mut page = PLAIN.as_bytes().to_vec();
        changes.iter().for_each(|(at, byte)| page[*at] = *byte);
        for page in [&page[..], &page[..cut], &page[cut..]] {
            prop_assert!(!plain::well_formed(page) || decodes(page), "{:?}", String::from_utf8_lossy(page));
        }
    }
}

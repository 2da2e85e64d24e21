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

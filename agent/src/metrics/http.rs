//! As much of HTTP as a scraper needs: one request, one answer, and the connection ends. Pure.

/// Whether a request's head has ended. What may follow is not read.
pub(super) fn is_whole(request: &[u8]) -> bool {
    request.windows(4).any(|end| end == b"\r\n\r\n") || request.windows(2).any(|end| end == b"\n\n")
}

/// The answer to a request; `file` is what there is to show, if there is something fresh.
pub(super) fn answer(request: &[u8], file: Option<&str>) -> String {
    let first = request.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let words: Vec<&[u8]> = first.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return plain("400 Bad Request", "this is not HTTP\n", true) };
    if !is_whole(request) || !version.starts_with(b"HTTP/1.") {
        return plain("400 Bad Request", "the request is not whole, or not HTTP/1.1\n", true);
    }
    let body = match method {
        b"GET" => true,
        b"HEAD" => false,
        _ => return plain("405 Method Not Allowed", "only GET and HEAD\n", true),
    };
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match (path, file) {
        (b"/metrics", Some(text)) => headed("200 OK", "text/plain; version=0.0.4; charset=utf-8", text, body),
        (b"/metrics", None) => {
            let why = "nothing was measured in the last two minutes: systemctl status crosswan-metrics.timer\n";
            plain("503 Service Unavailable", why, body)
        }
        (b"/", _) => plain("200 OK", "crosswan: see /metrics\n", body),
        _ => plain("404 Not Found", "see /metrics\n", body),
    }
}

fn plain(status: &str, text: &str, body: bool) -> String {
    headed(status, "text/plain; charset=utf-8", text, body)
}

fn headed(status: &str, kind: &str, text: &str, body: bool) -> String {
    let length = text.len();
    let text = if body { text } else { "" };
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str, file: Option<&str>) -> String {
        answer(request.as_bytes(), file).lines().next().unwrap().replace("HTTP/1.1 ", "")
    }

    #[test]
    fn a_scraper_gets_the_file_and_nobody_anything_else() {
        let whole = answer(b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", Some("up 1\n"));
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.ends_with("\r\n\r\nup 1\n"), "{whole}");
        assert!(whole.contains("Content-Length: 5\r\n"), "{whole}");
        let head = answer(b"HEAD /metrics HTTP/1.0\n\n", Some("up 1\n"));
        assert!(head.contains("Content-Length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        for (request, expected) in [
            ("GET /metrics HTTP/1.1\r\n\r\n", "503 Service Unavailable"),
            ("GET / HTTP/1.1\r\n\r\n", "200 OK"),
            ("GET /../etc/shadow HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET //metrics HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("GET /metrics HTTP/2\r\n\r\n", "400 Bad Request"),
            ("GET /metrics HTTP/1.1\r\n", "400 Bad Request"),
            ("GET /metrics\r\n\r\n", "400 Bad Request"),
            ("\u{16}\u{3}\u{1}", "400 Bad Request"),
            ("", "400 Bad Request"),
        ] {
            assert_eq!(status(request, None), expected, "{request:?}");
        }
    }
}

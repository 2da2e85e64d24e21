//! The scanner: JSON text (RFC 8259) into [`Node`]s, or the first place where it is not JSON.

use super::{Member, Node, Value};

/// Deeper than any document needs, and shallow enough for every stack.
const DEEPEST: usize = 64;

/// Why the text is not JSON, and the byte offset of that. Never quotes the text: a secret may stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syntax {
    pub at: usize,
    pub what: String,
}

type Result<T> = std::result::Result<T, Syntax>;

/// Scans a whole text. A byte order mark at its start is skipped. Objects keep duplicate keys, for the reader to refuse.
pub fn scan(text: &str) -> Result<Node> {
    let mut scanner = Scanner { text, at: if text.starts_with('\u{feff}') { 3 } else { 0 } };
    let node = scanner.value(0)?;
    scanner.space()?;
    if scanner.at < text.len() { Err(scanner.wrong("expected the end of the file")) } else { Ok(node) }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
    fn wrong(&self, what: &str) -> Syntax {
        let found = match self.peek() {
            None => "the file ends here".to_owned(),
            Some(b @ b'!'..=b'~') => format!("found {}", char::from(b)),
            Some(_) => "found another character".to_owned(),
        };
        Syntax { at: self.at, what: format!("{what}, {found}") }
    }
    fn space(&mut self) -> Result<()> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
        match self.peek() {
            Some(b'/' | b'#') => Err(Syntax {
                at: self.at,
                what: "JSON has no comments; use a key that begins with _, such as \"_comment\"".into(),
            }),
            _ => Ok(()),
        }
    }
    fn value(&mut self, depth: usize) -> Result<Node> {
        self.space()?;
        let at = self.at;
        if depth > DEEPEST {
            return Err(Syntax { at, what: format!("nested deeper than {DEEPEST} levels") });
        }
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            _ => return Err(self.wrong("expected a value")),
        };
        Ok(Node { at, value })
    }
    fn word(&mut self, word: &str, value: Value) -> Result<Value> {
        let rest = &self.text.as_bytes()[self.at..];
        if !rest.starts_with(word.as_bytes()) || rest.get(word.len()).is_some_and(u8::is_ascii_alphanumeric) {
            return Err(self.wrong("expected true, false, null or a text in quotes"));
        }
        self.at += word.len();
        Ok(value)
    }
    /// After an item: whether another one follows. `close` ends the list or object.
    fn more(&mut self, close: u8) -> Result<bool> {
        self.space()?;
        match self.peek() {
            Some(b',') => {
                let comma = self.at;
                self.at += 1;
                self.space()?;
                if self.peek() == Some(close) {
                    let what = format!("a comma before {}: JSON allows none after the last item", char::from(close));
                    return Err(Syntax { at: comma, what });
                }
                Ok(true)
            }
            Some(b) if b == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.wrong(&format!("expected a comma or {}", char::from(close)))),
        }
    }
    /// Opens a list or object; whether it has an item.
    fn open(&mut self, close: u8) -> Result<bool> {
        self.at += 1;
        self.space()?;
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }
    fn list(&mut self, depth: usize) -> Result<Value> {
        let mut items = Vec::new();
        let mut more = self.open(b']')?;
        while more {
            items.push(self.value(depth + 1)?);
            more = self.more(b']')?;
        }
        Ok(Value::List(items))
    }
    fn object(&mut self, depth: usize) -> Result<Value> {
        let mut members = Vec::new();
        let mut more = self.open(b'}')?;
        while more {
            let at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.wrong("expected a key in double quotes"));
            }
            let key = self.string()?;
            self.space()?;
            if self.peek() != Some(b':') {
                return Err(self.wrong("expected a colon after the key"));
            }
            self.at += 1;
            let node = self.value(depth + 1)?;
            members.push(Member { at, key, node });
            more = self.more(b'}')?;
        }
        Ok(Value::Object(members))
    }
    fn number(&mut self) -> Result<Value> {
        let start = self.at;
        let digits = |s: &mut Self| {
            let from = s.at;
            while s.peek().is_some_and(|b| b.is_ascii_digit()) {
                s.at += 1;
            }
            s.at - from
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let zero = self.peek() == Some(b'0');
        match digits(self) {
            0 => return Err(self.wrong("expected a digit")),
            n if n > 1 && zero => return Err(Syntax { at: start, what: "a number may not begin with 0".into() }),
            _ => {}
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if digits(self) == 0 {
                return Err(self.wrong("expected a digit after the point"));
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if digits(self) == 0 {
                return Err(self.wrong("expected a digit in the exponent"));
            }
        }
        Ok(Value::Number(self.text[start..self.at].to_owned()))
    }
    fn string(&mut self) -> Result<String> {
        let open = self.at;
        let mut out = String::new();
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ');
            let Some(plain) = plain else {
                return Err(Syntax { at: open, what: "a text that begins here has no closing quote".into() });
            };
            out.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(b'\n' | b'\r') => {
                    return Err(Syntax {
                        at: open,
                        what: "a text that begins here has no closing quote on its line".into(),
                    });
                }
                _ => {
                    return Err(Syntax {
                        at: self.at,
                        what: "a control character in a text; write it as \\u00XX".into(),
                    });
                }
            }
        }
    }
    fn escape(&mut self) -> Result<char> {
        let at = self.at;
        let bad = || Syntax { at, what: "not an escape of JSON: \\\" \\\\ \\/ \\b \\f \\n \\r \\t or \\uXXXX".into() };
        let letter = self.text.as_bytes().get(at + 1).copied().ok_or_else(bad)?;
        self.at += 2;
        Ok(match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.unit().ok_or_else(bad)?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first.into()).ok_or_else(bad);
                }
                if self.text.get(self.at..self.at + 2) != Some("\\u") {
                    return Err(bad());
                }
                self.at += 2;
                let second = self.unit().ok_or_else(bad)?;
                char::decode_utf16([first, second]).next().and_then(std::result::Result::ok).ok_or_else(bad)?
            }
            _ => return Err(bad()),
        })
    }
    /// Four hexadecimal digits, as one UTF-16 unit.
    fn unit(&mut self) -> Option<u16> {
        let hex = self.text.get(self.at..self.at + 4).filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))?;
        self.at += 4;
        u16::from_str_radix(hex, 16).ok()
    }
}

//! A shell in the guest over a virtio port: one line and its answer at a time.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};

use crate::spawn::Output;

/// The host's end.
#[derive(Debug)]
pub struct Control {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
    sequence: u32,
}

impl Control {
    /// Connects to QEMU's socket. The guest may not be there yet.
    pub fn connect(path: &Path) -> std::io::Result<Control> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        let lines = BufReader::new(stream.try_clone()?);
        Ok(Control { stream, lines, sequence: 0 })
    }

    /// One request, one answer: `ID RC BASE64`. Answers to requests that were given up on are passed over.
    pub fn ask(&mut self, line: &str, limit: Duration) -> Result<Output> {
        self.sequence += 1;
        let (id, started) = (self.sequence.to_string(), Instant::now());
        writeln!(self.stream, "{id} {}", BASE64.encode(line)).context("write to the guest")?;
        let mut answer = String::new();
        while started.elapsed() < limit {
            // A timeout leaves what has come so far in `answer`.
            match self.lines.read_line(&mut answer) {
                Ok(0) => bail!("the guest's port was closed"),
                Ok(_) if answer.ends_with('\n') => {
                    let mut words = answer.split_whitespace();
                    if words.next() == Some(&id) {
                        let code = words.next().and_then(|rc| rc.parse().ok()).context("no exit code in the answer")?;
                        let stdout =
                            BASE64.decode(words.next().unwrap_or_default()).context("the answer is not Base64")?;
                        let stdout = String::from_utf8_lossy(&stdout).into_owned();
                        return Ok(Output { code, stdout, stderr: String::new(), elapsed: started.elapsed() });
                    }
                    answer.clear();
                }
                Ok(_) => {}
                Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
                Err(e) => return Err(e).context("read from the guest"),
            }
        }
        bail!("no answer within {limit:?}")
    }
}

/// A root shell for people, on the virtio console.
pub const SHELL: &str = "[Unit]\nDescription=A shell to look around in\nDefaultDependencies=no\nConflicts=shutdown.target\nBefore=shutdown.target\n\
     [Service]\nEnvironment=TERM=linux\nExecStart=/bin/bash\nRestart=always\nRestartSec=1\nStandardInput=tty\nStandardOutput=tty\n\
     StandardError=tty\nTTYPath=/dev/hvc0\n";

/// The guest's end of [`Control`].
pub fn unit() -> String {
    let script = r#"
umask 077
until exec 3<>/dev/virtio-ports/crosswan.lab; do sleep 0.2; done 2>/dev/null
while read -r id line <&3; do
    printf %s "$line" | base64 -d >/run/lab-control.in
    bash /run/lab-control.in >/run/lab-control.out 2>&1 </dev/null 3>&-
    printf '%s %s %s\n' "$id" $? "$(base64 -w0 /run/lab-control.out)" >&3
done
"#;
    format!(
        "[Unit]\nDescription=The lab's shell\nDefaultDependencies=no\nConflicts=shutdown.target\nBefore=shutdown.target\n\
         [Service]\nExecStart=/bin/bash -c 'eval \"$$(echo {} | base64 -d)\"'\nRestart=always\nRestartSec=1\n",
        BASE64.encode(script)
    )
}

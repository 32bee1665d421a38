//! HTTP/1.1 messages, as far as a proxy needs them.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A request or an answer.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The first line and those of the head, without the ones that say how long the body is or
    /// how it may be packed.
    head: Vec<u8>,
    /// What the head said of the body's length, which a body that is there overrules.
    length: Option<usize>,
    /// The body, out of its chunks.
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// An answer with a status line such as `429 Too Many Requests`.
    pub(crate) fn answer(status: &str, body: Vec<u8>) -> Self {
        Self {
            head: format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n").into(),
            length: None,
            body,
        }
    }

    /// The value of a head's line.
    pub(crate) fn header(&self, wanted: &str) -> Option<String> {
        let head = String::from_utf8_lossy(&self.head);
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let found = name.eq_ignore_ascii_case(wanted);
            found.then(|| value.trim().to_owned())
        })
    }

    /// Reads one message. An answer to HEAD is without a body, whatever its head says.
    pub(crate) async fn read(
        from: &mut (impl AsyncBufRead + Unpin),
        bodyless: bool,
    ) -> io::Result<Self> {
        let (mut head, mut length, mut chunked) = (Vec::new(), None, false);
        loop {
            let start = head.len();
            if from.read_until(b'\n', &mut head).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = String::from_utf8_lossy(&head[start..]).to_ascii_lowercase();
            match line.trim().split_once(':') {
                Some(("content-length", value)) => length = Some(value.trim().parse().unwrap()),
                Some(("transfer-encoding", value)) => chunked = value.contains("chunked"),
                // Answers have to be read here.
                Some(("accept-encoding", _)) => {}
                _ if line.trim().is_empty() => {
                    head.truncate(start);
                    break;
                }
                _ => continue,
            }
            head.truncate(start);
        }
        let mut body = Vec::new();
        if bodyless {
            return Ok(Self { head, length, body });
        }
        body.resize(length.unwrap_or(0), 0);
        from.read_exact(&mut body).await?;
        while chunked {
            chunked = chunk(from, &mut body).await?;
        }
        Ok(Self { head, length, body })
    }

    /// The request line or the status line.
    pub(crate) fn line(&self) -> String {
        let line = self.head.split(|byte| *byte == b'\r').next();
        String::from_utf8_lossy(line.unwrap_or_default()).into_owned()
    }

    /// Whether it is an answer that all went well.
    pub(crate) fn is_ok(&self) -> bool {
        self.line().contains(" 200 ")
    }

    /// Writes the message whole.
    pub(crate) async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        to.write_all(&[self.framed_head(), self.body.clone()].concat())
            .await
    }

    /// Writes the head and half of the body that it promises.
    pub(crate) async fn write_half(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let half = &self.body[..self.body.len() / 2];
        to.write_all(&[&self.framed_head(), half].concat()).await?;
        to.flush().await
    }

    fn framed_head(&self) -> Vec<u8> {
        let length = match (self.body.len(), self.length) {
            (0, None) if self.line().starts_with("GET ") => String::new(),
            (0, promised) => format!("content-length: {}\r\n", promised.unwrap_or(0)),
            (there, _) => format!("content-length: {there}\r\n"),
        };
        [&self.head, length.as_bytes(), b"\r\n"].concat()
    }
}

/// Appends one chunk; false when it was the last.
async fn chunk(from: &mut (impl AsyncBufRead + Unpin), body: &mut Vec<u8>) -> io::Result<bool> {
    let mut line = String::new();
    from.read_line(&mut line).await?;
    let size = usize::from_str_radix(line.trim(), 16).unwrap();
    let start = body.len();
    body.resize(start + size + 2, 0);
    from.read_exact(&mut body[start..]).await?;
    body.truncate(start + size);
    Ok(size > 0)
}

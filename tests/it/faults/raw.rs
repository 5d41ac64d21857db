//! An HTTP client that can stop in the middle.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One request on a connection of its own.
pub struct Raw {
    socket: TcpStream,
    read: Vec<u8>,
}

/// The head of an answer.
pub struct Head {
    pub status: u16,
    pub headers: HashMap<String, String>,
}

impl Head {
    pub fn length(&self) -> usize {
        self.headers["content-length"].parse().expect("a length")
    }
}

/// A presigned request is good for that long.
pub fn soon() -> PresigningConfig {
    PresigningConfig::expires_in(Duration::from_secs(300)).expect("a duration")
}

impl Raw {
    /// Sends the head of a presigned request, with the announced length of a body that is still to come.
    pub async fn send(to: SocketAddr, request: &PresignedRequest, length: Option<usize>) -> Self {
        let uri = request.uri().strip_prefix(&format!("http://{to}")).expect("a request for this gateway");
        let mut head = format!("{} {uri} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n", request.method());
        for (name, value) in request.headers().filter(|(name, _)| !name.eq_ignore_ascii_case("content-length")) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(length) = length {
            head.push_str(&format!("content-length: {length}\r\n"));
        }
        head.push_str("\r\n");
        let mut socket = TcpStream::connect(to).await.expect("the gateway listens");
        socket.write_all(head.as_bytes()).await.expect("the head is sent");
        Self { socket, read: Vec::new() }
    }

    /// Sends a piece of the body.
    pub async fn body(&mut self, piece: &[u8]) -> io::Result<()> {
        self.socket.write_all(piece).await
    }

    /// Says that nothing more will come, but goes on reading.
    pub async fn half_close(&mut self) {
        self.socket.shutdown().await.expect("the sending half closes");
    }

    /// Reads the head of the answer.
    pub async fn head(&mut self) -> io::Result<Head> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if self.more().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let rest = self.read.split_off(end + 4);
        let text = String::from_utf8(std::mem::replace(&mut self.read, rest)).expect("a head is text");
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line").parse().expect("a status");
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()));
        Ok(Head { status, headers: headers.collect() })
    }

    async fn more(&mut self) -> io::Result<usize> {
        let more = self.socket.read_buf(&mut self.read);
        tokio::time::timeout(Duration::from_secs(20), more).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// So many bytes of the body, or what came before the connection ended.
    pub async fn take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < len {
            if self.more().await? == 0 {
                break;
            }
        }
        let rest = self.read.split_off(len.min(self.read.len()));
        Ok(std::mem::replace(&mut self.read, rest))
    }
}

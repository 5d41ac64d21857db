//! `ciphergate healthcheck`: asks a running gateway how it is, for container images that hold no HTTP client.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::Failure;
use super::cli::HealthcheckArgs;

const TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn run(args: &HealthcheckArgs) -> Result<(), Failure> {
    let path = if args.ready { "/readyz" } else { "/livez" };
    let address = reachable(args.admin);
    let status = ask(address, path).map_err(|error| Failure::Run(format!("http://{address}{path}: {error}")))?;
    if status == "200" { Ok(()) } else { Err(Failure::Run(format!("http://{address}{path} answers {status}"))) }
}

/// A listener on every address is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// The status of the answer to a GET.
fn ask(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // In one piece: `write!` would send every part of the text on its own.
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    // "HTTP/1.1 200": the rest does not matter.
    let mut start = [0; 12];
    stream.read_exact(&mut start).map_err(|error| match error.kind() {
        // What a read that ran into its time limit is called on Linux.
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    })?;
    let start = String::from_utf8_lossy(&start);
    start.strip_prefix("HTTP/1.1 ").map(str::to_owned).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn asked(answer: &'static str, ready: bool) -> (Result<(), Failure>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = SocketAddr::from(([0, 0, 0, 0], listener.local_addr().unwrap().port()));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let outcome = run(&HealthcheckArgs { admin, ready });
        (outcome, server.join().unwrap())
    }

    #[test]
    fn only_200_is_healthy() {
        let (outcome, request) = asked("HTTP/1.1 200 OK\r\n\r\nok\n", false);
        assert!(outcome.is_ok() && request.starts_with("GET /livez HTTP/1.1\r\n"));
        let (outcome, request) = asked("HTTP/1.1 503 Service Unavailable\r\n\r\n", true);
        assert!(matches!(outcome, Err(Failure::Run(text)) if text.ends_with("/readyz answers 503")));
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"));
        assert!(asked("SSH-2.0-OpenSSH_9.2\r\n", false).0.is_err());
        assert!(asked("HTTP", false).0.is_err());
    }

    #[test]
    fn nobody_there_is_not_healthy() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(run(&HealthcheckArgs { admin: free, ready: false }).is_err());
    }
}

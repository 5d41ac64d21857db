//! Something that is no S3 store behind the gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_s3::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::kit::{CLIENT, Launch, client, status};

/// Answers every request with the same bytes and closes.
async fn speaker(answer: Vec<u8>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, requests, answer) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default(), Arc::new(answer));
    let count = requests.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(speak(socket, answer.clone(), count.clone()));
        }
    });
    (address, requests)
}

async fn speak(mut socket: TcpStream, answer: Arc<Vec<u8>>, requests: Arc<AtomicUsize>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    requests.fetch_add(1, Ordering::Relaxed);
    let _ = socket.write_all(&answer).await;
    let _ = socket.shutdown().await;
    // What else comes is read, so that the answer is not lost to a reset.
    while socket.read_buf(&mut request).await.unwrap_or(0) > 0 {
        request.clear();
    }
}

/// Status of PutObject, GetObject, HeadObject and ListObjectsV2.
async fn all(client: &Client) -> [u16; 4] {
    let put = async { status(client.put_object().bucket("bucket").key("k").body(vec![7; 1000].into()).send().await) };
    let get = async { status(client.get_object().bucket("bucket").key("k").send().await) };
    let head = async { status(client.head_object().bucket("bucket").key("k").send().await) };
    let list = async { status(client.list_objects_v2().bucket("bucket").send().await) };
    tokio::join!(put, get, head, list).into()
}

async fn through_a_gateway(answer: impl Into<Vec<u8>>) -> [u16; 4] {
    let (address, requests) = speaker(answer.into()).await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Launch::new(folder.path(), address).start();
    let got = all(&client(gateway.s3, CLIENT)).await;
    assert!(requests.load(Ordering::Relaxed) >= 4);
    assert_eq!(gateway.probe("/readyz").unwrap().0, 503, "a store that speaks no S3 cannot be proved");
    gateway.wait_in_flight(0, std::time::Duration::from_secs(5)).await;
    got
}

fn html(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: 17\r\n\r\n<html>Hi!</html>\n")
}

#[tokio::test]
async fn what_is_no_s3_store_never_looks_like_one() {
    let envelope_missing = 403;
    let cases = [
        // Not HTTP, nothing at all, and a head without an end.
        ("not HTTP", "SSH-2.0-OpenSSH_9.9\r\n\r\n".to_owned(), [503; 4]),
        ("nothing", String::new(), [503; 4]),
        ("half a head", "HTTP/1.1 200 OK\r\ncontent-le".to_owned(), [503; 4]),
        // A captive portal: a success that means nothing.
        ("a portal", html("200 OK"), [500, envelope_missing, envelope_missing, 500]),
        ("a broken proxy", html("502 Bad Gateway"), [502, 502, 502, 502]),
        ("a refusing proxy", html("403 Forbidden"), [403, 403, 403, 403]),
        // Wherever it points: nobody follows, and the client is not sent there.
        ("elsewhere", html("302 Found\r\nlocation: http://127.0.0.1:1/"), [500; 4]),
    ];
    let runs = cases.map(|(name, answer, expected)| async move {
        assert_eq!(through_a_gateway(answer).await, expected, "{name}: PUT, GET, HEAD, LIST");
    });
    futures::future::join_all(runs).await;
}

#[tokio::test]
async fn a_listing_that_breaks_off_is_no_listing() {
    let xml = "<?xml version=\"1.0\"?><ListBucketResult><Name>bucket</Name><Contents><Key>k</Key>";
    let whole = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{xml}", xml.len());
    let short = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{xml}", xml.len() + 100);
    for answer in [whole, short] {
        let [.., list] = through_a_gateway(answer).await;
        assert!(list >= 500, "{list}");
    }
}

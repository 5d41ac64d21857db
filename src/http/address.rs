//! Addresses of objects as the client of a request reaches them: by its own scheme and host.

use http::header::{HOST, HeaderMap};

use super::route::object_path;

/// The scheme that the client connected by, as an extension of the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scheme(pub &'static str);

/// The address of an object for whoever sent these headers. `by_host`: the host names the bucket.
pub(super) fn object_address(scheme: Option<Scheme>, headers: &HeaderMap, by_host: bool, bucket: &str, key: &str) -> String {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let object = object_path(bucket, key);
    let path = if by_host { &object[1 + bucket.len()..] } else { &object };
    format!("{}://{host}{path}", scheme.map_or("http", |scheme| scheme.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_the_client_uses() {
        let headers = |host: &'static str| -> HeaderMap { [(HOST, host.parse().unwrap())].into_iter().collect() };
        assert_eq!(
            object_address(Some(Scheme("https")), &headers("s3.example.com"), false, "b", "a b/\u{fc}"),
            "https://s3.example.com/b/a%20b/%C3%BC"
        );
        assert_eq!(object_address(None, &headers("b.s3.test:9000"), true, "b", "k"), "http://b.s3.test:9000/k");
    }
}

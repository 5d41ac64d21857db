//! Error documents on their way to the client.

use bytes::{Bytes, BytesMut};

use crate::observe::request::RequestRecord;
use crate::observe::request_id::RequestId;

/// Gives an error document the request's id, and writes its code down.
pub(super) fn note(document: &Bytes, record: &RequestRecord) -> Bytes {
    let named = name_request(document, record.id());
    if let Some(code) = element(&named, b"Code").and_then(|code| std::str::from_utf8(code).ok()) {
        record.set_error_code(code);
    }
    named
}

/// Puts the request's id into an error document, in place of the store's own or where there was none.
fn name_request(document: &Bytes, id: RequestId) -> Bytes {
    let (open, close): (&[u8], &[u8]) = (b"<RequestId>", b"</RequestId>");
    let cut = match (find(document, open), find(document, close), find(document, b"</Error>")) {
        (Some(start), Some(end), _) if start < end => (start, end + close.len()),
        (_, _, Some(end)) => (end, end),
        _ => return document.clone(),
    };
    let mut named = BytesMut::with_capacity(document.len() + 64);
    named.extend_from_slice(&document[..cut.0]);
    named.extend_from_slice(open);
    named.extend_from_slice(id.as_str().as_bytes());
    named.extend_from_slice(close);
    named.extend_from_slice(&document[cut.1..]);
    named.freeze()
}

fn element<'a>(document: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let start = find(document, &[b"<", name, b">"].concat())? + name.len() + 2;
    let end = start + find(&document[start..], &[b"</", name, b">"].concat())?;
    Some(&document[start..end])
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_documents_carry_the_id_of_this_request() {
        let id = RequestId::fresh();
        for document in [
            "<Error><Code>A</Code></Error>",
            "<Error><Code>A</Code><RequestId></RequestId></Error>",
            "<Error><Code>A</Code><RequestId>theirs</RequestId></Error>",
        ] {
            let named = name_request(&Bytes::from(document), id);
            assert_eq!(named, format!("<Error><Code>A</Code><RequestId>{id}</RequestId></Error>"));
            assert_eq!(element(&named, b"Code"), Some(b"A".as_slice()));
        }
        assert_eq!(name_request(&Bytes::from_static(b"</RequestId>x<RequestId>"), id), "</RequestId>x<RequestId>");
    }
}

//! A browser's form on the wire: its fields, and the file at its end as a stream whose length is known before its first byte.
//!
//! Sealing has to know the length when it starts. A form does not say it, but when the file is the last field, everything but the
//! file is known once the file begins: what came before it, and the closing boundary after it. The rest of the Content-Length is
//! the file. That it was so is checked when the file has ended; a form that went on is refused, and its file never comes into being.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::HeaderMap;
use s3s::{Body, S3Error, S3ErrorCode, S3Result, s3_error};
use s3s_multipart::{Boundary, Error as FormError, FinalPartDataStream, Multipart, parse_content_disposition};

use crate::ops::{BodyFault, refusal_of};

/// The longest form in front of its file, in bytes: S3's own limit.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html>
const FIELDS_MAX: usize = 20 * 1024;
/// What S3 puts the file's name in place of.
const FILENAME: &str = "${filename}";
/// The fields that prove the form. Nothing is put into them.
const PROOF: [&str; 5] = ["policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"];

/// A form, read up to the first byte of its file.
pub(super) struct Form {
    /// Lower-case names, none of them twice.
    pub fields: Vec<(String, String)>,
    pub file: FileBody,
}

impl Form {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

type Parts = Pin<Box<dyn Stream<Item = Result<Bytes, FormError>> + Send + Sync>>;

/// Reads a form until its file begins.
///
/// # Errors
/// Forms without a file or with a field twice, fields that are too long or no text, bodies without a length.
pub(super) async fn read_form(headers: &HeaderMap, body: Body) -> S3Result<Form> {
    let length = headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let length = length.ok_or(S3ErrorCode::MissingContentLength)?;
    let boundary = boundary(headers).ok_or_else(malformed)?;
    // How much may have been read when another piece is asked for; the file itself is not counted.
    let allowance = Arc::new(AtomicUsize::new(FIELDS_MAX));
    let counted = {
        let allowance = allowance.clone();
        body.map(move |piece| {
            let piece = piece.map_err(FormError::stream_read_failed)?;
            match allowance.load(Ordering::Relaxed) {
                usize::MAX => {}
                0 => return Err(FormError::stream_read_failed(FieldsTooLong)),
                left => allowance.store(left.saturating_sub(piece.len()), Ordering::Relaxed),
            }
            Ok(piece)
        })
    };
    let mut parts = Multipart::new(Box::pin(counted) as Parts, &boundary, FIELDS_MAX);
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut seen = 0;
    loop {
        let Some(mut part) = parts.next_part().await.map_err(form_error)? else {
            return Err(s3_error!(InvalidArgument, "POST requires exactly one file upload per request."));
        };
        let mut disposition = None;
        while let Some(header) = part.next_header().await.map_err(form_error)? {
            seen += header.name.len() + header.value.len();
            if header.name.eq_ignore_ascii_case("content-disposition") {
                let found = parse_content_disposition(header.value).ok_or_else(malformed)?;
                let name = text(found.name.ok_or_else(malformed)?)?.to_ascii_lowercase();
                disposition = Some((name, found.file_name.map(text).transpose()?));
            }
        }
        let (name, file_name) = disposition.ok_or_else(malformed)?;
        if name == "file" {
            let stream = part.take_data_stream().map_err(form_error)?.into_final();
            allowance.store(usize::MAX, Ordering::Relaxed);
            let before = stream.multipart_consumed();
            if before > FIELDS_MAX as u64 {
                return Err(fields_too_long());
            }
            // CRLF -- boundary -- CRLF
            let after = boundary.len() as u64 + 8;
            let length = length.checked_sub(before).and_then(|rest| rest.checked_sub(after)).ok_or_else(malformed)?;
            put_filename(&mut fields, file_name.as_deref().unwrap_or_default());
            return Ok(Form { fields, file: FileBody { stream, left: length, ended: false } });
        }
        let mut value = Vec::new();
        while let Some(piece) = part.next_data().await.map_err(form_error)? {
            seen += piece.len();
            if seen > FIELDS_MAX {
                return Err(fields_too_long());
            }
            value.extend_from_slice(&piece);
        }
        if fields.iter().any(|(known, _)| *known == name) {
            return Err(s3_error!(InvalidArgument, "The field '{name}' is there more than once."));
        }
        let value = String::from_utf8(value).map_err(|_| malformed())?;
        fields.push((name, value));
    }
}

/// The boundary that the content type names.
fn boundary(headers: &HeaderMap) -> Option<Boundary> {
    let mut types = headers.get_all(http::header::CONTENT_TYPE).iter();
    let (only, None) = (types.next()?, types.next()) else { return None };
    let parsed: mime::Mime = only.to_str().ok()?.parse().ok()?;
    Boundary::new(parsed.get_param(mime::BOUNDARY)?.as_str().as_bytes()).ok()
}

/// Puts the name of the file where the form wants it. Of a path only the last part is used: browsers used to send whole paths.
fn put_filename(fields: &mut [(String, String)], file_name: &str) {
    let unquoted = file_name.replace("\\\"", "\"");
    let name = unquoted.rsplit(['/', '\\']).next().unwrap_or_default();
    for (_, value) in fields.iter_mut().filter(|(field, _)| !PROOF.contains(&field.as_str())) {
        if value.contains(FILENAME) {
            *value = value.replace(FILENAME, name);
        }
    }
}

fn text(bytes: &[u8]) -> S3Result<String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| malformed())
}

fn malformed() -> S3Error {
    S3Error::new(S3ErrorCode::MalformedPOSTRequest)
}

fn fields_too_long() -> S3Error {
    S3Error::new(S3ErrorCode::MaxPostPreDataLengthExceededError)
}

/// The form before its file is longer than it may be.
#[derive(Debug, thiserror::Error)]
#[error("the fields of the form are too long")]
struct FieldsTooLong;

fn form_error(err: FormError) -> S3Error {
    match err {
        FormError::HeaderSizeExceeded { .. } => fields_too_long(),
        FormError::StreamReadFailed(source) if source.is::<FieldsTooLong>() => fields_too_long(),
        FormError::StreamReadFailed(source) => {
            refusal_of(&*source).unwrap_or_else(|| S3Error::with_source(S3ErrorCode::InternalError, source))
        }
        _ => malformed(),
    }
}

/// The file at the end of a form: exactly as many bytes as were announced for it, and nothing after it, or an error.
pub(super) struct FileBody {
    stream: FinalPartDataStream<Parts>,
    left: u64,
    ended: bool,
}

impl FileBody {
    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.left
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = s3s::StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, s3s::StdError>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let fault = match std::task::ready!(this.stream.poll_next_unpin(cx)) {
            Some(Ok(piece)) => match this.left.checked_sub(piece.len() as u64) {
                Some(left) => {
                    this.left = left;
                    return Poll::Ready(Some(Ok(http_body::Frame::data(piece))));
                }
                // The closing boundary is shorter than it is to be: what it lacks was counted as the file's.
                None => BodyFault::FormGoesOn.into(),
            },
            None if this.left == 0 => {
                this.ended = true;
                return Poll::Ready(None);
            }
            None => BodyFault::FormGoesOn.into(),
            Some(Err(FormError::StreamReadFailed(source))) => source,
            Some(Err(FormError::IncompleteStreamPart)) => BodyFault::Short.into(),
            Some(Err(_)) => BodyFault::FormGoesOn.into(),
        };
        this.ended = true;
        Poll::Ready(Some(Err(fault)))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use http_body_util::BodyExt as _;

    const BOUNDARY: &str = "----b0undary";

    fn part(name: &str, value: &str) -> String {
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    }

    fn file(name: &str, content: &str) -> String {
        format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: a/b\r\n\r\n{content}\r\n"
        )
    }

    fn end() -> String {
        format!("--{BOUNDARY}--\r\n")
    }

    async fn read(text: &str, piece: usize) -> S3Result<Form> {
        read_announced(text, text.len(), piece).await
    }

    async fn read_announced(text: &str, length: usize, piece: usize) -> S3Result<Form> {
        let mut headers = HeaderMap::new();
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        headers.insert(http::header::CONTENT_TYPE, content_type.parse().unwrap());
        headers.insert(http::header::CONTENT_LENGTH, length.into());
        let pieces: Vec<Result<Bytes, s3s::StdError>> =
            text.as_bytes().chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let frames = stream::iter(pieces).map(|piece| piece.map(http_body::Frame::data));
        read_form(&headers, Body::http_body(http_body_util::StreamBody::new(frames))).await
    }

    async fn code(text: &str) -> String {
        read(text, 1000).await.err().map(|err| err.code().as_str().to_owned()).unwrap_or_default()
    }

    /// The length that is known when the file begins, and the file.
    async fn file_of(text: &str, piece: usize) -> (u64, Result<Bytes, String>) {
        file_in(read(text, piece).await.unwrap()).await
    }

    async fn file_in(form: Form) -> (u64, Result<Bytes, String>) {
        let length = form.file.len();
        let whole = form.file.collect().await.map(http_body_util::Collected::to_bytes);
        (length, whole.map_err(|err| refusal_of(&*err).unwrap().code().as_str().to_owned()))
    }

    #[tokio::test]
    async fn the_length_is_known_before_the_file_however_it_arrives() {
        let nearly = format!("\r\n--{}\r\n--\r\n", &BOUNDARY[..BOUNDARY.len() - 1]);
        for content in ["", "x", "\r\n", "hello\r\n--", &nearly, &"y".repeat(100_000)] {
            let text = part("Key", "a/${filename}") + &part("acl", "private") + &file("f", content) + &end();
            for piece in [1, 7, 1000, 1 << 20] {
                let (length, whole) = file_of(&text, piece).await;
                assert_eq!(length, content.len() as u64);
                assert_eq!(whole.unwrap(), content, "in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn a_form_that_goes_on_after_its_file_is_refused_and_never_short() {
        let start = part("key", "k") + &file("f", "hello");
        let more = [
            start.clone() + &part("submit", "Upload") + &end(),
            start.clone() + &end() + "epilogue",
            start.clone() + &format!("--{BOUNDARY}--"),
            start.clone() + &file("g", "again") + &end(),
            start.clone() + &format!("--{BOUNDARY}-- \r\n"),
        ];
        for text in more {
            let (_, whole) = file_of(&text, 1000).await;
            assert_eq!(whole.unwrap_err(), "MalformedPOSTRequest", "{text}");
        }
        let (_, whole) = file_in(read_announced(&start, start.len() + 100, 1000).await.unwrap()).await;
        assert_eq!(whole.unwrap_err(), "IncompleteBody");
        // Shorter than any form with this boundary.
        assert_eq!(code(&start).await, "MalformedPOSTRequest");
    }

    #[tokio::test]
    async fn names_of_files_are_put_in_their_places() {
        for (sent, used) in [
            ("photo.jpg", "photo.jpg"),
            ("dir/photo.jpg", "photo.jpg"),
            ("C:\\Program Files\\photo.jpg", "photo.jpg"),
            ("", ""),
            ("a\\\"b", "a\"b"),
            ("${filename}", "${filename}"),
        ] {
            let text = part("KEY", "u/${filename}/${filename}") + &part("policy", "${filename}") + &file(sent, "x") + &end();
            let form = read(&text, 1000).await.unwrap();
            assert_eq!(form.field("key"), Some(&*format!("u/{used}/{used}")), "{sent}");
            assert_eq!(form.field("policy"), Some("${filename}"));
        }
    }

    #[tokio::test]
    async fn forms_are_bounded() {
        let room = FIELDS_MAX - 500;
        assert_eq!(code(&(part("key", &"k".repeat(room)) + &file("f", "x") + &end())).await, "");
        let too_long = "MaxPostPreDataLengthExceededError";
        assert_eq!(code(&(part("key", &"k".repeat(FIELDS_MAX)) + &file("f", "x") + &end())).await, too_long);
        let many = (0..400).map(|i| part(&format!("field-{i}"), "v")).collect::<String>();
        assert_eq!(code(&(many + &file("f", "x") + &end())).await, too_long);
        assert_eq!(code(&(part(&"n".repeat(FIELDS_MAX), "v") + &end())).await, too_long);
        // What never becomes a form is not read to its end.
        assert_eq!(code(&"x".repeat(1 << 20)).await, too_long);
    }

    #[tokio::test]
    async fn other_bodies_are_refused() {
        assert_eq!(code("").await, "MalformedPOSTRequest");
        assert_eq!(code(&(part("key", "k") + &end())).await, "InvalidArgument");
        assert_eq!(code(&(part("key", "k") + &part("KEY", "l") + &file("f", "x") + &end())).await, "InvalidArgument");
        let nameless = format!("--{BOUNDARY}\r\nContent-Type: a/b\r\n\r\nx\r\n") + &end();
        assert_eq!(code(&nameless).await, "MalformedPOSTRequest");
        let attachment = format!("--{BOUNDARY}\r\nContent-Disposition: attachment; name=\"key\"\r\n\r\nx\r\n") + &end();
        assert_eq!(code(&attachment).await, "MalformedPOSTRequest");
        let read = |headers: &[(&'static str, &str)]| {
            let headers: HeaderMap =
                headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            async move { read_form(&headers, Body::empty()).await.err().unwrap().code().as_str().to_owned() }
        };
        assert_eq!(read(&[("content-type", "multipart/form-data; boundary=b")]).await, "MissingContentLength");
        assert_eq!(read(&[("content-length", "5"), ("content-type", "multipart/form-data")]).await, "MalformedPOSTRequest");
        let bad = [("content-length", "5"), ("content-type", "multipart/form-data; boundary=\"b \"")];
        assert_eq!(read(&bad).await, "MalformedPOSTRequest");
    }
}

//! The id that names one request from the edge to the backend.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The name of one request: 16 upper-case hexadecimal digits, the shape S3's own request ids have.
///
/// It is an extension of the HTTP request, is sent to the client as `x-amz-request-id` and in error documents, stands in every
/// log line as `request_id`, and goes to the backend as `x-request-id`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// The request header that carries the id to the backend.
    pub const BACKEND_HEADER: &'static str = "x-request-id";

    /// Makes an id from 64 random bits.
    #[must_use]
    pub fn fresh() -> Self {
        let mut random = [0u8; 8];
        if getrandom::fill(&mut random).is_err() {
            // The id is a name, not a secret: without randomness a counter still keeps it unique within the process.
            static COUNTER: AtomicU64 = AtomicU64::new(0);
            random = COUNTER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        }
        let mut digits = [0u8; 16];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(random) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        Self(digits)
    }

    /// The 16 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("every byte is taken from HEX")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sixteen_upper_case_digits_and_differ() {
        let (a, b) = (RequestId::fresh(), RequestId::fresh());
        assert_ne!(a, b);
        for id in [a, b] {
            assert_eq!(id.as_str().len(), 16);
            assert!(id.as_str().bytes().all(|c| c.is_ascii_digit() || (b'A'..=b'F').contains(&c)), "{id}");
        }
    }
}

//! Reads an object as GetObject does, for nobody: whether it opens is all that is wanted.

use futures::TryStreamExt as _;
use http::HeaderMap;

use super::at_rest::Found;
use super::get_object::{Read, broken_off};
use super::object::{Stored, Unsealed, Wanted};
use super::{Error, Gateway};
use crate::backend::{ObjectName, Select};
use crate::format::{HEADER, SealedLen};

/// Objects up to this many bytes are read whole in any case: that is one request.
const SMALL: u64 = 256 * 1024;

/// How much of an object is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every chunk, padding, footer, and the checksum of the whole.
    Whole,
    /// The envelope, the footer, the first chunk and the last. What is altered in between goes unseen.
    Quick,
}

/// What an object is that was found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// It opens.
    Sealed {
        /// Of its plaintext.
        plain_bytes: u64,
    },
    /// It has no envelope, and does not end like an object that lost one.
    Plaintext,
}

impl Gateway {
    /// Verifies an object, or a version of one.
    ///
    /// # Errors
    /// Everything that keeps it from being opened; [`Error::nature`] tells damage from trouble on the way.
    pub async fn verify(&self, object: &ObjectName, version_id: Option<&str>, depth: Depth) -> Result<Verified, Error> {
        match depth {
            Depth::Whole => self.verify_whole(object, version_id).await,
            Depth::Quick => self.verify_quickly(object, version_id).await,
        }
    }

    async fn verify_whole(&self, object: &ObjectName, version_id: Option<&str>) -> Result<Verified, Error> {
        let read = self.read(object, version_id, HeaderMap::new(), Wanted::Whole);
        let (headers, body) = read.ask().await?;
        if !headers.contains_key(HEADER) {
            drop(body);
            return self.without_envelope(object, version_id, &headers).await;
        }
        let stored = Stored::read(&headers)?;
        let plain_bytes = stored.plain_len.get();
        drain(read.open(headers, body, &stored).await?.body).await?;
        Ok(Verified::Sealed { plain_bytes })
    }

    async fn verify_quickly(&self, object: &ObjectName, version_id: Option<&str>) -> Result<Verified, Error> {
        let at = self.at_rest(object, version_id).await?;
        if matches!(at.envelope, Found::Nothing) {
            return self.without_envelope(object, version_id, &at.headers).await;
        }
        if at.stored_len <= SMALL {
            return self.verify_whole(object, version_id).await;
        }
        let plain_bytes = at.stored()?.plain_len.get();
        self.footer_of(&at).await?;
        let last = plain_bytes.saturating_sub(1);
        for (first, end) in [(0, 0), (last, last)] {
            let mut same = HeaderMap::new();
            same.insert(http::header::IF_MATCH, at.etag.clone());
            let read = self.read(object, version_id, same, Wanted::Span(first, Some(end)));
            drain(read.run().await?.body).await?;
        }
        Ok(Verified::Sealed { plain_bytes })
    }

    fn read<'a>(&'a self, object: &ObjectName, version_id: Option<&str>, conditions: HeaderMap, wanted: Wanted) -> Read<'a> {
        let version_id = version_id.map(str::to_owned);
        Read::of_range(self, object.clone(), version_id, None, conditions, HeaderMap::new(), wanted)
    }

    async fn without_envelope(
        &self,
        object: &ObjectName,
        version_id: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Verified, Error> {
        let plain = Unsealed::read(headers)?;
        let Some(plain_len) = SealedLen::new(plain.len).plain() else { return Ok(Verified::Plaintext) };
        let version_id = version_id.map(str::to_owned);
        let select = Select { object: object.clone(), version_id, headers: HeaderMap::new(), range: None };
        match self.is_stripped(select, &plain, plain_len).await? {
            true => Err(Error::Integrity("a sealed object without its envelope".into())),
            false => Ok(Verified::Plaintext),
        }
    }
}

/// Reads to the end and keeps nothing.
async fn drain(body: s3s::dto::StreamingBlob) -> Result<(), Error> {
    body.try_for_each(|_| std::future::ready(Ok(()))).await.map_err(broken_off)
}

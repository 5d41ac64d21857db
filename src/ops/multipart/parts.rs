//! What an upload has so far: the store's parts without those that the gateway made, and the parts that wait in the state store
//! (FORMAT section 11, ListParts).

use std::collections::{BTreeMap, HashMap, HashSet};

use http::HeaderMap;

use super::session::Session;
use super::staging::Spooled;
use crate::backend::{Owner, PartPage, StoredPart};
use crate::crypto::ObjectKeys;
use crate::format::layout::{PART_MIN, part_plain_len, part_sealed_len};
use crate::format::{ChecksumAlgorithm, ChecksumBytes, PlainLen, Receipt, SealedLen};
use crate::ops::{Error, Gateway};

/// Parts in one page of the store.
const PAGE: i32 = 1000;

/// A part as a client sees it.
#[derive(Clone, Debug)]
pub(super) struct ShownPart {
    pub number: u16,
    /// Without quotes and receipt.
    pub etag: String,
    pub plain_len: PlainLen,
    pub last_modified: Option<(i64, u32)>,
}

/// What UploadPart answered for a part.
pub(super) struct Answered {
    /// The receipt in hex.
    pub hex: String,
    pub checksum: Option<(ChecksumAlgorithm, ChecksumBytes)>,
}

/// Parts of an upload.
#[derive(Debug, Default)]
pub(super) struct View {
    /// In the store, without the gateway's own.
    pub stored: Vec<StoredPart>,
    /// In the state store; several attempts may have one number.
    pub spooled: Vec<Spooled>,
    /// Parts beyond this number have not been looked at.
    pub horizon: Option<u16>,
    pub facts: Facts,
}

/// What the store says of an upload besides its parts.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub owner: Option<Owner>,
    pub initiator: Option<Owner>,
    pub storage_class: Option<String>,
    pub headers: HeaderMap,
}

impl Gateway {
    /// Everything that an upload has behind the number `after`, or at least `enough` numbers of it. Errors: the store's, NoSuchUpload
    /// among them.
    pub(super) async fn parts_of(&self, session: &Session, after: u16, enough: usize, guards: HeaderMap) -> Result<View, Error> {
        let made: HashSet<(u16, u64)> = session.staging.markers().await?.into_iter().collect();
        let mut view = View::default();
        let mut last = after;
        loop {
            let PartPage { parts, is_truncated, owner, initiator, storage_class, headers } =
                self.backend.list_parts(session.upload.clone(), last, PAGE, guards.clone()).await?;
            view.facts = Facts { owner, initiator, storage_class, headers };
            let next = parts.last().map_or(last, |part| part.number);
            view.stored.extend(parts.into_iter().filter(|part| is_clients(part, &made)));
            if !is_truncated || next <= last {
                break;
            }
            last = next;
            if view.stored.len() >= enough {
                view.horizon = Some(last);
                break;
            }
        }
        let horizon = view.horizon;
        let spooled = session.staging.spooled(after, |found| {
            let passed = found.last().is_some_and(|last| horizon.is_some_and(|horizon| last.number > horizon));
            // Attempts of one number stand together; a list without repetitions is short enough to be counted.
            passed || found.chunk_by(|a, b| a.number == b.number).count() > enough
        });
        view.spooled = spooled.await?;
        view.spooled.retain(|part| horizon.is_none_or(|horizon| part.number <= horizon));
        Ok(view)
    }

    /// What was answered for these parts, by their numbers; of a part that is not in it nothing is known. `shown` is in order, and
    /// begins behind the number `after`.
    pub(super) async fn answered(
        &self,
        session: &Session,
        after: u16,
        shown: &[ShownPart],
    ) -> Result<HashMap<u16, Answered>, Error> {
        let Some(last) = shown.last() else { return Ok(HashMap::new()) };
        let receipts = session.staging.receipts(after, last.number).await?;
        Ok(receipts.into_iter().filter_map(|(number, hex)| answer_for(&session.keys, shown, number, hex)).collect())
    }
}

/// A receipt that was kept, if it is that of the attempt that is shown.
fn answer_for(keys: &ObjectKeys, shown: &[ShownPart], number: u16, hex: String) -> Option<(u16, Answered)> {
    let part = &shown[shown.binary_search_by_key(&number, |part| part.number).ok()?];
    // Receipts of other attempts do not open for this ETag.
    let receipt = Receipt::open(keys, number, &part.etag, &hex).ok()?;
    (receipt.plain_len == part.plain_len).then_some((number, Answered { hex, checksum: receipt.checksum }))
}

/// Whether a part in the store is one that a client sent.
fn is_clients(part: &StoredPart, made: &HashSet<(u16, u64)>) -> bool {
    let smallest = part_sealed_len(PlainLen::new(PART_MIN).expect("5 MiB are a length"));
    part.sealed_size >= smallest.get() && !made.contains(&(part.number, part.sealed_size))
}

impl View {
    /// One part for each number, the newest.
    pub(super) fn shown(&self) -> Vec<ShownPart> {
        let mut shown: BTreeMap<u16, ShownPart> = BTreeMap::new();
        let stored = self.stored.iter().filter_map(|part| {
            Some(ShownPart {
                number: part.number,
                etag: part.etag.clone(),
                plain_len: part_plain_len(SealedLen::new(part.sealed_size))?,
                last_modified: part.last_modified,
            })
        });
        let spooled = self.spooled.iter().map(|part| ShownPart {
            number: part.number,
            etag: spooled_etag(part),
            plain_len: part.plain_len,
            last_modified: part.last_modified,
        });
        for part in stored.chain(spooled) {
            match shown.get(&part.number) {
                Some(known) if known.last_modified >= part.last_modified => {}
                _ => _ = shown.insert(part.number, part),
            }
        }
        shown.into_values().collect()
    }
}

/// The ETag of a part in the state store: its attempt.
pub(super) fn spooled_etag(part: &Spooled) -> String {
    data_encoding::HEXLOWER.encode(&part.part_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(number: u16, sealed_size: u64, at: i64) -> StoredPart {
        StoredPart { number, etag: format!("e{number}"), sealed_size, last_modified: Some((at, 0)) }
    }

    fn spooled(number: u16, id: u8, at: i64) -> Spooled {
        Spooled { number, part_id: [id; 16], plain_len: PlainLen::new(3).unwrap(), last_modified: Some((at, 0)) }
    }

    #[test]
    fn what_the_gateway_made_is_not_shown() {
        let least = part_sealed_len(PlainLen::new(PART_MIN).unwrap()).get();
        let made = HashSet::from([(3, least + 100)]);
        assert!(is_clients(&stored(1, least, 0), &made));
        assert!(!is_clients(&stored(1, least - 1, 0), &made));
        assert!(!is_clients(&stored(3, least + 100, 0), &made));
        assert!(is_clients(&stored(3, least + 101, 0), &made), "a part that was sent again is the client's");
    }

    #[test]
    fn the_newest_attempt_is_shown() {
        let least = part_sealed_len(PlainLen::new(PART_MIN).unwrap()).get();
        let view = View {
            stored: vec![stored(1, least, 5), stored(2, least, 5)],
            spooled: vec![spooled(2, 1, 4), spooled(3, 2, 1), spooled(3, 3, 2)],
            ..View::default()
        };
        let shown: Vec<_> = view.shown().into_iter().map(|part| (part.number, part.etag, part.plain_len.get())).collect();
        assert_eq!(shown, [(1, "e1".into(), PART_MIN), (2, "e2".into(), PART_MIN), (3, "03".repeat(16), 3)]);
    }
}

//! Contents: which slices of which body files make up the bytes of an object or a part, and which bodies nothing needs any more.

use std::collections::HashSet;
use std::ops::Range;

use rusqlite::{OptionalExtension, Transaction, params};

use super::{body_at, size_at, sqlite_size};
use crate::store::Error;
use crate::store::bodies::BodyId;

/// A slice of a body file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Piece {
    pub(in crate::store) body: BodyId,
    /// Where the slice starts in the body file.
    pub(in crate::store) start: u64,
    pub(in crate::store) len: u64,
    /// Bytes of the whole body file.
    pub(in crate::store) body_len: u64,
}

impl Piece {
    /// All of a body.
    pub(in crate::store) fn whole(body: BodyId, len: u64) -> Self {
        Self { body, start: 0, len, body_len: len }
    }
}

/// A part of a content that was uploaded in parts.
#[derive(Debug, Clone)]
pub(in crate::store) struct Segment {
    /// As the client numbered it.
    pub(in crate::store) number: u32,
    pub(in crate::store) offset: u64,
    pub(in crate::store) size: u64,
    /// In base64, of the algorithm of its upload.
    pub(in crate::store) checksum: Option<String>,
}

/// Makes a content of these pieces, in this order. Whoever makes one names it in a version or a part in the same transaction.
pub(in crate::store) fn make(transaction: &Transaction<'_>, pieces: &[Piece]) -> Result<i64, Error> {
    let size = pieces.iter().map(|piece| piece.len).sum();
    transaction.prepare_cached("INSERT INTO contents (size) VALUES (?1)")?.execute([sqlite_size(size)?])?;
    let content = transaction.last_insert_rowid();
    let mut insert = transaction.prepare_cached(
        "INSERT INTO pieces (content, position, offset, len, body, body_start, body_len) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let mut offset = 0;
    for (position, piece) in (0_i64..).zip(&joined(pieces)) {
        insert.execute(params![
            content,
            position,
            sqlite_size(offset)?,
            sqlite_size(piece.len)?,
            piece.body.as_bytes(),
            sqlite_size(piece.start)?,
            sqlite_size(piece.body_len)?
        ])?;
        offset += piece.len;
    }
    Ok(content)
}

/// Slices that lie behind each other in one body become one: an object that is copied in ranges does not fall to pieces.
fn joined(pieces: &[Piece]) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match joined.last_mut() {
            Some(last) if last.body == piece.body && last.start + last.len == piece.start => last.len += piece.len,
            _ => joined.push(*piece),
        }
    }
    joined
}

/// The pieces that hold these bytes of a content, cut to them. An empty range has none.
pub(in crate::store) fn pieces(transaction: &Transaction<'_>, content: i64, span: &Range<u64>) -> Result<Vec<Piece>, Error> {
    if span.is_empty() {
        return Ok(Vec::new());
    }
    let mut statement = transaction.prepare_cached(
        "SELECT offset, len, body, body_start, body_len FROM pieces \
         WHERE content = ?1 AND len > 0 AND offset < ?3 AND offset + len > ?2 ORDER BY position",
    )?;
    let mut rows = statement.query(params![content, sqlite_size(span.start)?, sqlite_size(span.end)?])?;
    let mut pieces = Vec::new();
    while let Some(row) = rows.next()? {
        let (offset, len) = (size_at(row, 0)?, size_at(row, 1)?);
        let from = span.start.max(offset);
        let to = span.end.min(offset + len);
        pieces.push(Piece {
            body: body_at(row, 2)?,
            start: size_at(row, 3)? + (from - offset),
            len: to - from,
            body_len: size_at(row, 4)?,
        });
    }
    Ok(pieces)
}

/// All pieces of a content, empty ones included: those keep an empty body alive.
pub(in crate::store) fn all_pieces(transaction: &Transaction<'_>, content: i64) -> Result<Vec<Piece>, Error> {
    let mut statement =
        transaction.prepare_cached("SELECT body, body_start, len, body_len FROM pieces WHERE content = ?1 ORDER BY position")?;
    let mut rows = statement.query([content])?;
    let mut pieces = Vec::new();
    while let Some(row) = rows.next()? {
        pieces.push(Piece { body: body_at(row, 0)?, start: size_at(row, 1)?, len: size_at(row, 2)?, body_len: size_at(row, 3)? });
    }
    Ok(pieces)
}

/// Notes the parts of a content.
pub(in crate::store) fn note_segments(transaction: &Transaction<'_>, content: i64, segments: &[Segment]) -> Result<(), Error> {
    let mut insert = transaction
        .prepare_cached("INSERT INTO segments (content, number, offset, size, checksum) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for segment in segments {
        let (offset, size) = (sqlite_size(segment.offset)?, sqlite_size(segment.size)?);
        insert.execute(params![content, segment.number, offset, size, segment.checksum])?;
    }
    Ok(())
}

/// The bytes of one part; `None` when there is no part of this number.
pub(in crate::store) fn segment(transaction: &Transaction<'_>, content: i64, number: u32) -> Result<Option<Range<u64>>, Error> {
    let mut statement = transaction.prepare_cached("SELECT offset, size FROM segments WHERE content = ?1 AND number = ?2")?;
    let mut rows = statement.query(params![content, number])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (offset, size) = (size_at(row, 0)?, size_at(row, 1)?);
    Ok(Some(offset..offset + size))
}

/// At most `max` parts of a content, with numbers above `after`.
pub(in crate::store) fn segments(
    transaction: &Transaction<'_>,
    content: i64,
    after: u32,
    max: usize,
) -> Result<Vec<Segment>, Error> {
    let mut statement = transaction.prepare_cached(
        "SELECT number, offset, size, checksum FROM segments WHERE content = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
    )?;
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![content, after, max])?;
    let mut segments = Vec::new();
    while let Some(row) = rows.next()? {
        segments.push(Segment { number: row.get(0)?, offset: size_at(row, 1)?, size: size_at(row, 2)?, checksum: row.get(3)? });
    }
    Ok(segments)
}

/// Forgets a content that the caller has just stopped naming, unless another version or part names it. Bodies that nothing needs
/// any more are added to `dead`; their files go when the transaction is committed.
pub(in crate::store) fn release(transaction: &Transaction<'_>, content: i64, dead: &mut Vec<BodyId>) -> Result<(), Error> {
    let named = transaction
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM versions WHERE content = ?1) OR EXISTS (SELECT 1 FROM parts WHERE content = ?1)",
        )?
        .query_row([content], |row| row.get::<_, bool>(0))?;
    if named {
        return Ok(());
    }
    let pieces = all_pieces(transaction, content)?;
    transaction.prepare_cached("DELETE FROM pieces WHERE content = ?1")?.execute([content])?;
    transaction.prepare_cached("DELETE FROM segments WHERE content = ?1")?.execute([content])?;
    transaction.prepare_cached("DELETE FROM contents WHERE id = ?1")?.execute([content])?;
    let mut needed = transaction.prepare_cached("SELECT 1 FROM pieces WHERE body = ?1 LIMIT 1")?;
    let mut seen = HashSet::new();
    for piece in pieces {
        if seen.insert(piece.body) && needed.query_row([piece.body.as_bytes()], |_| Ok(())).optional()?.is_none() {
            dead.push(piece.body);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::index::Index;

    fn body(name: u8) -> BodyId {
        BodyId::from_bytes(&[name; 16]).unwrap()
    }

    fn piece(name: u8, start: u64, len: u64) -> Piece {
        Piece { body: body(name), start, len, body_len: 100 }
    }

    #[test]
    fn ranges_find_their_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index.sqlite3"), false).unwrap();
        let content = index
            .change(|transaction| {
                // The second and third slice lie behind each other.
                make(transaction, &[piece(1, 0, 100), piece(2, 10, 20), piece(2, 30, 5), piece(3, 0, 0), piece(1, 50, 50)])
            })
            .unwrap();
        let find = |span: Range<u64>| index.view(|snapshot| pieces(snapshot, content, &span)).unwrap();
        assert_eq!(find(0..175), [piece(1, 0, 100), piece(2, 10, 25), piece(1, 50, 50)]);
        assert_eq!(find(99..101), [piece(1, 99, 1), piece(2, 10, 1)]);
        assert_eq!(find(100..125), [piece(2, 10, 25)]);
        assert_eq!(find(124..126), [piece(2, 34, 1), piece(1, 50, 1)]);
        assert_eq!(find(130..131), [piece(1, 55, 1)]);
        assert!(find(7..7).is_empty());
        assert_eq!(index.bodies().unwrap().len(), 3);
    }

    #[test]
    fn bodies_die_with_their_last_piece() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index.sqlite3"), false).unwrap();
        let (one, two) = index
            .change(|transaction| {
                let one = make(transaction, &[piece(1, 0, 9), piece(2, 0, 9), piece(1, 20, 1)])?;
                Ok((one, make(transaction, &[piece(2, 3, 1)])?))
            })
            .unwrap();
        let release = |content| {
            index
                .change(|transaction| {
                    let mut dead = Vec::new();
                    release(transaction, content, &mut dead)?;
                    Ok(dead)
                })
                .unwrap()
        };
        assert_eq!(release(one), [body(1)]);
        assert_eq!(release(two), [body(2)]);
        assert!(index.bodies().unwrap().is_empty());
    }
}

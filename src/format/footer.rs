use super::layout::{END_MARKER, PARTS_MAX, chunked_len, part_sealed_len};
use super::read::Reader;
use super::{
    ChecksumAlgorithm, ChecksumBytes, ChecksumKind, Error, Layout, ObjectChecksum, PartHeader, PlainLen, Result, SealedLen,
};
use crate::crypto::{ObjectKeys, TAG_LEN};

const MAGIC: [u8; 4] = *b"CGF1";
const KIND_SINGLE: u8 = 1;
const KIND_MULTIPART: u8 = 2;
/// Footer bytes before checksum and table.
const FIXED: usize = 48;
/// `sealed_len` of a footer without checksum and table: the fixed fields and the tag.
const SEALED_MIN: u64 = FIXED as u64 + TAG_LEN as u64;
/// Table bytes per entry besides the checksum.
const ENTRY: u64 = 32;
/// Table bytes the size law can hold per entry, the checksum of the object included.
const ENTRY_BUDGET: u64 = 96;
const UNBOUND: u16 = 1;
const CRC64_VALID: u8 = 1;
const MD5_VALID: u8 = 2;

/// The end marker (FORMAT section 7): the last 32 bytes of an object, in the clear. A value of this type passed every check that the
/// marker alone allows, so its lengths can be trusted for fetching and allocating, and for nothing else before the footer opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    bytes: [u8; 32],
    layout: Layout,
    checksum_len: u8,
    value_len: u8,
    entries: u32,
    sealed_len: u32,
}

impl End {
    /// Bytes of the marker.
    pub const LEN: u64 = END_MARKER;
    /// The largest sealed footer any marker can announce, in bytes.
    pub const SEALED_MAX: u64 = SEALED_MIN + ENTRY_BUDGET * PARTS_MAX;

    /// Checks a marker against the object's plaintext length, which comes from the object's length, and against the layout, which comes
    /// from the envelope. Errors: [`Error::End`].
    pub fn parse(bytes: &[u8; 32], plain_len: PlainLen, layout: Layout) -> Result<Self> {
        let end = Self::parse_alone(bytes, plain_len.table_max(), layout)?;
        if chunked_len(plain_len).get() + end.sealed_len() + END_MARKER > plain_len.sealed().get() {
            return Err(Error::End("the footer does not fit into the object"));
        }
        Ok(end)
    }

    /// The same by nothing but the marker itself, and the most entries that there may be.
    pub(super) fn parse_alone(bytes: &[u8; 32], entries_max: u64, layout: Layout) -> Result<Self> {
        const SHORT: Error = Error::End("too short");
        let mut reader = Reader::new(bytes);
        let magic: [u8; 4] = reader.array().ok_or(SHORT)?;
        let [kind, checksum_len, value_len, zero] = reader.array().ok_or(SHORT)?;
        let entries = reader.u32().ok_or(SHORT)?;
        let sealed_len = reader.u32().ok_or(SHORT)?;
        if magic != MAGIC {
            return Err(Error::End("no magic"));
        }
        let expected = match layout {
            Layout::Single => KIND_SINGLE,
            Layout::Multipart => KIND_MULTIPART,
        };
        if kind != expected {
            return Err(Error::End("the kind is not the envelope's"));
        }
        if zero != 0 {
            return Err(Error::End("a reserved byte is not zero"));
        }
        if checksum_len != 0 && !ChecksumAlgorithm::ALL.iter().any(|algorithm| algorithm.len() == usize::from(checksum_len)) {
            return Err(Error::End("no checksum has this length"));
        }
        let value_allowed = match layout {
            Layout::Single => value_len == checksum_len,
            Layout::Multipart => value_len == checksum_len || value_len == 0,
        };
        if !value_allowed {
            return Err(Error::End("the checksum lengths do not agree"));
        }
        let count = u64::from(entries);
        // At most 64 + 2^32 * (32 + 64): far from the end of 64 bits.
        let table = u64::from(value_len) + count * (ENTRY + u64::from(checksum_len));
        if u64::from(sealed_len) != SEALED_MIN + table {
            return Err(Error::End("the sealed length does not follow from the counts"));
        }
        let fits = match layout {
            Layout::Single => count == 0,
            Layout::Multipart => (1..=entries_max).contains(&count) && table <= ENTRY_BUDGET * count,
        };
        if !fits {
            return Err(Error::End("the number of entries is impossible"));
        }
        Ok(Self { bytes: *bytes, layout, checksum_len, value_len, entries, sealed_len })
    }

    /// Bytes of the sealed footer, which lies right before the marker. At most [`End::SEALED_MAX`].
    pub fn sealed_len(&self) -> u64 {
        u64::from(self.sealed_len)
    }

    /// The layout of the body.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Parts in the table; 0 for the single layout.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Bytes of each of the client's checksums; 0 where there are none.
    pub fn checksum_len(&self) -> u8 {
        self.checksum_len
    }

    /// Bytes of the checksum of the whole object; 0 where there is none, or a composite one.
    pub fn value_len(&self) -> u8 {
        self.value_len
    }

    /// The marker as stored. The footer's key is bound to it.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

/// One part in the table of a multipart object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableEntry {
    /// S3's part number, strictly ascending in the table.
    pub number: u16,
    /// Plaintext length; an empty part has an entry but no bytes.
    pub plain_len: PlainLen,
    /// The attempt that was completed; None for an "unbound" part, whose id is read from its stored header.
    pub part_id: Option<[u8; 16]>,
    /// The client's checksum of the part; empty exactly when the object has no checksum.
    pub checksum: ChecksumBytes,
}

impl TableEntry {
    /// The header the part must have, given the 32 stored bytes if they were read. A bound part needs none, but if there are some they
    /// must be equal. Errors: [`Error::HeaderNeeded`], [`Error::PartHeaderDiffers`] and those of [`PartHeader::parse`].
    pub fn header(&self, stored: Option<&[u8; 32]>) -> Result<PartHeader> {
        let stored = stored.map(PartHeader::parse).transpose()?;
        let part_id = match (self.part_id, stored) {
            (Some(part_id), _) => part_id,
            (None, Some(stored)) => stored.part_id,
            (None, None) => return Err(Error::HeaderNeeded),
        };
        let header = PartHeader { part_id, number: self.number, plain_len: self.plain_len };
        if stored.is_some_and(|stored| stored != header) { Err(Error::PartHeaderDiffers) } else { Ok(header) }
    }
}

/// The footer of an object (F in FORMAT section 7). Without parts it is the footer of the single layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Plaintext length of the object.
    pub plain_len: PlainLen,
    /// When the object was written (single) or its upload created (multipart), in milliseconds since the epoch.
    pub time_ms: u64,
    /// The client's checksum of the object.
    pub checksum: Option<ObjectChecksum>,
    /// CRC64NVME of the whole plaintext, checked by whole reads.
    pub crc64: Option<u64>,
    /// MD5 of the whole plaintext.
    pub md5: Option<[u8; 16]>,
    /// The parts; empty for the single layout.
    pub parts: Vec<TableEntry>,
}

/// What the last bytes of an object gave.
#[derive(Debug)]
pub enum Suffix {
    /// The footer.
    Footer(Footer),
    /// The suffix was too short: ask again for this many bytes of the end of the object.
    More(u64),
}

impl Footer {
    /// The layout this footer belongs to.
    pub fn layout(&self) -> Layout {
        if self.parts.is_empty() { Layout::Single } else { Layout::Multipart }
    }

    /// Seals the footer: SEALED || END, to be stored after the padding. Equal footers under equal keys give equal bytes.
    /// Errors: [`Error::Footer`] when the values break a rule of FORMAT section 7.
    pub fn seal(&self, keys: &ObjectKeys) -> Result<Vec<u8>> {
        self.check()?;
        let (checksum_len, value_len) = self.lengths();
        let mut bytes = self.fields();
        let mut end = [0; 32];
        end[..4].copy_from_slice(&MAGIC);
        end[4] = match self.layout() {
            Layout::Single => KIND_SINGLE,
            Layout::Multipart => KIND_MULTIPART,
        };
        end[5] = checksum_len as u8;
        end[6] = value_len as u8;
        end[8..12].copy_from_slice(&(self.parts.len() as u32).to_be_bytes());
        end[12..16].copy_from_slice(&((bytes.len() + TAG_LEN) as u32).to_be_bytes());
        let footer_id = keys.mac(&[b"cg1 foot", &end[..16], &bytes].concat());
        end[16..].copy_from_slice(&footer_id);
        let tag = keys.footer_key(&end).seal_in_place(&mut bytes)?;
        bytes.extend_from_slice(&tag);
        bytes.extend_from_slice(&end);
        Ok(bytes)
    }

    /// Opens the sealed footer that an end marker announced. `sealed` is exactly the [`End::sealed_len`] bytes before the marker.
    /// Errors: [`Error::Crypto`] and [`Error::Footer`].
    pub fn open(keys: &ObjectKeys, end: &End, sealed: &[u8], plain_len: PlainLen) -> Result<Self> {
        let footer = Self::open_alone(keys, end, sealed)?;
        if footer.plain_len != plain_len {
            return Err(Error::Footer("the length is not the object's"));
        }
        footer.check()?;
        Ok(footer)
    }

    /// The same without knowing how long the object is. What such a footer says still has to be checked.
    pub(super) fn open_alone(keys: &ObjectKeys, end: &End, sealed: &[u8]) -> Result<Self> {
        if sealed.len() as u64 != end.sealed_len() {
            return Err(Error::Footer("not the announced length"));
        }
        let mut buffer = sealed.to_vec();
        let bytes = keys.footer_key(&end.bytes).open_in_place(&mut buffer)?;
        Self::parse(bytes, end)
    }

    /// Opens the footer from the last bytes of an object, any number of them. Everything the end marker shows is checked first.
    /// Errors: [`Error::End`], [`Error::Footer`], [`Error::Crypto`].
    pub fn from_suffix(keys: &ObjectKeys, suffix: &[u8], plain_len: PlainLen, layout: Layout) -> Result<Suffix> {
        let Some((before, end)) = suffix.split_last_chunk::<32>() else { return Ok(Suffix::More(END_MARKER)) };
        let end = End::parse(end, plain_len, layout)?;
        match before.len().checked_sub(end.sealed_len() as usize) {
            None => Ok(Suffix::More(end.sealed_len() + END_MARKER)),
            Some(start) => Self::open(keys, &end, &before[start..], plain_len).map(Suffix::Footer),
        }
    }

    /// Bytes of SEALED || END for this footer.
    pub fn end_len(&self) -> u64 {
        let (checksum_len, value_len) = self.lengths();
        let table = value_len as u64 + self.parts.len() as u64 * (ENTRY + checksum_len as u64);
        SEALED_MIN + table + END_MARKER
    }

    /// Bytes of everything before the padding.
    pub fn body_len(&self) -> SealedLen {
        match self.layout() {
            Layout::Single => chunked_len(self.plain_len),
            Layout::Multipart => {
                let lengths = self.parts.iter().map(|part| part_sealed_len(part.plain_len).get());
                SealedLen::new(lengths.fold(0, u64::saturating_add))
            }
        }
    }

    /// Zero bytes between body and footer.
    pub fn pad_len(&self) -> u64 {
        self.plain_len.sealed().get().saturating_sub(self.body_len().get().saturating_add(self.end_len()))
    }

    /// The lengths L and V.
    fn lengths(&self) -> (usize, usize) {
        self.checksum.as_ref().map_or((0, 0), |checksum| (checksum.algorithm().len(), checksum.value().len()))
    }

    /// The rules of section 7 that bind writers and readers alike, beyond those of the end marker.
    pub(super) fn check(&self) -> Result<()> {
        let (checksum_len, value_len) = self.lengths();
        if self.parts.is_empty() {
            if self.checksum.is_some_and(|checksum| checksum.kind() == ChecksumKind::Composite) {
                return Err(Error::Footer("a single object cannot have a composite checksum"));
            }
            return Ok(());
        }
        let count = self.parts.len() as u64;
        if count > self.plain_len.table_max() {
            return Err(Error::Footer("more parts than an object of this size can have"));
        }
        if value_len as u64 + count * (ENTRY + checksum_len as u64) > ENTRY_BUDGET * count {
            return Err(Error::Footer("the checksums need more room than there is"));
        }
        let mut last = 0;
        let mut plain = 0u64;
        let mut sealed = 0u64;
        for part in &self.parts {
            if part.number <= last || u64::from(part.number) > PARTS_MAX {
                return Err(Error::Footer("the part numbers are not ascending"));
            }
            last = part.number;
            if part.checksum.as_slice().len() != checksum_len {
                return Err(Error::Footer("a part has a checksum of another length"));
            }
            // 10,000 lengths of at most 2^60 bytes each could pass 64 bits.
            plain = plain.checked_add(part.plain_len.get()).ok_or(Error::Footer("the parts are too long"))?;
            sealed = sealed.checked_add(part_sealed_len(part.plain_len).get()).ok_or(Error::Footer("the parts are too long"))?;
        }
        if plain != self.plain_len.get() {
            return Err(Error::Footer("the parts do not add up to the object"));
        }
        let fits = sealed.checked_add(self.end_len()).is_some_and(|total| total <= self.plain_len.sealed().get());
        if fits { Ok(()) } else { Err(Error::Footer("the parts do not fit into the object")) }
    }

    fn fields(&self) -> Vec<u8> {
        // Room for the tag and the end marker, so that sealing never moves the table.
        let mut bytes = Vec::with_capacity(self.end_len() as usize);
        bytes.extend_from_slice(&self.plain_len.get().to_be_bytes());
        bytes.extend_from_slice(&self.time_ms.to_be_bytes());
        let (algorithm, kind) = self.checksum.map_or((0, 0), |checksum| (checksum.algorithm().byte(), checksum.kind().byte()));
        let crc64_flag = if self.crc64.is_some() { CRC64_VALID } else { 0 };
        let md5_flag = if self.md5.is_some() { MD5_VALID } else { 0 };
        bytes.extend_from_slice(&[algorithm, kind, crc64_flag | md5_flag, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&self.crc64.unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(&self.md5.unwrap_or([0; 16]));
        if let Some(checksum) = &self.checksum {
            bytes.extend_from_slice(checksum.value());
        }
        for part in &self.parts {
            let header = PartHeader { part_id: part.part_id.unwrap_or([0; 16]), number: part.number, plain_len: part.plain_len };
            let mut header = header.to_bytes();
            if part.part_id.is_none() {
                header[18..20].copy_from_slice(&UNBOUND.to_be_bytes());
            }
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(part.checksum.as_slice());
        }
        bytes
    }

    fn parse(bytes: &[u8], end: &End) -> Result<Self> {
        const SHORT: Error = Error::Footer("too short");
        let mut reader = Reader::new(bytes);
        let plain_len = reader.u64().and_then(PlainLen::new).ok_or(Error::Footer("the length is impossible"))?;
        let time_ms = reader.u64().ok_or(SHORT)?;
        let algorithm = ChecksumAlgorithm::from_byte(reader.u8().ok_or(SHORT)?)?;
        let kind = ChecksumKind::from_byte(reader.u8().ok_or(SHORT)?)?;
        let flags = reader.u8().ok_or(SHORT)?;
        if flags & !(CRC64_VALID | MD5_VALID) != 0 {
            return Err(Error::Footer("unknown flags"));
        }
        if reader.array::<5>() != Some([0; 5]) {
            return Err(Error::Footer("a reserved field is not zero"));
        }
        let crc64 = valid(flags & CRC64_VALID != 0, reader.u64().ok_or(SHORT)?, 0)?;
        let md5 = valid(flags & MD5_VALID != 0, reader.array().ok_or(SHORT)?, [0; 16])?;
        let value = reader.take(usize::from(end.value_len)).ok_or(SHORT)?;
        let checksum = match (algorithm, kind) {
            (None, None) => None,
            (Some(algorithm), Some(ChecksumKind::FullObject)) => Some(ObjectChecksum::full_object(algorithm, value)?),
            (Some(algorithm), Some(ChecksumKind::Composite)) => Some(ObjectChecksum::composite(algorithm)),
            _ => return Err(Error::Footer("checksum algorithm and type do not agree")),
        };
        let mut parts = Vec::with_capacity(end.entries as usize);
        for _ in 0..end.entries {
            let (header, flags) = PartHeader::parse_with_flags(&reader.array().ok_or(SHORT)?)?;
            let part_id = match flags {
                0 => Some(header.part_id),
                UNBOUND if header.part_id == [0; 16] => None,
                _ => return Err(Error::Footer("a table entry has unknown flags or an id it may not have")),
            };
            let checksum = ChecksumBytes::new(reader.take(usize::from(end.checksum_len)).ok_or(SHORT)?)?;
            parts.push(TableEntry { number: header.number, plain_len: header.plain_len, part_id, checksum });
        }
        if !reader.is_empty() {
            return Err(Error::Footer("too long"));
        }
        let footer = Self { plain_len, time_ms, checksum, crc64, md5, parts };
        if footer.lengths() != (usize::from(end.checksum_len), usize::from(end.value_len)) {
            return Err(Error::Footer("the checksum lengths are not the end marker's"));
        }
        Ok(footer)
    }
}

/// A field that is there when its flag says so and zero otherwise.
fn valid<T: PartialEq>(flag: bool, value: T, zero: T) -> Result<Option<T>> {
    match (flag, value == zero) {
        (true, _) => Ok(Some(value)),
        (false, true) => Ok(None),
        (false, false) => Err(Error::Footer("a field without its flag is not zero")),
    }
}

/// What can go wrong in the crypto room. No variant carries anything secret, and tag failures do not say where they happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A sealed message is not what was sealed under this key for this place.
    #[error("a tag does not verify")]
    TagMismatch,
    /// The unwrapped data key is not the one the envelope commits to.
    #[error("the key commitment does not match")]
    CommitMismatch,
    /// The suite byte belongs to no suite of this version.
    #[error("unknown cipher suite {0}")]
    UnknownSuite(u8),
    /// The suite name belongs to no suite of this version.
    #[error("unknown cipher suite name")]
    UnknownSuiteName,
    /// A key of another length than 32 bytes was given.
    #[error("a key must have 32 bytes, not {0}")]
    KeyLength(usize),
    /// The cipher refused to seal. It does so only for messages far beyond a chunk or a footer.
    #[error("the message is too long to be sealed")]
    MessageTooLong,
}

//! `ciphergate recover`: what is left of a damaged object.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::cli::{Holes, RecoverArgs};
use super::{Failure, operator};
use crate::bulk::Target;
use crate::format::Metadata;
use crate::ops::chain;
use crate::ops::recover::{Beside, LengthFrom, Piece, Recovered, Recovery};

/// Zeros are written in pieces of this many bytes.
static ZEROS: [u8; 65_536] = [0; 65_536];

/// Where the plaintext goes.
enum Output {
    /// Nowhere: somebody only wants to know.
    Nothing,
    Stdout(io::Stdout),
    File(File),
}

pub(super) fn run(args: &RecoverArgs) -> Result<(), Failure> {
    let ask = Recovery {
        object: args.target.object().map_err(Failure::usage)?,
        version_id: args.version_id.clone(),
        envelope: args.envelope.clone(),
        sealed_as: args.sealed_as.as_ref().map(Target::object).transpose().map_err(Failure::usage)?,
        plain_sizes: args.plain_size.clone(),
    };
    let to_stdout = args.out.as_deref() == Some(Path::new("-"));
    let recovered = operator::with_gateway(&args.config, &args.target, async |gateway, stop| {
        let mut output = Output::open(args.out.as_deref())?;
        let mut sink = |piece: Piece| output.take(piece, args.holes);
        let recovered = tokio::select! {
            recovered = gateway.recover(&ask, &mut sink) => recovered,
            () = stop.asked() => return Err(Failure::Run("interrupted".to_owned())),
        };
        let recovered = recovered.map_err(|error| {
            let hint = if error.is_about_the_key() { "; nothing can be recovered without the object's data key" } else { "" };
            Failure::Run(format!("{}: {}{hint}", args.target, chain(&error)))
        });
        // What was not begun leaves nothing behind.
        let ended = recovered.and_then(|recovered| output.end().map(|()| recovered).map_err(Failure::run));
        if ended.is_err()
            && let (Output::File(file), Some(path)) = (&output, &args.out)
            && file.metadata().is_ok_and(|meta| meta.len() == 0)
        {
            let _ = std::fs::remove_file(path);
        }
        ended
    })?;
    let text = if args.json { json(args, &recovered)? } else { text(args, &recovered) };
    if to_stdout {
        eprint!("{text}")
    } else {
        print!("{text}")
    }
    if recovered.is_whole() { Ok(()) } else { Err(Failure::Findings) }
}

impl Output {
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        match path {
            None => Ok(Self::Nothing),
            Some(path) if path == Path::new("-") => Ok(Self::Stdout(io::stdout())),
            Some(path) => {
                let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
                file.map(Self::File).map_err(|error| Failure::Usage(format!("--out {}: {error}", path.display())))
            }
        }
    }

    fn take(&mut self, piece: Piece, holes: Holes) -> io::Result<()> {
        match (self, piece, holes) {
            (Self::Nothing, ..) | (_, Piece::Hole(_), Holes::Skip) => Ok(()),
            (Self::Stdout(out), Piece::Plain(bytes), _) => out.write_all(&bytes),
            (Self::File(file), Piece::Plain(bytes), _) => file.write_all(&bytes),
            (Self::File(file), Piece::Hole(len), Holes::Zero) => {
                let len = i64::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
                file.seek(SeekFrom::Current(len)).map(|_| ())
            }
            (Self::Stdout(out), Piece::Hole(mut len), Holes::Zero) => {
                while len > 0 {
                    let zeros = &ZEROS[..len.min(ZEROS.len() as u64) as usize];
                    out.write_all(zeros)?;
                    len -= zeros.len() as u64;
                }
                Ok(())
            }
        }
    }

    fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Stdout(out) => out.flush(),
            Self::File(file) => {
                // A hole at the end.
                let len = file.stream_position()?;
                file.set_len(len)?;
                file.sync_all()
            }
        }
    }
}

/// What stands about the length in words.
fn length(recovered: &Recovered) -> String {
    let len = recovered.plain_len;
    match recovered.length_from {
        LengthFrom::Footer => format!("{len} bytes by its footer"),
        LengthFrom::Chunks => format!("{len} bytes, as its chunks open under this length alone"),
        LengthFrom::StoredLength => format!("{len} bytes by the length of what is stored, which nothing proves"),
        LengthFrom::Told => format!("{len} bytes as you say, which nothing proves"),
        LengthFrom::Unknown => format!("unknown; at least {len} bytes"),
    }
}

fn text(args: &RecoverArgs, recovered: &Recovered) -> String {
    let mut lines = vec![
        format!("{}: {} bytes are stored", args.target, recovered.stored_len),
        format!("  plaintext  {}", length(recovered)),
        format!("  recovered  {} bytes", recovered.recovered),
        format!("  lost       {} bytes", recovered.lost_bytes()),
    ];
    match &recovered.metadata {
        Beside::InPlain => {}
        Beside::Opened(metadata) => lines.extend(
            pairs(metadata).map(|(name, value)| format!("  metadata   {}: {}", name.escape_debug(), value.escape_debug())),
        ),
        Beside::Lost => {
            lines.push("  metadata   lost: what lies sealed beside the object is missing or does not open".to_owned())
        }
    }
    lines.extend(
        recovered.lost.iter().map(|lost| format!("  lost       bytes {}-{}: {}", lost.from, lost.to - 1, lost.why.text())),
    );
    if recovered.lost_more > 0 {
        lines.push(format!("  lost       {} more ranges", recovered.lost_more));
    }
    if recovered.in_parts && !recovered.has_footer {
        lines.push(
            "  NOT PROVEN the footer is lost: each part is genuine, that these are all, and the last uploaded, is not certain"
                .to_owned(),
        );
    } else if !recovered.has_footer {
        lines.push("  footer     lost, and the checksums in it".to_owned());
    }
    if !recovered.is_exact {
        lines.push(
            "  NOT EXACT  between some parts the length of what is lost is estimated: offsets behind it may be wrong".to_owned(),
        );
    }
    if recovered.length_from == LengthFrom::Unknown || (!recovered.in_parts && recovered.recovered == 0 && !recovered.has_footer)
    {
        lines.push(
            "  hint       if you know the plaintext's length, or a range of lengths: --plain-size N or --plain-size FROM-TO"
                .to_owned(),
        );
    }
    lines.push(if recovered.is_whole() { "whole\n" } else { "NOT WHOLE\n" }.to_owned());
    lines.join("\n")
}

/// Opened metadata as headers.
fn pairs(metadata: &Metadata) -> impl Iterator<Item = (String, String)> {
    metadata.iter().map(|(field, value)| (field.header(), String::from_utf8_lossy(value).into_owned()))
}

fn json(args: &RecoverArgs, recovered: &Recovered) -> Result<String, Failure> {
    let lost: Vec<_> = recovered
        .lost
        .iter()
        .map(|lost| serde_json::json!({"first": lost.from, "last": lost.to - 1, "why": lost.why.word()}))
        .collect();
    let document = serde_json::json!({
        "command": "recover",
        "target": args.target.to_string(),
        "version_id": args.version_id,
        "stored_bytes": recovered.stored_len,
        "plaintext_bytes": recovered.plain_len,
        "length_from": recovered.length_from.word(),
        "in_parts": recovered.in_parts,
        "footer": recovered.has_footer,
        "exact": recovered.is_exact,
        "recovered_bytes": recovered.recovered,
        "sealed_metadata": match &recovered.metadata {
            Beside::InPlain => serde_json::Value::Null,
            Beside::Opened(metadata) => pairs(metadata).map(|(name, value)| (name, serde_json::Value::from(value))).collect(),
            Beside::Lost => "lost".into(),
        },
        "lost_bytes": recovered.lost_bytes(),
        "lost": lost,
        "lost_ranges_left_out": recovered.lost_more,
        "whole": recovered.is_whole(),
    });
    Ok(serde_json::to_string_pretty(&document).map_err(Failure::run)? + "\n")
}

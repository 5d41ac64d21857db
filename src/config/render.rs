//! The reference of all settings, rendered from the comments of `raw`: as an example file and as a page.

use std::fmt::Write;

use super::raw::{PREFIXES, SECTIONS};
use super::setting::{About, Item, Sample};
use super::source::{join, variable};

const WIDTH: usize = 118;

const EXAMPLE_HEAD: &str = "\
# An example configuration of Ciphergate. Rendered from src/config/raw.rs; docs/CONFIGURATION.md has the same as a page.
#
# Settings behind one mark show their default, or an example where there is none. Settings behind two marks say in another way what a
# setting before them says or go with such a one, so not all of them can be set together, or belong to another kind of key. Paths are
# meant from the folder of this file.
# `ciphergate check --config FILE` says everything that is wrong with a file, and what is in effect.
";

const PAGE_HEAD: &str = "\
# Configuration

Rendered from `src/config/raw.rs`, like [`deploy/ciphergate.example.toml`](../deploy/ciphergate.example.toml), which `ciphergate example`
prints too. After a change there: `CIPHERGATE_TEST_BLESS=1 cargo t --lib config::tests::the_rendered_files`.

Settings come from three places; each overrides the one before:

1. a TOML file, `--config FILE` or `CIPHERGATE_CONFIG`;
2. environment variables: `CIPHERGATE_`, then the path in capitals with two underscores between its parts, without quotes around values.
   `CIPHERGATE_BACKEND__ENDPOINT` is `backend.endpoint`; `CIPHERGATE_KEYS__0__LABEL` is the `label` of the first `[[keys]]`, and the number
   after the last one adds an entry; `CIPHERGATE_BUCKETS__PHOTOS__MODE` is `mode` of `[buckets.photos]`. Names are taken in lower case;
3. flags: `--set backend.endpoint=https://s3.example.com`, and short ones for the most used settings (`ciphergate serve --help`).

A setting that does not exist is refused wherever it comes from, an environment variable included. Passed over are only
`CIPHERGATE_CONFIG`, `CIPHERGATE_DEV_*` (for `ciphergate dev` and `store`), what this project's tests use (`CIPHERGATE_TEST_*`,
`CIPHERGATE_BENCH_*`, `CIPHERGATE_BIN`, `CIPHERGATE_CACHE`, `CIPHERGATE_PYTHON`, `CIPHERGATE_PYTEST`, `CIPHERGATE_LOCALSTACK_TLS`), and
what Kubernetes sets for a service named `ciphergate` (`CIPHERGATE_PORT*`, `CIPHERGATE_SERVICE_HOST`, `CIPHERGATE_SERVICE_PORT*`).

All mistakes are reported together, each with where it came from and what to do, and the exit code is 2.
`ciphergate check` prints what is in effect and where each value came from, with secrets redacted, and proves that the store and the keys
answer.

Paths in a file are meant from the folder of that file, all others from the working directory.

**Secrets** stand in files of their own (`*_file`), or in place if the configuration file itself is private. A file with a secret is refused
when its group or others can read or change it (`chmod 600`). One exception: a file that belongs to root may let its group read it when the
gateway does not run as root, which is how systemd credentials and Kubernetes secrets arrive. Secrets are not taken from flags, which every
user of the machine can see.
";

/// A commented configuration file that loads once the files it names exist.
pub fn example() -> String {
    let mut out = EXAMPLE_HEAD.to_owned();
    for &About { name: section, doc, items } in SECTIONS {
        out.push('\n');
        comment(&mut out, doc);
        match section {
            "" => {}
            "keys" | "clients" => _ = writeln!(out, "[[{section}]]"),
            "buckets" => _ = writeln!(out, "[buckets.\"photos\"]"),
            PREFIXES => _ = writeln!(out, "[[buckets.\"photos\".prefixes]]"),
            _ => _ = writeln!(out, "[{section}]"),
        }
        for Item { name, doc, sample } in items {
            comment(&mut out, doc);
            let mark = match sample {
                Sample::Required(_) => "",
                // Needed by the kind that the example has.
                Sample::Optional(_) if (section, *name) == ("keys", "key_arn") => "",
                Sample::Default(_) | Sample::Optional(_) => "#",
                Sample::Instead(_) => "##",
            };
            _ = writeln!(out, "{mark}{name} = {}", sample.toml());
        }
    }
    out
}

/// The page for `docs/CONFIGURATION.md`.
pub fn page() -> String {
    let mut out = PAGE_HEAD.to_owned();
    for &About { name: section, doc, items } in SECTIONS {
        let heading = match section {
            "" => "Above all sections".to_owned(),
            "keys" | "clients" => format!("`[[{section}]]`"),
            "buckets" => "`[buckets.\"NAME\"]`".to_owned(),
            PREFIXES => "`[[buckets.\"NAME\".prefixes]]`".to_owned(),
            _ => format!("`[{section}]`"),
        };
        _ = writeln!(out, "\n## {heading}\n");
        if !section.is_empty() {
            _ = writeln!(out, "{}\n", text(doc));
        }
        out.push_str("| setting | default | meaning |\n| --- | --- | --- |\n");
        for Item { name, doc, sample } in items {
            let default = match sample {
                Sample::Default(text) => format!("`{text}`"),
                Sample::Required(text) => format!("needed, such as `{text}`"),
                Sample::Optional(text) | Sample::Instead(text) => format!("none; such as `{text}`"),
            };
            let variable = variable(&match section {
                "keys" | "clients" => join(&format!("{section}[0]"), name),
                "buckets" => join("buckets.NAME", name),
                PREFIXES => join("buckets.NAME.prefixes[0]", name),
                _ => join(section, name),
            });
            _ = writeln!(out, "| `{name}`<br>`{variable}` | {default} | {} |", text(doc));
        }
    }
    out
}

fn text(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

fn comment(out: &mut String, doc: &[&str]) {
    let mut line = String::from("#");
    for word in text(doc).split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            _ = writeln!(out, "{line}");
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    _ = writeln!(out, "{line}");
}

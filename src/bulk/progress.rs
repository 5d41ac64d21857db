//! How far the work is, for somebody who watches a terminal.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line on standard error; nothing where that is no terminal.
#[derive(Clone)]
pub struct Progress(ProgressBar);

impl Progress {
    /// `quiet`: shows nothing in any case.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let is_shown = !quiet && std::io::stderr().is_terminal();
        let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} objects, {per_sec}, {elapsed}") {
            bar.set_style(style);
        }
        if is_shown {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self(bar)
    }

    /// How many objects there are altogether, once the listing has come to its end.
    pub fn total(&self, objects: u64) {
        let style = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} objects, {per_sec}, {eta} left");
        if let Ok(style) = style {
            self.0.set_style(style);
        }
        self.0.set_length(objects);
    }

    /// So many more are done.
    pub fn advance(&self, objects: u64) {
        self.0.inc(objects);
    }

    /// Takes the line away.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

//! The heart (crypto, format, stream) from outside: published vectors, properties, and everything a hostile store can do.
//! Builds without the `server` feature.

mod aws_client;
mod common;
mod ending;
mod lengths;
mod reading;
mod rewrapped;
mod sealing;
mod tamper;
mod vectors;

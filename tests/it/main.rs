//! Integration tests, in one binary: each further one would link everything again.

mod cli;
mod copy;
mod decrypt;
mod deploy;
mod faults;
mod front;
mod gateway;
#[path = "../heart/common.rs"]
#[allow(dead_code, reason = "the heart's tests use the rest")]
mod heart;
mod keyring;
mod kit;
mod kms;
mod modes;
mod multipart;
mod operator;
mod parts;
mod planted;
mod prefixes;
mod provider_contract;
mod recover;
mod reseal;
mod sse;
mod store;
mod transit;

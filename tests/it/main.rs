//! Integration tests, in one binary: each further one would link everything again.

mod cli;
mod deploy;
mod faults;
mod front;
mod gateway;
mod keyring;
mod kit;
mod kms;
mod multipart;
mod provider_contract;
mod store;

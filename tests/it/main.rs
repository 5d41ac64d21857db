//! Integration tests, in one binary: each further one would link everything again.

mod faults;
mod front;
mod gateway;
mod keyring;
mod kit;
mod kms;
mod provider_contract;
mod store;

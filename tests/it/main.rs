//! Integration tests, in one binary: each further one would link everything again.

mod gateway;
mod kit;
mod store;

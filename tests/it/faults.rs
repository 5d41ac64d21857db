//! What goes wrong around the gateway, played on the real binary: a store that fails, clients that go away, processes that die.

mod backend;
mod clients;
mod garbage;
mod log;
mod processes;
mod raw;
mod unhurried;

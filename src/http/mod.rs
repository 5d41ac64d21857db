//! The front: HTTP in, HTTP out.
//!
//! It hosts the protocol library in actix-web, decides which way a request goes and gives every answer its request id. It never
//! sees a key or an object's format, and it never ends a broken body as if it were whole.

pub mod body;

mod address;
mod cors;
pub mod cross_origin;
mod edge;
mod error_document;
mod form;
pub mod front;
pub mod hosts;
mod plain;
mod post_object;
mod restore;
pub mod route;
mod unhurried;

pub mod bridge;
pub mod server;
pub mod tls;

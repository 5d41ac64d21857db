//! The front over the wire: bridge, gate and forward way, with operations and a store made for the test.

#[path = "front/bridge.rs"]
mod bridge;
#[path = "front/forward.rs"]
mod forward;
#[path = "front/site.rs"]
mod site;
#[path = "front/tls.rs"]
mod tls;
#[path = "front/uploads.rs"]
mod uploads;

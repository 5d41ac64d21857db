//! The front over the wire: bridge, gate and forward way, with operations and a store made for the test.

#[path = "front/bridge.rs"]
mod bridge;
#[path = "front/cors.rs"]
mod cors;
#[path = "front/expect.rs"]
mod expect;
#[path = "front/forms.rs"]
mod forms;
#[path = "front/forward.rs"]
mod forward;
#[path = "front/hosts.rs"]
mod hosts;
#[path = "front/site.rs"]
mod site;
#[path = "front/sub_resources.rs"]
mod sub_resources;
#[path = "front/tls.rs"]
mod tls;
#[path = "front/uploads.rs"]
mod uploads;

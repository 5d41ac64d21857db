//! The backend room.

pub mod forward;

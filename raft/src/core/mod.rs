//! The consensus core: pure, no clock, no I/O, no tokio.

mod io;
mod message;

pub use io::{
    Effect, Event, HardState, Input, Outcome, Peer, Refusal, ReplyToken, RequestId, Role, Sequence, Write,
    WriteId,
};
pub use message::{Entry, EntryKind, Request, Response, SnapshotMeta};

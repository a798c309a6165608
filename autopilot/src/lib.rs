//! Keeps a Raft cluster healthy by itself.

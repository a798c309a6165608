//! `Cluster` for `raft::Raft`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| raft_fuzz::read_index(data));

//! Frames: how bytes stand in a segment so that damage is found and told apart from an interrupted write.
//!
//! ```text
//! segment  │ preamble 16 │ frame (start of segment) │ frame │ frame │ ...
//!
//! preamble  0        8         12        16
//!           │raft-log│version  │crc      │            version: u32 = 1; crc: CRC-32 of the 12 bytes before
//!
//! frame     0       4       8         16        24        32       36       40          multiple of 8
//!           │magic  │head   │segment  │offset   │synced   │body    │body    │ body ... 0 │
//!           │LGFR   │crc    │sequence │of this  │through  │length  │crc     │            │
//!           │       │of 8.. │         │frame    │         │        │        │            │
//! ```
//!
//! All numbers are little-endian. A frame holds all records of one call of `write`, so a call is there as a whole or not
//! at all. `synced` says: every byte of this file before that offset was durable when this frame was written. An invalid
//! frame is an interrupted write, and may be cut off, only at the end of the last segment and only when no later
//! frame says that it had been synced. After each sync an empty frame is appended, without a sync of its own, to say so.

use super::super::StorageError;

/// The first bytes of every segment.
pub(super) const PREAMBLE_LEN: usize = 16;
/// The bytes of a frame before its body.
pub(super) const HEADER_LEN: usize = 40;
const ALIGNMENT: usize = 8;
const SEGMENT_MAGIC: &[u8; 8] = b"raft-log";
const FRAME_MAGIC: &[u8; 4] = b"LGFR";
const VERSION: u32 = 1;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Appends the preamble of a segment.
pub(super) fn put_preamble(out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(SEGMENT_MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    let crc = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Checks the preamble of a segment.
pub(super) fn check_preamble(path: &str, bytes: &[u8]) -> Result<(), StorageError> {
    let corrupt =
        |detail: &str| StorageError::Corrupt { path: path.to_owned(), offset: 0, detail: detail.to_owned() };
    if bytes.len() < PREAMBLE_LEN {
        return Err(corrupt("the file is shorter than a segment's start"));
    }
    if crc32fast::hash(&bytes[..12]) != u32_at(bytes, 12) || bytes[..8] != *SEGMENT_MAGIC {
        return Err(corrupt("the first bytes are not a log segment's"));
    }
    match u32_at(bytes, 8) {
        VERSION => Ok(()),
        other => Err(StorageError::Foreign {
            path: path.to_owned(),
            detail: format!("log segment version {other}; this program knows version {VERSION}"),
        }),
    }
}

/// Starts a frame in `out`: room for the header, to be filled by [`finish`].
pub(super) fn begin(out: &mut Vec<u8>) {
    out.resize(out.len() + HEADER_LEN, 0);
}

/// Completes the frame that starts at `start` in `out` and will stand at `offset` in its file.
///
/// # Errors
/// A body of 4 GiB or more.
pub(super) fn finish(
    out: &mut Vec<u8>,
    start: usize,
    sequence: u64,
    offset: u64,
    synced: u64,
) -> Result<(), String> {
    let body = start + HEADER_LEN;
    let length = u32::try_from(out.len() - body).map_err(|_| "more than 4 GiB in one write".to_owned())?;
    let crc = crc32fast::hash(&out[body..]);
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    let header = &mut out[start..body];
    header[..4].copy_from_slice(FRAME_MAGIC);
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    header[16..24].copy_from_slice(&offset.to_le_bytes());
    header[24..32].copy_from_slice(&synced.to_le_bytes());
    header[32..36].copy_from_slice(&length.to_le_bytes());
    header[36..40].copy_from_slice(&crc.to_le_bytes());
    let head_crc = crc32fast::hash(&header[8..]);
    header[4..8].copy_from_slice(&head_crc.to_le_bytes());
    Ok(())
}

struct Header {
    synced: u64,
    length: usize,
    body_crc: u32,
}

/// The header at `at`, if the bytes there are one.
fn header(bytes: &[u8], sequence: u64, at: usize) -> Option<Header> {
    let header = bytes.get(at..at.checked_add(HEADER_LEN)?)?;
    let valid = header[..4] == *FRAME_MAGIC
        && crc32fast::hash(&header[8..]) == u32_at(header, 4)
        && u64_at(header, 8) == sequence
        && u64_at(header, 16) == at as u64;
    valid.then(|| Header {
        synced: u64_at(header, 24),
        length: u32_at(header, 32) as usize,
        body_crc: u32_at(header, 36),
    })
}

/// A valid frame.
pub(super) struct Frame {
    pub(super) synced: u64,
    /// Where the body stands in the segment.
    pub(super) body: std::ops::Range<usize>,
    /// Where the next frame starts.
    pub(super) end: usize,
}

/// The frame at `at`, or what is wrong there. Lengths are compared with the bytes that are there before use.
pub(super) fn read(bytes: &[u8], sequence: u64, at: usize) -> Result<Frame, &'static str> {
    let Some(header) = header(bytes, sequence, at) else { return Err("no valid frame header") };
    let start = at + HEADER_LEN;
    let left = bytes.len() - start;
    let padded = header.length.next_multiple_of(ALIGNMENT);
    if padded > left {
        return Err("the frame is longer than the rest of the file");
    }
    let body = start..start + header.length;
    if crc32fast::hash(&bytes[body.clone()]) != header.body_crc {
        return Err("the checksum does not fit the frame");
    }
    if bytes[body.end..start + padded].iter().any(|byte| *byte != 0) {
        return Err("the frame's padding is not empty");
    }
    Ok(Frame { synced: header.synced, body, end: start + padded })
}

/// Whether some frame behind the invalid one at `at` says that the bytes at `at` had been durable.
pub(super) fn was_synced(bytes: &[u8], sequence: u64, at: usize) -> bool {
    // A readable header tells how far the damaged frame reaches; what stands in its body is a client's, not ours.
    let next = header(bytes, sequence, at)
        .map_or(at + ALIGNMENT, |header| at + HEADER_LEN + header.length.next_multiple_of(ALIGNMENT));
    (next..bytes.len()).step_by(ALIGNMENT).any(|place| header_says(bytes, sequence, place, at as u64))
}

fn header_says(bytes: &[u8], sequence: u64, place: usize, at: u64) -> bool {
    header(bytes, sequence, place).is_some_and(|header| header.synced > at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame_of(body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; PREAMBLE_LEN];
        begin(&mut bytes);
        bytes.extend_from_slice(body);
        finish(&mut bytes, PREAMBLE_LEN, 7, PREAMBLE_LEN as u64, 3).expect("a small frame");
        bytes
    }

    fn patch_length(bytes: &mut [u8], length: u32) {
        let header = &mut bytes[PREAMBLE_LEN..PREAMBLE_LEN + HEADER_LEN];
        header[32..36].copy_from_slice(&length.to_le_bytes());
        let crc = crc32fast::hash(&header[8..]);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    #[test]
    fn a_frame_reads_back_and_ends_aligned() {
        for length in 0..20 {
            let bytes = frame_of(&vec![9; length]);
            let frame = read(&bytes, 7, PREAMBLE_LEN).expect("whole");
            assert_eq!((frame.synced, &bytes[frame.body.clone()]), (3, &vec![9; length][..]));
            assert_eq!(frame.end, bytes.len());
            assert_eq!(frame.end % ALIGNMENT, 0);
        }
    }

    #[test]
    fn lengths_that_lie_are_refused_even_with_a_fitting_header_checksum() {
        for length in [0, 1, 23, 25, 1 << 31, u32::MAX - 7, u32::MAX] {
            let mut bytes = frame_of(&[9; 24]);
            patch_length(&mut bytes, length);
            assert!(read(&bytes, 7, PREAMBLE_LEN).is_err(), "length {length}");
            assert!(!was_synced(&bytes, 7, PREAMBLE_LEN), "length {length}");
        }
    }

    #[test]
    fn a_frame_of_another_place_or_segment_is_none() {
        let mut bytes = frame_of(&[9; 24]);
        assert!(read(&bytes, 8, PREAMBLE_LEN).is_err());
        bytes.splice(0..0, [0; 8]);
        assert!(read(&bytes, 7, PREAMBLE_LEN + 8).is_err());
    }

    #[test]
    fn preambles_tell_damage_from_a_newer_version() {
        let mut bytes = Vec::new();
        put_preamble(&mut bytes);
        assert_eq!(bytes.len(), PREAMBLE_LEN);
        check_preamble("x", &bytes).expect("ours");
        let mut newer = bytes.clone();
        newer[8] = 2;
        assert!(matches!(check_preamble("x", &newer), Err(StorageError::Corrupt { .. })));
        let crc = crc32fast::hash(&newer[..12]);
        newer[12..].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(check_preamble("x", &newer), Err(StorageError::Foreign { .. })));
        assert!(matches!(check_preamble("x", &bytes[..15]), Err(StorageError::Corrupt { .. })));
    }
}

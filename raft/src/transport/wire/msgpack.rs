//! The part of msgpack that hashicorp/raft speaks: an exact writer, a tolerant reader, and a scanner that finds where a
//! value ends while its bytes still arrive.
//!
//! The writer produces the bytes that go-msgpack produces with its default handle ("old" msgpack: raw strings only).
//! The reader takes what go-msgpack takes. Neither allocates by announced lengths: the scanner skips over payloads
//! before they are there, and the reader cuts payloads out of the frame without copying.

use bytes::{BufMut, Bytes, BytesMut};

/// How deep values may nest; go-msgpack has the same limit.
pub(crate) const DEPTH_MAX: usize = 1024;

/// Why bytes are no valid value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MsgpackError {
    /// The bytes end before the value does.
    #[error("the value is cut off at byte {at}")]
    Truncated {
        /// Where.
        at: usize,
    },
    /// A value of another type was expected.
    #[error("expected {expected} at byte {at}, found marker {marker:#04x}")]
    Unexpected {
        /// What was expected.
        expected: &'static str,
        /// The first byte of the value.
        marker: u8,
        /// Where.
        at: usize,
    },
    /// A number does not fit its field.
    #[error("the number at byte {at} does not fit {expected}")]
    OutOfRange {
        /// What it should fit.
        expected: &'static str,
        /// Where.
        at: usize,
    },
    /// Values nest too deep.
    #[error("values nest deeper than 1024 levels")]
    TooDeep,
    /// A value says that it is larger than the limit.
    #[error("the value announces {announced} bytes or more, the limit is {limit}")]
    TooLarge {
        /// What it would need at least.
        announced: u64,
        /// The limit.
        limit: usize,
    },
    /// A list says that it has more items than the limit.
    #[error("the list announces {announced} items, the limit is {limit}")]
    TooMany {
        /// How many it announces.
        announced: u32,
        /// The limit.
        limit: usize,
    },
}

/// Writes a raw string. Go never writes `str8` or `bin`, and old peers do not read them.
///
/// # Panics
/// Above 4 GiB, which no caller lets through.
pub(crate) fn put_raw(out: &mut BytesMut, bytes: &[u8]) {
    out.reserve(bytes.len() + 5);
    match bytes.len() {
        n @ 0..32 => out.put_u8(0xa0 | n as u8),
        n @ 32..65_536 => {
            out.put_u8(0xda);
            out.put_u16(n as u16);
        }
        n => {
            out.put_u8(0xdb);
            out.put_u32(u32::try_from(n).expect("payloads are limited far below 4 GiB"));
        }
    }
    out.put_slice(bytes);
}

/// Writes a raw string, or nil when there is none.
pub(crate) fn put_raw_or_nil(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => put_raw(out, bytes),
        None => out.put_u8(0xc0),
    }
}

/// Writes a number that Go holds in an unsigned type: the shortest unsigned form.
pub(crate) fn put_unsigned(out: &mut BytesMut, value: u64) {
    match value {
        0..0x80 => out.put_u8(value as u8),
        0x80..0x100 => out.put_slice(&[0xcc, value as u8]),
        0x100..0x1_0000 => {
            out.put_u8(0xcd);
            out.put_u16(value as u16);
        }
        0x1_0000..0x1_0000_0000 => {
            out.put_u8(0xce);
            out.put_u32(value as u32);
        }
        _ => {
            out.put_u8(0xcf);
            out.put_u64(value);
        }
    }
}

/// Writes a number that Go holds in a signed type: the shortest *signed* form, also for positive numbers.
pub(crate) fn put_signed(out: &mut BytesMut, value: i64) {
    match value {
        -32..0x80 => out.put_i8(value as i8),
        -0x80..-32 => {
            out.put_u8(0xd0);
            out.put_i8(value as i8);
        }
        -0x8000..0x8000 => {
            out.put_u8(0xd1);
            out.put_i16(value as i16);
        }
        -0x8000_0000..0x8000_0000 => {
            out.put_u8(0xd2);
            out.put_i32(value as i32);
        }
        _ => {
            out.put_u8(0xd3);
            out.put_i64(value);
        }
    }
}

/// Writes a truth value.
pub(crate) fn put_bool(out: &mut BytesMut, value: bool) {
    out.put_u8(if value { 0xc3 } else { 0xc2 });
}

/// Writes the head of a list; its items follow.
pub(crate) fn put_array(out: &mut BytesMut, len: usize) {
    match len {
        0..16 => out.put_u8(0x90 | len as u8),
        16..65_536 => {
            out.put_u8(0xdc);
            out.put_u16(len as u16);
        }
        _ => {
            out.put_u8(0xdd);
            out.put_u32(u32::try_from(len).expect("lists are limited far below 2^32 items"));
        }
    }
}

/// Writes the head of a struct with fewer than 16 fields; keys and values follow.
pub(crate) fn put_map(out: &mut BytesMut, len: u8) {
    if len < 16 {
        out.put_u8(0x80 | len);
    } else {
        out.put_u8(0xde);
        out.put_u16(u16::from(len));
    }
}

/// What the first bytes of a value say about the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// Nothing follows the head.
    Scalar,
    /// This many bytes follow.
    Payload(u32),
    /// This many values follow.
    Values(u64),
}

/// Reads the head of the value at the start of `bytes`: how long the head is, and what follows. `None` if the head is cut off.
fn head(bytes: &[u8], at: usize) -> Result<Option<(usize, Head)>, MsgpackError> {
    let Some(&marker) = bytes.first() else { return Ok(None) };
    let length = |width: usize| -> Option<u32> {
        let field = bytes.get(1..=width)?;
        Some(field.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    };
    let payload = |width: usize, extra: usize| {
        length(width).filter(|_| bytes.len() > width + extra).map(|n| (1 + width + extra, Head::Payload(n)))
    };
    let fixed = |size: usize| (bytes.len() > size).then_some((1 + size, Head::Scalar));
    Ok(match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => Some((1, Head::Scalar)),
        0x80..=0x8f => Some((1, Head::Values(2 * u64::from(marker & 0x0f)))),
        0x90..=0x9f => Some((1, Head::Values(u64::from(marker & 0x0f)))),
        0xa0..=0xbf => Some((1, Head::Payload(u32::from(marker & 0x1f)))),
        0xc1 => return Err(MsgpackError::Unexpected { expected: "a value", marker, at }),
        0xc4 | 0xd9 => payload(1, 0),
        0xc5 | 0xda => payload(2, 0),
        0xc6 | 0xdb => payload(4, 0),
        0xc7 => payload(1, 1),
        0xc8 => payload(2, 1),
        0xc9 => payload(4, 1),
        0xca | 0xce | 0xd2 => fixed(4),
        0xcb | 0xcf | 0xd3 => fixed(8),
        0xcc | 0xd0 => fixed(1),
        0xcd | 0xd1 => fixed(2),
        // Fixed-size extensions: one byte of type, then 1, 2, 4, 8 or 16 bytes.
        0xd4..=0xd8 => (bytes.len() > 1).then_some((2, Head::Payload(1 << (marker - 0xd4)))),
        0xdc => length(2).map(|n| (3, Head::Values(u64::from(n)))),
        0xdd => length(4).map(|n| (5, Head::Values(u64::from(n)))),
        0xde => length(2).map(|n| (3, Head::Values(2 * u64::from(n)))),
        0xdf => length(4).map(|n| (5, Head::Values(2 * u64::from(n)))),
    })
}

/// Finds the end of a run of values in a growing buffer. It remembers where it was, so every byte is looked at once, and
/// it refuses what announces more than the limit before a byte of it has arrived.
#[derive(Clone, Debug)]
pub(crate) struct Scanner {
    /// Values still to come at each open level. Holds at most [`DEPTH_MAX`] + 1 levels.
    open: Vec<u64>,
    /// How far the scan got. May lie beyond the bytes that are there: the payload between is skipped unseen.
    at: usize,
}

impl Scanner {
    /// Looks for the end of `values` values that start at `from`.
    pub(crate) fn new(from: usize, values: u64) -> Self {
        Self { open: vec![values], at: from }
    }

    /// Goes on with what has arrived; `bytes` starts where it did in earlier calls. Returns the position behind the
    /// last value once it is known and there.
    pub(crate) fn scan(&mut self, bytes: &[u8], limit: usize) -> Result<Option<usize>, MsgpackError> {
        loop {
            while self.open.last() == Some(&0) {
                self.open.pop();
            }
            let Some(left) = self.open.last_mut() else {
                return Ok((self.at <= bytes.len()).then_some(self.at));
            };
            let Some(rest) = bytes.get(self.at..) else { return Ok(None) };
            let Some((size, what)) = head(rest, self.at)? else { return Ok(None) };
            *left -= 1;
            self.at += size;
            // Every announced item takes at least a byte.
            let announced = match what {
                Head::Scalar => 0,
                Head::Payload(n) => u64::from(n),
                Head::Values(n) => n,
            };
            let needed = (self.at as u64).saturating_add(announced);
            if needed > limit as u64 {
                return Err(MsgpackError::TooLarge { announced: needed, limit });
            }
            match what {
                Head::Scalar => {}
                Head::Payload(n) => self.at += n as usize,
                Head::Values(n) => {
                    if self.open.len() > DEPTH_MAX {
                        return Err(MsgpackError::TooDeep);
                    }
                    self.open.push(n);
                }
            }
        }
    }
}

/// What a struct is sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nothing: every field has its zero value.
    Nil,
    /// So many pairs of key and value.
    Map(u32),
    /// So many values in order of declaration.
    Array(u32),
}

/// Reads values one after the other from bytes that are all there. Payloads are slices of the input.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    pub(crate) const fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    /// All the bytes that this reads from.
    pub(crate) fn input(&self) -> Bytes {
        self.bytes.clone()
    }

    /// How many bytes were not read yet.
    pub(crate) const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) const fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn peek(&self) -> Result<u8, MsgpackError> {
        self.bytes.get(self.at).copied().ok_or(MsgpackError::Truncated { at: self.at })
    }

    pub(crate) fn unexpected(&self, expected: &'static str) -> MsgpackError {
        match self.peek() {
            Ok(marker) => MsgpackError::Unexpected { expected, marker, at: self.at },
            Err(truncated) => truncated,
        }
    }

    /// Takes a nil if one is next.
    pub(crate) fn nil(&mut self) -> Result<bool, MsgpackError> {
        let nil = self.peek()? == 0xc0;
        self.at += usize::from(nil);
        Ok(nil)
    }

    /// The big-endian number of `width` bytes behind the marker; steps over both.
    fn number(&mut self, width: usize) -> Result<u64, MsgpackError> {
        let from = self.at + 1;
        let field = self.bytes.get(from..from + width).ok_or(MsgpackError::Truncated { at: self.at })?;
        let value = field.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        self.at = from + width;
        Ok(value)
    }

    fn integer(&mut self, expected: &'static str) -> Result<Integer, MsgpackError> {
        let marker = self.peek()?;
        Ok(match marker {
            0x00..=0x7f => {
                self.at += 1;
                Integer::Unsigned(u64::from(marker))
            }
            0xe0..=0xff => {
                self.at += 1;
                Integer::Signed(i64::from(marker as i8))
            }
            0xc0 => {
                self.at += 1;
                Integer::Unsigned(0)
            }
            0xcc => Integer::Unsigned(self.number(1)?),
            0xcd => Integer::Unsigned(self.number(2)?),
            0xce => Integer::Unsigned(self.number(4)?),
            0xcf => Integer::Unsigned(self.number(8)?),
            0xd0 => Integer::Signed(i64::from(self.number(1)? as i8)),
            0xd1 => Integer::Signed(i64::from(self.number(2)? as i16)),
            0xd2 => Integer::Signed(i64::from(self.number(4)? as i32)),
            0xd3 => Integer::Signed(self.number(8)? as i64),
            _ => return Err(self.unexpected(expected)),
        })
    }

    /// A number that is not negative, in any integer form; nil is zero.
    pub(crate) fn unsigned(&mut self) -> Result<u64, MsgpackError> {
        let at = self.at;
        match self.integer("an unsigned number")? {
            Integer::Unsigned(value) => Ok(value),
            Integer::Signed(value) => u64::try_from(value)
                .map_err(|_| MsgpackError::OutOfRange { expected: "an unsigned number", at }),
        }
    }

    /// A number from 0 to 255.
    pub(crate) fn byte(&mut self) -> Result<u8, MsgpackError> {
        let at = self.at;
        u8::try_from(self.unsigned()?).map_err(|_| MsgpackError::OutOfRange { expected: "a byte", at })
    }

    /// A number in any integer form; nil is zero. An unsigned form above `i64::MAX` wraps, as it does in Go.
    pub(crate) fn signed(&mut self) -> Result<i64, MsgpackError> {
        Ok(match self.integer("a number")? {
            Integer::Unsigned(value) => value as i64,
            Integer::Signed(value) => value,
        })
    }

    /// A truth value; nil and 0 are false, 1 is true.
    pub(crate) fn bool(&mut self) -> Result<bool, MsgpackError> {
        let value = match self.peek()? {
            0xc0 | 0xc2 | 0x00 => false,
            0xc3 | 0x01 => true,
            _ => return Err(self.unexpected("true or false")),
        };
        self.at += 1;
        Ok(value)
    }

    /// Where the payload of the string or binary that is next starts and ends; steps over it.
    fn payload(&mut self, expected: &'static str) -> Result<std::ops::Range<usize>, MsgpackError> {
        let marker = self.peek()?;
        if !matches!(marker, 0xa0..=0xbf | 0xc4..=0xc6 | 0xd9..=0xdb) {
            return Err(self.unexpected(expected));
        }
        let truncated = MsgpackError::Truncated { at: self.at };
        let (size, what) = head(&self.bytes[self.at..], self.at)?.ok_or(truncated)?;
        let Head::Payload(length) = what else { return Err(self.unexpected(expected)) };
        let start = self.at + size;
        let end =
            start.checked_add(length as usize).filter(|end| *end <= self.bytes.len()).ok_or(truncated)?;
        self.at = end;
        Ok(start..end)
    }

    /// Where in the input the key of a map that is next stands.
    pub(crate) fn key(&mut self) -> Result<std::ops::Range<usize>, MsgpackError> {
        self.payload("a key")
    }

    /// Bytes in any form that Go takes: string, binary, list of small numbers, or nil.
    pub(crate) fn raw(&mut self) -> Result<Option<Bytes>, MsgpackError> {
        match self.peek()? {
            0xc0 => {
                self.at += 1;
                Ok(None)
            }
            0x90..=0x9f | 0xdc | 0xdd => {
                let len = self.array()?.unwrap_or_default();
                let mut bytes = Vec::new();
                for _ in 0..len {
                    bytes.push(self.byte()?);
                }
                Ok(Some(bytes.into()))
            }
            _ => {
                let range = self.payload("bytes")?;
                Ok(Some(self.bytes.slice(range)))
            }
        }
    }

    /// How many items the list that is next has; `None` for nil.
    pub(crate) fn array(&mut self) -> Result<Option<u32>, MsgpackError> {
        if matches!(self.peek()?, 0x80..=0x8f | 0xde | 0xdf) {
            return Err(self.unexpected("a list"));
        }
        match self.shape("a list")? {
            Shape::Nil => Ok(None),
            Shape::Array(len) | Shape::Map(len) => Ok(Some(len)),
        }
    }

    /// What the struct that is next is sent as; steps over its head.
    pub(crate) fn shape(&mut self, expected: &'static str) -> Result<Shape, MsgpackError> {
        let marker = self.peek()?;
        let small = u32::from(marker & 0x0f);
        Ok(match marker {
            0xc0 | 0x80..=0x9f => {
                self.at += 1;
                match marker {
                    0xc0 => Shape::Nil,
                    0x80..=0x8f => Shape::Map(small),
                    _ => Shape::Array(small),
                }
            }
            0xdc => Shape::Array(self.number(2)? as u32),
            0xdd => Shape::Array(self.number(4)? as u32),
            0xde => Shape::Map(self.number(2)? as u32),
            0xdf => Shape::Map(self.number(4)? as u32),
            _ => return Err(self.unexpected(expected)),
        })
    }

    /// Steps over a value of any kind, without recursion.
    pub(crate) fn skip(&mut self) -> Result<(), MsgpackError> {
        let mut scanner = Scanner::new(self.at, 1);
        let end = scanner.scan(&self.bytes, usize::MAX)?;
        self.at = end.ok_or(MsgpackError::Truncated { at: self.bytes.len() })?;
        Ok(())
    }

    /// The payload of a string or binary, or of an extension of type -1 (a timestamp), with the first marker.
    pub(crate) fn time_payload(&mut self) -> Result<(u8, Bytes), MsgpackError> {
        let marker = self.peek()?;
        if !matches!(marker, 0xc7 | 0xd4..=0xd8) {
            let range = self.payload("a time")?;
            return Ok((marker, self.bytes.slice(range)));
        }
        let truncated = MsgpackError::Truncated { at: self.at };
        let (size, what) = head(&self.bytes[self.at..], self.at)?.ok_or(truncated)?;
        let start = self.at + size;
        let Head::Payload(length) = what else { return Err(self.unexpected("a time")) };
        // The type stands right before the payload.
        if self.bytes[start - 1] != 0xff {
            return Err(self.unexpected("a time"));
        }
        let end = start + length as usize;
        if end > self.bytes.len() {
            return Err(truncated);
        }
        self.at = end;
        Ok((marker, self.bytes.slice(start..end)))
    }
}

enum Integer {
    Unsigned(u64),
    Signed(i64),
}

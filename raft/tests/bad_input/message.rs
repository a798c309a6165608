//! Messages field by field, so that each field can be made wrong.

/// A key and the bytes of its value.
pub(crate) type Field = (&'static str, Vec<u8>);

/// The calls, each with its type byte.
pub(crate) const CALLS: [(&str, u8); 6] = [
    ("AppendEntries", 0),
    ("RequestVote", 1),
    ("InstallSnapshot", 2),
    ("TimeoutNow", 3),
    ("RequestPreVote", 4),
    ("ReadIndex", 128),
];

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) kind: usize,
    pub(crate) fields: Vec<Field>,
}

impl Message {
    /// A well-formed request of term 1 about the first entry, which means nothing to servers that went on.
    pub(crate) fn stale(kind: usize, id: &str) -> Self {
        let mut fields = vec![("Addr", text("x:1")), ("ID", text(id)), ("ProtocolVersion", vec![3])];
        fields.push(("Term", number(1)));
        let more: Vec<Field> = match kind {
            0 => vec![
                ("Entries", list(&[entry(2, 1, 0, b"forged")])),
                ("Leader", text("x:1")),
                ("LeaderCommitIndex", number(1)),
                ("PrevLogEntry", number(1)),
                ("PrevLogTerm", number(1)),
            ],
            1 => vec![
                ("Candidate", text("x:1")),
                ("LastLogIndex", number(1)),
                ("LastLogTerm", number(1)),
                ("LeadershipTransfer", vec![0xc2]),
            ],
            2 => vec![
                ("Configuration", raw(&configuration("x", "x:1", 0))),
                ("ConfigurationIndex", number(1)),
                ("LastLogIndex", number(1)),
                ("LastLogTerm", number(1)),
                ("Leader", text("x:1")),
                ("Peers", raw(b"\x91\xa3x:1")),
                ("Size", number(0)),
                ("SnapshotVersion", number(1)),
            ],
            3 | 5 => {
                // A TimeoutNow of a Go server has no term, nor has a read.
                fields.retain(|(key, _)| *key != "Term");
                Vec::new()
            }
            _ => vec![("LastLogIndex", number(1)), ("LastLogTerm", number(1))],
        };
        fields.extend(more);
        Self { kind, fields }
    }

    /// The same with this field, in the place of one of that name if there is one.
    pub(crate) fn with(mut self, key: &'static str, value: Vec<u8>) -> Self {
        match self.fields.iter_mut().find(|(known, _)| *known == key) {
            Some(field) => field.1 = value,
            None => self.fields.push((key, value)),
        }
        self
    }

    /// The byte that names the call.
    pub(crate) const fn type_byte(&self) -> u8 {
        CALLS[self.kind].1
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.type_byte()];
        bytes.extend_from_slice(&map(&self.fields));
        bytes
    }
}

fn map(fields: &[Field]) -> Vec<u8> {
    let mut bytes = vec![0xde];
    bytes.extend_from_slice(&u16::try_from(fields.len()).expect("few fields").to_be_bytes());
    for (key, value) in fields {
        bytes.extend_from_slice(&text(key));
        bytes.extend_from_slice(value);
    }
    bytes
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    raw(text.as_bytes())
}

pub(crate) fn raw(bytes: &[u8]) -> Vec<u8> {
    let mut out = match bytes.len() {
        short @ 0..32 => vec![0xa0 | short as u8],
        long => [&[0xda][..], &u16::try_from(long).expect("short texts").to_be_bytes()].concat(),
    };
    out.extend_from_slice(bytes);
    out
}

pub(crate) fn number(number: u64) -> Vec<u8> {
    match number {
        0..0x80 => vec![number as u8],
        _ => [&[0xcf][..], &number.to_be_bytes()].concat(),
    }
}

pub(crate) fn signed(number: i64) -> Vec<u8> {
    [&[0xd3][..], &number.to_be_bytes()].concat()
}

pub(crate) fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0xdc];
    bytes.extend_from_slice(&u16::try_from(items.len()).expect("few items").to_be_bytes());
    bytes.extend(items.iter().flatten());
    bytes
}

/// An entry of a log.
pub(crate) fn entry(index: u64, term: u64, kind: u8, data: &[u8]) -> Vec<u8> {
    map(&[("Data", raw(data)), ("Index", number(index)), ("Term", number(term)), ("Type", vec![kind])])
}

/// A configuration of one server.
pub(crate) fn configuration(id: &str, address: &str, suffrage: u8) -> Vec<u8> {
    let server = map(&[("Suffrage", vec![suffrage]), ("ID", text(id)), ("Address", text(address))]);
    map(&[("Servers", list(&[server]))])
}

//! The directory of one server: who it belongs to, and that only one process uses it.
//!
//! ```text
//! data/             0700
//!   identity        what this directory is, which server it belongs to
//!   lock            locked as long as a process uses the directory
//!   log/            the log (see `wal.rs`)
//!   snapshots/      snapshots in hashicorp/raft's layout (see `snapshot_file.rs`)
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raft_types::ServerId;
use serde::{Deserialize, Serialize};

use super::fs::{FileSystem, LockGuard, StdFileSystem, read_file, replace_file};
use super::{FileLog, FileSnapshots, LogOptions, StorageError};

const MAGIC: &str = "raft data directory";
const FORMAT: u32 = 1;
/// What a directory may hold and still count as empty: our own first files, and what mkfs makes.
const IGNORED: [&str; 3] = ["lock", "identity.tmp", "lost+found"];
const IDENTITY_BYTES_MAX: u64 = 64 << 10;

/// The content of the identity file, one JSON object. Unknown fields are a newer format's, which has a higher number.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Identity {
    magic: String,
    format: u32,
    /// Which server, once [`DataDirectory::bind_id`] said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    /// The log was made; from then on its absence is damage (catalogue E03).
    #[serde(default)]
    log: bool,
}

/// A server's data directory, locked.
///
/// The lock is held until this value and all stores made from it are dropped.
#[derive(Debug)]
pub struct DataDirectory {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    identity: Identity,
    lock: Arc<dyn LockGuard>,
}

impl DataDirectory {
    /// Opens the directory, or makes it, readable for its owner only.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when another process has it, [`StorageError::Foreign`] when it holds files but no identity
    /// file of this program and version, [`StorageError::Io`] for anything the operating system says.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StorageError> {
        Self::open_on(StdFileSystem::shared(), path)
    }

    /// The same on another file system.
    ///
    /// # Errors
    /// As [`DataDirectory::open`].
    pub fn open_on(fs: Arc<dyn FileSystem>, path: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let path = path.into();
        let names = match fs.list(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_durable(fs.as_ref(), &path)
                    .map_err(|error| StorageError::io("create", path.display(), error))?;
                Vec::new()
            }
            other => other.map_err(|error| StorageError::io("list", path.display(), error))?,
        };
        let known = names.iter().any(|name| name == "identity");
        if !known && let Some(name) = names.iter().find(|name| !IGNORED.contains(&name.as_str())) {
            return Err(StorageError::Foreign {
                path: path.display().to_string(),
                detail: format!("it has no identity file but holds {name:?}"),
            });
        }
        let lock_path = path.join("lock");
        let lock: Arc<dyn LockGuard> = fs
            .try_lock(&lock_path)
            .map_err(|error| StorageError::io("lock", lock_path.display(), error))?
            .ok_or_else(|| StorageError::Locked { path: lock_path.display().to_string() })?
            .into();
        // Read under the lock: the other process may just have made it.
        let identity = match read_identity(fs.as_ref(), &path.join("identity"))? {
            Some(identity) => identity,
            None => Identity { magic: MAGIC.to_owned(), format: FORMAT, server: None, log: false },
        };
        let mut directory = Self { fs, path, identity, lock };
        // A process that was killed may have left names that only the cache knows.
        directory
            .fs
            .sync_dir(&directory.path)
            .map_err(|error| StorageError::io("sync", directory.path.display(), error))?;
        if !known {
            directory.save(directory.identity.clone())?;
        }
        Ok(directory)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file_system(&self) -> Arc<dyn FileSystem> {
        Arc::clone(&self.fs)
    }

    /// The server that this directory belongs to, once [`DataDirectory::bind_id`] said so.
    #[must_use]
    pub fn server_id(&self) -> Option<ServerId> {
        self.identity.server.as_deref().map(ServerId::from)
    }

    /// Says which server this directory belongs to. The first call decides for good; later ones must agree.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] when it belongs to another server; nothing was changed. [`StorageError::Io`] when the id
    /// could not be stored.
    pub fn bind_id(&mut self, id: &ServerId) -> Result<(), StorageError> {
        match &self.identity.server {
            Some(owner) if owner == id.as_str() => Ok(()),
            Some(owner) => Err(StorageError::Foreign {
                path: self.path.display().to_string(),
                detail: format!("it belongs to server {owner}, not to {id}"),
            }),
            None => {
                let identity = Identity { server: Some(id.as_str().to_owned()), ..self.identity.clone() };
                self.save(identity)
            }
        }
    }

    /// The log, to be recovered before use. Made on first use; an error from then on when it is gone.
    ///
    /// # Errors
    /// What the disk says.
    pub fn log(&mut self, options: LogOptions) -> Result<FileLog, StorageError> {
        let path = self.path.join("log");
        let log = FileLog::new(Arc::clone(&self.fs), &path, options);
        if !self.identity.log {
            self.make_child(&path)?;
            log.initialise()?;
            self.save(Identity { log: true, ..self.identity.clone() })?;
        }
        Ok(log.existing(Arc::clone(&self.lock)))
    }

    /// The snapshots; the `retain` newest are kept, at least two.
    ///
    /// # Errors
    /// What the disk says.
    pub fn snapshots(&self, retain: usize) -> Result<FileSnapshots, StorageError> {
        let path = self.path.join("snapshots");
        self.make_child(&path)?;
        Ok(FileSnapshots::open_on(Arc::clone(&self.fs), path, retain)?.holding(Arc::clone(&self.lock)))
    }

    fn make_child(&self, path: &Path) -> Result<(), StorageError> {
        self.fs
            .create_dir_all(path)
            .and_then(|()| self.fs.sync_dir(&self.path))
            .map_err(|error| StorageError::io("create", path.display(), error))
    }

    fn save(&mut self, identity: Identity) -> Result<(), StorageError> {
        let path = self.path.join("identity");
        let failed = |error| StorageError::io("write", path.display(), error);
        let mut text = serde_json::to_string(&identity).map_err(|error| failed(error.into()))?;
        text.push('\n');
        replace_file(self.fs.as_ref(), &path, text.as_bytes()).map_err(failed)?;
        self.identity = identity;
        Ok(())
    }
}

/// Makes a directory and its missing parents, and makes their names durable.
fn make_durable(fs: &dyn FileSystem, path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path
        .ancestors()
        .filter(|ancestor| !ancestor.as_os_str().is_empty())
        .take_while(|ancestor| fs.list(ancestor).is_err())
        .collect();
    fs.create_dir_all(path)?;
    missing.into_iter().filter_map(Path::parent).try_for_each(|parent| fs.sync_dir(parent))
}

fn read_identity(fs: &dyn FileSystem, path: &Path) -> Result<Option<Identity>, StorageError> {
    let failed = |error| StorageError::io("read", path.display(), error);
    let foreign = |detail: String| StorageError::Foreign { path: path.display().to_string(), detail };
    match fs.file_len(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(length) if length > IDENTITY_BYTES_MAX => {
            return Err(foreign(format!("an identity file of {length} bytes")));
        }
        Ok(_) => {}
    }
    let bytes = read_file(fs, path).map_err(failed)?;
    let identity: Identity = serde_json::from_slice(&bytes)
        .map_err(|error| foreign(format!("the identity file does not read well: {error}")))?;
    if identity.magic != MAGIC {
        return Err(foreign(format!("the identity file says {:?}", identity.magic)));
    }
    if identity.format != FORMAT {
        return Err(foreign(format!("format {}; this program knows format {FORMAT}", identity.format)));
    }
    Ok(Some(identity))
}

#[cfg(test)]
mod tests {
    use super::super::{LogStore as _, MemoryFileSystem};
    use super::*;

    fn kind(result: Result<DataDirectory, StorageError>) -> StorageError {
        result.expect_err("must be refused")
    }

    #[test]
    fn a_second_open_finds_the_directory_locked() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path().join("deep").join("data");
        let mut first = DataDirectory::open(&path).expect("new");
        assert!(matches!(kind(DataDirectory::open(&path)), StorageError::Locked { .. }));
        let log = first.log(LogOptions::default()).expect("a log");
        drop(first);
        assert!(matches!(kind(DataDirectory::open(&path)), StorageError::Locked { .. }), "the log is in use");
        drop(log);
        DataDirectory::open(&path).expect("free again");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path().join("data");
        let mut directory = DataDirectory::open(&path).expect("new");
        directory.log(LogOptions::default()).expect("a log");
        let mode = |p: PathBuf| std::fs::metadata(p).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(path.clone()), 0o700);
        assert_eq!(mode(path.join("log")), 0o700);
        assert_eq!(mode(path.join("identity")), 0o600);
        assert_eq!(mode(path.join("log").join("00000000000000000001.log")), 0o600);
    }

    #[test]
    fn foreign_and_newer_directories_are_refused_untouched() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path();
        std::fs::write(path.join("notes.txt"), "mine").expect("written");
        assert!(matches!(kind(DataDirectory::open(path)), StorageError::Foreign { .. }));
        assert_eq!(std::fs::read_dir(path).expect("there").count(), 1, "nothing was added");

        std::fs::remove_file(path.join("notes.txt")).expect("removed");
        drop(DataDirectory::open(path).expect("empty now"));
        let identity = std::fs::read_to_string(path.join("identity")).expect("made");
        std::fs::write(path.join("identity"), identity.replace("\"format\":1", "\"format\":2")).expect("ok");
        let error = kind(DataDirectory::open(path)).to_string();
        assert!(error.contains("format 2"), "{error}");
        std::fs::write(path.join("identity"), "{}").expect("ok");
        assert!(matches!(kind(DataDirectory::open(path)), StorageError::Foreign { .. }));
    }

    #[test]
    fn the_first_server_id_stays() {
        let fs = MemoryFileSystem::new();
        let open = || DataDirectory::open_on(Arc::new(fs.clone()), "data").expect("ours");
        let mut directory = open();
        assert_eq!(directory.server_id(), None);
        directory.bind_id(&"a\n\"<".into()).expect("the first");
        drop(directory);
        let mut directory = open();
        directory.bind_id(&"a\n\"<".into()).expect("the same");
        let error = directory.bind_id(&"b".into()).expect_err("another").to_string();
        assert!(error.contains("belongs to server"), "{error}");
        assert_eq!(directory.server_id(), Some("a\n\"<".into()));
    }

    #[test]
    fn a_log_that_vanished_is_damage() {
        let fs = MemoryFileSystem::new();
        let open = || DataDirectory::open_on(Arc::new(fs.clone()), "data").expect("ours");
        open().log(LogOptions::default()).expect("made").recover().expect("empty");
        fs.remove_file(Path::new("data/log/00000000000000000001.log")).expect("removed");
        let error = open().log(LogOptions::default()).expect("opened").recover().expect_err("gone");
        assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
    }
}

//! The few file operations that the stores need, so that the same code runs on a real disk and on a simulated one.
//!
//! All calls block. Nothing is durable before it was synced: a file's bytes by [`File::sync_data`], the names in a
//! directory (files and directories created, renamed, removed) by [`FileSystem::sync_dir`].

use std::fmt;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

/// A file system, or a model of one.
pub trait FileSystem: fmt::Debug + Send + Sync + 'static {
    /// Makes a directory that only its owner may enter, with missing parents. It may exist already.
    ///
    /// # Errors
    /// What the operating system says; nothing or only parents were made.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory that must not exist yet, in a directory that does.
    ///
    /// # Errors
    /// `AlreadyExists`, and what the operating system says; nothing was made.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted. Names that are not UTF-8 are shown with replacement characters.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Makes an empty file that only its owner may read, or empties the one that is there.
    ///
    /// # Errors
    /// What the operating system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Opens an existing file for writing; its content stays.
    ///
    /// # Errors
    /// `NotFound`, and what the operating system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Opens an existing file for reading from its start. The reader keeps working when the file is removed meanwhile.
    ///
    /// # Errors
    /// `NotFound`, and what the operating system says.
    fn reader(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;

    /// The length of a file in bytes.
    ///
    /// # Errors
    /// `NotFound`, and what the operating system says.
    fn file_len(&self, path: &Path) -> io::Result<u64>;

    /// Gives a file or directory another name in the same directory, replacing a file of that name.
    ///
    /// # Errors
    /// What the operating system says; nothing was renamed.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the operating system says; nothing was removed.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and the files in it.
    ///
    /// # Errors
    /// What the operating system says; some of the content may be gone.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable. The empty path is where relative paths start.
    ///
    /// # Errors
    /// What the operating system says; which names are durable is then unknown.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes the exclusive lock that this file stands for, making the file if needed. `None` when someone else has it.
    /// The lock is released when the guard is dropped or the process ends.
    ///
    /// # Errors
    /// What the operating system says.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>>;
}

/// A file open for writing.
pub trait File: Send {
    /// Writes all bytes at this offset, which may lie at most at the end of the file.
    ///
    /// # Errors
    /// What the operating system says; a part may have been written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file to this length.
    ///
    /// # Errors
    /// What the operating system says.
    fn set_len(&mut self, length: u64) -> io::Result<()>;

    /// Makes bytes and length durable (`fdatasync`).
    ///
    /// # Errors
    /// What the operating system says. What is durable is then unknown, and a later success proves nothing about
    /// earlier writes (catalogue D01).
    fn sync_data(&mut self) -> io::Result<()>;
}

/// Holds a lock of [`FileSystem::try_lock`] until it is dropped.
pub trait LockGuard: fmt::Debug + Send + Sync {}

/// Reads a whole file. The memory taken is the file's length, not a length that its content claims.
///
/// # Errors
/// `NotFound`, and what the operating system says.
pub(super) fn read_file(fs: &dyn FileSystem, path: &Path) -> io::Result<Vec<u8>> {
    let length = usize::try_from(fs.file_len(path)?).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(length);
    fs.reader(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Replaces a file so that a crash leaves the old or the new content: writes beside it, syncs, renames, syncs the
/// directory.
///
/// # Errors
/// What the operating system says; the old or the new content is there.
pub(super) fn replace_file(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    let mut file = fs.create(&beside)?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    drop(file);
    fs.rename(&beside, path)?;
    match path.parent() {
        Some(directory) => fs.sync_dir(directory),
        None => Ok(()),
    }
}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdFileSystem;

impl StdFileSystem {
    /// One for a store to hold.
    #[must_use]
    pub fn shared() -> Arc<dyn FileSystem> {
        Arc::new(Self)
    }
}

#[cfg_attr(not(unix), expect(unused_mut, reason = "the mode is only set on Unix"))]
fn directory_builder(recursive: bool) -> fs::DirBuilder {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(recursive);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

fn writable() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

impl FileSystem for StdFileSystem {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        directory_builder(true).create(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        directory_builder(false).create(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = writable().create(true).truncate(true).open(path)?;
        Ok(Box::new(StdFile { file, position: 0 }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(StdFile { file: writable().open(path)?, position: 0 }))
    }

    fn reader(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(fs::File::open(path)?))
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // Windows has no way to sync a directory through a plain handle, and its renames are journalled.
        if !cfg!(unix) {
            return Ok(());
        }
        let here = path.as_os_str().is_empty();
        fs::File::open(if here { Path::new(".") } else { path })?.sync_all()
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        let file = writable().create(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(StdLock { _file: file }))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

struct StdFile {
    file: fs::File,
    /// Where the cursor stands, so that appending needs no seek.
    position: u64,
}

impl File for StdFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset != self.position {
            self.file.seek(SeekFrom::Start(offset))?;
        }
        // Unknown until the write succeeded, so that the next call seeks.
        self.position = u64::MAX;
        self.file.write_all(bytes)?;
        self.position = offset + bytes.len() as u64;
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[derive(Debug)]
struct StdLock {
    /// The lock belongs to the open file and goes with it.
    _file: fs::File,
}

impl LockGuard for StdLock {}

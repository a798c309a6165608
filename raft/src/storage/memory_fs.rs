//! A disk in memory that forgets what was not synced, for crash tests and the simulator.
//!
//! ```text
//! write_at, set_len ──► content as read ──sync_data──► durable content ─┐
//! create, rename, .. ─► names as read ────sync_dir───► durable names  ──┴─ crash ─► what a restart finds
//! ```
//!
//! A crash keeps what is durable, plus what the caller chooses of the rest. There is no randomness here: all choices
//! are arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fs::{File, FileSystem, LockGuard};

const SECTOR: u64 = 512;

/// What stands behind the kept bytes in the sector that was being written at a crash, where no durable bytes stood before:
/// those stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Torn {
    /// Nothing: the file ends there.
    #[default]
    Cut,
    /// Zeros, as when the length reached the disk before the bytes.
    Zeros,
    /// Other bytes than those written.
    Garbage,
}

/// What a crash keeps of the unsynced changes of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// How many units of the unsynced changes, in the order in which they were made. A written byte is one unit, and
    /// so is a [`File::set_len`]. More than there are means all.
    pub units: u64,
    /// What follows them.
    pub torn: Torn,
    /// The first sector of what is kept did not reach the disk all the same: the later ones were written first.
    pub hole: bool,
}

impl Kept {
    /// Everything reached the disk, synced or not.
    pub const ALL: Self = Self { units: u64::MAX, torn: Torn::Cut, hole: false };
    /// Only what was synced.
    pub const NOTHING: Self = Self { units: 0, torn: Torn::Cut, hole: false };
}

/// Decides what a crash keeps beyond what is durable.
pub trait CrashChoice {
    /// What of this file's unsynced changes, which count `units`.
    fn file(&mut self, path: &Path, units: u64) -> Kept;

    /// Whether this change of a name that was not synced is there after the crash. Asked in the order of the changes.
    fn name(&mut self, path: &Path) -> bool;
}

/// The same choice for every file and every name.
#[derive(Clone, Copy, Debug)]
pub struct Always {
    /// For every file.
    pub kept: Kept,
    /// For every name.
    pub names: bool,
}

impl CrashChoice for Always {
    fn file(&mut self, _path: &Path, _units: u64) -> Kept {
        self.kept
    }

    fn name(&mut self, _path: &Path) -> bool {
        self.names
    }
}

/// What a failing sync does to the bytes that it should have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostPages {
    /// They are still waiting; the next sync writes them.
    Kept,
    /// They read back as written, but no later sync writes them (Linux).
    Lost,
}

/// A file system in memory. Clones share the disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryFileSystem {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(u64),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

impl Change {
    const fn units(&self) -> u64 {
        match self {
            Self::Write { bytes, .. } => bytes.len() as u64,
            Self::SetLen(_) => 1,
        }
    }
}

/// A change of a name: `path` becomes `node`, and `gone` is removed.
#[derive(Clone, Debug)]
struct NameChange {
    path: PathBuf,
    node: Option<Node>,
    gone: Option<PathBuf>,
}

#[derive(Clone, Debug, Default)]
struct Disk {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    pending_names: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    next_inode: u64,
    /// Raised by a crash: handles from before are dead.
    generation: u64,
    operations: u64,
    operations_max: Option<u64>,
    syncs_to_fail: u64,
    lost_pages: Option<LostPages>,
    capacity: Option<u64>,
}

impl MemoryFileSystem {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // The disk is only changed by code that does not panic half way.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine loses power: what was not synced is gone unless the choice keeps it. Open files and locks are dead.
    /// Faults and limits that were switched on are off.
    pub fn crash(&self, choice: &mut dyn CrashChoice) {
        self.disk().crash(choice);
    }

    /// Another disk with what is on this one now, as an image of it; handles and locks stay with this one.
    #[must_use]
    pub fn image(&self) -> Self {
        let mut copy = self.disk().clone();
        copy.locks.clear();
        Self { disk: Arc::new(Mutex::new(copy)) }
    }

    /// Only the process dies: nothing is lost, open files and locks are dead. Switches go off as in a crash.
    pub fn kill(&self) {
        self.disk().restart();
    }

    /// How many changing operations were done (writes, syncs, creations, renames, removals).
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Lets this many more changing operations succeed; the ones after fail without effect. `None` lifts the limit.
    pub fn stop_after(&self, more: Option<u64>) {
        let mut disk = self.disk();
        disk.operations_max = more.map(|more| disk.operations + more);
    }

    /// Lets the next `count` syncs (of files or directories) fail; `u64::MAX` means all.
    pub fn fail_syncs(&self, count: u64, pages: LostPages) {
        let mut disk = self.disk();
        disk.syncs_to_fail = count;
        disk.lost_pages = Some(pages);
    }

    /// The bytes in all files, also in those that were removed but would be there again after a crash.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.disk().used()
    }

    /// Limits the bytes in all files; a write beyond writes what fits and fails with `StorageFull`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// Rots one byte of a file at rest: XORs it with `mask`, also on disk.
    ///
    /// # Panics
    /// No such file or byte: the test is wrong.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let mut disk = self.disk();
        let inode = disk.inode_at(path).expect("a file to flip a bit in");
        let at = usize::try_from(offset).expect("an offset in memory");
        inode.content[at] ^= mask;
        if let Some(byte) = inode.durable.get_mut(at) {
            *byte ^= mask;
        }
    }

    /// The content of a file as it reads now.
    ///
    /// # Errors
    /// No such file.
    pub fn content(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.disk().inode_at(path)?.content.clone())
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}

fn stopped() -> io::Error {
    io::Error::other("the simulated machine is off")
}

fn overwrite(target: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = usize::try_from(offset).expect("an offset in memory");
    let end = start + bytes.len();
    if target.len() < end {
        target.resize(end, 0);
    }
    target[start..end].copy_from_slice(bytes);
}

impl Inode {
    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Write { offset, bytes } => overwrite(&mut self.durable, offset, &bytes),
                Change::SetLen(length) => self.durable.resize(length as usize, 0),
            }
        }
    }

    fn crash(&mut self, kept: Kept) {
        let mut left = kept.units;
        let mut hole = kept.hole;
        for change in std::mem::take(&mut self.pending) {
            let units = change.units();
            let whole = left >= units;
            match change {
                Change::SetLen(length) if whole => self.durable.resize(length as usize, 0),
                Change::SetLen(_) => {}
                Change::Write { offset, mut bytes } => {
                    let sector_end = |from: u64| ((from / SECTOR + 1) * SECTOR - offset) as usize;
                    if !whole {
                        let end =
                            if kept.torn == Torn::Cut { left as usize } else { sector_end(offset + left) };
                        bytes.truncate(end);
                        self.spoil(offset, &mut bytes, left as usize, |byte| match kept.torn {
                            Torn::Garbage => !byte,
                            Torn::Cut | Torn::Zeros => 0,
                        });
                    }
                    if std::mem::take(&mut hole) {
                        let tail = bytes.split_off(bytes.len().min(sector_end(offset)));
                        self.spoil(offset, &mut bytes, 0, |_| 0);
                        bytes.extend(tail);
                    }
                    overwrite(&mut self.durable, offset, &bytes);
                }
            }
            if !whole {
                break;
            }
            left -= units;
        }
        self.content.clone_from(&self.durable);
    }

    /// What an interrupted write leaves from `from` on: old bytes where there were any, `new` of the rest.
    fn spoil(&self, offset: u64, bytes: &mut [u8], from: usize, new: impl Fn(u8) -> u8) {
        for (at, byte) in bytes.iter_mut().enumerate().skip(from) {
            *byte = self.durable.get(offset as usize + at).copied().unwrap_or_else(|| new(*byte));
        }
    }
}

impl Disk {
    fn inode_at(&mut self, path: &Path) -> io::Result<&mut Inode> {
        match self.names.get(path) {
            Some(Node::File(number)) => self.inodes.get_mut(number).ok_or_else(|| not_found(path)),
            Some(Node::Directory) => Err(io::Error::new(io::ErrorKind::IsADirectory, "a directory")),
            None => Err(not_found(path)),
        }
    }

    /// Counts a changing operation, or refuses it.
    fn operation(&mut self) -> io::Result<()> {
        if self.operations_max.is_some_and(|max| self.operations >= max) {
            return Err(stopped());
        }
        self.operations += 1;
        Ok(())
    }

    fn sync_allowed(&mut self) -> Result<(), LostPages> {
        match self.lost_pages {
            Some(pages) if self.syncs_to_fail > 0 => {
                if self.syncs_to_fail < u64::MAX {
                    self.syncs_to_fail -= 1;
                }
                Err(pages)
            }
            _ => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.inodes.values().map(|inode| inode.content.len() as u64).sum()
    }

    fn parent_exists(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            None => Ok(()),
            Some(parent) if is_root(parent) => Ok(()),
            Some(parent) if self.names.get(parent) == Some(&Node::Directory) => Ok(()),
            Some(parent) => Err(not_found(parent)),
        }
    }

    fn change_name(&mut self, path: &Path, node: Option<Node>, gone: Option<&Path>) {
        let change = NameChange { path: path.to_owned(), node, gone: gone.map(Path::to_owned) };
        apply_name(&mut self.names, &change);
        self.pending_names.push(change);
    }

    fn write(&mut self, number: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.operation()?;
        let used = self.capacity.map_or(0, |_| self.used());
        let inode = self.inodes.get_mut(&number).ok_or_else(stopped)?;
        let length = inode.content.len() as u64;
        if offset > length {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a write behind the end of the file"));
        }
        let room = self.capacity.map_or(u64::MAX, |c| c.saturating_sub(used) + (length - offset));
        let fits = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        overwrite(&mut inode.content, offset, &bytes[..fits]);
        inode.pending.push(Change::Write { offset, bytes: bytes[..fits].to_vec() });
        if fits < bytes.len() {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the simulated disk is full"));
        }
        Ok(())
    }

    fn sync(&mut self, number: u64) -> io::Result<()> {
        self.operation()?;
        let allowed = self.sync_allowed();
        let inode = self.inodes.get_mut(&number).ok_or_else(stopped)?;
        match allowed {
            Ok(()) => {
                inode.sync();
                Ok(())
            }
            Err(pages) => {
                if pages == LostPages::Lost {
                    inode.pending.clear();
                }
                Err(io::Error::other("the simulated disk failed to sync"))
            }
        }
    }

    fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.operation()?;
        if self.sync_allowed().is_err() {
            return Err(io::Error::other("the simulated disk failed to sync"));
        }
        if !is_root(path) && self.names.get(path) != Some(&Node::Directory) {
            return Err(not_found(path));
        }
        let (done, waiting) = std::mem::take(&mut self.pending_names)
            .into_iter()
            .partition(|change: &NameChange| change.path.parent() == Some(path));
        self.pending_names = waiting;
        for change in &done {
            apply_name(&mut self.durable_names, change);
        }
        self.free_unnamed();
        Ok(())
    }

    /// Gives back the files that no name leads to, now or after a crash.
    fn free_unnamed(&mut self) {
        let pending = self.pending_names.iter().filter_map(|change| change.node);
        let nodes = self.names.values().chain(self.durable_names.values()).copied().chain(pending);
        let named: BTreeSet<u64> = nodes
            .filter_map(|node| match node {
                Node::File(number) => Some(number),
                Node::Directory => None,
            })
            .collect();
        self.inodes.retain(|number, _| named.contains(number));
    }

    fn crash(&mut self, choice: &mut dyn CrashChoice) {
        for change in std::mem::take(&mut self.pending_names) {
            if choice.name(&change.path) {
                apply_name(&mut self.durable_names, &change);
            }
        }
        let mut reachable = BTreeMap::new();
        // Parents sort before their children.
        for (path, node) in std::mem::take(&mut self.durable_names) {
            let parent = path.parent().unwrap_or(Path::new(""));
            if is_root(parent) || reachable.get(parent) == Some(&Node::Directory) {
                reachable.insert(path, node);
            }
        }
        let mut inodes = std::mem::take(&mut self.inodes);
        for (path, node) in &reachable {
            if let Node::File(number) = node
                && let Some(mut inode) = inodes.remove(number)
            {
                let units: u64 = inode.pending.iter().map(Change::units).sum();
                let kept = if units == 0 { Kept::NOTHING } else { choice.file(path, units) };
                inode.crash(kept);
                self.inodes.insert(*number, inode);
            }
        }
        self.names.clone_from(&reachable);
        self.durable_names = reachable;
        self.restart();
    }

    fn restart(&mut self) {
        self.generation += 1;
        self.locks.clear();
        self.operations_max = None;
        self.syncs_to_fail = 0;
        self.capacity = None;
    }
}

/// `/`, or where relative paths start: always there.
fn is_root(path: &Path) -> bool {
    path.parent().is_none()
}

fn apply_name(names: &mut BTreeMap<PathBuf, Node>, change: &NameChange) {
    if let Some(gone) = &change.gone {
        // What stands in a directory moves with it.
        let inside: Vec<PathBuf> =
            names.keys().filter(|path| path.starts_with(gone) && *path != gone).cloned().collect();
        for path in inside {
            if let (Some(node), Ok(rest)) = (names.remove(&path), path.strip_prefix(gone)) {
                names.insert(change.path.join(rest), node);
            }
        }
        names.remove(gone);
    }
    match change.node {
        Some(node) => {
            names.insert(change.path.clone(), node);
        }
        None => {
            names.remove(&change.path);
        }
    }
}

impl FileSystem for MemoryFileSystem {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = {
            let disk = self.disk();
            path.ancestors().filter(|a| !is_root(a) && !disk.names.contains_key(*a)).collect()
        };
        missing.into_iter().rev().try_for_each(|directory| self.create_dir(directory))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        if disk.names.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the directory exists"));
        }
        disk.parent_exists(path)?;
        disk.change_name(path, Some(Node::Directory), None);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        if disk.names.get(path) != Some(&Node::Directory) {
            return Err(not_found(path));
        }
        let children = disk.names.keys().filter(|child| child.parent() == Some(path));
        Ok(children.filter_map(|child| Some(child.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut disk = self.disk();
        disk.operation()?;
        disk.parent_exists(path)?;
        let number = if let Some(Node::File(number)) = disk.names.get(path).copied() {
            let inode = disk.inode_at(path)?;
            inode.content.clear();
            inode.pending.push(Change::SetLen(0));
            number
        } else {
            let number = disk.next_inode;
            disk.next_inode += 1;
            disk.inodes.insert(number, Inode::default());
            disk.change_name(path, Some(Node::File(number)), None);
            number
        };
        let generation = disk.generation;
        drop(disk);
        Ok(Box::new(MemoryFile { disk: Arc::clone(&self.disk), number, generation }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut disk = self.disk();
        disk.inode_at(path)?;
        let Some(Node::File(number)) = disk.names.get(path).copied() else { return Err(not_found(path)) };
        let generation = disk.generation;
        drop(disk);
        Ok(Box::new(MemoryFile { disk: Arc::clone(&self.disk), number, generation }))
    }

    fn reader(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.content(path)?)))
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        Ok(self.disk().inode_at(path)?.content.len() as u64)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        if from.parent() != to.parent() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the model renames within one directory",
            ));
        }
        let node = disk.names.get(from).copied().ok_or_else(|| not_found(from))?;
        disk.change_name(to, Some(node), Some(from));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        disk.inode_at(path)?;
        disk.change_name(path, None, None);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.names.get(path) != Some(&Node::Directory) {
            return Err(not_found(path));
        }
        let inside: Vec<PathBuf> = disk.names.keys().filter(|p| p.starts_with(path)).cloned().collect();
        // Children sort behind their parents, so the directory itself goes last.
        for path in inside.iter().rev() {
            disk.operation()?;
            disk.change_name(path, None, None);
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk().sync_dir(path)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        if self.disk().inode_at(path).is_err() {
            self.create(path)?;
        }
        let mut disk = self.disk();
        if !disk.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        let generation = disk.generation;
        drop(disk);
        Ok(Some(Box::new(MemoryLock { disk: Arc::clone(&self.disk), path: path.to_owned(), generation })))
    }
}

struct MemoryFile {
    disk: Arc<Mutex<Disk>>,
    number: u64,
    generation: u64,
}

impl MemoryFile {
    fn with<R>(&self, run: impl FnOnce(&mut Disk) -> io::Result<R>) -> io::Result<R> {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if disk.generation == self.generation { run(&mut disk) } else { Err(stopped()) }
    }
}

impl File for MemoryFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|disk| disk.write(self.number, offset, bytes))
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.with(|disk| {
            disk.operation()?;
            let inode = disk.inodes.get_mut(&self.number).ok_or_else(stopped)?;
            inode.content.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
            inode.pending.push(Change::SetLen(length));
            Ok(())
        })
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.with(|disk| disk.sync(self.number))
    }
}

#[derive(Debug)]
struct MemoryLock {
    disk: Arc<Mutex<Disk>>,
    path: PathBuf,
    generation: u64,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if disk.generation == self.generation {
            disk.locks.remove(&self.path);
        }
    }
}

impl LockGuard for MemoryLock {}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSE: Always = Always { kept: Kept::NOTHING, names: false };
    const KEEP: Always = Always { kept: Kept::ALL, names: true };

    fn with_file() -> (MemoryFileSystem, Box<dyn File>) {
        let fs = MemoryFileSystem::new();
        fs.create_dir(Path::new("d")).expect("new");
        let file = fs.create(Path::new("d/f")).expect("new");
        fs.crash(&mut KEEP.clone());
        drop(file);
        let file = fs.open(Path::new("d/f")).expect("kept");
        (fs, file)
    }

    #[test]
    fn only_synced_bytes_survive() {
        let (fs, mut file) = with_file();
        file.write_at(0, b"durable").expect("ok");
        file.sync_data().expect("ok");
        file.write_at(7, b" or not").expect("ok");
        file.set_len(3).expect("ok");
        assert_eq!(fs.content(Path::new("d/f")).expect("there"), b"dur");
        fs.crash(&mut LOSE.clone());
        assert_eq!(fs.content(Path::new("d/f")).expect("there"), b"durable");
        file.write_at(0, b"x").expect_err("the handle died with the machine");
    }

    #[test]
    fn names_need_their_own_sync() {
        let (fs, _) = with_file();
        fs.create(Path::new("d/g")).expect("ok").sync_data().expect("ok");
        fs.rename(Path::new("d/f"), Path::new("d/h")).expect("ok");
        fs.crash(&mut LOSE.clone());
        assert_eq!(fs.list(Path::new("d")).expect("there"), ["f"]);
        fs.rename(Path::new("d/f"), Path::new("d/h")).expect("ok");
        fs.sync_dir(Path::new("d")).expect("ok");
        fs.crash(&mut LOSE.clone());
        assert_eq!(fs.list(Path::new("d")).expect("there"), ["h"]);
    }

    #[test]
    fn removed_files_are_freed_once_no_crash_can_bring_them_back() {
        let (fs, _) = with_file();
        fs.sync_dir(Path::new("d")).expect("ok");
        fs.remove_file(Path::new("d/f")).expect("ok");
        assert_eq!(fs.disk().inodes.len(), 1);
        fs.sync_dir(Path::new("d")).expect("ok");
        assert_eq!(fs.disk().inodes.len(), 0);
    }

    #[test]
    fn the_torn_sector_is_as_chosen() {
        for (torn, expected) in [
            (Torn::Cut, vec![7; 3]),
            (Torn::Zeros, vec![7, 7, 7, 0, 0]),
            (Torn::Garbage, vec![7, 7, 7, 248, 248]),
        ] {
            let (fs, mut file) = with_file();
            file.write_at(0, &[7; 5]).expect("ok");
            fs.crash(&mut Always { kept: Kept { units: 3, torn, hole: false }, names: false });
            assert_eq!(fs.content(Path::new("d/f")).expect("there"), expected);
        }
        let (fs, mut file) = with_file();
        file.write_at(0, &[7; 600]).expect("ok");
        fs.crash(&mut Always { kept: Kept { hole: true, ..Kept::ALL }, names: false });
        let content = fs.content(Path::new("d/f")).expect("there");
        assert_eq!((content[511], content[512], content.len()), (0, 7, 600));
    }

    #[test]
    fn lost_pages_read_back_and_never_reach_the_disk() {
        let (fs, mut file) = with_file();
        file.write_at(0, b"ab").expect("ok");
        fs.fail_syncs(1, LostPages::Lost);
        file.sync_data().expect_err("told to");
        file.write_at(2, b"cd").expect("ok");
        file.sync_data().expect("says that all is well");
        assert_eq!(fs.content(Path::new("d/f")).expect("there"), b"abcd");
        fs.crash(&mut LOSE.clone());
        assert_eq!(fs.content(Path::new("d/f")).expect("there"), b"\0\0cd");
    }

    #[test]
    fn locks_end_with_their_guard_or_the_machine() {
        let (fs, _) = with_file();
        let path = Path::new("d/lock");
        let guard = fs.try_lock(path).expect("ok").expect("free");
        assert!(fs.try_lock(path).expect("ok").is_none());
        drop(guard);
        let guard = fs.try_lock(path).expect("ok").expect("free again");
        fs.kill();
        let other = fs.try_lock(path).expect("ok").expect("the holder died");
        drop(guard);
        assert!(fs.try_lock(path).expect("ok").is_none(), "a dead guard frees nothing");
        drop(other);
    }
}

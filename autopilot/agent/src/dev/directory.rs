//! The directory that a local cluster lives in, removed with it.

use std::path::{Path, PathBuf};

/// Why there is no directory to work in. Nothing was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    /// The system refused.
    #[error("cannot use {} for the servers' data: {error}; name another with --data-dir", path.display())]
    System {
        /// Which directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// There is something in it, which must not be mixed with, or removed as, our own.
    #[error("{} is not empty; name a new directory with --data-dir", .0.display())]
    NotEmpty(PathBuf),
}

/// A directory that is removed when dropped, unless it is to be kept.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    keep: bool,
}

impl Directory {
    /// Makes the named directory, or one of its own below the system's directory for temporary files.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when it cannot be made or holds something already.
    pub(crate) fn make(named: Option<&Path>, keep: bool) -> Result<Self, DirectoryError> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => std::env::temp_dir().join(format!("autopilot-dev-{:016x}", rand::random::<u64>())),
        };
        let failed = |error| DirectoryError::System { path: path.clone(), error };
        std::fs::create_dir_all(&path).map_err(failed)?;
        if std::fs::read_dir(&path).map_err(failed)?.next().is_some() {
            return Err(DirectoryError::NotEmpty(path));
        }
        // A server's own path is relative to its own working directory, so ours must not be.
        let path = path.canonicalize().map_err(failed)?;
        Ok(Self { path, keep })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it in place from now on.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }

    /// Whether it is left in place.
    pub(crate) fn is_kept(&self) -> bool {
        self.keep
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("Warning: cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_its_owner_unless_kept() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("data");
        let directory = Directory::make(Some(&path), false).expect("made");
        std::fs::write(directory.path().join("file"), "x").expect("written");
        drop(directory);
        assert!(!path.exists());
        drop(Directory::make(Some(&path), true).expect("made"));
        assert!(path.exists());
    }

    #[test]
    fn what_is_there_already_is_not_touched() {
        let parent = tempfile::tempdir().expect("a directory");
        std::fs::write(parent.path().join("precious"), "x").expect("written");
        let error = Directory::make(Some(parent.path()), false).expect_err("not empty");
        assert!(matches!(error, DirectoryError::NotEmpty(_)), "{error}");
        assert!(parent.path().join("precious").exists());
    }
}

//! The keep's file: read whole at the start, replaced whole at each change.
//!
//! Always holds: the file is a whole keep, old or new, whenever the process or the machine stops: a new one is written
//! beside it, forced to the disk, and takes its name. A damaged file is an error, never an empty keep. One process at a
//! time may change it.

use std::error::Error;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cubed_router::keep::{Change, Keep, KeepError, KeepTextError};
use cubed_transport::identity::PublicKey;

/// Readable and writable by its owner alone, like an identity.
const MODE: u32 = 0o600;
/// Longest file read: 65,536 keys with the longest names and roles.
const BYTES_MAX: u64 = 64 << 20;

/// A keep and its file, for the node or tool that may change it.
#[derive(Debug)]
pub struct KeepFile {
    path: PathBuf,
    channel: String,
    keep: Keep,
    /// Held, not read: its end frees the file for others.
    _lock: Lock,
}

/// The right to change a keep. It ends by a call, not by closing the file: a process that another thread is starting has the file
/// open as well until it runs its program.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it is the other way, which comes next.
        let _ = self.0.unlock();
    }
}

impl KeepFile {
    /// Opens the keep of this channel. A file that does not exist is an empty keep, written at the first change.
    ///
    /// # Errors
    ///
    /// [`KeepFileError`]: damaged, another channel's, open to others, or in use by another process.
    pub fn open(path: impl AsRef<Path>, channel: &str) -> Result<Self, KeepFileError> {
        Self::open_for(path.as_ref(), Some(channel), channel)
    }

    /// Opens a keep that exists, whatever its channel.
    ///
    /// # Errors
    ///
    /// As [`KeepFile::open`], and when there is no file.
    pub fn open_existing(path: impl AsRef<Path>) -> Result<Self, KeepFileError> {
        let path = path.as_ref();
        if !path.exists() {
            let source = io::ErrorKind::NotFound.into();
            return Err(KeepFileError::Read { path: path.into(), source });
        }
        Self::open_for(path, None, "")
    }

    fn open_for(
        path: &Path,
        wanted: Option<&str>,
        channel_of_new: &str,
    ) -> Result<Self, KeepFileError> {
        let lock = lock(path)?;
        let (keep, channel) = match read(path, wanted) {
            Ok(found) => found,
            Err(KeepFileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                (Keep::default(), channel_of_new.to_owned())
            }
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.into(), channel, keep, _lock: lock })
    }

    /// Reads a keep without the right to change it; a running node may be using it.
    ///
    /// # Errors
    ///
    /// As [`KeepFile::open_existing`], but for a file in use.
    pub fn read(path: impl AsRef<Path>) -> Result<Keep, KeepFileError> {
        read(path.as_ref(), None).map(|(keep, _)| keep)
    }

    /// What is kept.
    pub fn keep(&self) -> &Keep {
        &self.keep
    }

    /// Accepts a key, known or not. Call [`KeepFile::save`] afterwards.
    ///
    /// # Errors
    ///
    /// [`KeepError`].
    pub fn accept(&mut self, key: &PublicKey) -> Result<(), KeepError> {
        self.keep.accept(key, &mut Vec::new()).map(|_| ())
    }

    /// Rejects a key, known or not. Call [`KeepFile::save`] afterwards.
    ///
    /// # Errors
    ///
    /// [`KeepError`].
    pub fn reject(&mut self, key: &PublicKey) -> Result<(), KeepError> {
        self.keep.reject(key, &mut Vec::new())
    }

    /// Forgets a key. Call [`KeepFile::save`] afterwards.
    ///
    /// # Errors
    ///
    /// [`KeepError`].
    pub fn forget(&mut self, key: &PublicKey) -> Result<(), KeepError> {
        self.keep.forget(key, &mut Vec::new())
    }

    /// Makes a change that the keep of a running node told of.
    pub(crate) fn apply(&mut self, change: Change) {
        self.keep.apply(change);
    }

    /// Replaces the file by what is kept now, and waits until the disk has it.
    ///
    /// # Errors
    ///
    /// [`KeepFileError::Write`]; the file is as it was, or already the new one.
    pub fn save(&self) -> Result<(), KeepFileError> {
        let failed = |source| KeepFileError::Write { path: self.path.clone(), source };
        let beside = beside(&self.path, "new");
        write(&beside, &self.keep.to_toml(&self.channel)).map_err(failed)?;
        fs::rename(&beside, &self.path).map_err(failed)?;
        // The name is on the disk when the folder is.
        File::open(folder(&self.path)).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(MODE).open(path)?;
    // What an earlier process left may have another mode.
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn read(path: &Path, channel: Option<&str>) -> Result<(Keep, String), KeepFileError> {
    let unreadable = |source| KeepFileError::Read { path: path.into(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeepFileError::Exposed { path: path.into(), mode });
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Keep::from_toml(&text, channel)
        .map_err(|error| KeepFileError::Damaged { path: path.into(), error })
}

/// Takes the right to change the keep, for as long as the result lives. The lock is a file of its own, as the keep's is
/// replaced at each change; a process that ends in whatever way gives it up.
fn lock(path: &Path) -> Result<Lock, KeepFileError> {
    let failed = |source| KeepFileError::Write { path: path.into(), source };
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(MODE);
    let file = options.open(beside(path, "lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(KeepFileError::InUse { path: path.into() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// `keep.toml` and `new` make `keep.toml.new`.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn folder(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Why a keep's file cannot be used.
#[derive(Debug)]
pub enum KeepFileError {
    /// Caller: the file is damaged, was changed by hand, or is another channel's.
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line and what is wrong there.
        error: KeepTextError,
    },
    /// Caller: group or others have access to the file.
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Caller: another process uses the keep.
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// System: the file could not be read.
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// System: the file could not be written.
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl fmt::Display for KeepFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { path, error } => {
                write!(f, "{}:{}: {}", path.display(), error.line, error.reason)
            }
            Self::Exposed { path, mode } => write!(
                f,
                "{0} has mode {mode:04o}, so others may have changed whom it accepts: look through it, then \
                 chmod 600 {0}",
                path.display()
            ),
            Self::InUse { path } => write!(
                f,
                "{} is in use by a running node: stop the node, or decide through its own calls",
                path.display()
            ),
            Self::Read { path, source } => write!(
                f,
                "cannot read {} ({source}): give the file that a node with this keep has made, as a user who may read it",
                path.display()
            ),
            Self::Write { path, source } => {
                write!(f, "cannot write {}: {source}; what it says is unchanged", path.display())
            }
        }
    }
}

impl Error for KeepFileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Damaged { error, .. } => Some(error),
            Self::Read { source, .. } | Self::Write { source, .. } => Some(source),
            Self::Exposed { .. } | Self::InUse { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what is saved comes back, and nothing else passes for it.
    use super::*;
    use cubed_router::keep::KeyState;

    fn key(byte: u8) -> PublicKey {
        PublicKey::from_bytes([byte; 32])
    }

    #[test]
    fn a_keep_that_was_given_back_is_free_while_another_process_starts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keep.toml");
        let held = lock(&path).unwrap();
        // What a process has that was begun meanwhile and does not run its program yet.
        let inherited = held.0.try_clone().unwrap();
        drop(held);
        KeepFile::open(&path, "").unwrap();
        drop(inherited);
    }

    #[test]
    fn a_keep_comes_back_and_has_one_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keep.toml");
        let mut file = KeepFile::open(&path, "garden").unwrap();
        assert!(!path.exists(), "nothing was decided yet");
        file.accept(&key(1)).unwrap();
        file.reject(&key(2)).unwrap();
        file.save().unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let used = KeepFile::open(&path, "garden").unwrap_err();
        assert!(used.to_string().contains("in use"), "{used}");
        assert_eq!(KeepFile::read(&path).unwrap().state(&key(1)), Some(KeyState::Accepted));
        drop(file);
        let other = KeepFile::open(&path, "harbour").unwrap_err().to_string();
        assert!(other.contains("keep.toml:3:") && other.contains("\"garden\""), "{other}");
        let file = KeepFile::open_existing(&path).unwrap();
        assert_eq!(file.keep().state(&key(2)), Some(KeyState::Rejected));
    }

    #[test]
    fn a_damaged_or_exposed_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keep.toml");
        let mut file = KeepFile::open(&path, "").unwrap();
        file.accept(&key(1)).unwrap();
        file.save().unwrap();
        drop(file);
        let text = fs::read_to_string(&path).unwrap();
        for damaged in ["", &text[..text.len() / 2], &text.replace("accepted", "rejected")] {
            fs::write(&path, damaged).unwrap();
            let error = KeepFile::open(&path, "").unwrap_err();
            assert!(matches!(error, KeepFileError::Damaged { .. }), "{error:?}");
            assert!(error.to_string().contains("keep.toml:"), "{error}");
        }
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
        let error = KeepFile::open(&path, "").unwrap_err().to_string();
        assert!(error.contains("0620") && error.contains("chmod 600"), "{error}");
        assert!(KeepFile::open_existing(folder.path().join("none")).is_err());
        assert!(KeepFile::open(folder.path().join("no/such/keep"), "").is_err());
    }
}

//! Identity files: one Ed25519 private key as PKCS#8 PEM, readable by its owner alone. A file is
//! never overwritten, and one that others could have read is never used.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{error, fmt};

use zeroize::Zeroizing;

use super::{Identity, IdentityError};

impl Identity {
    /// Makes a new identity and writes it to `path`, mode 0600.
    ///
    /// # Errors
    ///
    /// As [`Identity::generate`] and [`Identity::save`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, IdentityFileError> {
        let path = path.as_ref();
        let identity = Self::generate()
            .map_err(|source| IdentityFileError::Generate { path: path.into(), source })?;
        identity.save(path)?;
        Ok(identity)
    }

    /// Writes this identity to the new file `path` as PKCS#8 PEM, mode 0600, and waits until the
    /// disk has it.
    ///
    /// # Errors
    ///
    /// [`IdentityFileError::Exists`] when anything has that name already;
    /// [`IdentityFileError::Write`] when the file cannot be made or written, in which case nothing
    /// is left behind.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), IdentityFileError> {
        let path = path.as_ref();
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(path)
            .map_err(|source| IdentityFileError::of_creation(path, source))?;
        let text = Zeroizing::new(pem::encode_config(
            &pem::Pem::new(PEM_TAG, self.pkcs8()),
            pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
        ));
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|source| {
            // The half-written file is ours; without it the next attempt can succeed.
            let _ = std::fs::remove_file(path);
            IdentityFileError::Write { path: path.into(), source }
        })
    }

    /// Reads the identity in `path`.
    ///
    /// # Errors
    ///
    /// [`IdentityFileError`] says which of these it is and what to do: the file cannot be read,
    /// group or others may read or write it, it is not PEM, it is not an Ed25519 private key in
    /// PKCS#8.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, IdentityFileError> {
        let path = path.as_ref();
        let text = read_private(path)?;
        let parsed = pem::parse(text.as_slice())
            .map_err(|source| IdentityFileError::NotPem { path: path.into(), source })?;
        if parsed.tag() != PEM_TAG {
            let tag = parsed.tag().to_owned();
            return Err(IdentityFileError::NotPrivateKey { path: path.into(), tag });
        }
        let pkcs8 = Zeroizing::new(parsed.into_contents());
        Self::from_pkcs8(&pkcs8)
            .map_err(|source| IdentityFileError::NotEd25519 { path: path.into(), source })
    }
}

/// Reads the file after checking the mode of what was opened, so that no one can swap it in
/// between.
fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityFileError> {
    let unreadable = |source| IdentityFileError::Read { path: path.into(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityFileError::Exposed { path: path.into(), mode });
    }
    // The whole capacity at once: a growing vector would leave copies of the key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
    let limit = FILE_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() > FILE_BYTES_MAX {
        let source = io::Error::new(io::ErrorKind::FileTooLarge, "longer than any identity file");
        return Err(unreadable(source));
    }
    Ok(text)
}

/// Why an identity file could not be written or used.
#[derive(Debug)]
pub enum IdentityFileError {
    /// Caller: the name is taken; an identity is never overwritten.
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Caller: group or others have access to the file.
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Caller: the file is no PEM text.
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong with the text.
        source: pem::PemError,
    },
    /// Caller: the file is PEM, but of something else.
    NotPrivateKey {
        /// The file.
        path: PathBuf,
        /// What the file says it is, between `BEGIN` and the dashes.
        tag: String,
    },
    /// Caller: the file holds a private key, but not one for Ed25519.
    NotEd25519 {
        /// The file.
        path: PathBuf,
        /// What is wrong with the key.
        source: IdentityError,
    },
    /// System: no new key could be made.
    Generate {
        /// The file that was to be written.
        path: PathBuf,
        /// Why not.
        source: IdentityError,
    },
    /// System: the file could not be read.
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// System: the file could not be made or written.
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl IdentityFileError {
    fn of_creation(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::AlreadyExists {
            Self::Exists { path: path.into() }
        } else {
            Self::Write { path: path.into(), source }
        }
    }
}

impl fmt::Display for IdentityFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists { path } => {
                write!(
                    f,
                    "{0} exists and is not overwritten: choose another name or move it away",
                    path.display()
                )
            }
            Self::Exposed { path, mode } => write!(
                f,
                "{0} has mode {mode:04o}, so others than its owner may use the key: \
                 run `chmod 600 {0}`, and make a new key if anybody could have read this one",
                path.display()
            ),
            Self::NotPem { path, source } => write!(
                f,
                "{} is not a PEM file ({source}): give the file that `cubed keygen` wrote",
                path.display()
            ),
            Self::NotPrivateKey { path, tag } => write!(
                f,
                "{} holds a {tag:?}, not a {PEM_TAG:?}: give the file that `cubed keygen` \
                 wrote, or convert the key with `openssl pkcs8 -topk8 -nocrypt`",
                path.display()
            ),
            Self::NotEd25519 { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Generate { path, source } => write!(f, "no key for {}: {source}", path.display()),
            Self::Read { path, source } => write!(
                f,
                "cannot read {} ({source}): check the path and that this user owns the file",
                path.display()
            ),
            Self::Write { path, source } => write!(
                f,
                "cannot write {} ({source}): check that the folder exists, is writable and \
                 has room",
                path.display()
            ),
        }
    }
}

impl error::Error for IdentityFileError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Exists { .. } | Self::Exposed { .. } | Self::NotPrivateKey { .. } => None,
            Self::NotPem { source, .. } => Some(source),
            Self::NotEd25519 { source, .. } | Self::Generate { source, .. } => Some(source),
            Self::Read { source, .. } | Self::Write { source, .. } => Some(source),
        }
    }
}

const PEM_TAG: &str = "PRIVATE KEY";
const MODE: u32 = 0o600;
/// An Ed25519 key in PEM has 119 bytes (with its public half 180); this leaves room for comments.
const FILE_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    //! Goal: a key file is private, survives a round trip, and every unusable file says what to do.

    use std::fs::{self, Permissions};

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_created_identity_is_private_and_loads_again() {
        let folder = folder();
        let path = folder.path().join("node.key");
        let created = Identity::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(Identity::load(&path).unwrap().public_key(), created.public_key());
    }

    #[test]
    fn an_existing_file_is_kept() {
        let folder = folder();
        let path = folder.path().join("node.key");
        write(&path, "something dear", 0o600);
        let error = Identity::create(&path).unwrap_err();
        assert!(matches!(error, IdentityFileError::Exists { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "something dear");
    }

    #[test]
    fn a_file_open_to_others_is_refused_by_mode_and_remedy() {
        let folder = folder();
        let path = folder.path().join("node.key");
        Identity::create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601, 0o644, 0o777] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = Identity::load(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:04o}")), "{error}");
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            Identity::load(&path).unwrap();
        }
    }

    #[test]
    fn unusable_files_say_which_kind_they_are() {
        let folder = folder();
        let path = folder.path().join("node.key");
        let load = |text: &str| {
            write(&path, text, 0o600);
            Identity::load(&path).unwrap_err()
        };
        assert!(matches!(load("not a key"), IdentityFileError::NotPem { .. }));
        assert!(matches!(load(&"x".repeat(FILE_BYTES_MAX + 1)), IdentityFileError::Read { .. }));
        let public = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
        assert!(matches!(load(public), IdentityFileError::NotPrivateKey { .. }));
        let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(load(garbage), IdentityFileError::NotEd25519 { .. }));
        let missing = Identity::load(folder.path().join("none.key")).unwrap_err();
        assert!(matches!(missing, IdentityFileError::Read { .. }));
        let directory = folder.path().join("directory");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
        let unreadable = Identity::load(&directory).unwrap_err();
        assert!(matches!(unreadable, IdentityFileError::Read { .. }));
    }
}

//! A key in a file, with what it signed last beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use chainring_format::Link;
use chainring_format::hash::Hash;
use ed25519_dalek::{Signer as _, SigningKey};

use super::Signer;
use super::note::{is_key_name, key_id_text, verifier_key};

/// Longest key file that is read.
const FILE_BYTES_MAX: u64 = 64 << 10;
const HEAD: &str = "PRIVATE+KEY+";

/// An Ed25519 key in a file of one line, `PRIVATE+KEY+NAME+KEYID+KEY`, the form that tools for signed notes use. The file belongs to its owner alone (mode 600);
/// one that others may read is refused.
///
/// Beside the file `KEY`, a file `KEY.LOGID.signed` holds the last checkpoint that it signed for a log. Keep both off the host of the store where you can.
pub struct KeyFile {
    path: PathBuf,
    name: String,
    key: SigningKey,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyFile").field("path", &self.path).field("name", &self.name).finish_non_exhaustive()
    }
}

impl KeyFile {
    /// Draws a key and writes it to a new file.
    ///
    /// # Errors
    /// There is such a file, or it cannot be written; a name with white space or `+` in it.
    pub fn generate(path: impl AsRef<Path>, name: &str) -> io::Result<KeyFile> {
        KeyFile::generate_with(path, name, |plain| Ok(plain.to_vec()))
    }

    /// As [`KeyFile::generate`]; what is written is what `seal` makes of the line, encrypted, say.
    ///
    /// # Errors
    /// As for [`KeyFile::generate`], and those of `seal`.
    pub fn generate_with(path: impl AsRef<Path>, name: &str, seal: impl FnOnce(&[u8]) -> io::Result<Vec<u8>>) -> io::Result<KeyFile> {
        let path = path.as_ref();
        if !is_key_name(name) {
            return Err(invalid("the name of a key has no white space, no control characters and no +"));
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        let key = SigningKey::from_bytes(&seed);
        let id = key_id_text(name, &key.verifying_key().to_bytes());
        let line = format!("{HEAD}{name}+{id}+{}\n", Base64::encode_string(&[&[1], &seed[..]].concat()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&seal(line.as_bytes())?)?;
        file.sync_all()?;
        sync_parent(path)?;
        Ok(KeyFile { path: path.to_owned(), name: name.to_owned(), key })
    }

    /// Reads a key.
    ///
    /// # Errors
    /// It cannot be read, may be read by others than its owner, or is no such file.
    pub fn load(path: impl AsRef<Path>) -> io::Result<KeyFile> {
        KeyFile::load_with(path, |sealed| Ok(sealed.to_vec()))
    }

    /// As [`KeyFile::load`]; `open` makes the line out of what is in the file: decrypts it, say.
    ///
    /// # Errors
    /// As for [`KeyFile::load`], and those of `open`.
    pub fn load_with(path: impl AsRef<Path>, open: impl FnOnce(&[u8]) -> io::Result<Vec<u8>>) -> io::Result<KeyFile> {
        let path = path.as_ref();
        let file = File::open(path)?;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others than its owner may read or change the key file"));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        let line = String::from_utf8(open(&bytes)?).map_err(|_| invalid("the key file is not text"))?;
        let not_a_key = || invalid("the file holds no key of the form PRIVATE+KEY+NAME+KEYID+KEY");
        let mut parts = line.trim_end().strip_prefix(HEAD).ok_or_else(not_a_key)?.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else { return Err(not_a_key()) };
        let key: [u8; 33] = Base64::decode_vec(key).ok().and_then(|key| key.try_into().ok()).ok_or_else(not_a_key)?;
        let (1, seed) = (key[0], key.last_chunk::<32>().expect("32 of 33 bytes")) else { return Err(not_a_key()) };
        let key = SigningKey::from_bytes(seed);
        let is_own_id = key_id_text(name, &key.verifying_key().to_bytes()) == id;
        if is_own_id { Ok(KeyFile { path: path.to_owned(), name: name.to_owned(), key }) } else { Err(not_a_key()) }
    }

    /// Name of the key.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key under its name, as verifiers are configured with it.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        verifier_key(&self.name, &self.public_key())
    }

    fn memory(&self, log_id: &Link) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{}.signed", &log_id.to_string()[..32]));
        name.into()
    }
}

impl Signer for KeyFile {
    fn public_key(&self) -> Hash {
        self.key.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> io::Result<[u8; 64]> {
        Ok(self.key.sign(message).to_bytes())
    }

    fn last_signed(&self, log_id: &Link) -> io::Result<Option<String>> {
        match fs::read_to_string(self.memory(log_id)) {
            Ok(note) => Ok(Some(note)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// write(tmp); fsync(tmp); rename; fsync(directory)
    fn remember(&self, log_id: &Link, note: &str) -> io::Result<()> {
        let path = self.memory(log_id);
        let temporary = path.with_extension("signed.tmp");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_parent(&path)
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

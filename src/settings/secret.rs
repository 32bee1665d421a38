//! A secret, and where it can be read again: whoever renews the file does not have to start us anew.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

/// A secret. Debug output does not hold it.
#[derive(Debug, Clone)]
pub struct Secret {
    value: SecretString,
    file: Option<PathBuf>,
}

impl Secret {
    /// One that was given itself.
    pub(super) fn given(value: SecretString) -> Self {
        Self { value, file: None }
    }

    /// One that stands in a file, without the line break that ends it; none in an empty file.
    pub(super) fn in_file(path: &Path) -> io::Result<Option<Self>> {
        let text = fs::read_to_string(path)?;
        let text = text.trim_end_matches(['\r', '\n']);
        Ok((!text.is_empty()).then(|| Self {
            value: SecretString::from(text.to_owned()),
            file: Some(path.to_owned()),
        }))
    }

    /// The secret itself.
    #[must_use]
    pub fn value(&self) -> &SecretString {
        &self.value
    }

    /// As its file has it now. While the file cannot be read, it stays what it was.
    #[must_use]
    pub fn renewed(&self) -> Self {
        let read = self.file.as_deref().map(Self::in_file);
        match read {
            Some(Ok(Some(renewed))) => renewed,
            _ => self.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_secret_is_read_again_from_its_file_and_stays_while_the_file_is_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "one\r\n").unwrap();
        let secret = Secret::in_file(&path).unwrap().unwrap();
        let now = || secret.renewed().value().expose_secret().to_owned();
        assert_eq!(now(), "one");
        fs::write(&path, "two").unwrap();
        assert_eq!(now(), "two");
        fs::write(&path, "\n").unwrap();
        assert_eq!(now(), "one");
        fs::remove_file(&path).unwrap();
        assert_eq!(now(), "one");
        assert!(!format!("{secret:?}").contains("one"));
    }
}

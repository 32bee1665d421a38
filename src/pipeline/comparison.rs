//! Rows and documents of the same keys, held against each other.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::BuildHasher,
    sync::Arc,
};

use foldhash::fast::FixedState;

use super::{
    Failure,
    refill::{BYTES_TOGETHER, Together},
    table::Look,
    verify::{Difference, Kind},
};
use crate::{
    change::{Key, Row},
    delivery::Retry,
    elasticsearch::{Index, Server, Stored, key_problem},
    postgres::{Session, pages::existing, rows::Found},
};

/// A table and an index of which rows and documents are held against each other.
pub(super) struct Comparison<'a> {
    /// The way to the table.
    pub session: &'a Session,
    /// The table as it looks.
    pub look: Arc<Look>,
    /// The index.
    pub index: Index,
    /// Where that is.
    pub server: Server,
    /// How requests for documents are repeated.
    pub retry: Retry,
}

/// A key, and how its row was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) key: Key,
    /// What tells the row's state from another: a digest of its document; `None` when there is no row.
    pub(super) row: Option<u64>,
}

/// A key as it was found once.
pub(super) struct Pair {
    /// The row's state, as in [`Seen::row`].
    pub(super) row: Option<u64>,
    /// In which way the document is not the row's; `None` if it is.
    pub(super) difference: Option<Difference>,
}

impl Comparison<'_> {
    /// The keys of those rows whose document is another, or is not there.
    pub(super) async fn suspects_among(&self, rows: &[Row]) -> Result<Vec<Key>, Failure> {
        let keyed = rows.iter().map(|row| Ok((self.look.key(row)?, Some(row))));
        let keyed: HashMap<Key, _> = keyed.collect::<Result<_, Failure>>()?;
        let documents = self.documents_of(keyed.keys()).await?;
        let suspects = keyed.iter().filter_map(|(key, row)| {
            let pair = self.pair(key, *row, documents.get(key));
            pair.difference.map(|_| key.clone())
        });
        Ok(suspects.collect())
    }

    /// These keys as they are now: of each first the document, then the row.
    pub(super) async fn pairs(&self, keys: &[Key]) -> Result<HashMap<Key, Pair>, Failure> {
        let mut pairs = HashMap::with_capacity(keys.len());
        let (mut rest, mut together) = (keys, Together::default());
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(together.rows().min(rest.len()));
            let documents = self.documents_of(part.iter()).await?;
            if let Some(rows) = self.rows_of(part, &mut together).await? {
                rest = behind;
                pairs.extend(part.iter().map(|key| {
                    let pair = self.pair(key, rows.get(key), documents.get(key));
                    (key.clone(), pair)
                }));
            }
        }
        Ok(pairs)
    }

    /// The rows with the first keys of `rest`, as many as go together, which it then lacks; and these
    /// keys. `None` when there are no more.
    pub(super) async fn next_rows<'k>(
        &self,
        rest: &mut &'k [Key],
        together: &mut Together,
    ) -> Result<Option<(&'k [Key], HashMap<Key, Row>)>, Failure> {
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(together.rows().min(rest.len()));
            if let Some(rows) = self.rows_of(part, together).await? {
                *rest = behind;
                return Ok(Some((part, rows)));
            }
        }
        Ok(None)
    }

    /// The rows with these keys. `None` when they are larger than was foreseen: then fewer are to be asked
    /// for.
    async fn rows_of(
        &self,
        keys: &[Key],
        together: &mut Together,
    ) -> Result<Option<HashMap<Key, Row>>, Failure> {
        // A row by itself is taken whatever its size.
        let bytes_max = if keys.len() > 1 {
            2 * BYTES_TOGETHER
        } else {
            usize::MAX
        };
        // An id that is no value of the key's type can be looked for, but not asked for.
        let keys = existing(&self.session.client, &self.look.query, keys).await?;
        let rows = match self
            .look
            .by_keys(&self.session.client, &keys, bytes_max)
            .await?
        {
            Found::Rows(rows) => rows,
            Found::TooLarge { rows, bytes } => {
                together.came(rows, bytes);
                return Ok(None);
            }
            Found::Altered => {
                let why = "the table was altered while it was compared: start again";
                return Err(Failure::Heals(why.to_owned()));
            }
        };
        together.came(rows.len(), rows.iter().map(|row| row.bytes.len()).sum());
        let keyed = rows.into_iter().map(|row| Ok((self.look.key(&row)?, row)));
        keyed.collect::<Result<_, Failure>>().map(Some)
    }

    async fn documents_of(
        &self,
        keys: impl Iterator<Item = &Key>,
    ) -> Result<HashMap<Key, Stored>, Failure> {
        let keys: Vec<Key> = keys
            .filter(|key| key_problem(key).is_none())
            .cloned()
            .collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let mut attempt = 0;
        loop {
            match self.index.stored(&keys, &self.server).await {
                Ok(stored) => {
                    let keyed = stored.into_iter().map(|one| (one.key.clone(), one));
                    return Ok(keyed.collect());
                }
                Err(error) => {
                    attempt += 1;
                    let failure = Failure::from(error);
                    failure
                        .wait(self.retry, attempt, "reading documents")
                        .await?;
                }
            }
        }
    }

    /// Those of the keys that no row has.
    pub(super) async fn without_row(&self, mut keys: Vec<Key>) -> Result<Vec<Key>, Failure> {
        let existing = existing(&self.session.client, &self.look.query, &keys).await?;
        let existing: HashSet<Key> = existing.into_iter().collect();
        keys.retain(|key| !existing.contains(key));
        Ok(keys)
    }

    /// What tells a row's state from another.
    pub(super) fn state(&self, row: Option<&Row>) -> Option<u64> {
        row.map(|row| state(row, self.document(row).as_deref()))
    }

    /// The document that a row makes; none if none can be made of it.
    fn document(&self, row: &Row) -> Option<Vec<u8>> {
        let mut document = Vec::new();
        let encoded = self.look.layout.encode(row, &mut document);
        encoded.is_ok().then_some(document)
    }

    fn pair(&self, key: &Key, row: Option<&Row>, stored: Option<&Stored>) -> Pair {
        let document = row.and_then(|row| self.document(row));
        let difference = |kind, fields| Difference {
            key: key.clone(),
            kind,
            fields,
            version: stored.map(|stored| stored.version),
            repaired: false,
            dead_letter: false,
        };
        let difference = match (&document, stored) {
            (None, None) => None,
            (Some(_), None) => Some(difference(Kind::Missing, BTreeSet::new())),
            (None, Some(_)) => Some(difference(Kind::Extra, BTreeSet::new())),
            (Some(document), Some(stored)) => {
                let found = stored.source.get().as_bytes();
                let fields = self.look.layout.differences(document, found);
                (!fields.is_empty()).then(|| difference(Kind::Different, fields))
            }
        };
        Pair {
            row: row.map(|row| state(row, document.as_deref())),
            difference,
        }
    }
}

fn state(row: &Row, document: Option<&[u8]>) -> u64 {
    FixedState::default().hash_one(document.unwrap_or(&row.bytes))
}

//! What decides, beside the changes of rows, which rows the stream tells of. Pure.
//!
//! PostgreSQL sends nothing for a partition that is attached, detached, dropped or truncated by
//! itself, and nothing of what was changed while a publication left it out, also when that was put
//! right again. So both are noted as they were when the table was read, and compared.

use serde::{Deserialize, Serialize};

/// The publication and the partitions, as far as they show that rows may have come or gone without
/// a change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Coverage {
    /// Another text after every change of the publication or of the table's place in it.
    pub publication: String,
    /// All relations below the root, by oid; empty for a table without partitions.
    pub partitions: Vec<Partition>,
}

/// A relation below the root of a partitioned table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Its name, quoted and qualified as far as SQL needs it.
    pub name: String,
    /// The file that its rows are in: another one after a TRUNCATE or a rewrite; 0 if it has none.
    pub file: u32,
    /// The transaction that attached it.
    pub attached: u32,
}

impl Coverage {
    /// The partitions that have come since, of which the catalog must tell whether they brought rows.
    ///
    /// # Errors
    /// Why rows have come or gone without a change that the stream could tell, or may have.
    pub fn until<'a>(&self, now: &'a Self) -> Result<Vec<&'a Partition>, String> {
        if self.publication != now.publication {
            return Err("the publication was altered or made anew".to_owned());
        }
        for known in &self.partitions {
            let name = &known.name;
            match now.partitions.iter().find(|found| found.oid == known.oid) {
                None => return Err(format!("partition {name} was detached or dropped")),
                Some(found) if found.attached != known.attached => {
                    return Err(format!("partition {name} was detached and attached again"));
                }
                Some(found) if found.file != known.file => {
                    return Err(format!(
                        "partition {name} is in another file: it was truncated or rewritten"
                    ));
                }
                Some(_) => {}
            }
        }
        let is_new =
            |found: &&Partition| self.partitions.iter().all(|known| known.oid != found.oid);
        Ok(now.partitions.iter().filter(is_new).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(partitions: &[(u32, u32, u32)]) -> Coverage {
        let partition = |&(oid, file, attached): &(u32, u32, u32)| Partition {
            oid,
            name: format!("p{oid}"),
            file,
            attached,
        };
        Coverage {
            publication: "1:700".to_owned(),
            partitions: partitions.iter().map(partition).collect(),
        }
    }

    fn told(from: &[(u32, u32, u32)], to: &[(u32, u32, u32)]) -> Result<Vec<String>, String> {
        let now = coverage(to);
        let new = coverage(from).until(&now)?;
        Ok(new.iter().map(|partition| partition.name.clone()).collect())
    }

    #[test]
    fn only_a_partition_that_is_new_has_to_be_asked_about() {
        assert_eq!(told(&[], &[]), Ok(vec![]));
        assert_eq!(told(&[(1, 1, 700)], &[(1, 1, 700)]), Ok(vec![]));
        assert_eq!(
            told(&[(1, 1, 700)], &[(1, 1, 700), (2, 2, 710)]),
            Ok(vec!["p2".to_owned()])
        );
    }

    #[test]
    fn rows_may_have_gone_with_a_partition_or_its_file() {
        let before = [(1, 1, 700), (2, 2, 700)];
        let gone = told(&before, &[(1, 1, 700)]).unwrap_err();
        assert_eq!(gone, "partition p2 was detached or dropped");
        let again = told(&before, &[(1, 1, 700), (2, 2, 710)]).unwrap_err();
        assert_eq!(again, "partition p2 was detached and attached again");
        let truncated = told(&before, &[(1, 5, 700), (2, 2, 700)]).unwrap_err();
        assert_eq!(
            truncated,
            "partition p1 is in another file: it was truncated or rewritten"
        );
    }

    #[test]
    fn a_publication_that_was_altered_may_have_left_changes_out() {
        let mut now = coverage(&[]);
        "1:701".clone_into(&mut now.publication);
        assert!(coverage(&[]).until(&now).is_err());
    }
}

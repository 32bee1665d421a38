//! Which partitions and which publication the stream tells of, and whether a partition that is new
//! brought rows with it.
//!
//! A row's `xmin` is the transaction that wrote it, also in the catalog: a publication's row is
//! written anew whenever it is altered, a row of `pg_inherits` when a partition is attached.

use tokio_postgres::Client;

use super::{Error, catalog::quoted};
use crate::change::{Coverage, Partition};

/// Looks at the publication and the partitions of a table.
///
/// # Errors
/// A query failed.
pub async fn look(client: &Client, publication: &str, table: u32) -> Result<Coverage, Error> {
    const PUBLICATION: &str = "SELECT p.oid || ':' || p.xmin::text || COALESCE((
            SELECT pg_catalog.string_agg(' ' || r.oid || ':' || r.xmin::text, '' ORDER BY r.oid)
            FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = $2), '')
        FROM pg_catalog.pg_publication p WHERE p.pubname = $1::text";
    const PARTITIONS: &str = "SELECT c.oid, c.oid::pg_catalog.regclass::text,
            COALESCE(pg_catalog.pg_relation_filenode(c.oid), 0::oid), i.xmin::text
        FROM pg_catalog.pg_partition_tree($1::oid) t
        JOIN pg_catalog.pg_class c ON c.oid = t.relid
        JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
        WHERE t.level > 0 ORDER BY c.oid";
    let doing = || Error::doing("looking at the publication and the partitions");
    let found = client.query_opt(PUBLICATION, &[&publication, &table]).await;
    let found = found.map_err(doing())?;
    let partitions = client.query(PARTITIONS, &[&table]).await.map_err(doing())?;
    Ok(Coverage {
        publication: found.map_or_else(String::new, |row| row.get(0)),
        partitions: partitions
            .iter()
            .map(|row| Partition {
                oid: row.get(0),
                name: row.get(1),
                file: row.get(2),
                attached: row.get::<_, &str>(3).parse().unwrap_or_default(),
            })
            .collect(),
    })
}

/// Whether a partition may have rows that it brought with it when it was attached, and that no
/// change has told of. One that is not there any more has none.
///
/// One that was made by the transaction that attached it (CREATE TABLE … PARTITION OF) has such rows
/// only if that transaction wrote them before, by the number of its command; they are the first in
/// its file. Of one that was there before, it is not known which rows came before it was attached.
///
/// # Errors
/// A query failed.
pub async fn brought_rows(client: &Client, partition: &Partition) -> Result<bool, Error> {
    // The row of a system column is written when its table is made, and never again.
    const FACTS: &str = "SELECT n.nspname::text, c.relname::text, c.relkind = 'p', a.xmin = i.xmin,
            pg_catalog.has_table_privilege(c.oid, 'SELECT'), i.cmin::text
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'ctid'
        WHERE c.oid = $1";
    let doing = || {
        let name = &partition.name;
        Error::doing(format!("looking for rows of the new partition {name}"))
    };
    let facts = client.query_opt(FACTS, &[&partition.oid]).await;
    let Some(facts) = facts.map_err(doing())? else {
        return Ok(false);
    };
    let name = format!("{}.{}", quoted(facts.get(0)), quoted(facts.get(1)));
    let (is_parent, born_here, may_select): (bool, bool, bool) =
        (facts.get(2), facts.get(3), facts.get(4));
    let (attached, command): (u32, &str) = (partition.attached, facts.get(5));
    let rows = match (born_here, may_select) {
        // Its own partitions are asked about one by one.
        (true, _) if is_parent => return Ok(false),
        (true, false) => return Ok(false),
        (false, false) => return Ok(true),
        (true, true) => format!(
            "FROM ONLY {name} WHERE ctid < '(1,0)' AND xmin = '{attached}' AND cmin::text::int8 < {command}"
        ),
        (false, true) => format!("FROM {name}"),
    };
    let found = client
        .query_one(&format!("SELECT EXISTS (SELECT {rows})"), &[])
        .await
        .map_err(doing())?;
    Ok(found.get(0))
}

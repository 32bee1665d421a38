//! The table as it is now, and as the stream describes it: relation, layout, query.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::{Mutex, OnceCell};
use tokio_postgres::{Client, Statement};

use super::{Failure, prepare::extend_mapping};
use crate::{
    change::{Column, Key, Relation, Row},
    document::{Layout, Shape},
    elasticsearch::Index,
    postgres::{
        RelationMessage, Session,
        catalog::{self, Server, Table},
        resolve,
        rows::{self, Found, Query},
    },
    stop::Stop,
    value::Type,
};

/// Finds the table and makes documents of it; shared by the stream and the re-read.
#[derive(Debug)]
pub(super) struct CurrentTable {
    session: Arc<Session>,
    shape: Shape,
    key: String,
    publication: String,
    server: Server,
    look: Mutex<Arc<Look>>,
}

/// The table at one moment.
#[derive(Debug)]
pub(super) struct Look {
    /// Facts from the catalog.
    pub table: Table,
    /// Its columns with their types.
    pub relation: Arc<Relation>,
    /// How its rows become documents.
    pub layout: Arc<Layout>,
    /// How its rows are asked for.
    pub query: Query,
    /// The query by keys, prepared when it is first needed; none when the table is another already.
    by_keys: OnceCell<Option<Statement>>,
}

impl Look {
    /// The key of a row of the table.
    ///
    /// # Errors
    /// It has none that identifies it, which no row of a checked table can have. It must not pass
    /// for a row that is not there.
    pub(super) fn key(&self, row: &Row) -> Result<Key, Stop> {
        row.key().map_err(|error| {
            let table = self.table.quoted();
            Stop::Unexpected(format!("a row of {table} has no usable key: {error}"))
        })
    }

    /// The rows with these keys as they are now, of `bytes_max` bytes together at most; always
    /// through the same client, which holds the prepared statement.
    ///
    /// # Errors
    /// PostgreSQL cannot be asked.
    pub(super) async fn by_keys(
        &self,
        client: &Client,
        keys: &[Key],
        bytes_max: usize,
    ) -> Result<Found, Failure> {
        let statement = self
            .by_keys
            .get_or_try_init(|| rows::prepare_by_keys(client, &self.query))
            .await?;
        match statement {
            Some(statement) => {
                Ok(rows::by_keys(client, &self.query, statement, keys, bytes_max).await?)
            }
            None => Ok(Found::Altered),
        }
    }
}

impl CurrentTable {
    /// Looks at the table for the first time. The publication tells which columns and rows count,
    /// for a one-shot run too, so that both fill an index alike; where there is none, all do.
    ///
    /// # Errors
    /// The catalog cannot be read, a type cannot travel, or the shape does not fit.
    pub(super) async fn new(
        session: Arc<Session>,
        server: Server,
        table: Table,
        key: &str,
        shape: Shape,
        publication: &str,
    ) -> Result<Self, Failure> {
        let publication = publication.to_owned();
        let look = look(&session.client, &server, table, key, &shape, &publication).await?;
        Ok(Self {
            session,
            shape,
            key: key.to_owned(),
            publication,
            server,
            look: Mutex::new(Arc::new(look)),
        })
    }

    /// The session that the table is looked at through.
    #[must_use]
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Its client.
    #[must_use]
    pub(super) fn client(&self) -> &Client {
        &self.session.client
    }

    /// The server that it is on.
    #[must_use]
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// The latest look.
    pub(super) async fn look(&self) -> Arc<Look> {
        self.look.lock().await.clone()
    }

    /// Looks again, and gives `index` the fields that it lacks. In this order, since the table can be
    /// further than the stream: a row that is read again must not meet a mapping without its fields,
    /// nor does the stream's own message then tell of columns that are not known yet.
    ///
    /// # Errors
    /// As for the first look; also when the table is gone or does not fit the index.
    pub(super) async fn look_again(
        &self,
        index: &Index,
        strict_mapping: bool,
    ) -> Result<Arc<Look>, Failure> {
        let mut current = self.look.lock().await;
        let Table {
            oid, schema, name, ..
        } = &current.table;
        let table = catalog::table(&self.session.client, schema, name)
            .await?
            .filter(|table| table.oid == *oid);
        let table = table.ok_or_else(|| {
            Stop::TableChanged {
                why: format!("{schema}.{name} was dropped, renamed or made anew"),
                mend: "If it was renamed, name it in POSTGRES_TABLE and start again; else `sync-es rebuild` fills a new index from the present one",
            }
        })?;
        let again = look(
            &self.session.client,
            &self.server,
            table,
            &self.key,
            &self.shape,
            &self.publication,
        )
        .await?;
        extend_mapping(index, &again.layout, strict_mapping).await?;
        *current = Arc::new(again);
        Ok(current.clone())
    }

    /// The relation as the stream describes it, which may be older than the catalog.
    ///
    /// # Errors
    /// A type is gone or cannot travel, the key is not sent, or the shape does not fit.
    pub(super) async fn described(
        &self,
        message: &RelationMessage,
    ) -> Result<(Arc<Relation>, Arc<Layout>), Failure> {
        let key = message
            .columns
            .iter()
            .find(|column| column.name == self.key);
        if !key.is_some_and(|key| key.identity) {
            let why = format!(
                "{}.{} no longer sends its key {:?} with updates and deletes (replica identity)",
                message.schema, message.name, self.key
            );
            return Err(Stop::TableChanged {
                why,
                mend: "Put the key into the replica identity again and start again: the table is then read anew into the same index",
            }
            .into());
        }
        let columns = message
            .columns
            .iter()
            .map(|column| (column.name.clone(), column.type_oid))
            .collect();
        let names = (message.oid, message.schema.as_str(), message.name.as_str());
        bind(&self.session.client, names, columns, &self.key, &self.shape).await
    }
}

async fn look(
    client: &Client,
    server: &Server,
    table: Table,
    key: &str,
    shape: &Shape,
    publication: &str,
) -> Result<Look, Failure> {
    let published = catalog::publication(client, server, publication, &table).await?;
    let published = published.and_then(|publication| publication.table);
    let list = published
        .as_ref()
        .and_then(|published| published.columns.as_ref());
    let columns = table
        .columns
        .iter()
        .filter(|column| list.is_none_or(|list| list.contains(&column.name)));
    let columns = columns
        .map(|column| (column.name.clone(), column.type_oid))
        .collect();
    let (relation, layout) = bind(
        client,
        (table.oid, &table.schema, &table.name),
        columns,
        key,
        shape,
    )
    .await?;
    let query = Query::new(
        relation.clone(),
        published.and_then(|published| published.row_filter),
    );
    Ok(Look {
        table,
        relation,
        layout,
        query,
        by_keys: OnceCell::new(),
    })
}

async fn bind(
    client: &Client,
    (oid, schema, name): (u32, &str, &str),
    columns: Vec<(String, u32)>,
    key: &str,
    shape: &Shape,
) -> Result<(Arc<Relation>, Arc<Layout>), Failure> {
    let oids: Vec<u32> = columns.iter().map(|(_, oid)| *oid).collect();
    let resolved: HashMap<u32, Arc<Type>> = resolve(client, &oids).await?;
    let columns = columns.into_iter().map(|(column, oid)| {
        let ty = resolved.get(&oid).cloned();
        ty.map(|ty| Column {
            name: column.clone(),
            ty,
        })
        .ok_or_else(|| {
            Stop::table_changed(format!("the type of column {column:?} (oid {oid}) is gone"))
        })
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let key = columns
        .iter()
        .position(|column| column.name == key)
        .ok_or_else(|| {
            Stop::Settings(format!(
                "{schema}.{name} has no column {key:?}: name the key column in POSTGRES_KEY_COLUMN"
            ))
        })?;
    let relation = Relation {
        oid,
        schema: schema.to_owned(),
        name: name.to_owned(),
        columns,
        key,
    };
    let layout = shape
        .bind(&relation)
        .map_err(|error| Stop::Settings(error.to_string()))?;
    Ok((Arc::new(relation), Arc::new(layout)))
}

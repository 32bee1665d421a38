//! Which generation of the index is at work: the one that the settings name, until a rebuild has put the
//! alias on another; and which one comes next.
//!
//! Each generation has a slot, run metadata and a lock of its own, so that one can be filled while another
//! serves. What hangs on a generation is named after it, or stands in its `_meta`.

use super::{
    Failure,
    job::{Job, Role},
    plan::Names,
};
use crate::{
    elasticsearch::{Client, Index, Look, alias_targets},
    postgres::{self, Session, catalog, lock, slot},
};

/// The names as they are at work: index and slot are those of the generation that the alias is on, if it
/// is the settings' own or a later one; else, and before there is an alias, what the settings say.
///
/// # Errors
/// Elasticsearch cannot be asked.
pub(super) async fn at_work(client: &Client, settings: &Names) -> Result<Names, Failure> {
    let targets = alias_targets(client, &settings.alias).await?;
    let index = match targets.as_slice() {
        [target] if follows(target, &settings.index) => target,
        _ => &settings.index,
    };
    let meta = Index::new(client, index).look().await?;
    let Some(meta) = meta.and_then(|look| look.meta) else {
        return Ok(settings.clone());
    };
    let own_slot = slot_of(settings, index);
    // The settings' generation can have been the next one once, and kept its slot.
    let slot = meta
        .slot
        .filter(|slot| *slot == own_slot || *index != settings.index);
    Ok(Names {
        index: index.clone(),
        slot: slot.unwrap_or_else(|| settings.slot.clone()),
        ..settings.clone()
    })
}

/// The names as they are at work, or the settings' where Elasticsearch does not tell.
pub async fn names_at_work(client: &Client, settings: &Names) -> Names {
    let names = at_work(client, settings).await;
    names.unwrap_or_else(|failure| {
        tracing::debug!(?failure, "which generation is at work");
        settings.clone()
    })
}

/// Looks whether the alias, which is on `targets`, has gone from `index` to another generation that is to
/// be followed.
///
/// # Errors
/// It has, or Elasticsearch cannot be asked.
pub(super) async fn stay(
    client: &Client,
    targets: &[String],
    index: &str,
    role: &Role,
) -> Result<(), Failure> {
    let ([target], Role::Serve { first }) = (targets, role) else {
        return Ok(());
    };
    if target == index || !follows(target, first) {
        return Ok(());
    }
    let look = Index::new(client, target).look().await?;
    match look.and_then(|look| look.meta) {
        Some(_) => Err(Failure::Moved(target.clone())),
        None => Ok(()),
    }
}

/// Looks, once the lock is taken, whether the alias was moved while another instance was at work; then
/// drops the slot that a rebuild has left which was killed before it could do so itself.
///
/// # Errors
/// It was, or one of the ends cannot be asked.
pub(super) async fn arrive(job: &Job, session: &Session) -> Result<(), Failure> {
    let (client, names) = (&job.elasticsearch, &job.names);
    let targets = alias_targets(client, &names.alias).await?;
    stay(client, &targets, &names.index, &job.role).await?;
    let Role::Serve { .. } = job.role else {
        return Ok(());
    };
    let Some(previous) = previous(client, names).await? else {
        return Ok(());
    };
    if slot::look(&session.client, &previous.slot).await?.is_none() {
        return Ok(());
    }
    let look = Index::new(client, &names.index).look().await?;
    let Some(meta) = look.and_then(|look| look.meta) else {
        return Ok(());
    };
    let server = catalog::server(&session.client).await?;
    if (meta.system_identifier, meta.timeline) != (server.system_identifier, server.timeline) {
        // It was filled from another server, and this slot may be of use yet.
        return Ok(());
    }
    // Its locks are kept no longer than this takes.
    let session = postgres::connect(&job.postgres).await?;
    // Whoever rebuilds may be filling it again.
    if lock::take(&session.client, &rebuild_lock(names)).await? {
        drop_slot_of(&session, &previous).await?;
    }
    Ok(())
}

/// The generation that served before `names`, if it has had a slot of its own.
///
/// # Errors
/// Elasticsearch cannot be asked.
pub(super) async fn previous(client: &Client, names: &Names) -> Result<Option<Names>, Failure> {
    let targets = alias_targets(client, &previous_alias(&names.alias)).await?;
    let [index] = targets.as_slice() else {
        return Ok(None);
    };
    let previous = with_its_slot(client, names, index).await?;
    Ok(previous.filter(|previous| previous.slot != names.slot))
}

/// The other index that the alias is on, if it has had a slot.
///
/// # Errors
/// Elasticsearch cannot be asked.
pub(super) async fn serving_instead(
    client: &Client,
    names: &Names,
) -> Result<Option<Names>, Failure> {
    let targets = alias_targets(client, &names.alias).await?;
    match targets.iter().find(|target| **target != names.index) {
        Some(index) => with_its_slot(client, names, index).await,
        None => Ok(None),
    }
}

/// The names with this index and the slot that it says it has, if it says so.
async fn with_its_slot(
    client: &Client,
    names: &Names,
    index: &str,
) -> Result<Option<Names>, Failure> {
    let look = Index::new(client, index).look().await?;
    let slot = look.as_ref().and_then(Look::slot);
    Ok(slot.map(|slot| Names {
        index: index.to_owned(),
        slot: slot.to_owned(),
        ..names.clone()
    }))
}

/// Drops the slot of a generation that does not serve any more, for which PostgreSQL would keep WAL without
/// end. False while an instance is still at work on it; the session keeps others from it.
///
/// # Errors
/// PostgreSQL cannot be asked.
pub(super) async fn drop_slot_of(session: &Session, left: &Names) -> Result<bool, Failure> {
    let client = &session.client;
    if !lock::take(client, &writers_lock(left)).await? {
        return Ok(false);
    }
    if slot::drop_slot_once_let_go(client, &left.slot).await? {
        tracing::info!(
            slot = left.slot,
            index = left.index,
            "dropped the slot of the generation before"
        );
    }
    Ok(true)
}

/// The lock of whoever writes into the generation.
pub(super) fn writers_lock(names: &Names) -> String {
    format!("sync-es/{}", names.index)
}

/// The lock of whoever makes or drops generations. No name of an index has a slash.
pub(super) fn rebuild_lock(names: &Names) -> String {
    format!("sync-es/{}/rebuild", names.alias)
}

/// The alias of the generation that served before `alias` went to the present one.
pub(super) fn previous_alias(alias: &str) -> String {
    format!("{alias}-sync-previous")
}

/// The names of all generations match this, and perhaps others.
pub(super) fn pattern(names: &Names) -> String {
    format!("{}*", stem(&names.index))
}

/// Whether an index is named as a generation of `names` is.
pub(super) fn is_named_as(look: &Look, names: &Names) -> bool {
    stem(&look.index) == stem(&names.index)
}

/// Whether it is one: of ours, and under no other alias. Other tables' indices can be named alike.
pub(super) fn is_of(look: &Look, names: &Names) -> bool {
    let ours = [names.alias.clone(), previous_alias(&names.alias)];
    let own_aliases = look.aliases.iter().all(|alias| ours.contains(alias));
    is_named_as(look, names) && look.meta.is_some() && own_aliases
}

/// The generation with this number.
pub(super) fn numbered(settings: &Names, number: u64) -> Names {
    let index = format!("{}{number}", stem(&settings.index));
    Names {
        slot: slot_of(settings, &index),
        index,
        ..settings.clone()
    }
}

/// The trailing number of an index's name; 1 without one.
pub(super) fn number(index: &str) -> u64 {
    let digits = &index[stem(index).len()..];
    digits.parse().unwrap_or(1)
}

fn stem(index: &str) -> &str {
    index.trim_end_matches(|last: char| last.is_ascii_digit())
}

/// Whether it is `index` or a later generation of it.
fn follows(target: &str, index: &str) -> bool {
    stem(target) == stem(index) && number(target) >= number(index)
}

/// The slot of a generation that a rebuild makes.
fn slot_of(settings: &Names, index: &str) -> String {
    format!("{}_v{}", settings.slot, number(index))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::pipeline) fn names(index: &str) -> Names {
        Names {
            key: "hk".to_owned(),
            publication: "sync_es".to_owned(),
            slot: "sync_es".to_owned(),
            index: index.to_owned(),
            alias: "records".to_owned(),
        }
    }

    #[test]
    fn generations_are_told_by_their_trailing_number() {
        assert_eq!(number("records_v12"), 12);
        assert_eq!(number("records"), 1);
        assert_eq!(pattern(&names("records_v12")), "records_v*");
        let next = numbered(&names("records_v1"), 13);
        assert_eq!((&*next.index, &*next.slot), ("records_v13", "sync_es_v13"));
        assert_eq!(numbered(&names("records"), 2).index, "records2");
    }

    #[test]
    fn the_alias_is_followed_to_later_generations_of_the_same_index_alone() {
        assert!(follows("records_v1", "records_v1"));
        assert!(follows("records_v10", "records_v9"));
        assert!(!follows("records_v1", "records_v2"));
        assert!(!follows("records_old", "records_v1"));
        assert!(!follows("other_v2", "records_v1"));
    }
}

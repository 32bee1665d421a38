//! Which generation the alias is to go to.

use crate::{
    elasticsearch::{Look, alias_targets, indices},
    pipeline::{
        Failure,
        generation::{is_named_as, is_of, number, numbered, pattern, previous_alias},
        job::Job,
        plan::Names,
    },
    postgres::{Session, catalog},
    stop::Stop,
};

/// Which generation the alias is to go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The next one, made anew; or the one that an earlier rebuild did not complete.
    Next,
    /// The one that served before.
    Previous,
}

/// From which generation to which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Swap {
    /// The one that serves.
    pub(super) from: Names,
    /// The one that is to serve.
    pub(super) to: Names,
}

/// The generations of an index, as they are.
#[derive(Debug)]
pub(super) struct Estate {
    /// The one that serves.
    pub(super) live: Look,
    /// The one that served before.
    previous: Option<String>,
    /// All others.
    pub(super) others: Vec<Look>,
    /// The highest number of any index that is named so, also of somebody else's.
    taken: u64,
    /// What a generation would be made from now; none without the table.
    now: Option<Source>,
}

/// What a generation was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    system_identifier: String,
    table: u32,
    key: String,
    timeline: u32,
}

impl Goal {
    /// What is to be done, from how things stand.
    ///
    /// # Errors
    /// It cannot be, or one of the ends cannot be asked.
    pub(super) async fn swap(self, job: &Job, session: &Session) -> Result<Swap, Failure> {
        let estate = Estate::look(job, session).await?;
        Ok(estate.swap(self, &job.names)?)
    }
}

impl Estate {
    /// Asks both ends.
    ///
    /// # Errors
    /// One of them cannot be asked, or no generation of ours serves.
    pub(super) async fn look(job: &Job, session: &Session) -> Result<Self, Failure> {
        let (client, names) = (&job.elasticsearch, &job.names);
        let targets = alias_targets(client, &names.alias).await?;
        let mut found = indices(client, &pattern(names)).await?;
        found.retain(|look| is_named_as(look, names));
        let taken = found.iter().map(|look| number(&look.index)).max();
        found.retain(|look| is_of(look, names));
        let live = |look: &Look| targets == [look.index.as_str()];
        let Some(at) = found.iter().position(live) else {
            let why = format!(
                "alias {} points to {targets:?}, and not to one generation of {}: `sync-es run` fills that and moves the alias to it; where that stops, `sync-es drop-slot`, then start with the next ELASTICSEARCH_INDEX_NAME",
                names.alias, names.index
            );
            return Err(Stop::CannotRebuild(why).into());
        };
        let live = found.remove(at);
        let previous = alias_targets(client, &previous_alias(&names.alias)).await?;
        let previous = previous.into_iter().next();
        let now = Source::now(job, session).await?;
        // The one before can be of another table or cluster: that may be why there is another.
        let before = found
            .iter()
            .find(|look| previous.as_ref() == Some(&look.index));
        let known = [source(&live), before.and_then(source), now.clone()];
        let known: Vec<Source> = known.into_iter().flatten().collect();
        let is_of_the_table = |look: &Look| {
            source(look).is_some_and(|of_it| known.iter().any(|one| one.is_of_the_table_of(&of_it)))
        };
        found.retain(is_of_the_table);
        Ok(Self {
            live,
            previous,
            others: found,
            taken: taken.unwrap_or_default(),
            now,
        })
    }

    /// Looks that the server is not an old primary: its locks keep nobody from what is filled from the
    /// present one.
    ///
    /// # Errors
    /// The generation that serves was filled on a later timeline.
    pub(super) fn stop_at_an_old_primary(&self) -> Result<(), Stop> {
        if let (Some(live), Some(now)) = (source(&self.live), &self.now)
            && live.system_identifier == now.system_identifier
            && live.timeline > now.timeline
        {
            let why = format!(
                "{} was filled on timeline {}, and PostgreSQL is on timeline {}: name the primary in POSTGRES_URL",
                self.live.index, live.timeline, now.timeline
            );
            return Err(Stop::CannotRebuild(why));
        }
        Ok(())
    }

    fn swap(&self, goal: Goal, settings: &Names) -> Result<Swap, Stop> {
        let Some(slot) = self.live.slot() else {
            let why = format!(
                "{} is filled by one-shot runs: name the next index in ELASTICSEARCH_INDEX_NAME, and fill that with `sync-es --snapshot-only`",
                self.live.index
            );
            return Err(Stop::CannotRebuild(why));
        };
        let to = match goal {
            Goal::Next => self.next(settings),
            Goal::Previous => self.before(settings)?,
        };
        let from = Names {
            index: self.live.index.clone(),
            slot: slot.to_owned(),
            ..settings.clone()
        };
        Ok(Swap { from, to })
    }

    /// Whatever has a higher number than those that have served was not completed; it is gone on with if it
    /// is of the table as it is now.
    fn next(&self, settings: &Names) -> Names {
        let previous = self.previous.as_deref().map_or(0, number);
        let served = number(&self.live.index).max(previous);
        let unfinished = self
            .others
            .iter()
            .filter(|look| number(&look.index) > served && source(look) == self.now);
        match unfinished.max_by_key(|look| number(&look.index)) {
            Some(look) => named(look, settings),
            None => numbered(settings, self.taken.max(served) + 1),
        }
    }

    fn before(&self, settings: &Names) -> Result<Names, Stop> {
        let live = &self.live.index;
        let is_previous = |look: &&Look| Some(&look.index) == self.previous.as_ref();
        let previous = self.others.iter().find(is_previous);
        let Some(look) = previous.filter(|look| source(look) == self.now) else {
            let why = match previous {
                None => {
                    format!("no generation of the same table that served before {live} is there")
                }
                Some(look) => format!(
                    "{}, which served before {live}, was filled from another table, or before a failover",
                    look.index
                ),
            };
            return Err(Stop::CannotRebuild(why));
        };
        if number(&look.index) < number(&settings.index) {
            let why = format!(
                "ELASTICSEARCH_INDEX_NAME is {}, and a service with that setting would not go back to {}: name that there first",
                settings.index, look.index
            );
            return Err(Stop::CannotRebuild(why));
        }
        Ok(named(look, settings))
    }
}

/// A generation that is there, by its name and the slot that it says it has.
fn named(look: &Look, settings: &Names) -> Names {
    let mut names = numbered(settings, number(&look.index));
    look.index.clone_into(&mut names.index);
    if let Some(slot) = look.slot() {
        slot.clone_into(&mut names.slot);
    }
    names
}

impl Source {
    async fn now(job: &Job, session: &Session) -> Result<Option<Self>, Failure> {
        let (schema, name) = &job.table;
        let table = catalog::table(&session.client, schema, name).await?;
        let server = catalog::server(&session.client).await?;
        Ok(table.map(|table| Self {
            system_identifier: server.system_identifier,
            table: table.oid,
            key: job.names.key.clone(),
            timeline: server.timeline,
        }))
    }

    /// Whether both are of the same table with the same key, on whatever timeline.
    fn is_of_the_table_of(&self, other: &Self) -> bool {
        let same_table =
            self.system_identifier == other.system_identifier && self.table == other.table;
        same_table && self.key == other.key
    }
}

fn source(look: &Look) -> Option<Source> {
    let meta = look.meta.as_ref()?;
    Some(Source {
        system_identifier: meta.system_identifier.clone(),
        table: meta.relation.oid,
        key: meta.key_column.clone(),
        timeline: meta.timeline,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{
        generation::tests::names,
        plan::tests::{index, meta},
    };

    fn look(name: &str) -> Look {
        let slot = (name != "records_v1").then(|| format!("sync_es_{}", &name[8..]));
        let meta = crate::elasticsearch::Meta {
            slot: Some(slot.unwrap_or_else(|| "sync_es".to_owned())),
            ..meta()
        };
        let mut look = index("u", Some(meta));
        name.clone_into(&mut look.index);
        look
    }

    fn estate(live: &str, previous: Option<&str>, others: &[&str]) -> Estate {
        Estate {
            live: look(live),
            previous: previous.map(str::to_owned),
            others: others.iter().map(|name| look(name)).collect(),
            taken: others.iter().map(|name| number(name)).max().unwrap_or(0),
            now: source(&look(live)),
        }
    }

    fn settings() -> Names {
        names("records_v1")
    }

    /// Index and slot of the generation that the alias is to go to.
    fn to(estate: &Estate, goal: Goal) -> Result<(String, String), Stop> {
        let swap = estate.swap(goal, &settings())?;
        assert_eq!(swap.from.index, estate.live.index);
        Ok((swap.to.index, swap.to.slot))
    }

    #[test]
    fn the_next_one_is_above_all_that_have_served_or_the_one_that_was_not_completed() {
        let next = |live, previous, others: &[&str]| {
            to(&estate(live, previous, others), Goal::Next).unwrap().0
        };
        assert_eq!(next("records_v1", None, &[]), "records_v2");
        assert_eq!(next("records_v1", None, &["records_v2"]), "records_v2");
        let before = Some("records_v1");
        assert_eq!(next("records_v2", before, &["records_v1"]), "records_v3");
        // Gone back to the first one: the second has served.
        let behind = Some("records_v2");
        assert_eq!(next("records_v1", behind, &["records_v2"]), "records_v3");
        let unfinished = ["records_v2", "records_v3"];
        assert_eq!(next("records_v1", behind, &unfinished), "records_v3");
        assert_eq!(next("records_v2", None, &[]), "records_v3");
        // An index of somebody else's keeps its name.
        let mut estate = estate("records_v1", None, &[]);
        estate.taken = 7;
        assert_eq!(to(&estate, Goal::Next).unwrap().0, "records_v8");
    }

    #[test]
    fn the_way_back_leads_to_the_one_that_served_before_and_to_no_other() {
        let back =
            |live, previous, others: &[&str]| to(&estate(live, previous, others), Goal::Previous);
        let before = Some("records_v1");
        let first = ("records_v1".to_owned(), "sync_es".to_owned());
        assert_eq!(
            back("records_v2", before, &["records_v1", "records_v3"]).unwrap(),
            first
        );
        for (previous, others) in [(None, &["records_v1"][..]), (before, &[])] {
            let none = back("records_v2", previous, others);
            assert!(matches!(none, Err(Stop::CannotRebuild(_))), "{none:?}");
        }
    }

    #[test]
    fn there_is_no_way_back_from_what_the_settings_name() {
        let estate = estate("records_v2", Some("records_v1"), &["records_v1"]);
        let refused = estate.swap(Goal::Previous, &names("records_v2"));
        assert!(
            matches!(refused, Err(Stop::CannotRebuild(_))),
            "{refused:?}"
        );
    }

    #[test]
    fn another_tables_index_of_a_like_name_is_no_generation() {
        let (one, mut other) = (look("records_v1"), look("records_v2"));
        let of_one = source(&one).unwrap();
        assert!(is_of(&other, &settings()) && source(&other).unwrap().is_of_the_table_of(&of_one));
        other.meta.as_mut().unwrap().relation.oid += 1;
        assert!(!source(&other).unwrap().is_of_the_table_of(&of_one));
        other.aliases = vec!["records".to_owned(), "records-sync-previous".to_owned()];
        assert!(is_of(&other, &settings()));
        other.aliases.push("others".to_owned());
        assert!(!is_of(&other, &settings()));
    }

    #[test]
    fn a_generation_from_before_a_failover_is_neither_gone_on_with_nor_gone_back_to() {
        let mut unfinished = estate("records_v1", None, &["records_v2"]);
        let mut served = estate("records_v2", Some("records_v1"), &["records_v1"]);
        for estate in [&mut unfinished, &mut served] {
            estate.now.as_mut().unwrap().timeline += 1;
        }
        assert_eq!(to(&unfinished, Goal::Next).unwrap().0, "records_v3");
        let refused = to(&served, Goal::Previous).unwrap_err().to_string();
        assert!(
            refused.contains("records_v1, which served before"),
            "{refused}"
        );
    }

    #[test]
    fn at_an_old_primary_nothing_is_dropped() {
        let mut estate = estate("records_v1", None, &["records_v2"]);
        estate.stop_at_an_old_primary().unwrap();
        estate.now.as_mut().unwrap().timeline -= 1;
        estate.stop_at_an_old_primary().unwrap_err();
    }

    #[test]
    fn what_one_shot_runs_fill_has_no_slot_to_go_over_from() {
        let mut estate = estate("records_v1", None, &[]);
        estate.live.meta.as_mut().unwrap().slot = None;
        let refused = to(&estate, Goal::Next);
        assert!(
            matches!(refused, Err(Stop::CannotRebuild(_))),
            "{refused:?}"
        );
    }
}

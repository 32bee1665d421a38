//! Which generation the alias is to go to.

use crate::{
    elasticsearch::{Look, alias_targets, generations},
    pipeline::{
        Failure,
        generation::{is_of, left_behind, number, numbered, pattern},
        job::Job,
        plan::Names,
    },
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
}

impl Goal {
    /// What is to be done, from how things stand.
    ///
    /// # Errors
    /// It cannot be, or one of the ends cannot be asked.
    pub(super) async fn swap(self, job: &Job) -> Result<Swap, Failure> {
        let estate = Estate::look(job).await?;
        Ok(estate.swap(self, &job.names)?)
    }
}

impl Estate {
    /// Asks Elasticsearch.
    ///
    /// # Errors
    /// It cannot be asked, or no generation of ours serves.
    pub(super) async fn look(job: &Job) -> Result<Self, Failure> {
        let (client, names) = (&job.elasticsearch, &job.names);
        let targets = alias_targets(client, &names.alias).await?;
        let mut others = generations(client, &pattern(names)).await?;
        others.retain(|look| is_of(look, names));
        let previous = alias_targets(client, &left_behind(&names.alias)).await?;
        let live = |look: &Look| targets == [look.index.as_str()];
        let Some(at) = others.iter().position(live) else {
            let why = format!(
                "alias {} points to {targets:?}, and not to one generation of {}: let `sync-es run` fill the first one",
                names.alias, names.index
            );
            return Err(Stop::CannotRebuild(why).into());
        };
        Ok(Self {
            live: others.remove(at),
            previous: previous.into_iter().next(),
            others,
        })
    }

    fn swap(&self, goal: Goal, settings: &Names) -> Result<Swap, Stop> {
        let live = &self.live;
        let Some(slot) = live.meta.as_ref().and_then(|meta| meta.slot.clone()) else {
            let why = format!(
                "{} is filled by one-shot runs: name the next index in ELASTICSEARCH_INDEX_NAME, and fill that with `sync-es --snapshot-only`",
                live.index
            );
            return Err(Stop::CannotRebuild(why));
        };
        let to = match goal {
            Goal::Next => self.next(settings),
            Goal::Previous => self.before(settings)?,
        };
        let from = Names {
            index: live.index.clone(),
            slot,
            ..settings.clone()
        };
        Ok(Swap { from, to })
    }

    /// Whatever has a higher number than those that have served was not completed.
    fn next(&self, settings: &Names) -> Names {
        let previous = self.previous.as_deref().map_or(0, number);
        let served = number(&self.live.index).max(previous);
        let others = self.others.iter().map(|look| number(&look.index));
        numbered(settings, others.max().unwrap_or(0).max(served + 1))
    }

    fn before(&self, settings: &Names) -> Result<Names, Stop> {
        let previous = self.previous.as_ref();
        let is_previous = |look: &&Look| Some(&look.index) == previous;
        let Some(look) = self.others.iter().find(is_previous) else {
            let why = format!(
                "no generation that served before {} is there",
                self.live.index
            );
            return Err(Stop::CannotRebuild(why));
        };
        let slot = look.meta.as_ref().and_then(|meta| meta.slot.clone());
        Ok(Names {
            index: look.index.clone(),
            slot: slot.unwrap_or_else(|| numbered(settings, number(&look.index)).slot),
            ..settings.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::plan::tests::{index, meta};

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
        }
    }

    fn settings() -> Names {
        Names {
            key: "hk".to_owned(),
            publication: "sync_es".to_owned(),
            slot: "sync_es".to_owned(),
            index: "records_v1".to_owned(),
            alias: "records".to_owned(),
        }
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
        // The one before is dropped, and its number is not given again.
        assert_eq!(next("records_v2", None, &[]), "records_v3");
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

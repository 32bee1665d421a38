//! `sync-es dead-letters`: documents that Elasticsearch refused.

use std::{fmt::Write as _, process::ExitCode};

use clap::{Args, Subcommand};

use super::{exit_code, job::job, print};
use crate::{
    change::Key,
    elasticsearch::{DeadLetter, RefusedAction},
    observe::Traces,
    pipeline::{self, Job, Letters, Retried},
    settings::Settings,
    stop::Stop,
};

/// Characters of a reason that a person is shown.
const REASON_SHOWN: usize = 300;

/// What is to be done with them.
#[derive(Debug, Subcommand)]
pub(super) enum What {
    /// Show them: which key, why it was refused, when
    List {
        /// Letters to show, at most
        #[arg(long, value_name = "N", default_value = "20")]
        show: usize,
        /// Print each letter whole, with its document, as one line of JSON
        #[arg(long, conflicts_with = "show")]
        json: bool,
    },
    /// Write their documents again, from the rows as they are now
    Retry {
        /// Only the letter of this key; can be given several times
        #[arg(long, value_name = "KEY")]
        key: Vec<String>,
    },
    /// Drop letters; no document changes by it
    Purge(Purge),
}

/// Which letters go.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Purge {
    /// Only the letter of this key; can be given several times
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// All letters of the index
    #[arg(long)]
    all: bool,
}

/// Does it. Gives 3 when letters that were tried again are left.
pub(super) async fn dead_letters(settings: &Settings, what: &What) -> ExitCode {
    let ended = match job(settings, false, Traces::default()) {
        Ok(job) => carry_out(&job, what).await,
        Err(stop) => Err(stop),
    };
    exit_code(ended)
}

async fn carry_out(job: &Job, what: &What) -> Result<(), Stop> {
    match what {
        What::List { show, json } => list(job, *show, *json).await,
        What::Retry { key } => {
            let keys = keys(key);
            let retried = Box::pin(pipeline::retry_dead_letters(job, keys.as_deref())).await?;
            print(&told_of(&retried));
            for key in &retried.unknown {
                print(&format!("no letter has key {:?}\n", key.as_str()));
            }
            left(job, &retried).await
        }
        What::Purge(Purge { key, all: _ }) => {
            let purged = pipeline::purge_dead_letters(job, keys(key).as_deref()).await?;
            print(&format!("dead letters dropped: {purged}\n"));
            Ok(())
        }
    }
}

async fn list(job: &Job, show: usize, json: bool) -> Result<(), Stop> {
    let Letters {
        mut pages,
        index,
        of,
    } = pipeline::dead_letters(job).await?;
    let (mut count, mut shown) = (0, String::new());
    while let Some(page) = pages.next().await.map_err(|error| unread(&error))? {
        for letter in page {
            count += 1;
            if json {
                let line = serde_json::to_string(&letter);
                print(&format!("{}\n", line.unwrap_or_default()));
            } else if count <= show {
                shown.push_str(&as_text(&letter));
            }
        }
    }
    if !json {
        print(&format!(
            "dead letters of {of}, in {index}: {count}\n{shown}"
        ));
        if count > show {
            let more = count - show;
            print(&format!(
                "  and {more} more (--show N shows more of them, --json all)\n"
            ));
        }
    }
    Ok(())
}

/// Whether letters are left, as the stop that a run ends with then.
async fn left(job: &Job, retried: &Retried) -> Result<(), Stop> {
    let Some(left) = &retried.first_left else {
        return Ok(());
    };
    let (letter, index) = pipeline::dead_letter(job, left).await?;
    let reason = match letter {
        // Its row has come through the stream meanwhile.
        None if retried.left == 1 => return Ok(()),
        None => "its letter is gone now, others are left".to_owned(),
        Some(letter) => letter.why(),
    };
    Err(Stop::DeadLetters {
        count: retried.left,
        index,
        key: left.to_string(),
        reason,
    })
}

fn told_of(retried: &Retried) -> String {
    let Retried { tried, left, .. } = retried;
    let taken = tried - left;
    format!("dead letters tried again: {tried}; gone: {taken}, left: {left}\n")
}

fn as_text(letter: &DeadLetter) -> String {
    let what = match letter.action {
        RefusedAction::Index => "write",
        RefusedAction::Delete => "delete",
    };
    let mut reason: String = letter.reason.chars().take(REASON_SHOWN).collect();
    if reason.len() < letter.reason.len() {
        reason.push('…');
    }
    let mut text = String::new();
    let _ = writeln!(
        text,
        "  {:?}  {what}, {:.0}, run {}\n    {}: {reason}",
        letter.key.as_str(),
        letter.at,
        letter.run,
        letter.kind
    );
    text
}

/// The keys that were named; all if none was.
fn keys(named: &[String]) -> Option<Vec<Key>> {
    let keys = named.iter().map(|key| Key::new(key)).collect();
    (!named.is_empty()).then_some(keys)
}

fn unread(error: &impl std::fmt::Display) -> Stop {
    Stop::Elasticsearch(format!("dead letters cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_told_with_its_reason_shortened() {
        let mut letter = DeadLetter {
            key: Key::new("org 7"),
            version: crate::change::Version(7),
            action: RefusedAction::Index,
            kind: "document_parsing_exception".to_owned(),
            reason: "because".to_owned(),
            document: None,
            run: 3,
            at: "2026-11-24T23:33:00.25Z".parse().unwrap(),
        };
        assert_eq!(
            as_text(&letter),
            "  \"org 7\"  write, 2026-11-24T23:33:00Z, run 3\n    document_parsing_exception: because\n"
        );
        letter.reason = "ü".repeat(REASON_SHOWN + 1);
        assert!(as_text(&letter).ends_with("ü…\n"));
    }

    #[test]
    fn what_is_left_is_told() {
        let told = told_of(&Retried {
            tried: 3,
            left: 1,
            first_left: Some(Key::new("k")),
            unknown: Vec::new(),
        });
        assert_eq!(told, "dead letters tried again: 3; gone: 2, left: 1\n");
    }
}

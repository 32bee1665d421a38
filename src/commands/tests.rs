use super::*;

#[test]
fn the_declaration_of_the_command_line_is_sound() {
    CommandLine::command().debug_assert();
}

fn task(arguments: &[&str]) -> Result<Task, Refusal> {
    let argv: Vec<OsString> = ["sync-es"]
        .iter()
        .chain(arguments)
        .map(OsString::from)
        .collect();
    let environment = [("PGHOST", "/tmp"), ("PGUSER", "u"), ("ES_MAX_RETRIES", "3")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    read(&argv, &Environment::from(environment))
}

#[test]
fn run_is_the_command_when_none_is_given() {
    for arguments in [
        &["--snapshot-only"][..],
        &["run", "--snapshot-only"],
        &["--snapshot-only", "run"],
    ] {
        assert!(
            matches!(task(arguments), Ok(Task::Run(_, true))),
            "{arguments:?}"
        );
    }
    for arguments in [&[][..], &["run"]] {
        assert!(
            matches!(task(arguments), Ok(Task::Run(_, false))),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_setting_may_stand_before_or_after_the_command() {
    for arguments in [
        &["--es-max-retries", "7"][..],
        &["--es-max-retries", "7", "run"],
        &["run", "--es-max-retries", "7"],
    ] {
        match task(arguments) {
            Ok(Task::Run(settings, _)) => {
                assert_eq!(settings.delivery.retries_max, 7, "{arguments:?}");
            }
            _ => panic!("{arguments:?}"),
        }
    }
}

#[test]
fn snapshot_only_belongs_to_run() {
    assert!(matches!(
        task(&["drop-slot", "--snapshot-only"]),
        Err(Refusal::Usage(_))
    ));
    assert!(matches!(
        task(&["--snapshot-only", "drop-slot"]),
        Err(Refusal::Usage(_))
    ));
    assert!(matches!(task(&["drop-slot"]), Ok(Task::DropSlot(_))));
}

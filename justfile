# The commands of a working day: https://just.systems. Without just, run what stands here by hand.

# What a change has to pass
ci:
    .ci/run

# Formatting and lints, in seconds
check:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings

fmt:
    cargo fmt

# The tests that need no server
unit *arguments:
    cargo test --locked --lib --bins --example organizations {{ arguments }}

# All tests, on real servers
test *arguments:
    scripts/test {{ arguments }}

# Storms of faults for so many minutes, seed after seed; a line each in the report
storms minutes="10" report="storms.jsonl":
    SYNC_ES_TEST_MINUTES={{ minutes }} SYNC_ES_TEST_REPORT={{ absolute_path(report) }} \
        scripts/test --test faults storms -- --nocapture

# Do the tests notice a broken program? Half an hour
mutations *names:
    scripts/mutations {{ names }}

# The main job on real servers, to watch
demo *arguments:
    scripts/demo {{ arguments }}

# A PostgreSQL and an Elasticsearch to work with; their URLs are in the file env of the directory
servers directory="/tmp/sync-es-servers" *arguments:
    scripts/servers start {{ directory }} {{ arguments }}

stop-servers directory="/tmp/sync-es-servers":
    scripts/servers stop {{ directory }}

# Licences, sources and known faults of what we depend on
deny:
    cargo deny --locked check

# A fuzz target for so many seconds: bulk_answer, connection_string, pgoutput, transaction, value.
# Needs cargo-fuzz; without a sanitizer it runs on stable Rust.
fuzz target="value" seconds="60":
    mkdir -p fuzz/corpus/{{ target }}
    cd fuzz && cargo fuzz run --sanitizer none {{ target }} corpus/{{ target }} seeds/{{ target }} -- -max_total_time={{ seconds }} -max_len=4096

# What sync-es reaches of what its two ends can do: --size smallest|small|full, --only FIGURE,…
bench *arguments:
    scripts/bench {{ arguments }}

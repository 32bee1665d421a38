//! Generated organizations for the demo, the measurements and a first try: plausible, and the same
//! ones for the same seed on every machine, so that two runs can be compared.
//!
//! Rows are written as COPY text for the table of `sql/01-table.sql`:
//!
//! ```text
//! cargo run --release --example organizations -- --rows 100000 |
//!     psql -c 'COPY integrated_records FROM STDIN'
//! ```
//!
//! With `--embed NAME` it prints the name's embedding as a JSON array instead, for a kNN query.

mod copy;
mod embedding;
mod organization;
mod words;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::Parser;

/// Generates organizations for the table `integrated_records`, or embeds one name.
#[derive(Parser)]
#[command(name = "organizations")]
struct Arguments {
    /// Number of rows to write
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    rows: u32,

    /// The same seed gives the same rows
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u32,

    /// Elements of an embedding
    #[arg(
        long,
        env = "EMBEDDING_DIMENSIONS",
        default_value_t = 256,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    dimensions: u16,

    /// Print the embedding of this name as a JSON array, and no rows
    #[arg(long, value_name = "NAME")]
    embed: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let written = write(&arguments, &mut out).and_then(|()| out.flush());
    match written {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough (`| head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // The only other place left to say so is the exit code.
            let _ = writeln!(io::stderr(), "organizations: cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(arguments: &Arguments, out: &mut impl Write) -> io::Result<()> {
    let dimensions = usize::from(arguments.dimensions);
    if let Some(name) = &arguments.embed {
        return writeln!(out, "[{}]", embedding::elements(name, dimensions));
    }
    let mut line = copy::Line::default();
    for row in 0..arguments.rows {
        organization::write(arguments.seed, row, dimensions, &mut line);
        out.write_all(line.finish())?;
    }
    Ok(())
}

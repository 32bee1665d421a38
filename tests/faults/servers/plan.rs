//! Faults drawn from a seed: what breaks, when, and for how long.

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde::{Deserialize, Serialize};

/// One storm: everything that is random in it follows from here, but for how the processes interleave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Of the changes to the table.
    pub(crate) seed: u64,
    /// Elements of each embedding: with 768 it is stored out of line.
    pub(crate) dimensions: usize,
    /// Instances of the program; one is at work, the others stand by.
    pub(crate) instances: usize,
    /// In the order of time.
    pub(crate) steps: Vec<Step>,
}

/// A fault, and when it comes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Milliseconds after the first start.
    pub(crate) at: u64,
    pub(crate) fault: Fault,
}

/// What breaks. Numbers named `ms` say for how long, the others how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fault {
    KillProgram,
    StopProgram,
    PauseProgram {
        ms: u64,
    },
    KillElasticsearch {
        ms: u64,
    },
    PauseElasticsearch {
        ms: u64,
    },
    KillPostgres {
        ms: u64,
    },
    StopPostgres {
        ms: u64,
    },
    TerminateBackends,
    RefuseBulks {
        count: usize,
    },
    LoseAnswers {
        count: usize,
    },
    SlowBulks {
        ms: u64,
    },
    /// Bulk requests are repeated, answers lost, cut or wrong, items refused: each by chance.
    StrangeBulks {
        seed: u64,
        ms: u64,
    },
    /// The wires to PostgreSQL are slow, silent, cut, or lead nowhere, one after the other.
    WirePostgres {
        seed: u64,
        ms: u64,
    },
    BlockWrites {
        ms: u64,
    },
    CloseIndex {
        ms: u64,
    },
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        const FAULTS: u64 = 9;
        const SPACING_MS: u64 = 2_500;
        let mut random = StdRng::seed_from_u64(seed);
        let steps = (0..FAULTS)
            .map(|number| Step {
                at: number * SPACING_MS + random.random_range(0..SPACING_MS),
                fault: Fault::draw(&mut random),
            })
            .collect();
        Self {
            seed,
            dimensions: *[8, 256, 768].choose(&mut random).unwrap(),
            instances: random.random_range(1..=2),
            steps,
        }
    }

    /// Plans with fewer faults, the smallest first: halves, then all but one.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let count = self.steps.len();
        let with = |steps: Vec<Step>| Self {
            steps,
            ..self.clone()
        };
        let mut plans = Vec::new();
        if count > 2 {
            plans.push(with(self.steps[..count / 2].to_vec()));
            plans.push(with(self.steps[count / 2..].to_vec()));
        }
        plans.extend((0..count).map(|left_out| {
            let mut steps = self.steps.clone();
            steps.remove(left_out);
            with(steps)
        }));
        plans
    }
}

impl Fault {
    fn draw(random: &mut StdRng) -> Self {
        let (ms, seed) = (random.random_range(200..4_000), random.random());
        let count = random.random_range(1..6);
        // Kills of the program are what happens most often.
        match random.random_range(0..24) {
            0..6 => Self::KillProgram,
            6 => Self::StopProgram,
            7 => Self::PauseProgram { ms },
            8 => Self::KillElasticsearch { ms },
            9..11 => Self::PauseElasticsearch { ms },
            11 => Self::KillPostgres { ms },
            12 => Self::StopPostgres { ms },
            13 => Self::TerminateBackends,
            14 => Self::RefuseBulks { count },
            15..17 => Self::LoseAnswers { count },
            17 => Self::SlowBulks { ms: ms / 4 },
            18 => Self::BlockWrites { ms },
            19..21 => Self::StrangeBulks { seed, ms: ms * 2 },
            21..23 => Self::WirePostgres { seed, ms: ms * 2 },
            _ => Self::CloseIndex { ms },
        }
    }
}

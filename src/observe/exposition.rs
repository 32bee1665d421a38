//! The answer of `/metrics`: what was counted, and how it is now, as `OpenMetrics` text.

use std::{fmt, sync::atomic::AtomicU64};

use prometheus_client::{
    encoding::{
        EncodeLabelSet,
        text::{encode_eof, encode_registry},
    },
    metrics::{family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

use super::{
    meter::Meter,
    metrics::register,
    names::{self, Name},
    status::{Phase, Status},
};

/// What [`text`] is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Float = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPhase {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPoint {
    point: &'static str,
}

/// The whole text.
pub(super) fn text(meter: &Meter) -> Result<String, fmt::Error> {
    let mut text = String::new();
    encode_registry(&mut text, &meter.metrics.registry)?;
    encode_registry(&mut text, &now(meter, &meter.status()))?;
    encode_eof(&mut text)?;
    Ok(text)
}

/// Made for each answer, so that what is not known is absent and not 0.
fn now(meter: &Meter, status: &Status) -> Registry {
    let mut registry = Registry::default();
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register(
        names::BUILD.full.trim_end_matches("_info"),
        names::BUILD.help,
        build,
    );
    let phases = Family::<OfPhase, Gauge>::default();
    for phase in Phase::ALL {
        let label = OfPhase {
            phase: phase.name(),
        };
        phases
            .get_or_create(&label)
            .set((phase == status.phase).into());
    }
    register(&mut registry, names::PHASE, &phases);
    let positions = Family::<OfPoint, Float>::default();
    for (point, lsn) in meter.lsns() {
        positions.get_or_create(&OfPoint { point }).set(float(lsn));
    }
    register(&mut registry, names::POSITION, &positions);
    let slot = status.slot.clone().unwrap_or_default();
    let safe = slot
        .safe_bytes
        .map(|bytes| float(bytes.max(0).unsigned_abs()));
    let started_at = status.started_at.as_duration().as_secs_f64();
    let gauges: [(Name, Option<f64>); 13] = [
        (names::START, Some(started_at)),
        (names::READY, Some(f64::from(u8::from(status.ready)))),
        (
            names::SNAPSHOT_ROWS_ESTIMATED,
            status.snapshot_rows_estimated.map(float),
        ),
        (names::OPEN, Some(float(status.operations.open))),
        (names::DEAD_LETTERS, Some(float(status.dead_letters))),
        (names::RETRYING, Some(float(status.lanes_retrying))),
        (names::CAPACITY, Some(status.capacity)),
        (names::LAG_BYTES, status.lag.bytes.map(float)),
        (names::LAG_SECONDS, status.lag.seconds),
        (names::LAG_TARGET, Some(status.lag.target_seconds)),
        (names::RETAINED, slot.retained_bytes.map(float)),
        (names::SAFE, safe),
        (names::WEDGED, Some(f64::from(u8::from(meter.is_wedged())))),
    ];
    for (name, value) in gauges {
        if let Some(value) = value {
            let gauge = Float::default();
            gauge.set(value);
            register(&mut registry, name, &gauge);
        }
    }
    registry
}

/// Exact up to 8 PiB, beyond which a position's last bytes do not matter.
#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus has no other numbers"
)]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc, time::Duration};

    use super::*;
    use crate::observe::{SlotState, Subject, Traces};

    fn new() -> Arc<Meter> {
        let target = Duration::from_secs(30);
        Meter::new(Subject::default(), target, Traces::default())
    }

    #[test]
    fn every_name_is_exposed_and_no_other() {
        let meter = new();
        meter.rows_estimated(Some(1));
        meter.stream_begins(Some(1), true);
        meter.commit_received(2, 0);
        meter.reached(2);
        let slot = SlotState {
            wal_status: None,
            retained_bytes: Some(1),
            safe_bytes: Some(1),
        };
        meter.postgres_seen(3, Some(slot));
        let text = text(&meter).unwrap();
        let exposed: BTreeSet<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split([' ', '{']).next())
            .map(|name| {
                let of_histogram = ["_bucket", "_sum", "_count"];
                of_histogram
                    .iter()
                    .find_map(|end| name.strip_suffix(end))
                    .unwrap_or(name)
            })
            .collect();
        let declared: BTreeSet<&str> = include_str!("names.rs")
            .split("\"sync_es_")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        let exposed: BTreeSet<&str> = exposed
            .into_iter()
            .filter_map(|name| name.strip_prefix("sync_es_"))
            .collect();
        assert_eq!(exposed, declared);
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let meter = new();
        let text = text(&meter).unwrap();
        for name in [names::LAG_SECONDS, names::LAG_BYTES, names::SAFE] {
            assert!(!text.contains(name.full), "{text}");
        }
        assert!(
            text.contains("sync_es_phase{phase=\"starting\"} 1\n"),
            "{text}"
        );
    }
}

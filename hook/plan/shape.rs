//! Queues and budgets that keep an endpoint's rates. Pure.
//!
//! A queue delays what comes too fast; the programs' budget is for what goes around it, and wide
//! enough that nothing out of the queue meets its end.

use super::step::{Budget, QueueSpec, Side};
use crate::types::rate::{Rate, Rates};

/// How much may leave a queue at once: above it a late timer of a busy host costs throughput.
const BURST_MS: u64 = 20;
/// How long the last packet of a full queue waits.
const PATIENCE_MS: u64 = 100;
/// Least bytes of a queue: of one GSO packet, which a slow queue takes apart, but all of it.
const LEAST_QUEUE: u64 = 64 << 10;

/// The queue of each device that needs one: what the container receives comes out of the primary.
pub(super) fn queues(rates: Rates, mtu_bytes: u32) -> Vec<(Side, QueueSpec)> {
    let all = [(Side::Primary, rates.ingress), (Side::Peer, rates.egress)];
    let with_rate = all.into_iter().filter_map(|(s, rate)| Some((s, rate?)));
    with_rate
        .map(|(side, rate)| (side, queue(rate, mtu_bytes)))
        .collect()
}

fn queue(rate: Rate, mtu_bytes: u32) -> QueueSpec {
    let burst = rate.bytes_in(BURST_MS).max(2 * u64::from(mtu_bytes));
    let queue = rate.bytes_in(PATIENCE_MS).max(LEAST_QUEUE).max(burst);
    QueueSpec {
        rate,
        burst_bytes: u32::try_from(burst).unwrap_or(u32::MAX),
        queue_bytes: u32::try_from(queue).unwrap_or(u32::MAX),
    }
}

/// What the programs let through of what a container sends. The queue takes packets apart that are
/// larger than its burst.
pub(super) fn budget(queue: &QueueSpec) -> Budget {
    let burst = 2 * u64::from(queue.burst_bytes);
    Budget {
        // A little cheaper than the queue, which rounds too.
        mib_ns: queue.rate.nanoseconds(1 << 20) * 99 / 100,
        burst_ns: queue.rate.nanoseconds(burst),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue_of(rate: &str) -> QueueSpec {
        queue(rate.parse().unwrap(), 1500)
    }

    #[test]
    fn a_fast_queue_holds_a_hundred_milliseconds_and_a_slow_one_a_packet() {
        let fast = queue_of("800M");
        assert_eq!(
            (fast.burst_bytes, fast.queue_bytes),
            (2_000_000, 10_000_000)
        );
        let slow = queue_of("16k");
        assert_eq!((slow.burst_bytes, slow.queue_bytes), (3000, 65536));
        let fastest = queue_of("1000G");
        assert_eq!(fastest.queue_bytes, u32::MAX);
    }

    #[test]
    fn a_budget_holds_more_than_what_its_queue_lets_out() {
        for rate in ["16k", "1M", "10M", "1G", "1000G"] {
            let queue = queue_of(rate);
            let budget = budget(&queue);
            // A full bucket and a second at the rate.
            let bytes = u64::from(queue.burst_bytes) + queue.rate.bytes();
            let cost = (u128::from(bytes) * u128::from(budget.mib_ns)) >> 20;
            assert!(cost < u128::from(budget.burst_ns) + 1_000_000_000, "{rate}");
            assert!(budget.mib_ns > 8000, "{rate}: too coarse");
            // The programs multiply in 64 bits; 2^20 is more than any packet has.
            assert!(budget.mib_ns < 1 << 44, "{rate}");
        }
    }
}

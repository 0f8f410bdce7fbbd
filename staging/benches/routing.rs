//! How long finding the servers of a box takes, and indexing a cell.
//!
//! `cargo bench -p panta-staging` prints a table; nothing is asserted. Every
//! call is timed by itself, the clock's own cost included.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use panta_staging::curve::Curve;
use panta_staging::routing::Router;
use panta_staging::shard::{Rotation, Server, ShardMap};
use panta_transports::time::Time;

const CALLS: usize = 20_000;

/// Repeatable numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = xxhash_rust::xxh3::xxh3_64(&self.0.to_le_bytes());
        u64::try_from((u128::from(mixed) * u128::from(limit)) >> 64).unwrap()
    }
}

fn even(count: u64) -> ShardMap {
    let server = |id| Server {
        id,
        address: format!("node{id}:4711"),
    };
    ShardMap::even(1, (0..count).map(server).collect()).unwrap()
}

fn weighted(count: u64) -> ShardMap {
    let map = even(count);
    let mut numbers = Numbers(3);
    let loads: Vec<u64> = (0..map.shard_count())
        .map(|_| numbers.below(1000))
        .collect();
    map.balanced(2, &loads).unwrap()
}

/// Times boxes given by `start`, each of another variable, and prints a row.
fn row(
    name: &str,
    map: &ShardMap,
    bits: &[u8],
    count: &[u64],
    mut start: impl FnMut(&mut Numbers) -> Vec<u64>,
) {
    let curve = Curve::new(bits).unwrap();
    let mut router = Router::new();
    let mut numbers = Numbers(1);
    let (mut nodes, mut servers) = (0, 0);
    let mut times: Vec<Duration> = (0..CALLS)
        .map(|_| {
            let start = start(&mut numbers);
            let rotation = Rotation(numbers.below(u64::MAX));
            let begin = Time::now();
            let routes = router.route(&curve, map, rotation, &start, count).unwrap();
            servers += black_box(routes).len();
            let time = Time::now().since(begin);
            nodes += router.nodes_visited();
            time
        })
        .collect();
    times.sort_unstable();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{name:<44} {:>8.2} {:>8.2} {:>8.1} {:>8.2}",
        micros(times[CALLS / 2]),
        micros(times[CALLS * 99 / 100]),
        nodes as f64 / CALLS as f64,
        servers as f64 / CALLS as f64,
    );
}

fn quarter(name: &str, map: &ShardMap, bits: u8, dims: usize) {
    let side = 1 << (bits - 2);
    row(name, map, &vec![bits; dims], &vec![side; dims], |numbers| {
        (0..dims)
            .map(|_| numbers.below((1 << bits) - side + 1))
            .collect()
    });
}

fn index(dims: usize, bits: u8) {
    let curve = Curve::new(&vec![bits; dims]).unwrap();
    let mut numbers = Numbers(2);
    let cells: Vec<Vec<u64>> = (0..4096)
        .map(|_| (0..dims).map(|_| numbers.below(1 << bits)).collect())
        .collect();
    let rounds = 100;
    let begin = Time::now();
    for _ in 0..rounds {
        for cell in &cells {
            black_box(curve.index(black_box(cell)));
        }
    }
    let time = Time::now().since(begin).as_secs_f64() * 1e9;
    let each = time / (rounds * cells.len()) as f64;
    println!(
        "{:<44} {each:>8.1} ns",
        format!("index, {dims}-D, {bits} bits a side")
    );
}

fn main() {
    println!(
        "{:<44} {:>8} {:>8} {:>8} {:>8}",
        "box", "p50 µs", "p99 µs", "nodes", "servers"
    );
    let map = even(64);
    for bits in [16, 20, 40] {
        quarter(
            &format!("quarter sides, 3-D, {bits} bits, 64 servers"),
            &map,
            bits,
            3,
        );
    }
    quarter("quarter sides, 3-D, 16 bits, 8 servers", &even(8), 16, 3);
    quarter(
        "quarter sides, 3-D, 16 bits, 512 servers",
        &even(512),
        16,
        3,
    );
    quarter("quarter sides, 3-D, 16 bits, 60 servers", &even(60), 16, 3);
    quarter(
        "quarter sides, 3-D, 16 bits, 64 weighted",
        &weighted(64),
        16,
        3,
    );
    quarter(
        "quarter sides, 3-D, 20 bits, 64 weighted",
        &weighted(64),
        20,
        3,
    );
    quarter("quarter sides, 2-D, 16 bits, 64 servers", &map, 16, 2);
    quarter("quarter sides, 4-D, 16 bits, 64 servers", &map, 16, 4);
    quarter("quarter sides, 6-D, 16 bits, 64 servers", &map, 16, 6);
    for bits in [9, 20] {
        for (name, map) in [("64 servers", &map), ("64 weighted", &weighted(64))] {
            let name = format!("254³ from (1,1,1), {bits} bits, {name}");
            row(&name, map, &[bits; 3], &[254; 3], |_| vec![1; 3]);
        }
    }
    println!();
    for (dims, bits) in [(2, 20), (3, 9), (3, 20), (3, 40), (4, 16), (6, 10), (8, 8)] {
        index(dims, bits);
    }
}

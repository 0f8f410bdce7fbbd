//! How long finding the servers of a box takes: each box anew, nothing remembered.

use std::hint::black_box;

use panta_staging::curve::Curve;
use panta_staging::routing::Router;
use panta_staging::shard::{Rotation, Server, ShardMap};
use panta_transports::time::Time;

use crate::Request;
use crate::error::{BenchError, Doing};
use crate::row::{Row, rounded};
use crate::statistics::set_percentiles;

const SERVERS: u64 = 64;
const CALLS: u64 = 20_000;

/// Boxes of one kind.
struct Boxes {
    name: &'static str,
    /// Bits of each of three sides of the grid.
    bits: u8,
    side: u64,
    /// Where they begin: anywhere, or at one place.
    at: Option<u64>,
}

const BOXES: [Boxes; 3] = [
    Boxes {
        name: "quarter of each side, 16 bits a side",
        bits: 16,
        side: 1 << 14,
        at: None,
    },
    Boxes {
        name: "quarter of each side, 20 bits a side",
        bits: 20,
        side: 1 << 18,
        at: None,
    },
    Boxes {
        name: "254³ shifted by one cell in 512³",
        bits: 9,
        side: 254,
        at: Some(1),
    },
];

/// Repeatable numbers: S. Vigna, *splitmix64*.
pub(crate) struct Numbers(u64);

impl Numbers {
    /// Numbers that `seed` decides.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`, which is small beside 2^64.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// Runs the workload.
pub(crate) fn run(request: &Request, report: &mut dyn FnMut(&Row)) -> Result<(), BenchError> {
    let servers = (0..SERVERS).map(|id| Server {
        id,
        address: format!("node{id}:1"),
    });
    let map = ShardMap::even(1, servers.collect()).doing("shard map")?;
    let calls = request.steps.unwrap_or(CALLS).max(1);
    for boxes in &BOXES {
        report(&route(boxes, &map, calls)?);
    }
    Ok(())
}

fn route(boxes: &Boxes, map: &ShardMap, calls: u64) -> Result<Row, BenchError> {
    let curve = Curve::new(&[boxes.bits; 3]).doing("curve")?;
    let places = (1 << boxes.bits) - boxes.side + 1;
    let mut numbers = Numbers::new(1);
    let mut router = Router::new();
    let (mut nodes, mut found, mut times) = (0, 0, Vec::new());
    for _ in 0..calls {
        let mut place = || boxes.at.unwrap_or_else(|| numbers.below(places));
        let start = [place(), place(), place()];
        // Another variable each time: nothing that was found before helps.
        let rotation = Rotation(numbers.next());
        let begin = Time::now();
        let routes = router
            .route(&curve, map, rotation, black_box(&start), &[boxes.side; 3])
            .doing("route")?;
        let servers = black_box(routes).len();
        times.push(Time::now().since(begin).as_secs_f64() * 1e6);
        let cells: u128 = router_cells(routes);
        if cells != u128::from(boxes.side).pow(3) {
            return Err(BenchError::Failed {
                doing: boxes.name.to_owned(),
                why: format!("the servers own {cells} cells of a box of {}³", boxes.side),
            });
        }
        found += servers as u64;
        nodes += router.nodes_visited();
    }
    let mut row = Row {
        workload: "routing",
        steps: Some(calls),
        ..Row::default()
    };
    set_percentiles(&mut row, times);
    Ok(row
        .with("what", boxes.name)
        .with("servers", map.servers().len())
        .with("servers_found", rounded(found as f64 / calls as f64))
        .with("nodes_visited", rounded(nodes as f64 / calls as f64)))
}

fn router_cells(routes: &[panta_staging::routing::Route]) -> u128 {
    routes.iter().map(|route| route.cells).sum()
}

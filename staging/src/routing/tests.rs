#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::cast_possible_truncation)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::curve::tests::{Numbers, intervals_of_box};
use crate::shard::tests::servers;

fn even(count: usize) -> ShardMap {
    ShardMap::even(1, servers(count)).unwrap()
}

/// A map whose cuts lie anywhere, as after weighing by load.
fn weighted(count: usize, seed: u64) -> ShardMap {
    let map = even(count);
    let mut numbers = Numbers(seed);
    let loads: Vec<u64> = (0..map.shard_count())
        .map(|_| numbers.below(1000))
        .collect();
    map.balanced(2, &loads).unwrap()
}

struct Means {
    nodes: f64,
    servers: f64,
    most_nodes: u64,
}

/// Boxes of a quarter of each side at random places, each of another variable.
fn quarter_boxes(map: &ShardMap, bits: u8, boxes: u32) -> Means {
    let curve = Curve::new(&[bits; 3]).unwrap();
    let mut router = Router::new();
    let mut numbers = Numbers(0x7175_6172_7465_7273);
    let side = 1 << (bits - 2);
    let (mut nodes, mut servers, mut most_nodes) = (0, 0, 0);
    for _ in 0..boxes {
        let start = [0; 3].map(|_| numbers.below((1 << bits) - side + 1));
        let rotation = Rotation(numbers.below(u64::MAX));
        let routes = router
            .route(&curve, map, rotation, &start, &[side; 3])
            .unwrap();
        servers += routes.len();
        nodes += router.nodes_visited();
        most_nodes = most_nodes.max(router.nodes_visited());
    }
    Means {
        nodes: nodes as f64 / f64::from(boxes),
        servers: servers as f64 / f64::from(boxes),
        most_nodes,
    }
}

#[test]
fn a_quarter_box_visits_as_few_nodes_and_servers_as_published() {
    for (count, nodes, servers) in [(8, 9.0, 2.4), (64, 29.0, 8.0), (512, 91.0, 27.0)] {
        let means = quarter_boxes(&even(count), 16, 1000);
        let text = format!(
            "{count} servers: {:.1} nodes ({nodes} published, at most {}), {:.2} servers ({servers})",
            means.nodes, means.most_nodes, means.servers
        );
        println!("{text}");
        assert!((means.nodes / nodes - 1.0).abs() < 0.25, "{text}");
        assert!((means.servers / servers - 1.0).abs() < 0.25, "{text}");
    }
}

#[test]
fn resolution_does_not_add_nodes() {
    for map in [even(64), even(60), weighted(64, 3)] {
        let coarse = quarter_boxes(&map, 12, 1000);
        for bits in [16, 20, 30, 40] {
            let fine = quarter_boxes(&map, bits, 1000);
            println!(
                "{} servers, {bits} bits: {:.1} nodes, at most {}, {:.2} servers",
                map.servers().len(),
                fine.nodes,
                fine.most_nodes,
                fine.servers
            );
            assert!(
                fine.nodes < 1.1 * coarse.nodes + 1.0,
                "{bits} bits: {}",
                fine.nodes
            );
        }
    }
}

/// Cuts that no power of two explains cost some more nodes, still tens.
#[test]
fn uneven_cuts_cost_tens_of_nodes() {
    for (map, most) in [(even(60), 200.0), (weighted(64, 3), 200.0)] {
        let means = quarter_boxes(&map, 16, 1000);
        assert!(means.nodes < most, "{} nodes", means.nodes);
        assert!(means.servers < 16.0, "{} servers", means.servers);
    }
}

/// The count is that of Skilling's curve; on the curve of Hamilton and
/// Rau-Chaplin's paper the same box has 116,494 intervals.
#[test]
fn a_box_of_a_hundred_thousand_intervals_takes_tens_of_nodes() {
    let (start, side) = ([1; 3], 254);
    let elements = Curve::new(&[9; 3]).unwrap();
    assert_eq!(intervals_of_box(&elements, &start, side), 151_192);
    for bits in [9, 20] {
        let curve = Curve::new(&[bits; 3]).unwrap();
        let mut router = Router::new();
        let map = even(64);
        let rotation = Rotation::of("run42", "u");
        let routes = router
            .route(&curve, &map, rotation, &start, &[side; 3])
            .unwrap();
        let cells: u128 = routes.iter().map(|route| route.cells).sum();
        assert_eq!(cells, u128::from(side).pow(3));
        assert!(
            router.nodes_visited() <= 100,
            "{} nodes",
            router.nodes_visited()
        );
    }
}

/// Servers within the box are read off its key interval, not looked for.
#[test]
fn the_whole_grid_takes_one_node_and_names_every_server() {
    let curve = Curve::new(&[16; 3]).unwrap();
    let mut router = Router::new();
    for map in [even(64), even(60), weighted(64, 3)] {
        let rotation = Rotation::of("run42", "u");
        let routes = router
            .route(&curve, &map, rotation, &[0; 3], &[1 << 16; 3])
            .unwrap();
        assert_eq!(routes.len(), map.servers().len());
        assert_eq!(router.nodes_visited(), 1);
    }
}

#[test]
fn boxes_beyond_the_grid_are_errors_that_say_where() {
    let curve = Curve::new(&[3, 2]).unwrap();
    let (map, mut router) = (even(3), Router::new());
    let mut route = |start: &[u64], count: &[u64]| {
        let routes = router.route(&curve, &map, Rotation(0), start, count);
        routes.map(<[Route]>::len)
    };
    let outside = |dimension, start, count, bits| {
        Err(RouteError::Outside {
            dimension,
            start,
            count,
            bits,
        })
    };
    assert_eq!(route(&[0, 0], &[9, 1]), outside(0, 0, 9, 3));
    assert_eq!(route(&[0, u64::MAX], &[8, 2]), outside(1, u64::MAX, 2, 2));
    assert_eq!(route(&[8, 4], &[0, 0]), Ok(0));
    assert_eq!(route(&[0, 4], &[8, 0]), Ok(0));
    let dimensions = RouteError::Dimensions {
        start: 1,
        count: 2,
        dims: 2,
    };
    assert_eq!(route(&[0], &[1, 1]), Err(dimensions));
}

#[test]
fn the_largest_grids_are_routed() {
    let curve = Curve::new(&[16; 8]).unwrap();
    let (map, mut router) = (even(5), Router::new());
    let routes = router
        .route(&curve, &map, Rotation(9), &[0; 8], &[1 << 16; 8])
        .unwrap();
    assert_eq!(routes.len(), 5);
    let tiny = router
        .route(&curve, &map, Rotation(9), &[65_535; 8], &[1; 8])
        .unwrap();
    let owner = owner_of_cell(&curve, &map, Rotation(9), &[65_535; 8]);
    assert_eq!((tiny.len(), tiny[0].server, tiny[0].cells), (1, owner, 1));
}

fn any_map() -> impl Strategy<Value = ShardMap> {
    (1..=70_usize, any::<u64>(), any::<bool>()).prop_map(|(count, seed, by_load)| {
        if by_load {
            weighted(count, seed)
        } else {
            even(count)
        }
    })
}

/// Small grids, and a box within.
fn any_box() -> impl Strategy<Value = (Vec<u8>, Vec<u64>, Vec<u64>)> {
    let sides = (1..=MAX_DIMS).prop_flat_map(|dims| {
        let longest = (14 / dims).clamp(2, 7) as u8;
        proptest::collection::vec(0..=longest, dims)
    });
    sides.prop_flat_map(|bits| {
        let ends: Vec<_> = bits.iter().map(|&bits| 0..=1_u64 << bits).collect();
        (Just(bits), ends.clone(), ends).prop_map(|(bits, one, other)| {
            let start: Vec<u64> = one.iter().zip(&other).map(|(&a, &b)| a.min(b)).collect();
            let count = one
                .iter()
                .zip(&other)
                .map(|(&a, &b)| a.abs_diff(b))
                .collect();
            (bits, start, count)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The routes are what asking for each cell's owner gives.
    #[test]
    fn every_cell_is_counted_once_at_its_owner(
        (bits, start, count) in any_box(),
        map in any_map(),
        rotation in any::<u64>().prop_map(Rotation),
    ) {
        let curve = Curve::new(&bits).unwrap();
        let mut router = Router::new();
        // What an earlier call with other servers left must not matter.
        let whole: Vec<u64> = bits.iter().map(|&bits| 1 << bits).collect();
        router.route(&curve, &even(40), Rotation(1 << 63), &vec![0; bits.len()], &whole).unwrap();
        let routes = router.route(&curve, &map, rotation, &start, &count).unwrap();

        let mut expected: BTreeMap<ServerIndex, u128> = BTreeMap::new();
        let cells: u64 = count.iter().product();
        for number in 0..cells {
            let (mut rest, mut cell) = (number, start.clone());
            for (place, &count) in cell.iter_mut().zip(&count) {
                *place += rest % count;
                rest /= count;
            }
            let owner = owner_of_cell(&curve, &map, rotation, &cell);
            *expected.entry(owner).or_default() += 1;
            let route = routes.iter().find(|route| route.server == owner).unwrap();
            for (axis, &place) in cell.iter().enumerate() {
                prop_assert!((route.start()[axis]..route.end()[axis]).contains(&place));
            }
        }
        let counted: BTreeMap<_, _> =
            routes.iter().map(|route| (route.server, route.cells)).collect();
        prop_assert_eq!(counted.len(), routes.len(), "a server has two entries");
        prop_assert_eq!(counted, expected);
        for route in routes {
            for axis in 0..bits.len() {
                prop_assert!(route.start()[axis] >= start[axis]);
                prop_assert!(route.end()[axis] <= start[axis] + count[axis]);
            }
        }
    }
}

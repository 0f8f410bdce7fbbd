#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::cast_possible_truncation)]

use proptest::prelude::*;

use super::*;

pub(crate) fn servers(count: usize) -> Vec<Server> {
    (0..count as u64)
        .map(|number| Server {
            id: 0x1000 + number,
            address: format!("node{number}:4711"),
        })
        .collect()
}

fn even(count: usize) -> ShardMap {
    ShardMap::even(7, servers(count)).unwrap()
}

/// Shards that each server is primary for.
fn shares(map: &ShardMap) -> Vec<usize> {
    let mut shares = vec![0; map.servers().len()];
    for shard in 0..map.shard_count() as u32 {
        shares[usize::from(map.servers_of_shard(shard)[0].0)] += 1;
    }
    shares
}

#[test]
fn an_even_map_gives_every_server_its_share_of_64_to_128_shards() {
    for count in [1, 2, 3, 5, 8, 60, 64, 100, 512, MAX_SERVERS] {
        let map = even(count);
        let shards = map.shard_count();
        assert!(
            (64 * count..128 * count).contains(&shards),
            "{count} servers, {shards} shards"
        );
        for share in shares(&map) {
            let fair = shards as f64 / count as f64;
            assert!(
                (share as f64 - fair).abs() <= 1.0,
                "{count} servers: {share} of {shards}"
            );
        }
    }
}

#[test]
fn rotation_is_frozen_and_spreads_small_variables() {
    assert_eq!(Rotation::of("run42", "u"), Rotation(0x693cf73a85143385));
    assert_ne!(Rotation::of("ab", "c"), Rotation::of("a", "bc"));
    for count in [5, 8, 64] {
        let map = even(count);
        let mut first_chunks = vec![0_u32; count];
        for number in 0..100 * count {
            let rotation = Rotation::of("run42", &format!("variable{number}"));
            first_chunks[usize::from(map.owner(rotation, 0).0)] += 1;
        }
        // Some 100 each, deviation 10.
        let most = first_chunks.iter().max().unwrap();
        let fewest = first_chunks.iter().min().unwrap();
        assert!(
            *most < 145 && *fewest > 60,
            "{count} servers: {first_chunks:?}"
        );
    }
}

#[test]
fn rotating_an_even_map_of_a_power_of_two_moves_whole_shares() {
    let map = even(8);
    for rotation in [1, u64::MAX / 3, u64::MAX].map(Rotation) {
        for share in 0..8_u128 {
            let (first, last) = (share << 125, (share << 125) + (u128::MAX >> 3));
            assert!(map.range_owner(rotation, first, last).is_some());
        }
    }
}

#[test]
fn load_moves_cuts_until_servers_bear_even_parts() {
    let map = even(4);
    // All the load in the first eighth.
    let shards = map.shard_count();
    let loads: Vec<u64> = (0..shards)
        .map(|shard| u64::from(shard < shards / 8))
        .collect();
    let next = map.balanced(8, &loads).unwrap();
    assert_eq!(next.version(), 8);
    assert_eq!(shares(&next), [8, 8, 8, shards - 24]);
    assert_eq!(
        shares(&map.balanced(8, &vec![0; shards]).unwrap()),
        shares(&map)
    );
    let one_hot: Vec<u64> = (0..shards)
        .map(|shard| u64::from(shard + 1 == shards))
        .collect();
    assert!(
        shares(&map.balanced(8, &one_hot).unwrap())
            .iter()
            .all(|&share| share > 0)
    );
    let wrong = ShardMapError::Loads { given: 3, shards };
    assert_eq!(map.balanced(8, &[1; 3]), Err(wrong));
}

#[test]
fn replicas_are_other_servers_and_survive_balancing() {
    let map = even(3).with_replicas(2).unwrap();
    let last = map.servers_of_shard(map.shard_count() as u32 - 1);
    assert_eq!(last, [ServerIndex(2), ServerIndex(0)]);
    let loads: Vec<u64> = (0..map.shard_count() as u64).collect();
    let next = map.balanced(9, &loads).unwrap();
    assert_eq!(next.servers_of_shard(0), [ServerIndex(0), ServerIndex(1)]);
    assert!(map.servers_of_shard(map.shard_count() as u32).is_empty());
    for replicas in [0, 4] {
        let error = ShardMapError::Replicas {
            replicas,
            servers: 3,
        };
        assert_eq!(even(3).with_replicas(replicas), Err(error));
    }
}

#[test]
fn servers_that_make_no_map_are_refused() {
    assert_eq!(
        ShardMap::even(0, vec![]),
        Err(ShardMapError::Servers { servers: 0 })
    );
    let many = MAX_SERVERS + 1;
    assert_eq!(
        ShardMap::even(0, servers(many)),
        Err(ShardMapError::Servers { servers: many })
    );
    let mut twins = servers(2);
    twins[1].id = twins[0].id;
    let error = ShardMap::even(0, twins).unwrap_err();
    assert!(
        matches!(error, ShardMapError::SameIdentity { id: 0x1000, .. }),
        "{error}"
    );
    let mut nameless = servers(2);
    nameless[1].address.clear();
    let error = ShardMap::even(0, nameless).unwrap_err();
    assert!(
        matches!(error, ShardMapError::Address { id: 0x1001, .. }),
        "{error}"
    );
}

#[test]
fn the_encoding_is_frozen() {
    let one = vec![Server {
        id: 0x0102_0304_0506_0708,
        address: "a:1".to_owned(),
    }];
    let bytes = ShardMap::even(9, one).unwrap().encode();
    let expected = [
        &b"PSHM"[..],
        &[1, 0, 6, 0],
        &[9, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 1, 0, 0, 0],
        &[8, 7, 6, 5, 4, 3, 2, 1, 3, b'a', b':', b'1'],
        &[0, 0, 0, 0, 1, 0, 0],
        &[253, 213, 139, 114, 76, 2, 51, 47],
    ]
    .concat();
    assert_eq!(bytes, expected);
}

/// `bytes` with its checksum made right again.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let body = bytes.len() - 8;
    bytes.truncate(body);
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

#[test]
fn bytes_that_break_the_format_are_refused_by_field() {
    // 3 servers have 2⁸ shards.
    let good = even(3).with_replicas(2).unwrap().encode();
    let runs_at = 24 + 3 * (8 + 1 + 10);
    let cases: [(usize, u8, &str); 13] = [
        (0, b'X', "not a shard map"),
        (4, 2, "not a shard map"),
        (6, 5, "number of rotation bits"), // which are 8
        (6, 9, "number of shard bits"),
        (6, 19, "number of shard bits"),
        (7, 9, "number of rotation bits"),
        (16, 0, "number of servers"),
        (17, 0x11, "number of servers"),
        (20, 0, "number of runs"),
        (24 + 8, 0, "identity|address|servers"),
        (runs_at, 1, "first shard"),
        (runs_at + 4, 9, "run's number of servers"),
        (runs_at + 5, 3, "run's server"),
    ];
    for (at, byte, says) in cases {
        let mut bad = good.clone();
        bad[at] = byte;
        let error = ShardMap::decode(&sealed(bad.clone()))
            .unwrap_err()
            .to_string();
        assert!(
            says.split('|').any(|says| error.contains(says)),
            "byte {at}: {error}"
        );
        let error = ShardMap::decode(&bad).unwrap_err();
        assert!(
            matches!(error, DecodeError::Checksum { .. }),
            "byte {at}: {error}"
        );
    }
    let mut longer = good.clone();
    longer.insert(good.len() - 8, 0);
    let error = ShardMap::decode(&sealed(longer)).unwrap_err().to_string();
    assert!(error.contains("left over"), "{error}");
    let error = ShardMap::decode(&vec![0; ENCODED_LIMIT_BYTES + 1]).unwrap_err();
    assert!(matches!(error, DecodeError::TooLong { .. }), "{error}");
    for length in 0..good.len() {
        assert!(ShardMap::decode(&good[..length]).is_err());
        if length >= 8 {
            assert!(ShardMap::decode(&sealed(good[..length].to_vec())).is_err());
        }
    }
}

#[test]
fn the_largest_map_fits_its_limit() {
    let mut servers = servers(MAX_SERVERS);
    for server in &mut servers {
        server.address = format!("{:255}", server.address);
    }
    let map = ShardMap::even(1, servers)
        .unwrap()
        .with_replicas(MAX_REPLICAS)
        .unwrap();
    let bytes = map.encode();
    assert!(bytes.len() < ENCODED_LIMIT_BYTES / 2);
    assert_eq!(ShardMap::decode(&bytes), Ok(map));
}

proptest! {
    #[test]
    fn maps_survive_the_wire(count in 1..40_usize, seed in any::<u64>(), version in any::<u64>()) {
        let map = even(count);
        let load = |shard: usize| seed.rotate_left(shard as u32 * 7) % 1000;
        let loads: Vec<u64> = (0..map.shard_count()).map(load).collect();
        let map = map.balanced(version, &loads).unwrap();
        prop_assert_eq!(ShardMap::decode(&map.encode()), Ok(map));
    }

    #[test]
    fn hostile_bytes_end_in_an_error_or_a_map_that_encodes_to_them(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        noise in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let _ = ShardMap::decode(&noise);
        let mut bytes = even(5).encode();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let bytes = sealed(bytes);
        if let Ok(map) = ShardMap::decode(&bytes) {
            prop_assert_eq!(map.encode(), bytes);
            let _ = map.owner(Rotation(u64::MAX), u128::MAX);
        }
    }

    /// One owner of an interval is the owner of every key in it, and an
    /// interval without one has two keys that differ.
    #[test]
    fn an_interval_has_an_owner_where_all_its_shards_have_it(
        count in 1..20_usize,
        rotation in any::<u64>().prop_map(Rotation),
        one in any::<u128>(),
        other in any::<u128>(),
        narrow in 0..120_u32,
    ) {
        let map = even(count);
        let (first, last) = (one, one.saturating_add(other >> narrow));
        let shard_width = u128::MAX / map.shard_count() as u128 + 1;
        let mut owners: Vec<ServerIndex> = (first / shard_width..=last / shard_width)
            .map(|shard| map.owner(rotation, shard * shard_width))
            .collect();
        owners.dedup();
        let expected = match owners[..] {
            [owner] => Some(owner),
            _ => None,
        };
        prop_assert_eq!(map.range_owner(rotation, first, last), expected);
    }
}

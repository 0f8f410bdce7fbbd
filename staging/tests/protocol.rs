//! What a server answers, one rule at a time, without a network.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use panta_staging::proto::message::*;
use panta_staging::proto::placement::space_digest;
use panta_staging::proto::server::{Role, ServerAction, ServerConfig, ServerEvent, ServerMachine};
use panta_staging::proto::{ConnectionId, Machine, RegionId, ServerId, codec, limits};
use panta_transports::time::Time;
use proptest::prelude::*;
use std::time::Duration;

const STREAM: &str = "run42";

struct Server {
    machine: ServerMachine,
    now: Time,
    request: u64,
}

impl Server {
    fn new(limit_bytes: u64) -> Self {
        let mut server = Self {
            machine: ServerMachine::new(ServerConfig {
                server: ServerId(0),
                names: vec!["node0:7000".to_owned()],
                incarnation: 77,
                map: Map {
                    version: 1,
                    bytes: Vec::new(),
                },
                limit_bytes,
                reconnect_grace: Duration::from_secs(1),
            }),
            now: Time(0),
            request: 0,
        };
        for (number, role) in [(0, Role::Writer), (1, Role::Writer), (2, Role::Reader)] {
            let connection = ConnectionId(number);
            server.event(ServerEvent::Connected { connection, role });
            let hello = Hello {
                version: limits::PROTOCOL_VERSION,
                space: space_digest(&["node0:7000"]),
            };
            assert!(matches!(
                server.ask(number, Kind::Hello(hello)),
                Kind::Welcome(_)
            ));
        }
        server
    }

    fn event(&mut self, event: ServerEvent) -> Vec<ServerAction> {
        let mut actions = Vec::new();
        self.machine.handle(event, self.now, &mut actions);
        actions
    }

    fn send(&mut self, connection: u64, kind: Kind, body: Option<RegionId>) -> Vec<ServerAction> {
        self.request += 1;
        let message = Message::new(self.request, kind);
        let message = codec::decode(&codec::encode(&message)).expect("a valid message");
        self.event(ServerEvent::Message {
            connection: ConnectionId(connection),
            message,
            body,
        })
    }

    /// Asks, and expects one answer at once.
    fn ask(&mut self, connection: u64, kind: Kind) -> Kind {
        let mut actions = self.send(connection, kind, None);
        assert_eq!(actions.len(), 1, "{actions:?}");
        match actions.remove(0) {
            ServerAction::Send { message, .. } => message.kind,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(&mut self, connection: u64, kind: Kind) -> Refused {
        match self.ask(connection, kind) {
            Kind::Refused(refused) => refused,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn open(&mut self, slot: u32, declared: u32) -> Run {
        let open = OpenWriter {
            slot,
            declared,
            instance: 5 + u64::from(slot),
            ..open_writer()
        };
        match self.ask(u64::from(slot), Kind::OpenWriter(open)) {
            Kind::WriterOpened(opened) => opened.run.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn begin(&mut self, run: &Run, slot: u32, step: u64, reserve_bytes: u64) -> Kind {
        let begin = Begin {
            run: Some(run.clone()),
            slot,
            step,
            reserve_bytes,
            wait_ms: 0,
        };
        self.ask(u64::from(slot), Kind::Begin(begin))
    }

    fn define(&mut self, run: &Run, slot: u32, fixed: &str, shape: &str) -> Kind {
        let define = Define {
            run: Some(run.clone()),
            slot,
            step: 0,
            variable: "u".to_owned(),
            fixed: fixed.into(),
            shape: shape.into(),
        };
        self.ask(u64::from(slot), Kind::Define(define))
    }

    fn end(&mut self, run: &Run, slot: u32, step: u64, bytes: u64) -> Kind {
        let share = OwnerShare {
            server: 0,
            incarnation: 77,
            pieces: 1,
            bytes,
        };
        let variables = vec![VariableLayout {
            variable: "u".to_owned(),
            layout: 1,
            statistics: None,
        }];
        let owners = vec![share];
        let end = End {
            run: Some(run.clone()),
            slot,
            step,
            owners,
            variables,
            ..End::default()
        };
        self.ask(u64::from(slot), Kind::End(end))
    }

    fn read(&mut self, wait_ms: u64) -> Vec<ServerAction> {
        let next = Next {
            stream: STREAM.to_owned(),
            life: 77,
            group: "viz".to_owned(),
            instance: 9,
            position: Some(Position {
                epoch: 1,
                after: None,
            }),
            number: 1,
            wait_ms,
            ..Next::default()
        };
        self.send(2, Kind::Next(next), None)
    }

    fn open_reader(&mut self) -> Kind {
        let open = OpenReader {
            stream: STREAM.to_owned(),
            group: "viz".to_owned(),
            instance: 9,
            ..OpenReader::default()
        };
        self.ask(2, Kind::OpenReader(open))
    }
}

fn open_writer() -> OpenWriter {
    OpenWriter {
        stream: STREAM.to_owned(),
        declared: 1,
        instance: 5,
        retain_bytes: 1000,
        ..OpenWriter::default()
    }
}

fn put(run: &Run, step: u64, sequence: u64) -> Put {
    Put {
        run: Some(run.clone()),
        step,
        sequence,
        map_version: 1,
        variable: "u".to_owned(),
        layout: 1,
        element_bytes: 8,
        pieces: vec![Piece {
            start: vec![4],
            count: vec![8],
            length_bytes: 64,
            ..Piece::default()
        }],
        ..Put::default()
    }
}

fn get(run: &Run, pieces: u64, bytes: u64) -> Get {
    let region = Region {
        start: vec![0],
        count: vec![8],
    };
    Get {
        run: Some(run.clone()),
        step: 0,
        share: Some(OwnerShare {
            server: 0,
            incarnation: 77,
            pieces,
            bytes,
        }),
        queries: vec![Query {
            variable: "u".to_owned(),
            layout: 1,
            boxes: vec![region],
        }],
    }
}

#[test]
fn what_this_version_cannot_do_is_refused_by_name() {
    let mut server = Server::new(1 << 20);
    let spill = OpenWriter {
        policy: Policy::Spill as i32,
        ..open_writer()
    };
    let replica = OpenWriter {
        ack: Ack::Replica as i32,
        ..open_writer()
    };
    let disk = OpenWriter {
        ack: Ack::Disk as i32,
        ..open_writer()
    };
    for (open, word) in [(spill, "spill"), (replica, "replica"), (disk, "disk")] {
        let refused = server.refusal(0, Kind::OpenWriter(open));
        assert_eq!(refused.reason(), Reason::Unsupported);
        assert!(refused.detail.contains(word), "{}", refused.detail);
    }
}

#[test]
fn a_readers_key_does_not_write() {
    let mut server = Server::new(1 << 20);
    assert_eq!(
        server.refusal(2, Kind::OpenWriter(open_writer())).reason(),
        Reason::NotAllowed
    );
}

#[test]
fn another_version_or_list_of_servers_is_turned_away() {
    let mut server = Server::new(1 << 20);
    for hello in [
        Hello {
            version: 9,
            space: 0,
        },
        Hello {
            version: limits::PROTOCOL_VERSION,
            space: 12,
        },
    ] {
        let connection = ConnectionId(8);
        server.event(ServerEvent::Connected {
            connection,
            role: Role::Writer,
        });
        let actions = server.send(8, Kind::Hello(hello), None);
        assert!(
            matches!(actions[1], ServerAction::Disconnect { .. }),
            "{actions:?}"
        );
    }
}

#[test]
fn a_step_larger_than_the_limit_is_too_large_before_anything_is_put() {
    let mut server = Server::new(1 << 20);
    let run = server.open(0, 1);
    let begin = Begin {
        run: Some(run),
        reserve_bytes: 1001,
        ..Begin::default()
    };
    let refused = server.refusal(0, Kind::Begin(begin));
    assert_eq!(
        (refused.reason(), refused.bytes),
        (Reason::StepTooLarge, 1000)
    );
}

#[test]
fn writers_that_disagree_are_told_what_the_first_one_defined() {
    let mut server = Server::new(1 << 20);
    let run = server.open(0, 2);
    assert_eq!(server.open(1, 2), run);
    assert!(matches!(
        server.define(&run, 0, "f64 zyx", "64 64 64"),
        Kind::Defined(Defined { layout: 1 })
    ));
    let Kind::Refused(refused) = server.define(&run, 1, "f32 zyx", "64 64 64") else {
        panic!("not refused")
    };
    assert_eq!(refused.reason(), Reason::Disagreement);
    assert_eq!(refused.first.unwrap().fixed, b"f64 zyx");

    server.begin(&run, 0, 0, 100);
    server.begin(&run, 1, 0, 100);
    assert!(
        matches!(server.end(&run, 0, 0, 64), Kind::Fate(fate) if fate.fate() == StepFate::Open)
    );
    let Kind::Refused(refused) = server.define(&run, 1, "f64 zyx", "32 32 32") else {
        panic!("not refused")
    };
    assert_eq!(refused.reason(), Reason::Disagreement);
    assert_eq!(refused.first.unwrap().shape, b"64 64 64");
}

#[test]
fn an_end_that_is_repeated_gets_the_same_answer_and_seals_once() {
    let mut server = Server::new(1 << 20);
    let run = server.open(0, 1);
    server.define(&run, 0, "f64", "8");
    server.begin(&run, 0, 0, 64);
    for _ in 0..3 {
        assert!(
            matches!(server.end(&run, 0, 0, 64), Kind::Fate(fate) if fate.fate() == StepFate::Sealed)
        );
    }
    let Kind::Described(described) = server.ask(
        2,
        Kind::Describe(Describe {
            stream: STREAM.to_owned(),
        }),
    ) else {
        panic!("not described")
    };
    assert_eq!(described.summary.unwrap().steps, 1);
    assert_eq!(described.newest.unwrap().layouts[0].shape, b"8");
}

#[test]
fn a_put_that_is_repeated_is_acknowledged_and_not_stored_twice() {
    let mut server = Server::new(1 << 20);
    let run = server.open(0, 1);
    let stored = |actions: &[ServerAction]| matches!(&actions[0], ServerAction::Send { message, .. } if matches!(message.kind, Kind::Stored(_)));
    assert!(stored(&server.send(
        0,
        Kind::Put(put(&run, 0, 0)),
        Some(RegionId(1))
    )));
    let held = server.machine.held_bytes();
    let again = server.send(0, Kind::Put(put(&run, 0, 0)), Some(RegionId(2)));
    assert!(stored(&again));
    assert_eq!(
        again[1],
        ServerAction::Drop {
            region: RegionId(2)
        }
    );
    assert_eq!(server.machine.held_bytes(), held);
}

#[test]
fn a_get_answers_with_the_part_that_is_wanted_and_only_from_what_was_sealed() {
    let mut server = Server::new(1 << 20);
    let run = server.open(0, 1);
    server.send(0, Kind::Put(put(&run, 0, 0)), Some(RegionId(1)));
    let actions = server.send(2, Kind::Get(get(&run, 1, 64)), None);
    let ServerAction::Gather { got, parts, .. } = &actions[0] else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (&got.pieces[0].start, &got.pieces[0].count),
        (&vec![4], &vec![4])
    );
    assert_eq!(
        (got.pieces[0].length_bytes, parts[0].region, parts[0].whole),
        (32, RegionId(1), false)
    );
    assert_eq!(
        server.refusal(2, Kind::Get(get(&run, 2, 64))).reason(),
        Reason::Incomplete
    );
    let mut elsewhere = get(&run, 1, 64);
    elsewhere.share = Some(OwnerShare {
        incarnation: 76,
        ..elsewhere.share.unwrap()
    });
    assert_eq!(
        server.refusal(2, Kind::Get(elsewhere)).reason(),
        Reason::ServerLost
    );
}

#[test]
fn an_owner_that_is_full_says_so_and_takes_puts_again_when_steps_are_trimmed() {
    let mut server = Server::new(1400);
    let run = server.open(0, 1);
    server.send(0, Kind::Put(put(&run, 0, 0)), Some(RegionId(1)));
    server.send(0, Kind::Put(put(&run, 1, 0)), Some(RegionId(2)));
    let full = server.send(0, Kind::Put(put(&run, 2, 0)), Some(RegionId(3)));
    assert!(matches!(&full[0], ServerAction::Send { message, .. }
        if matches!(&message.kind, Kind::Refused(refused) if refused.reason() == Reason::Full)));
    let trimming = Put {
        oldest: 1,
        ..put(&run, 2, 0)
    };
    let taken = server.send(0, Kind::Put(trimming), Some(RegionId(4)));
    assert!(
        taken.contains(&ServerAction::Drop {
            region: RegionId(1)
        }),
        "{taken:?}"
    );
}

#[test]
fn steps_that_are_kept_stay_below_the_watermark_and_no_others() {
    let mut server = Server::new(1 << 20);
    let run = server.open(0, 1);
    for step in 0..4 {
        let region = Some(RegionId(step));
        server.send(0, Kind::Put(put(&run, step, 0)), region);
    }
    let mut watermark = |oldest, kept| {
        let watermark = Watermark {
            run: Some(run.clone()),
            oldest,
            kept,
            ..Watermark::default()
        };
        let actions = server.send(0, Kind::Watermark(watermark), None);
        let dropped = actions.iter().map(|action| match action {
            ServerAction::Drop { region } => region.0,
            other => panic!("{other:?}"),
        });
        dropped.collect::<Vec<_>>()
    };
    assert_eq!(watermark(3, vec![0, 2]), [1]);
    // What is late forgets nothing; what is kept no longer goes at the same watermark.
    assert_eq!(watermark(2, vec![]), []);
    assert_eq!(watermark(3, vec![0]), [2]);
    assert_eq!(watermark(4, vec![0]), [3]);
    let sealed = server.send(2, Kind::Get(get(&run, 1, 64)), None);
    assert!(matches!(sealed[0], ServerAction::Gather { .. }));
}

#[test]
fn the_precious_step_comes_first_leaves_no_room_and_moves_nobody_back() {
    let mut server = Server::new(1 << 20);
    let open = OpenWriter {
        precious_first: true,
        retain_steps: 1,
        ..open_writer()
    };
    let Kind::WriterOpened(opened) = server.ask(0, Kind::OpenWriter(open)) else {
        panic!("not opened")
    };
    let run = opened.run.unwrap();
    server.define(&run, 0, "f64", "8");
    for step in 0..4 {
        server.begin(&run, 0, step, 64);
        server.end(&run, 0, step, 64);
    }
    assert!(matches!(server.begin(&run, 0, 4, 64),
        Kind::Began(began) if (began.oldest, &began.kept[..]) == (4, &[0])));
    server.end(&run, 0, 4, 64);
    let refused = match server.begin(&run, 0, 5, 990) {
        Kind::Refused(refused) => refused,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused.reason(), Reason::StepTooLarge);
    assert!(refused.bytes < 1000 - 64, "{}", refused.bytes);

    let Kind::ReaderOpened(opened) = server.open_reader() else {
        panic!("not opened")
    };
    assert!(opened.precious_owed);
    let (mut position, mut seen) = (opened.position, Vec::new());
    for number in 1..3 {
        let next = Next {
            stream: STREAM.to_owned(),
            life: 77,
            group: "viz".to_owned(),
            instance: 9,
            position,
            number,
            precious_owed: seen.is_empty(),
            ..Next::default()
        };
        let Kind::SealedStep(step) = server.ask(2, Kind::Next(next)) else {
            panic!("no step")
        };
        seen.push(step.step);
        if let Some(position) = &mut position {
            position.after = position.after.max(Some(step.step));
        }
    }
    assert_eq!(seen, [0, 4]);
}

#[test]
fn a_writer_that_dies_is_noticed_after_the_grace_and_its_open_step_never_shown() {
    let mut server = Server::new(1 << 20);
    let run = server.open(0, 1);
    server.define(&run, 0, "f64", "8");
    server.begin(&run, 0, 0, 64);
    server.open_reader();
    assert!(server.read(20_000).is_empty());
    server.event(ServerEvent::Disconnected {
        connection: ConnectionId(0),
    });
    server.now = Time(999_000_000);
    assert!(server.event(ServerEvent::Tick).is_empty());
    server.now = server.machine.next_tick().unwrap();
    assert_eq!(server.now, Time(1_000_000_000));
    let actions = server.event(ServerEvent::Tick);
    assert!(
        matches!(&actions[0], ServerAction::Send { message, .. }
            if matches!(&message.kind, Kind::NoStep(none) if none.reason() == NoStepReason::WriterLost)),
        "{actions:?}"
    );
    let late = Begin {
        run: Some(run),
        step: 1,
        reserve_bytes: 64,
        ..Begin::default()
    };
    assert_eq!(
        server.refusal(1, Kind::Begin(late)).reason(),
        Reason::Fenced
    );
}

#[test]
fn a_waiting_request_is_answered_by_the_time_it_named() {
    let mut server = Server::new(1 << 20);
    server.open(0, 1);
    server.open_reader();
    assert!(server.read(250).is_empty());
    server.now = Time(250_000_000);
    let actions = server.event(ServerEvent::Tick);
    assert!(
        matches!(&actions[0], ServerAction::Send { message, .. }
            if matches!(&message.kind, Kind::NoStep(none) if none.waiting_for.contains("to begin a step"))),
        "{actions:?}"
    );
}

#[test]
fn boxes_that_wrap_and_counts_beyond_the_limits_do_not_decode() {
    let run = Run {
        stream: STREAM.to_owned(),
        life: 1,
        epoch: 1,
    };
    let mut wraps = put(&run, 0, 0);
    wraps.pieces[0].start = vec![u64::MAX];
    let mut deep = put(&run, 0, 0);
    deep.pieces[0].start = vec![0; limits::DIMS_LIMIT + 1];
    deep.pieces[0].count = vec![1; limits::DIMS_LIMIT + 1];
    let mut lies = put(&run, 0, 0);
    lies.pieces[0].length_bytes = 65;
    let long = Put {
        variable: "v".repeat(limits::NAME_LIMIT_BYTES + 1),
        ..put(&run, 0, 0)
    };
    let nameless = Put {
        run: None,
        ..put(&run, 0, 0)
    };
    for put in [wraps, deep, lies, long, nameless] {
        let bytes = codec::encode(&Message::new(1, Kind::Put(put.clone())));
        assert!(codec::decode(&bytes).is_err(), "{put:?}");
    }
    assert!(codec::decode(&vec![0; limits::HEAD_LIMIT_BYTES + 1]).is_err());
}

proptest! {
    #[test]
    fn bytes_from_anywhere_neither_panic_nor_get_a_server_to(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(message) = codec::decode(&bytes) {
            let mut server = Server::new(1 << 20);
            server.event(ServerEvent::Message { connection: ConnectionId(0), message, body: Some(RegionId(1)) });
        }
    }

    #[test]
    fn a_message_with_bytes_changed_neither_panics_nor_gets_a_server_to(
        which in 0_usize..6,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut server = Server::new(1 << 20);
        let run = server.open(0, 1);
        let kind = match which {
            0 => Kind::Put(put(&run, 0, 0)),
            1 => Kind::Get(get(&run, 1, 64)),
            2 => Kind::OpenWriter(open_writer()),
            3 => Kind::Begin(Begin { run: Some(run), reserve_bytes: 9, wait_ms: 9, ..Begin::default() }),
            4 => Kind::Watermark(Watermark { run: Some(run), oldest: 3, kept: vec![1], aborted: Some(7), base: None }),
            _ => Kind::End(End { run: Some(run), step: 1, ..End::default() }),
        };
        let mut bytes = codec::encode(&Message::new(1, kind));
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(message) = codec::decode(&bytes) {
            server.event(ServerEvent::Message { connection: ConnectionId(0), message, body: Some(RegionId(1)) });
            server.now = Time(u64::MAX / 2);
            server.event(ServerEvent::Tick);
        }
    }
}

/// Every field and every tag of the source stands on the page.
#[test]
fn the_page_about_the_wire_lists_every_message_and_field() {
    let source = [
        include_str!("../src/proto/message/mod.rs"),
        include_str!("../src/proto/message/writing.rs"),
        include_str!("../src/proto/message/reading.rs"),
        include_str!("../src/proto/message/looking.rs"),
    ];
    let page = include_str!("../../docs/wire.md")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let mut fields = 0;
    let mut tag = String::new();
    for line in source.iter().flat_map(|part| part.lines()).map(str::trim) {
        if let Some(name) = line
            .strip_prefix("pub struct ")
            .and_then(|rest| rest.split(' ').next())
        {
            let known = name == "Message" || page.contains(&format!("message {name} {{"));
            assert!(known, "{name} is not on the page");
        }
        if let Some((_, rest)) = line.split_once("tag = \"") {
            tag = rest.split('"').next().unwrap().to_owned();
        }
        if let Some((name, _)) = line
            .strip_prefix("pub ")
            .and_then(|rest| rest.split_once(": "))
            && !tag.is_empty()
        {
            assert!(
                page.contains(&format!(" {name} = {tag};")),
                "{name} = {tag} is not on the page"
            );
            fields += 1;
            tag.clear();
        }
    }
    assert!(
        fields > 100,
        "only {fields} fields were found in the source"
    );
}

//! Valid inputs for every target, made by the code that writes them.

use std::fs;

use panta::{Accuracy, Shape, Solo, Writer};
use panta_core::codec::Coded;
use panta_core::config::{PARAMETERS, render_markdown};
use panta_core::model::{Layout, Schema, StepRecord};
use panta_core::stream::machine as stream;
use panta_staging::proto::codec;
use panta_staging::proto::message::{
    Begin, Define, End, Get, Got, GotPiece, Hello, Kind, Layout as WireLayout, Map, Message, Next,
    OpenReader, OpenWriter, OwnerShare, Piece, Position, Put, Query, Refused, Region, Run,
    SealedStep, SlotAttributes, Statistics, StreamSummary, Streams, VariableLayout, Welcome,
};
use panta_staging::shard::{Server, ShardMap};
use panta_transports::channel::{Answer, Hello as ChannelHello, Prefix};
use panta_transports::coupling::{
    Choice, Frame, Hello as CouplingHello, Join, Lost, Offer, Tag, Ticket, TransportName,
};

use crate::cells;
use crate::part::time;

/// Bytes of a page of `file:`.
const PAGE_BYTES: usize = 4096;

pub(super) fn channel() -> Vec<Vec<u8>> {
    let hello = ChannelHello {
        version: 1,
        role: 2,
        encrypt: true,
        noise_bytes: 48,
    };
    let answer = Answer {
        version: 1,
        status: 0,
        encrypt: false,
        noise_bytes: 48,
    };
    let prefix = Prefix {
        head_bytes: 1000,
        body_bytes: 1 << 30,
    };
    vec![
        hello.to_bytes().to_vec(),
        answer.to_bytes().to_vec(),
        prefix.to_bytes().to_vec(),
    ]
}

pub(super) fn coupling() -> Vec<Vec<u8>> {
    let piece = [&7_u32.to_le_bytes()[..], &[1; 8], &[2, 0, 0, 0, 0, 0, 0, 0]].concat();
    let read = [&[7][..], &1_u64.to_le_bytes(), &piece, &piece].concat();
    let token = [5; 16];
    let frames = [
        Frame::Hello(CouplingHello {
            linked: true,
            choice: Choice::Auto,
            lease_ms: 30_000,
            silence_ms: 0,
            message_bytes: 1 << 20,
            hello: b"a group",
        }),
        Frame::Join(Join { peer: 3, token }),
        Frame::Offer(Offer {
            instance: 9,
            lease_ms: 30_000,
            silence_ms: 0,
            message_bytes: 1 << 20,
            read_bytes: 1 << 30,
            read_pieces: 1000,
            connections: 2,
            transports: [Ok(vec![1; 60]), Ok(Vec::new()), Err("no fabric".into())],
        }),
        Frame::Settle {
            transport: TransportName::Shm,
            why: "the same node".into(),
        },
        Frame::Welcome { peer: 3, token },
        Frame::Message(b"anything"),
        Frame::Data { id: 4 },
        Frame::Missing { id: 4, piece: 2 },
        Frame::Subscribe {
            credit_bytes: 1 << 20,
            what: b"a plane",
        },
        Frame::Push {
            tag: Tag {
                subject: 2,
                number: 6,
            },
        },
        Frame::Credit { bytes: 10 },
        Frame::Heartbeat,
        Frame::Close(Lost::Misbehaved { what: "it".into() }),
        Frame::Close(Lost::Closed),
    ];
    let mut seeds: Vec<_> = frames.iter().map(Frame::to_bytes).collect();
    seeds.push(read);
    seeds
}

pub(super) fn tickets() -> Vec<Vec<u8>> {
    let four = "10.1.2.3:4000".parse().unwrap();
    let six = "[fd00::1]:65535".parse().unwrap();
    let ticket = |addresses| Ticket {
        addresses,
        instance: 77,
    };
    vec![
        ticket(vec![]).to_bytes(),
        ticket(vec![four, six, four]).to_bytes(),
    ]
}

pub(super) fn control_tree() -> Vec<Vec<u8>> {
    let frame = |kind: u8, body: &[u8]| {
        let mut bytes = (body.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(&7_u64.to_le_bytes());
        bytes.extend_from_slice(&[kind, 1]);
        bytes.extend_from_slice(body);
        bytes
    };
    let text = |rank: u32, marks: &[u8], text: &[u8]| {
        let mut bytes = rank.to_le_bytes().to_vec();
        bytes.extend_from_slice(marks);
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text);
        bytes
    };
    let said = text(3, &[0], b"what rank 3 said");
    let failed = text(4, &[1, 9, 0, 0, 0], b"why rank 4 failed");
    let poison = |code: u8| [&[code][..], &[0; 40], b"in words"].concat();
    let mut seeds = vec![
        frame(1, &[said.clone(), failed].concat()),
        frame(2, b"for everyone"),
        frame(3, &[5, 0, 0, 0, 6, 0, 0, 0]),
        [frame(2, b""), frame(1, &said)].concat(),
    ];
    seeds.extend((1..=9).map(|code| frame(4, &poison(code))));
    seeds
}

/// The files of a small stream that has everything, and their names.
fn dataset(compress: &str) -> Vec<(String, Vec<u8>)> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("seed.panta");
    let url = format!("file:{}?compress={compress}", path.display());
    let mut out = Writer::open(&url, Solo).unwrap();
    let plane = Shape::global([8, 6]).dims(["y", "x"]).unit("K").fill(-1.0);
    let plane = plane.chunk([4, 3]).accuracy(Accuracy::Absolute(1e-3));
    let u = out.define::<f64>("u", plane).unwrap();
    let rows = out.define::<f32>("rows", Shape::joined(0, [0, 2])).unwrap();
    let local = out.define::<i16>("local", Shape::local(1)).unwrap();
    let title = out.define::<str>("title", Shape::global_value()).unwrap();
    let host = out.define::<u64>("host", Shape::local_value()).unwrap();
    out.set_attribute("names", ["a", "β"]).unwrap();
    out.set_attribute("floats", vec![0.5, f64::NAN]).unwrap();
    out.set_variable_attribute(u, "offset", -3_i64).unwrap();
    for number in 0..3 {
        let field = cells::block::<f64>("u", number, &[8, 6], &[4, 0], &[4, 6]);
        let some = cells::block::<f32>("rows", number, &[5, 2], &[0, 0], &[5, 2]);
        let line = vec![7_i16; 3000 + number as usize];
        let step = out.begin_step(time(number)).unwrap();
        step.put(u, &[4, 0], &field).unwrap();
        step.put(rows, &[0, 0], &some).unwrap();
        step.put(local, &[], &line).unwrap();
        step.put(local, &[], &line).unwrap();
        step.put_value(title, "ein Titel").unwrap();
        step.put_value(host, &number).unwrap();
        step.end().unwrap();
    }
    out.close().unwrap();
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    entries
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn file(prefix: &str) -> Vec<u8> {
    file_of(prefix, "none")
}

fn file_of(prefix: &str, compress: &str) -> Vec<u8> {
    let found = dataset(compress)
        .into_iter()
        .find(|(name, _)| name.starts_with(prefix));
    found
        .unwrap_or_else(|| panic!("the stream has no file {prefix}"))
        .1
}

pub(super) fn commits() -> Vec<Vec<u8>> {
    file("commits")
        .chunks(PAGE_BYTES)
        .skip(1)
        .map(<[u8]>::to_vec)
        .collect()
}

/// What lies between the places where `magic` begins.
fn between(file: &[u8], magic: &[u8]) -> Vec<Vec<u8>> {
    let mut starts: Vec<usize> = file
        .windows(magic.len())
        .enumerate()
        .filter_map(|(at, window)| (window == magic).then_some(at))
        .collect();
    starts.push(file.len());
    starts
        .windows(2)
        .map(|pair| file[pair[0]..pair[1]].to_vec())
        .collect()
}

pub(super) fn sections() -> Vec<Vec<u8>> {
    let compressed = file_of("index", "zstd");
    let mut sections = between(&file("index"), b"PANTAIDX");
    sections.extend(between(&compressed, b"PANTAIDZ"));
    sections
}

pub(super) fn parts() -> Vec<Vec<u8>> {
    between(&file("meta"), b"PANTAPRT")
}

fn bodies<T: Coded>() -> Vec<Vec<u8>> {
    const HEADER_BYTES: usize = 32;
    let bodies = parts().into_iter().filter_map(|part| {
        // The length of the body stands behind magic, kind and padding.
        let length = u64::from_le_bytes(part[16..24].try_into().unwrap()) as usize;
        part.get(HEADER_BYTES..HEADER_BYTES + length)
            .map(<[u8]>::to_vec)
    });
    bodies.filter(|body| T::from_bytes(body).is_ok()).collect()
}

pub(super) fn schemas() -> Vec<Vec<u8>> {
    bodies::<Schema>()
}

pub(super) fn layouts() -> Vec<Vec<u8>> {
    bodies::<Layout>()
}

pub(super) fn records() -> Vec<Vec<u8>> {
    bodies::<StepRecord>()
}

pub(super) fn tomls() -> Vec<Vec<u8>> {
    let all: String = PARAMETERS
        .iter()
        .map(|parameter| format!("{} = \"{}\"\n", parameter.name, parameter.default_text()))
        .collect();
    [
        "[defaults]\ndeadline = \"5min\"\n[streams.run42]\nurl = \"staging:run42?ack=disk\"\n\
         servers = [\"node7:7400\", \"node8:7400\"]\nlimit = \"2GiB\"\n",
        "[streams.a]\nurl = \"file:a.panta\"\nsync = \"step\"\ndirect = true\nlimit = 1048576\n",
        &format!("[defaults]\n{all}"),
        &format!("[streams.x]\nurl = \"stream:x\"\n{all}"),
        "",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(super) fn urls() -> Vec<Vec<u8>> {
    let page = render_markdown();
    let keys = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let query: Vec<_> = keys.filter_map(|line| line.split('`').next()).collect();
    [
        "file:run42.panta?sync=step&limit=2GiB".to_owned(),
        "file:///scratch/a%20b.panta?verify=always".to_owned(),
        "staging:run42@node7:7400,[::1]:7400?ack=disk&lease=5min".to_owned(),
        "stream:run42?transport=tcp&chunk=64x64x64".to_owned(),
        "null:".to_owned(),
        format!("staging:x?{}=1", query.join("=1&")),
    ]
    .map(String::into_bytes)
    .to_vec()
}

pub(super) fn shard_maps() -> Vec<Vec<u8>> {
    let server = |id: u64| Server {
        id,
        address: format!("node{id}:7400"),
    };
    let maps = [1_u64, 3, 7].map(|servers| {
        let servers: Vec<_> = (1..=servers).map(server).collect();
        ShardMap::even(1, servers).unwrap().encode()
    });
    maps.to_vec()
}

pub(super) fn messages() -> Vec<Vec<u8>> {
    let kinds = kinds();
    kinds
        .into_iter()
        .enumerate()
        .map(|(request, kind)| {
            codec::encode(&Message {
                request: request as u64,
                kind,
            })
        })
        .collect()
}

pub(super) fn joins() -> Vec<Vec<u8>> {
    let join = stream::Join {
        name: "analysis".into(),
        start: panta::Start::Cursor("viz".into()),
        latest_only: false,
        seen: Some(stream::Position { epoch: 2, step: 40 }),
    };
    vec![stream::Join::default().to_bytes(), join.to_bytes()]
}

pub(super) fn reader_messages() -> Vec<Vec<u8>> {
    let at = stream::Position { epoch: 2, step: 40 };
    let messages = [
        stream::ReaderMessage::Ask { heard: 40 },
        stream::ReaderMessage::Release { step: 40 },
        stream::ReaderMessage::Commit {
            cursor: "viz".into(),
            at,
        },
        stream::ReaderMessage::Leave {
            held: vec![38, 39, 40],
        },
    ];
    messages.iter().map(Coded::to_bytes).collect()
}

pub(super) fn writer_messages() -> Vec<Vec<u8>> {
    let at = stream::Position { epoch: 2, step: 40 };
    let messages = [
        stream::WriterMessage::Welcome {
            epoch: 2,
            pull: true,
            limit_bytes: 1 << 30,
            newest: Some(40),
        },
        stream::WriterMessage::Announced { at, newest: 41 },
        stream::WriterMessage::RolledBack { to: None },
        stream::WriterMessage::Blocked {
            held_bytes: 1 << 30,
            releases: 7,
        },
    ];
    messages.iter().map(Coded::to_bytes).collect()
}

fn kinds() -> Vec<Kind> {
    let run = Some(Run {
        stream: "run42".into(),
        life: 3,
        epoch: 2,
    });
    let statistics = Some(Statistics::default());
    let piece = Piece {
        key_high: 1,
        key_low: 77,
        start: vec![0, 64],
        count: vec![64, 64],
        order: 1,
        length_bytes: 32_768,
        checksums: vec![1, 2, 3, 4, 5, 6, 7, 8],
        statistics,
    };
    let region = Region {
        start: vec![0, 1],
        count: vec![5, 6],
    };
    vec![
        Kind::Hello(Hello {
            version: 1,
            ..Hello::default()
        }),
        Kind::Welcome(Welcome {
            map: Some(Map {
                version: 1,
                bytes: vec![9; 40],
            }),
            ..Welcome::default()
        }),
        Kind::OpenWriter(OpenWriter {
            stream: "run42".into(),
            declared: 2,
            slot: 1,
            retain_steps: 4,
            ..OpenWriter::default()
        }),
        Kind::Define(Define {
            run: run.clone(),
            variable: "u".into(),
            fixed: vec![1; 30],
            shape: vec![2; 30],
            ..Define::default()
        }),
        Kind::Begin(Begin {
            run: run.clone(),
            step: 4,
            reserve_bytes: 1 << 20,
            wait_ms: 50,
            ..Begin::default()
        }),
        Kind::Put(Put {
            run: run.clone(),
            step: 4,
            map_version: 1,
            variable: "u".into(),
            element_bytes: 8,
            pieces: vec![piece; 2],
            ..Put::default()
        }),
        Kind::End(End {
            run: run.clone(),
            step: 4,
            owners: vec![OwnerShare::default(); 2],
            variables: vec![VariableLayout {
                variable: "u".into(),
                layout: 1,
                statistics,
            }],
            attributes: vec![3; 20],
            ..End::default()
        }),
        Kind::OpenReader(OpenReader {
            stream: "run42".into(),
            ..OpenReader::default()
        }),
        Kind::Next(Next {
            stream: "run42".into(),
            life: 3,
            group: "viz".into(),
            position: Some(Position::default()),
            ..Next::default()
        }),
        Kind::SealedStep(SealedStep {
            epoch: 2,
            layouts: vec![WireLayout {
                layout: 1,
                variable: "u".into(),
                fixed: vec![1; 30],
                shape: vec![2; 30],
            }],
            attributes: vec![SlotAttributes {
                slot: 0,
                attributes: vec![3; 20],
            }],
            ..SealedStep::default()
        }),
        Kind::Get(Get {
            queries: vec![Query {
                variable: "u".into(),
                layout: 1,
                boxes: vec![region; 2],
            }],
            ..Get::default()
        }),
        Kind::Got(Got {
            pieces: vec![GotPiece::default(); 2],
        }),
        Kind::Streams(Streams {
            streams: vec![StreamSummary::default(); 2],
        }),
        Kind::Refused(Refused::default()),
    ]
}

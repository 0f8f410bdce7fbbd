//! The figures, and the page that shows them.

use std::fmt::Write;

use super::*;

/// Patches of the writer, one a rank: 10,000.
const WRITERS: [u64; 3] = [25, 20, 20];
/// The two reader groups.
const HUNDRED: [u64; 3] = [5, 5, 4];
const THOUSAND: [u64; 3] = [10, 10, 10];

/// The steps that are looked at: what they are called, and the percent of the patches
/// that change.
const STEPS: [(&str, u64); 4] = [
    ("first", 0),
    ("unchanged", 0),
    ("5 % changed", 5),
    ("all changed", 100),
];

/// A number with its thousands apart.
fn spaced(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn row(into: &mut String, cells: &[String]) {
    writeln!(into, "| {} |", cells.join(" | ")).unwrap();
}

fn head(into: &mut String, cells: &[&str]) {
    let cells: Vec<_> = cells.iter().map(ToString::to_string).collect();
    row(into, &cells);
    let lines = vec!["---".to_owned(); cells.len()];
    row(into, &lines);
}

/// What the busiest of some ranks sent and got.
fn busiest(tree: &Tree, ranks: impl Iterator<Item = usize> + Clone) -> (Load, Load) {
    let most = |loads: &[Load]| Load {
        messages: ranks
            .clone()
            .map(|rank| loads[rank].messages)
            .max()
            .unwrap_or(0),
        bytes: ranks
            .clone()
            .map(|rank| loads[rank].bytes)
            .max()
            .unwrap_or(0),
    };
    (most(&tree.sent), most(&tree.got))
}

/// The loads of root, inner ranks and leaves.
fn levels(tree: &Tree) -> [(Load, Load); 3] {
    let size = tree.shape.size;
    let is_leaf = |rank: &usize| tree.shape.children(*rank).is_empty();
    [
        busiest(tree, 0..1),
        busiest(tree, (1..size).filter(|rank| !is_leaf(rank))),
        busiest(tree, (1..size).filter(is_leaf)),
    ]
}

fn tree_cells(tree: &Tree) -> Vec<String> {
    let [root, inner, leaf] = levels(tree);
    vec![
        tree.rounds.to_string(),
        spaced(root.0.messages + root.1.messages),
        spaced(root.1.bytes),
        spaced(root.0.bytes),
        spaced(inner.1.bytes),
        spaced(inner.0.bytes),
        spaced(leaf.1.bytes),
        spaced(leaf.0.bytes),
    ]
}

const TREE_HEAD: [&str; 8] = [
    "rounds",
    "messages of the root",
    "root gets",
    "root sends",
    "inner rank gets",
    "sends",
    "leaf gets",
    "sends",
];

struct Run {
    writing: String,
    reading: String,
    connections: String,
    deaths: String,
}

fn run() -> Run {
    let mut writers = Writers::new(WRITERS);
    let hundred = Readers::join(1, HUNDRED, &mut writers);
    let thousand = Readers::join(2, THOUSAND, &mut writers);
    let mut groups = vec![hundred, thousand];
    let (mut writing, mut reading) = (String::new(), String::new());
    head(
        &mut writing,
        &[&["step", "blocks"][..], &TREE_HEAD].concat(),
    );
    let heard = ["ranks", "step", "the root hears", "and says"];
    head(&mut reading, &[&heard[..], &TREE_HEAD].concat());
    let mut told: Vec<Vec<String>> = Vec::new();
    for (name, percent) in STEPS {
        writers.tree.restart();
        writers.step(percent);
        let blocks = writers.amr.blocks().iter().map(Vec::len).sum::<usize>();
        let front = vec![name.to_owned(), spaced(blocks as u64)];
        row(&mut writing, &[front, tree_cells(&writers.tree)].concat());
        for group in &mut groups {
            group.restart();
            group.step(&mut writers);
            let front = vec![
                spaced(group.boxes.len() as u64),
                name.to_owned(),
                spaced(group.heard.bytes),
                spaced(group.told.bytes),
            ];
            told.push([front, tree_cells(&group.tree)].concat());
        }
    }
    told.sort_by_key(|cells| cells[0].len());
    told.iter().for_each(|cells| row(&mut reading, cells));
    Run {
        connections: connections(&writers, &groups),
        deaths: deaths(writers, groups),
        writing,
        reading,
    }
}

/// Smallest, mean and largest.
fn spread_of(numbers: &[usize]) -> String {
    let (low, high) = (numbers.iter().min(), numbers.iter().max());
    let mean = numbers.iter().sum::<usize>() as f64 / numbers.len() as f64;
    format!("{} / {mean:.1} / {}", low.unwrap_or(&0), high.unwrap_or(&0))
}

fn connections(writers: &Writers, groups: &[Readers]) -> String {
    let mut page = String::new();
    head(
        &mut page,
        &[
            "process",
            "control tree, most",
            "data: least / mean / most",
            "other",
        ],
    );
    let links = |tree: &Tree| (1..tree.shape.size).map(|rank| tree.links(rank)).max();
    let line = |page: &mut String, name: String, tree: usize, data: String, other: String| {
        row(page, &[name, tree.to_string(), data, other]);
    };
    let mut of_writers = vec![0; writers.tree.shape.size];
    for sources in groups.iter().flat_map(|group| &group.sources) {
        sources
            .iter()
            .for_each(|rank| of_writers[*rank as usize] += 1);
    }
    line(
        &mut page,
        "writer root".into(),
        writers.tree.links(0),
        of_writers[0].to_string(),
        format!("{} (reader roots)", groups.len()),
    );
    line(
        &mut page,
        "writer rank".into(),
        links(&writers.tree).unwrap_or(0),
        spread_of(&of_writers[1..]),
        "-".into(),
    );
    for group in groups {
        let ranks = spaced(group.boxes.len() as u64);
        let sources: Vec<usize> = group.sources.iter().map(BTreeSet::len).collect();
        line(
            &mut page,
            format!("root of {ranks} reader ranks"),
            group.tree.links(0),
            sources[0].to_string(),
            format!(
                "1 (writer root), {} (its ranks)",
                spaced(group.boxes.len() as u64 - 1)
            ),
        );
        line(
            &mut page,
            format!("rank of {ranks} reader ranks"),
            links(&group.tree).unwrap_or(0),
            spread_of(&sources[1..]),
            "1 (its root)".into(),
        );
    }
    page
}

/// What the writer's root says to reader roots in an unchanged step.
fn said_by_root(writers: &mut Writers, groups: &mut [Readers]) -> (u64, Load) {
    writers.tree.restart();
    writers.step(0);
    let mut said = Load::default();
    for group in groups.iter_mut() {
        group.restart();
        group.step(writers);
        said.messages += group.heard.messages;
        said.bytes += group.heard.bytes;
    }
    (writers.tree.rounds, said)
}

fn deaths(mut writers: Writers, mut groups: Vec<Readers>) -> String {
    let mut page = String::new();
    head(
        &mut page,
        &[
            "event",
            "messages of the death",
            "bytes",
            "busiest rank sends",
            "rounds a writer step after it",
            "messages to reader roots a step",
            "bytes",
        ],
    );
    let mut line = |name: &str, death: (u64, u64, u64), after: (u64, Load)| {
        let cells = [
            death.0,
            death.1,
            death.2,
            after.0,
            after.1.messages,
            after.1.bytes,
        ];
        let cells: Vec<String> = cells.into_iter().map(spaced).collect();
        row(&mut page, &[vec![name.to_owned()], cells].concat());
    };
    let of_tree = |tree: &mut Tree, lost: usize| {
        tree.restart();
        tree.lose(lost);
        let sum = |of: fn(&Load) -> u64| tree.sent.iter().map(of).sum::<u64>();
        let most = tree.sent.iter().map(|load| load.messages).max();
        (sum(|it| it.messages), sum(|it| it.bytes), most.unwrap_or(0))
    };
    line("none", (0, 0, 0), said_by_root(&mut writers, &mut groups));

    // Its group gives up, and its root leaves.
    let mut thousand = groups.pop().unwrap();
    let (messages, bytes, most) = of_tree(&mut thousand.tree, 7);
    let leave = ReaderMessage::Leave { held: Vec::new() };
    writers.root.hear(thousand.id, &leave);
    let leave = leave.to_bytes().len() as u64;
    let after = said_by_root(&mut writers, &mut groups);
    line(
        "a rank of the 1,000 readers",
        (messages + 1, bytes + leave, most),
        after,
    );

    // A step was announced to it that it did not read.
    writers.step(0);
    groups[0].listen(&mut writers);
    let hundred = groups.pop().unwrap();
    writers.root.lose(hundred.id, Gone::Closed);
    let mut tree = hundred.tree;
    let death = of_tree(&mut tree, 0);
    line(
        "the root of the 100 readers",
        death,
        said_by_root(&mut writers, &mut groups),
    );
    assert_eq!(writers.root.retired, 1, "what the lost group may look at");

    let mut readers = Readers::join(3, HUNDRED, &mut writers);
    readers.listen(&mut writers);
    let death = of_tree(&mut writers.tree, 1);
    readers.root.writer_is_lost();
    assert!(readers.root.lost);
    line("an inner rank of the writers", death, (0, Load::default()));
    page
}

fn page() -> String {
    let run = run();
    include_str!("page.md")
        .replace("{writing}", &run.writing)
        .replace("{reading}", &run.reading)
        .replace("{connections}", &run.connections)
        .replace("{deaths}", &run.deaths)
}

#[test]
fn metadata_of_ten_thousand_ranks_costs_what_the_page_says() {
    let page = page();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scale.md");
    if std::env::var_os("PANTA_BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page,
        "docs/scale.md is not what the simulation gives; run this test with PANTA_BLESS=1:\n{page}"
    );
}

//! The matrix of scenarios and engines: what is tested, what is not yet, and why.

use std::fmt::Write;

/// How a scenario stands on an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// There is a test of it.
    Tested,
    /// There is none, and it must come; says what is missing.
    NotYet(&'static str),
    /// It makes no sense there; says why.
    DoesNotApply(&'static str),
}

/// One scenario on every engine.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name of its tests.
    pub name: &'static str,
    /// What must hold.
    pub holds: &'static str,
    /// One cell for each of [`ENGINES`].
    pub cells: [Cell; 6],
}

/// The columns.
pub const ENGINES: [&str; 6] = [
    "file",
    "staging, 1 server",
    "staging, 3 servers",
    "stream, shm",
    "stream, tcp",
    "stream, rdma",
];

/// The page `docs/scenarios.md`.
#[must_use]
pub fn page(rows: &[Row]) -> String {
    let mut page = String::from(
        "# Scenarios\n\n\
         What a coupled simulation and analysis must come through, on each engine. This page \
         is made from the table in `tests/tests/scenarios.rs`, and a test compares the two.\n\n\
         `cargo test -p panta-tests --test scenarios` runs the cells that say \"tested\": the \
         ranks of both sides are separate processes under `Procs`, data are a function of \
         (variable, step, global index), and every element read is checked. Over rdma they use \
         libfabric's provider `tcp;ofi_rxm`, which needs no hardware.\n\n",
    );
    let tested: Vec<usize> = (0..ENGINES.len())
        .map(|engine| {
            rows.iter()
                .filter(|row| row.cells[engine] == Cell::Tested)
                .count()
        })
        .collect();
    let mut line = |cells: &[String]| {
        // Writing to a string does not fail.
        let _ = writeln!(page, "| {} |", cells.join(" | "));
    };
    let head = ["scenario", "what must hold"].into_iter().chain(ENGINES);
    line(&head.map(str::to_owned).collect::<Vec<_>>());
    line(&vec!["---".to_owned(); ENGINES.len() + 2]);
    let mut reasons: Vec<&str> = Vec::new();
    for row in rows {
        let mut cells = vec![format!("`{}`", row.name), row.holds.to_owned()];
        for cell in row.cells {
            let mut note = |reason| {
                let known = reasons.iter().position(|known| *known == reason);
                1 + known.unwrap_or_else(|| {
                    reasons.push(reason);
                    reasons.len() - 1
                })
            };
            cells.push(match cell {
                Cell::Tested => "tested".to_owned(),
                Cell::NotYet(why) => format!("not yet ({})", note(why)),
                Cell::DoesNotApply(why) => format!("– ({})", note(why)),
            });
        }
        line(&cells);
    }
    let mut total = vec!["**tested**".to_owned(), format!("of {}", rows.len())];
    total.extend(tested.iter().map(ToString::to_string));
    line(&total);
    page.push_str("\nWhy not:\n\n");
    for (number, reason) in reasons.iter().enumerate() {
        let _ = writeln!(page, "{}. {reason}", number + 1);
    }
    page
}

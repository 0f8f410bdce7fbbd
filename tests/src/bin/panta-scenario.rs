//! One rank of a scenario: `panta-scenario SCENARIO ROLE URL [KEY=VALUE…]`,
//! with its place in its group in the environment, as `Procs` has it.

use panta_tests::{part::Part, scenario};

fn main() {
    let mut words = std::env::args().skip(1);
    let mut word = |what: &str| {
        words
            .next()
            .unwrap_or_else(|| panic!("{what} is missing: SCENARIO ROLE URL [KEY=VALUE…]"))
    };
    let (name, role, url) = (word("SCENARIO"), word("ROLE"), word("URL"));
    let arguments = words
        .map(|word| {
            let (key, value) = word.split_once('=').unwrap_or((&word, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect();
    let role = scenario::find(&name, &role)
        .unwrap_or_else(|| panic!("there is no role `{role}` in the scenario `{name}`"));
    role(&Part::of_process(&url, arguments));
}

//! Precedence, mistakes, and bytes that are no configuration.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// A working directory with a `panta.toml`, and an environment.
struct Setting {
    directory: tempfile::TempDir,
    environment: BTreeMap<String, String>,
}

impl Setting {
    fn new(toml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        if !toml.is_empty() {
            fs::write(directory.path().join("panta.toml"), toml).unwrap();
        }
        Self {
            directory,
            environment: BTreeMap::new(),
        }
    }

    fn with(mut self, variable: &str, value: &str) -> Self {
        self.environment
            .insert(variable.to_owned(), value.to_owned());
        self
    }

    fn resolve(&self, name: &str) -> Result<Target, ConfigError> {
        let environment = |variable: &str| self.environment.get(variable).cloned();
        resolve(name, &environment, self.directory.path())
    }

    fn error(&self, name: &str) -> String {
        let error = self.resolve(name).unwrap_err().to_string();
        let directory = format!("{}/", self.directory.path().display());
        error.replace(&directory, "")
    }
}

#[test]
fn a_name_that_nothing_explains_is_a_file_with_all_defaults() {
    let target = Setting::new("").resolve("run42").unwrap();
    assert_eq!(target.engine, Engine::File);
    assert_eq!(target.name, "run42.panta");
    assert_eq!(target.options, Options::default());
    assert!(target.given.is_empty());
}

#[test]
fn the_environment_goes_before_the_file_and_a_url_before_both() {
    let toml = "[streams.run42]\nurl = 'stream:from-file'\n";
    let setting = Setting::new(toml);
    assert_eq!(setting.resolve("run42").unwrap().name, "from-file");
    assert_eq!(setting.resolve("run43").unwrap().name, "run43.panta");
    let setting = setting.with("PANTA_URL_RUN42", "file:from-environment");
    assert_eq!(setting.resolve("run42").unwrap().name, "from-environment");
    assert_eq!(setting.resolve("null:").unwrap().engine, Engine::Null);
}

#[test]
fn a_name_is_a_variable_in_upper_case_with_underscores() {
    assert_eq!(
        environment_variable("out/run-42.b"),
        "PANTA_URL_OUT_RUN_42_B"
    );
    let setting = Setting::new("").with("PANTA_URL_OUT_RUN_42", "stream:live");
    assert_eq!(setting.resolve("out/run-42").unwrap().name, "live");
}

#[test]
fn a_url_goes_before_its_table_and_that_before_the_defaults_and_those_before_ours() {
    let setting = Setting::new(
        "[defaults]\nlimit = '1MiB'\ndeadline = '1s'\nretain_steps = 9\n\
         [streams.a]\nurl = 'stream:a?limit=3MiB'\nlimit = '2MiB'\ndeadline = '2s'\n",
    );
    let options = setting.resolve("a").unwrap().options;
    assert_eq!(options.limit, ByteSize(3 << 20));
    assert_eq!(options.deadline, Duration::from_secs(2));
    assert_eq!(options.retain_steps, 9);
    assert_eq!(options.verify, Verify::Get);
}

#[test]
fn defaults_are_for_the_engines_that_know_them_and_hold_for_urls_too() {
    let setting = Setting::new("[defaults]\nack = 'disk'\ndeadline = '5min'\n");
    let file = setting.resolve("file:here").unwrap();
    assert_eq!(file.options.deadline, Duration::from_secs(300));
    assert_eq!(file.given, ["deadline"].into());
    let staging = setting.resolve("staging:there").unwrap();
    assert_eq!(staging.options.ack, Acknowledge::Disk);
}

#[test]
fn the_environment_replaces_the_whole_table_of_a_stream() {
    let setting = Setting::new("[streams.a]\nurl = 'staging:a'\nack = 'disk'\n")
        .with("PANTA_URL_A", "file:a.panta");
    assert!(setting.resolve("a").unwrap().given.is_empty());
}

#[test]
fn a_table_without_a_url_sets_parameters_of_the_file() {
    let setting = Setting::new("[streams.a]\ndirect = true\n");
    let target = setting.resolve("a").unwrap();
    assert_eq!(
        (target.engine, target.name.as_str()),
        (Engine::File, "a.panta")
    );
    assert!(target.options.direct);
}

#[test]
fn panta_config_names_another_file_which_must_then_exist() {
    let setting = Setting::new("[streams.a]\nurl = 'null:'\n").with("PANTA_CONFIG", "other.toml");
    assert!(setting.error("a").starts_with("other.toml: "));
    let other = setting.directory.path().join("other.toml");
    fs::write(other, "[streams.a]\nurl = 'stream:b'\n").unwrap();
    assert_eq!(setting.resolve("a").unwrap().name, "b");
}

#[test]
fn servers_come_after_at_or_from_the_file_as_text_or_a_list() {
    let in_url = Setting::new("").resolve("staging:run@node7:7400,[::1]:80?ack=replica");
    let in_url = in_url.unwrap();
    assert_eq!(in_url.name, "run");
    assert_eq!(in_url.options.servers.0, ["node7:7400", "[::1]:80"]);
    assert_eq!(in_url.options.ack, Acknowledge::Replica);
    for toml in ["'a:1,b:2'", "['a:1', 'b:2']"] {
        let setting = Setting::new(&format!("[defaults]\nservers = {toml}\n"));
        let target = setting.resolve("staging:run").unwrap();
        assert_eq!(target.options.servers.0, ["a:1", "b:2"]);
    }
    for bad in [
        "staging:run@",
        "staging:run@a",
        "staging:run@a:0",
        "staging:run@a:70000",
    ] {
        let error = Setting::new("").error(bad);
        assert!(error.contains("host:port"), "{error}");
    }
    let error = Setting::new("").error("staging:run@a:1?servers=b:2");
    assert!(error.contains("`servers` is set twice"), "{error}");
}

#[test]
fn a_misspelt_key_is_an_error_with_the_place_and_the_nearest_key() {
    let error = Setting::new("").error("stream:a?polcy=block");
    assert_eq!(
        error,
        "in `stream:a?polcy=block`: no parameter `polcy`; did you mean `policy`?"
    );
    let error = Setting::new("[streams.a]\nurl = 'stream:a'\npolcy = 'block'\n").error("other");
    assert_eq!(
        error,
        "panta.toml, line 3: no parameter `polcy`; did you mean `policy`?"
    );
    let error = Setting::new("")
        .with("PANTA_URL_A", "stream:a?polcy=block")
        .error("a");
    assert!(
        error.starts_with("in the variable PANTA_URL_A: no parameter"),
        "{error}"
    );
    let error = Setting::new("").error("null:?zzzzzzzz=1");
    assert!(error.contains("there are `limit`, `deadline`"), "{error}");
}

#[test]
fn a_parameter_of_another_engine_says_whose_it_is() {
    let error = Setting::new("").error("file:a?ack=disk");
    assert!(
        error.starts_with(
            "in `file:a?ack=disk`: `ack` means nothing to `file:`, only to `staging:`"
        ),
        "{error}"
    );
}

#[test]
fn a_bad_value_says_what_it_should_be() {
    let cases = [
        ("policy=dorp-oldest", "did you mean `drop-oldest`?"),
        (
            "policy=x",
            "it is `block`, `drop-oldest`, `drop-newest`, `spill`",
        ),
        ("limit=1GB", "a number of bytes, as"),
        ("limit=99999999999GiB", "too large"),
        ("deadline=60", "the unit is missing"),
        ("deadline=-1s", "a time with its unit"),
        ("encrypt=yes", "it is `true` or `false`"),
        ("retain_steps=0", "zero is too few"),
        ("reader_group=", "it is empty"),
    ];
    for (query, expected) in cases {
        let error = Setting::new("").error(&format!("stream:a?{query}"));
        let (key, value) = query.split_once('=').unwrap();
        assert!(error.contains(expected), "{error}");
        assert!(
            error.contains(&format!("`{key}` can't be `{value}`")),
            "{error}"
        );
    }
    for bad in ["64x", "0x1", "x", "1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1"] {
        let error = Setting::new("").error(&format!("staging:a?chunk={bad}"));
        assert!(error.contains("64x64x64"), "{error}");
    }
}

#[test]
fn an_unknown_scheme_names_the_nearest() {
    let error = Setting::new("").error("staginf:run42");
    assert_eq!(
        error,
        "in `staginf:run42`: no engine `staginf:`; did you mean `staging:`?"
    );
    let error = Setting::new("[streams.a]\n\nurl = 'straem:a'\n").error("b");
    assert_eq!(
        error,
        "panta.toml, line 3: no engine `straem:`; did you mean `stream:`?"
    );
    let error = Setting::new("").error("https://example");
    assert!(error.contains("there are `file:`, `stream:`"), "{error}");
}

#[test]
fn a_file_that_is_not_as_ours_are_is_an_error_with_its_line() {
    let cases = [
        ("[defaults]\nlimit = \n", 2, "panta.toml, line"),
        ("[defaults\n", 1, "panta.toml, line"),
        ("[defaults]\n[defaults]\n", 2, "duplicate"),
        ("\n\n[stream.a]\n", 3, "did you mean `[streams]`?"),
        ("defaults = 1\n", 1, "`defaults` is a table"),
        ("[streams]\na = 'stream:a'\n", 2, "`streams.a` is a table"),
        ("[defaults]\nlimit = 1.5\n", 2, "is text, a whole number"),
        ("[defaults]\nlimit = 99999999999999999999\n", 2, "too large"),
        (
            "[defaults]\nlimit = 1\nurl = 'null:'\n",
            3,
            "no parameter `url`",
        ),
        (
            "[streams.a]\nurl = 'stream:../a'\n",
            2,
            "names of streams are",
        ),
    ];
    for (toml, line, expected) in cases {
        let error = Setting::new(toml).error("stream:unrelated");
        assert!(
            error.starts_with(&format!("panta.toml, line {line}: ")),
            "{error}"
        );
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn urls_that_are_no_urls_of_ours_say_why() {
    let cases = [
        ("file:", "`file:` needs a path"),
        ("file://host/path", "paths are of this host"),
        ("file:a?limit", "`limit` is not `key=value`"),
        ("file:a?", "`` is not `key=value`"),
        ("file:a?limit=1&limit=2", "`limit` is set twice"),
        ("file:a%4", "`%4` is not a percent escape"),
        ("file:a%ff", "don't make UTF-8"),
        ("file:a%00b", "zero byte"),
        ("stream:", "the name of the stream is missing"),
        ("stream:a/b", "names of streams are"),
        ("stream:..", "names of streams are"),
        ("null:x", "has no name"),
    ];
    for (url, expected) in cases {
        let error = Setting::new("").error(url);
        assert!(error.contains(expected), "{url}: {error}");
    }
    assert!(
        Setting::new("")
            .error("run42?limit=1")
            .contains("need a URL")
    );
    let long = format!("file:{}", "a".repeat(5000));
    assert!(Setting::new("").error(&long).contains("longer than"));
}

#[test]
fn percent_escapes_are_undone_in_paths_and_values_and_plus_is_itself() {
    let target = Setting::new("")
        .resolve("file:///a%3Fb+c?interface=x%26y%3Dz%25")
        .unwrap();
    assert_eq!(target.name, "/a?b+c");
    let interface = Interface::Name("x&y=z%".into());
    assert_eq!(target.options.interface, Some(Interfaces(vec![interface])));
}

#[test]
fn every_default_can_be_written_and_read_back() {
    for row in PARAMETERS {
        let text = row.default_text();
        if text.is_empty() {
            continue;
        }
        let mut options = Options::default();
        (row.parse_into)(&mut options, &text).unwrap();
        assert_eq!(options, Options::default(), "{}", row.name);
    }
}

#[test]
fn sizes_and_times_are_printed_as_one_would_write_them() {
    for (text, bytes) in [("0", 0), ("1025", 1025), ("3KiB", 3072), ("1GiB", 1 << 30)] {
        assert_eq!(ByteSize(bytes).print(), text);
        assert_eq!(ByteSize::parse(text), Ok(ByteSize(bytes)));
    }
    let times = [("1500ms", 1500), ("60s", 60_000), ("0s", 0)];
    for (text, milliseconds) in times {
        assert_eq!(Duration::from_millis(milliseconds).print(), text);
        assert_eq!(
            Duration::parse(text),
            Ok(Duration::from_millis(milliseconds))
        );
    }
    assert_eq!(Duration::parse("2h"), Ok(Duration::from_secs(7200)));
    assert_eq!(Duration::parse("5min"), Ok(Duration::from_secs(300)));
}

#[test]
fn the_page_of_parameters_says_what_the_table_says() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/parameters.md");
    let page = fs::read_to_string(page).unwrap();
    let table = render_markdown();
    assert!(
        page.contains(&table),
        "docs/parameters.md differs from the table in core; it should hold:\n{table}"
    );
}

#[test]
fn the_example_on_the_page_is_a_good_file() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/parameters.md");
    let page = fs::read_to_string(page).unwrap();
    let example = page.split("```toml\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let file = parse_toml(example).unwrap();
    assert!(file.streams.contains_key("run42") && !file.defaults.is_empty());
}

proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic(text in ".{0,80}") {
        let _ = parse_url(&text);
        let _ = parse_toml(&text);
        let _ = parse_toml(&format!("[streams.a]\nurl = 'staging:{text}'\n{text}"));
        for engine in Engine::ALL {
            let _ = parse_url(&format!("{engine}{text}"));
        }
        for row in PARAMETERS {
            let _ = (row.parse_into)(&mut Options::default(), &text);
        }
    }
}

/// What stands on the page is what one may write.
#[test]
fn the_configuration_of_the_page_is_one() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/parameters.md");
    let page = fs::read_to_string(page).unwrap();
    let toml = page.split("```toml\n").nth(1).unwrap();
    let setting = Setting::new(toml.split("```").next().unwrap());
    let run42 = setting.resolve("run42").unwrap();
    assert_eq!(run42.engine, Engine::Staging);
    assert_eq!(run42.options.ack, Acknowledge::Disk);
    assert_eq!(run42.options.servers.0, ["node7:7400", "node8:7400"]);
    assert_eq!(run42.options.limit, ByteSize(2 << 30));
    let other = setting.resolve("run43").unwrap();
    assert_eq!(other.options.deadline, Duration::from_secs(300));
}

#[test]
fn compression_is_named_with_its_level_and_not_for_every_engine() {
    let setting = Setting::new("");
    let of = |query: &str| setting.resolve(&format!("file:x?compress={query}"));
    assert_eq!(of("none").unwrap().options.compress, Compression::None);
    assert_eq!(of("zstd").unwrap().options.compress, Compression::Zstd(1));
    assert_eq!(
        of("zstd:19").unwrap().options.compress,
        Compression::Zstd(19)
    );
    for wrong in [
        "zstd:0", "zstd:20", "zstd:", "zstd:-1", "none:1", "lz4", "ZSTD", "",
    ] {
        let error = of(wrong).unwrap_err().to_string();
        assert!(
            error.contains("`compress`") || error.contains("compress="),
            "{wrong}: {error}"
        );
    }
    let error = setting.error("null:?compress=zstd");
    assert!(
        error.contains("compress") && error.contains("file:"),
        "{error}"
    );
}

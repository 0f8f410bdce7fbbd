//! Sides on hosts of their own: what crosses a network, which way it takes, and what
//! is said when there is none.

use panta::{NextError, Reader, Start, Writer};

use super::groups::{check_slab, put_slab};
use crate::part::Part;

/// Writes `steps` steps, and says what carries them; with `told`, each step waits
/// for a line of the test.
pub fn asked_writer(part: &Part) {
    let mut out = part.writer();
    part.say("opened");
    for number in 0..part.number("steps") {
        if part.has("told") && number > 0 {
            let _ = part.hear();
        }
        put_slab(&mut out, "u", part);
        part.say("wrote");
    }
    out.close().unwrap();
}

/// Reads every step, and says by which transport and why; with `lost`, expects the
/// writer to be lost before the stream ends.
pub fn asked_reader(part: &Part) {
    let mut inp = part.reader();
    let mut seen = 0;
    loop {
        match inp.next_step() {
            Ok(Some(step)) => {
                assert_eq!(step.number(), seen);
                check_slab(&step, "u", part);
                seen += 1;
            }
            Ok(None) => break,
            Err(NextError::WriterLost { .. }) if part.has("lost") => {
                part.say(format!("lost after {seen}"));
                return;
            }
            Err(error) => panic!("{error}"),
        }
        if seen == 1 {
            let info = inp.info();
            part.say(format!("by {}: {}", info.transport, info.why));
        }
    }
    assert!(!part.has("lost"), "the stream ended");
    assert_eq!(seen, part.number("steps"));
}

/// Says why it could not open.
pub fn refused_reader(part: &Part) {
    let error = Reader::open(&part.url, part.comm(), Start::Oldest).unwrap_err();
    part.say(format!("refused {}", error.to_string().replace('\n', " ")));
}

/// Says why it could not open.
pub fn refused_writer(part: &Part) {
    let error = Writer::open(&part.url, part.comm()).unwrap_err();
    part.say(format!("refused {}", error.to_string().replace('\n', " ")));
}

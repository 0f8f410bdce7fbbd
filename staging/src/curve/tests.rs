#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;

#[test]
fn vectors() {
    let c = Curve::new(&[5, 5, 5]).unwrap();
    assert_eq!(c.index(&[5, 10, 20]), 7865);
}

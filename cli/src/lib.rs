//! What the command `panta` shares with other programs: [`plot`], the drawing
//! of arrays and curves as PNG images.

pub mod plot;

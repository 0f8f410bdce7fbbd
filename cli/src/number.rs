//! Elements as text: from bytes and a runtime dtype, to people and to JSON.

use panta_core::model::{DType, Number};

/// One element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar {
    /// Of a signed type.
    Int(i64),
    /// Of an unsigned type.
    UInt(u64),
    /// A truth value.
    Bool(bool),
    /// Of binary32, kept apart since its shortest text is shorter.
    F32(f32),
    /// Of binary64.
    F64(f64),
    /// Two binary32.
    C64(f32, f32),
    /// Two binary64.
    C128(f64, f64),
}

macro_rules! read {
    ($bytes:ident, $rust:ty) => {
        <$rust>::from_le_bytes($bytes.try_into().unwrap_or_default())
    };
}

/// The elements of little-endian bytes; none for strings.
pub(crate) fn scalars(dtype: DType, bytes: &[u8]) -> Vec<Scalar> {
    let width = dtype.size_bytes();
    if width == 0 {
        return Vec::new();
    }
    bytes
        .chunks_exact(width)
        .map(|raw| scalar(dtype, raw))
        .collect()
}

fn scalar(dtype: DType, raw: &[u8]) -> Scalar {
    let (first, second) = raw.split_at(raw.len() / 2);
    match dtype {
        DType::I8 => Scalar::Int(read!(raw, i8).into()),
        DType::I16 => Scalar::Int(read!(raw, i16).into()),
        DType::I32 => Scalar::Int(read!(raw, i32).into()),
        DType::I64 => Scalar::Int(read!(raw, i64)),
        DType::U8 | DType::Text => Scalar::UInt(read!(raw, u8).into()),
        DType::U16 => Scalar::UInt(read!(raw, u16).into()),
        DType::U32 => Scalar::UInt(read!(raw, u32).into()),
        DType::U64 => Scalar::UInt(read!(raw, u64)),
        DType::F32 => Scalar::F32(read!(raw, f32)),
        DType::F64 => Scalar::F64(read!(raw, f64)),
        DType::C64 => Scalar::C64(read!(first, f32), read!(second, f32)),
        DType::C128 => Scalar::C128(read!(first, f64), read!(second, f64)),
        DType::Bool => Scalar::Bool(raw != [0]),
    }
}

impl Scalar {
    /// The element as a float, rounded if need be; of a complex one its magnitude.
    pub(crate) fn as_f64(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::UInt(value) => value as f64,
            Self::Bool(value) => f64::from(u8::from(value)),
            Self::F32(value) => f64::from(value),
            Self::F64(value) => value,
            Self::C64(re, im) => f64::from(re).hypot(f64::from(im)),
            Self::C128(re, im) => re.hypot(im),
        }
    }

    /// The element as JSON: complex numbers as pairs, what is no number as a text.
    pub(crate) fn json(self) -> String {
        match self {
            Self::Int(value) => value.to_string(),
            Self::UInt(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::F32(value) => json_float(value.into(), format!("{value:?}")),
            Self::F64(value) => json_float(value, format!("{value:?}")),
            Self::C64(re, im) => {
                format!("[{}, {}]", Self::F32(re).json(), Self::F32(im).json())
            }
            Self::C128(re, im) => {
                format!("[{}, {}]", Self::F64(re).json(), Self::F64(im).json())
            }
        }
    }

    /// The floating-point parts, each with its shortest exact text.
    fn parts(self) -> Vec<(f64, String)> {
        match self {
            Self::F32(value) => vec![(value.into(), shortest(value))],
            Self::F64(value) => vec![(value, shortest(value))],
            Self::C64(re, im) => vec![(re.into(), shortest(re)), (im.into(), shortest(im))],
            Self::C128(re, im) => vec![(re, shortest(re)), (im, shortest(im))],
            Self::Int(_) | Self::UInt(_) | Self::Bool(_) => Vec::new(),
        }
    }
}

/// The shortest text that reads back as the same value.
fn shortest(value: impl std::fmt::LowerExp) -> String {
    format!("{value:e}")
}

fn json_float(value: f64, exact: String) -> String {
    if value.is_finite() {
        return exact;
    }
    let name = not_finite(value);
    format!(
        "\"{}\"",
        name.replace("inf", "Infinity").replace("nan", "NaN")
    )
}

fn not_finite(value: f64) -> &'static str {
    match (value.is_nan(), value > 0.0) {
        (true, _) => "nan",
        (false, true) => "inf",
        (false, false) => "-inf",
    }
}

/// One way to write all the floats of an array, so that they line up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Style {
    exponent: bool,
    digits: usize,
}

impl Style {
    /// Few digits that still tell the values apart, at most `precision` after the
    /// point; with exponents where sizes differ widely, by the rule of numpy.
    fn of(parts: &[(f64, String)], precision: usize) -> Self {
        let sizes = parts.iter().map(|(value, _)| value.abs());
        let sizes = sizes.filter(|size| *size > 0.0 && size.is_finite());
        let (least, most) = sizes.fold((f64::INFINITY, 0.0_f64), |(least, most), size| {
            (least.min(size), most.max(size))
        });
        let exponent =
            most >= 1e8 || (most > 0.0 && (least < 1e-4 || most / least > 1e3 && most >= 1e6));
        let needed = parts.iter().filter(|(value, _)| value.is_finite());
        let needed = needed.map(|(_, shortest)| digits_needed(shortest, exponent));
        Self {
            exponent,
            digits: needed.max().unwrap_or(1).clamp(1, precision.max(1)),
        }
    }

    fn write(self, value: f64) -> String {
        let digits = self.digits;
        match (value.is_finite(), self.exponent) {
            (false, _) => not_finite(value).to_owned(),
            (true, true) => format!("{value:.digits$e}"),
            (true, false) => format!("{value:.digits$}"),
        }
    }
}

/// Digits after the point of an exact text like `-1.25e-3`.
fn digits_needed(shortest: &str, exponent: bool) -> usize {
    let (mantissa, power) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let fraction = mantissa
        .split_once('.')
        .map_or(0, |(_, digits)| digits.len());
    let power: i64 = power.parse().unwrap_or(0);
    match exponent {
        true => fraction,
        false => usize::try_from(fraction as i64 - power).unwrap_or(0),
    }
}

/// The elements as texts that line up in columns, for people.
pub(crate) fn texts(scalars: &[Scalar], precision: usize) -> Vec<String> {
    let parts: Vec<_> = scalars.iter().flat_map(|scalar| scalar.parts()).collect();
    let style = Style::of(&parts, precision);
    let complex = |re: f64, im: f64| {
        let im = style.write(im);
        let sign = if im.starts_with('-') { "" } else { "+" };
        format!("{}{sign}{im}j", style.write(re))
    };
    scalars
        .iter()
        .map(|scalar| match *scalar {
            Scalar::Int(value) => value.to_string(),
            Scalar::UInt(value) => value.to_string(),
            Scalar::Bool(value) => value.to_string(),
            Scalar::F32(value) => style.write(value.into()),
            Scalar::F64(value) => style.write(value),
            Scalar::C64(re, im) => complex(re.into(), im.into()),
            Scalar::C128(re, im) => complex(re, im),
        })
        .collect()
}

/// A statistic in few digits.
pub(crate) fn brief(number: Number) -> String {
    let value = match number {
        Number::Int(value) => return value.to_string(),
        Number::UInt(value) => return value.to_string(),
        Number::Float(value) => value,
    };
    if !value.is_finite() {
        return not_finite(value).to_owned();
    }
    if value != 0.0 && !(1e-4..1e6).contains(&value.abs()) {
        return trimmed(format!("{value:.5e}"));
    }
    let whole_digits = value.abs().max(1.0).log10().floor() as usize + 1;
    let digits = 6 - whole_digits.min(6);
    trimmed(format!("{value:.digits$}"))
}

/// Without zeros at the end of the fraction.
fn trimmed(text: String) -> String {
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, ""));
    let mantissa = match mantissa.contains('.') {
        true => mantissa.trim_end_matches('0').trim_end_matches('.'),
        false => mantissa,
    };
    match power {
        "" => mantissa.to_owned(),
        power => format!("{mantissa}e{power}"),
    }
}

/// A statistic, whole, as JSON.
pub(crate) fn json(number: Number) -> serde_json::Value {
    match number {
        Number::Int(value) => value.into(),
        Number::UInt(value) => value.into(),
        Number::Float(value) if value.is_finite() => value.into(),
        Number::Float(value) => not_finite(value).replace("inf", "Infinity").into(),
    }
}

/// Bytes for people.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f64]) -> Vec<String> {
        let scalars: Vec<_> = values.iter().map(|value| Scalar::F64(*value)).collect();
        texts(&scalars, 8)
    }

    #[test]
    fn floats_of_an_array_have_as_many_digits_as_the_one_that_needs_most() {
        assert_eq!(floats(&[1.0, 0.25, -2.0]), ["1.00", "0.25", "-2.00"]);
        assert_eq!(floats(&[1.0, 2.0]), ["1.0", "2.0"]);
        assert_eq!(floats(&[1.0 / 3.0]), ["0.33333333"]);
        assert_eq!(floats(&[f64::NAN, f64::NEG_INFINITY]), ["nan", "-inf"]);
        assert_eq!(floats(&[1e-9, 2.5]), ["1.0e-9", "2.5e0"]);
        assert_eq!(texts(&[Scalar::F32(0.1)], 8), ["0.1"]);
        assert_eq!(texts(&[Scalar::C128(1.0, -0.5)], 8), ["1.0-0.5j"]);
    }

    #[test]
    fn json_reads_back_as_the_same_value() {
        for value in [0.1, 1e300, -5e-324, 1.0, 0.0] {
            let text = Scalar::F64(value).json();
            assert_eq!(text.parse(), Ok(value), "{text}");
        }
        assert_eq!(Scalar::F32(0.1).json(), "0.1");
        assert_eq!(Scalar::F64(1e300).json(), "1e300");
        assert_eq!(Scalar::F64(f64::NEG_INFINITY).json(), "\"-Infinity\"");
        assert_eq!(Scalar::F64(f64::NAN).json(), "\"NaN\"");
        assert_eq!(Scalar::UInt(u64::MAX).json(), "18446744073709551615");
    }

    #[test]
    fn statistics_are_brief() {
        let brief = |value| brief(Number::Float(value));
        assert_eq!(brief(0.1 + 0.2), "0.3");
        assert_eq!(brief(123_456.789), "123457");
        assert_eq!(brief(1e-7), "1e-7");
        assert_eq!(brief(-2.5e9), "-2.5e9");
        assert_eq!(brief(0.0), "0");
        assert_eq!(super::brief(Number::UInt(u64::MAX)), u64::MAX.to_string());
    }

    #[test]
    fn every_dtype_is_read_in_its_width() {
        assert_eq!(
            scalars(DType::I16, &[0xff, 0xff, 1, 0]),
            [Scalar::Int(-1), Scalar::Int(1)]
        );
        assert_eq!(
            scalars(DType::Bool, &[0, 1]),
            [Scalar::Bool(false), Scalar::Bool(true)]
        );
        let bytes: Vec<u8> = [1.5_f32, -2.0]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert_eq!(scalars(DType::C64, &bytes), [Scalar::C64(1.5, -2.0)]);
        assert_eq!(scalars(DType::Text, b"abc"), []);
    }
}

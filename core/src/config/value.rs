//! The types of parameter values: how they are written and what is allowed.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The most dimensions of a [`ChunkShape`].
const MAX_CHUNK_DIMENSIONS: usize = 16;
/// The most servers in one list.
const MAX_SERVERS: usize = 1024;
/// The most interfaces in one list.
const MAX_INTERFACES: usize = 16;
/// The longest text value, in bytes.
const MAX_TEXT_BYTES: usize = 4096;

/// A type that a parameter can have.
pub trait Value: Sized {
    /// What its values look like, in a phrase.
    fn expected() -> String;

    /// Reads a value.
    ///
    /// # Errors
    /// Why the text is none, where [`expected`](Value::expected) does not say.
    fn parse(text: &str) -> Result<Self, String>;

    /// The value as one would write it; empty for none.
    fn print(&self) -> String;
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const BYTE_UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl Value for ByteSize {
    fn expected() -> String {
        "a number of bytes, as `4096`, `64KiB`, `512MiB`, `2GiB`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let unit = BYTE_UNITS.iter().find(|(unit, _)| text.ends_with(unit));
        let (number, scale) = match unit {
            Some((unit, scale)) => (&text[..text.len() - unit.len()], *scale),
            None => (text, 1),
        };
        let number = parse_digits(number)?;
        let bytes = number.checked_mul(scale).ok_or("too large")?;
        Ok(Self(bytes))
    }

    fn print(&self) -> String {
        let divides = |(_, scale): &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(*scale);
        match BYTE_UNITS.iter().find(divides) {
            Some((unit, scale)) if *scale > 1 => format!("{}{unit}", self.0 / scale),
            _ => self.0.to_string(),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.print())
    }
}

/// In microseconds; `ms` and `us` before `s`, which they end with.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("min", 60_000_000),
    ("ms", 1_000),
    ("us", 1),
    ("h", 3_600_000_000),
    ("s", 1_000_000),
];

impl Value for Duration {
    fn expected() -> String {
        "a time with its unit, as `50us`, `500ms`, `60s`, `5min`, `2h`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let unit = DURATION_UNITS.iter().find(|(unit, _)| text.ends_with(unit));
        let (unit, scale_us) = unit.ok_or("the unit is missing")?;
        let number = parse_digits(&text[..text.len() - unit.len()])?;
        let microseconds = number.checked_mul(*scale_us).ok_or("too long")?;
        Ok(Self::from_micros(microseconds))
    }

    fn print(&self) -> String {
        let microseconds = self.as_micros();
        if microseconds.is_multiple_of(1_000_000) {
            format!("{}s", microseconds / 1_000_000)
        } else if microseconds.is_multiple_of(1000) {
            format!("{}ms", microseconds / 1000)
        } else {
            format!("{microseconds}us")
        }
    }
}

impl Value for bool {
    fn expected() -> String {
        "`true` or `false`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| String::new())
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

impl Value for u64 {
    fn expected() -> String {
        "a whole number, at least 1".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        match parse_digits(text)? {
            0 => Err("zero is too few".to_owned()),
            number => Ok(number),
        }
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

/// A whole number that may be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

impl Value for Count {
    fn expected() -> String {
        "a whole number, also 0".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        parse_digits(text).map(Self)
    }

    fn print(&self) -> String {
        self.0.to_string()
    }
}

impl Value for String {
    fn expected() -> String {
        "text".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        if text.len() > MAX_TEXT_BYTES {
            return Err(format!("it is longer than {MAX_TEXT_BYTES} bytes"));
        }
        if text.contains(char::is_control) {
            return Err("it holds a control character".to_owned());
        }
        Ok(text.to_owned())
    }

    fn print(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    fn expected() -> String {
        "a path".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        <String as Value>::parse(text).map(Self::from)
    }

    fn print(&self) -> String {
        self.display().to_string()
    }
}

impl<T: Value> Value for Option<T> {
    fn expected() -> String {
        T::expected()
    }

    fn parse(text: &str) -> Result<Self, String> {
        T::parse(text).map(Some)
    }

    fn print(&self) -> String {
        self.as_ref().map(T::print).unwrap_or_default()
    }
}

/// What to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// The interface of this name.
    Name(String),
    /// Every interface with an address in this network.
    Network {
        /// An address of it.
        address: IpAddr,
        /// Bits that all its addresses have in common.
        bits: u8,
    },
}

impl Interface {
    fn parse(text: &str) -> Result<Self, String> {
        let network = text
            .split_once('/')
            .and_then(|(address, bits)| Some((address.parse::<IpAddr>().ok()?, bits)));
        let Some((address, bits)) = network else {
            return <String as Value>::parse(text).map(Self::Name);
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = parse_digits(bits).ok().filter(|bits| *bits <= most);
        let bits = bits.ok_or_else(|| format!("`{text}` has not 0 to {most} bits after `/`"))?;
        Ok(Self::Network {
            address,
            bits: u8::try_from(bits).unwrap_or(u8::MAX),
        })
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Network { address, bits } => write!(formatter, "{address}/{bits}"),
        }
    }
}

/// Interfaces, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces(pub Vec<Interface>);

impl Value for Interfaces {
    fn expected() -> String {
        "names of interfaces or networks, as `ib0`, `10.1.0.0/16`, `eth0,ib0`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let interfaces: Vec<_> = text
            .split(',')
            .map(Interface::parse)
            .collect::<Result<_, _>>()?;
        if interfaces.len() > MAX_INTERFACES {
            return Err(format!("more than {MAX_INTERFACES} interfaces"));
        }
        Ok(Self(interfaces))
    }

    fn print(&self) -> String {
        let interfaces: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        interfaces.join(",")
    }
}

/// The elements of a chunk per dimension, slowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkShape(pub Vec<u64>);

impl Value for ChunkShape {
    fn expected() -> String {
        "elements per dimension, as `64x64x64`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let sides: Vec<u64> = text.split('x').map(u64::parse).collect::<Result<_, _>>()?;
        if sides.len() > MAX_CHUNK_DIMENSIONS {
            return Err(format!("more than {MAX_CHUNK_DIMENSIONS} dimensions"));
        }
        let elements = sides
            .iter()
            .try_fold(1_u64, |all, side| all.checked_mul(*side));
        elements.ok_or("more elements than can be counted")?;
        Ok(Self(sides))
    }

    fn print(&self) -> String {
        let sides: Vec<String> = self.0.iter().map(u64::to_string).collect();
        sides.join("x")
    }
}

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// With zstd, at this level.
    Zstd(u8),
}

/// The levels of zstd that need no more memory than a step's writer should take.
const ZSTD_LEVELS: std::ops::RangeInclusive<u8> = 1..=19;

impl Value for Compression {
    fn expected() -> String {
        "`none`, `zstd`, `zstd:LEVEL`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':').unwrap_or((text, "1")) {
            ("none", "1") if text == "none" => Ok(Self::None),
            ("zstd", level) => match level.parse() {
                Ok(level) if ZSTD_LEVELS.contains(&level) => Ok(Self::Zstd(level)),
                _ => Err("a level of zstd is from 1 to 19".to_owned()),
            },
            _ => Err(String::new()),
        }
    }

    fn print(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Zstd(level) => format!("zstd:{level}"),
        }
    }
}

/// Servers, each `host:port`, in the order given; of `stream:` also `:port`, for all
/// addresses of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers(pub Vec<String>);

impl Value for Servers {
    fn expected() -> String {
        "servers, as `host:port,host:port`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let servers: Vec<String> = text.split(',').map(str::to_owned).collect();
        if servers.len() > MAX_SERVERS {
            return Err(format!("more than {MAX_SERVERS} servers"));
        }
        match servers.iter().find(|server| !is_host_and_port(server)) {
            Some(server) => Err(format!("`{server}` is not `host:port`")),
            None => Ok(Self(servers)),
        }
    }

    fn print(&self) -> String {
        self.0.join(",")
    }
}

/// Whether the text reads `host:port`, `:port` or `[v6]:port`.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bracketed = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let host_is_good = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let allowed = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | '_');
            host.chars().all(allowed)
        }
    };
    let port = parse_digits(port)
        .ok()
        .and_then(|it| u16::try_from(it).ok());
    host_is_good && port.is_some_and(|port| port > 0)
}

/// Decimal digits and nothing else: no sign, no space.
fn parse_digits(text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(String::new());
    }
    text.parse().map_err(|_| "too large".to_owned())
}

/// Makes an enum whose values are written as words.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $name:ident { $($(#[doc = $help:literal])+ $variant:ident = $word:literal,)+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $help])+ $variant,)+ }

        impl Value for $name {
            fn expected() -> String {
                [$(concat!("`", $word, "`")),+].join(", ")
            }

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    other => Err(super::nearest(other, [$($word),+])
                        .map(|word| format!("did you mean `{word}`?"))
                        .unwrap_or_default()),
                }
            }

            fn print(&self) -> String {
                match self { $(Self::$variant => $word,)+ }.to_owned()
            }
        }
    };
}

choice! {
    /// What `begin_step` does when the limit is reached.
    Policy {
        /// Waits for readers.
        Block = "block",
        /// Drops the oldest step that nobody has claimed.
        DropOldest = "drop-oldest",
        /// Drops the step about to begin.
        DropNewest = "drop-newest",
        /// Writes the oldest steps to disk.
        Spill = "spill",
    }
}

choice! {
    /// Who does what is due between two calls.
    ProgressChoice {
        /// Threads of the library.
        Threads = "threads",
        /// Nobody: the host calls `progress`.
        Manual = "manual",
    }
}

choice! {
    /// When checksums are verified.
    Verify {
        /// For the tiles that a `get` touches.
        Get = "get",
        /// For views too.
        Always = "always",
        /// Never.
        Never = "never",
    }
}

choice! {
    /// When written data is forced to disk.
    Sync {
        /// When the system sees fit.
        None = "none",
        /// Before a step is sealed.
        Step = "step",
        /// At close.
        Close = "close",
    }
}

choice! {
    /// What moves bytes between peers.
    TransportChoice {
        /// The best that both sides have; which one was picked can be asked.
        Auto = "auto",
        /// Shared memory, on one host.
        Shm = "shm",
        /// TCP.
        Tcp = "tcp",
        /// A fabric with remote memory access.
        Rdma = "rdma",
    }
}

choice! {
    /// Which reader groups get a step.
    Distribution {
        /// All of them.
        All = "all",
        /// One after the other.
        RoundRobin = "round-robin",
        /// The one that asks first.
        OnDemand = "on-demand",
    }
}

choice! {
    /// Where data must be before a step is sealed.
    Acknowledge {
        /// In a server's memory.
        Memory = "memory",
        /// On a server's disk.
        Disk = "disk",
        /// In a replica's memory too.
        Replica = "replica",
    }
}

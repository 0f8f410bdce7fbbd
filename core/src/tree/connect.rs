//! How the ranks of a group find each other: two allgathers, then links.
//!
//! ```text
//! allgather 1   who each rank is: process, host, what it was told to build
//! allgather 2   where each rank that has children elsewhere listens, and
//!               from rank 0 the key of the group; or why it can't go on
//! links         child to parent: a socket pair within a process,
//!               else TCP, authenticated by the key
//! ```
//!
//! A rank that can't go on takes part in the second allgather all the same,
//! so that all ranks fail with it and none waits.

use super::TreeOptions;
use super::addresses::{self, MAX_ADDRESSES};
use super::error::TreeError;
use super::frame::{Fields, put_bytes};
use super::group::Group;
use super::link::{Link, LocalStream, sleep_on};
use super::shape::Shape;
use super::tcp::TcpStream;
use crate::comm::{Comm, CommError};
use panta_transports::channel::{Acceptor, Channel, ChannelError, Connector, Key, Listener, Role};
use panta_transports::random;
use panta_transports::time::Wait;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// The version of the frames and of this exchange.
const VERSION: u32 = 1;
/// How long a first try to connect to one of several addresses may take; each
/// next round of tries takes twice as long.
const FIRST_TRY: Duration = Duration::from_secs(2);
/// Bytes of the key of a group.
const KEY_BYTES: usize = 32;

/// Builds this rank's links.
pub(super) fn connect(
    comm: &mut dyn Comm,
    options: &TreeOptions,
    wait: &Wait,
) -> Result<Group, TreeError> {
    let (rank, size) = (comm.rank(), comm.size());
    if rank >= size || u32::try_from(size).is_err() {
        return Err(disagree(format!("rank {rank} of {size}")));
    }
    let shape = Shape {
        size,
        fan_out: options.fan_out.max(1),
    };
    let own = Identity::of_this_rank(options)?;
    let who = comm.allgather(&own.to_bytes(), wait)?;
    let who = check_identities(&who, size)?;
    let mut bench = Workbench::prepare(rank, shape, &who, options);
    let part = match &mut bench {
        Ok(bench) => bench.invitation(),
        Err(reason) => refusal(reason),
    };
    let invitations = comm.allgather(&part, wait)?;
    let invitations = check_invitations(&invitations, size)?;
    let bench = bench.map_err(|reason| disagree(format!("rank {rank}: {reason}")))?;
    bench.link(&invitations, wait)
}

fn disagree(reason: String) -> TreeError {
    TreeError::Open(CommError::Disagree { reason })
}

/// Who a rank is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    fan_out: u64,
    /// Process id and a random number: equal for ranks of one process.
    process: (u32, u64),
    /// Boot and network namespace: equal for ranks that share a loopback.
    host: String,
    /// Under which a parent in this process finds its end of the link.
    token: u64,
}

impl Identity {
    fn of_this_rank(options: &TreeOptions) -> Result<Self, TreeError> {
        let no_randomness = |error: random::NoRandomness| {
            TreeError::Open(CommError::System {
                action: "making an identity".to_owned(),
                reason: error.to_string(),
            })
        };
        Ok(Self {
            fan_out: options.fan_out as u64,
            process: (std::process::id(), process_number().map_err(no_randomness)?),
            host: host(),
            token: random::number().map_err(no_randomness)?,
        })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.fan_out.to_le_bytes());
        bytes.extend_from_slice(&self.process.0.to_le_bytes());
        bytes.extend_from_slice(&self.process.1.to_le_bytes());
        bytes.extend_from_slice(&self.token.to_le_bytes());
        put_bytes(&mut bytes, self.host.as_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let mut fields = Fields(bytes);
        match fields.u32()? {
            VERSION => Ok(Self {
                fan_out: fields.u64()?,
                process: (fields.u32()?, fields.u64()?),
                token: fields.u64()?,
                host: fields.text()?,
            }),
            other => Err(format!(
                "it speaks version {other} of the control tree, this rank {VERSION}; \
                 use one build of the library on all ranks"
            )),
        }
    }
}

/// A number of this process's own.
fn process_number() -> Result<u64, random::NoRandomness> {
    static NUMBER: OnceLock<u64> = OnceLock::new();
    if let Some(number) = NUMBER.get() {
        return Ok(*number);
    }
    let number = random::number()?;
    Ok(*NUMBER.get_or_init(|| number))
}

/// Empty where the system doesn't say; that equals no other host.
fn host() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let network = fs::read_link("/proc/self/ns/net");
    match (boot, network) {
        (Ok(boot), Ok(network)) => format!("{} {}", boot.trim(), network.display()),
        _ => String::new(),
    }
}

fn check_identities(gathered: &[Vec<u8>], size: usize) -> Result<Vec<Identity>, TreeError> {
    if gathered.len() != size {
        let count = gathered.len();
        return Err(disagree(format!("{count} parts came of {size} ranks")));
    }
    let mut who: Vec<Identity> = Vec::with_capacity(size);
    for (rank, bytes) in gathered.iter().enumerate() {
        let identity = Identity::from_bytes(bytes);
        let identity = identity.map_err(|why| disagree(format!("rank {rank}: {why}")))?;
        let fan_out = identity.fan_out;
        if fan_out == 0 || who.first().is_some_and(|first| first.fan_out != fan_out) {
            return Err(disagree(format!(
                "rank {rank} has a fan-out of {fan_out}; it is at least 1, and the same everywhere"
            )));
        }
        who.push(identity);
    }
    Ok(who)
}

/// What a rank says in the second allgather.
struct Invitation {
    key: [u8; KEY_BYTES],
    addresses: Vec<SocketAddr>,
}

fn refusal(reason: &str) -> Vec<u8> {
    let mut bytes = vec![1];
    put_bytes(&mut bytes, reason.as_bytes());
    bytes
}

fn check_invitations(gathered: &[Vec<u8>], size: usize) -> Result<Vec<Invitation>, TreeError> {
    if gathered.len() != size {
        let count = gathered.len();
        return Err(disagree(format!("{count} parts came of {size} ranks")));
    }
    let read = |(rank, bytes): (usize, &Vec<u8>)| {
        read_invitation(bytes).map_err(|why| disagree(format!("rank {rank}: {why}")))
    };
    gathered.iter().enumerate().map(read).collect()
}

fn read_invitation(bytes: &[u8]) -> Result<Invitation, String> {
    let mut fields = Fields(bytes);
    if fields.u8()? != 0 {
        return Err(fields.text()?);
    }
    let key = fields.array()?;
    let mut addresses = Vec::new();
    while !fields.0.is_empty() {
        let address = fields.text()?;
        let address = address.parse::<SocketAddr>();
        addresses.push(address.map_err(|error| error.to_string())?);
        if addresses.len() > MAX_ADDRESSES {
            return Err("more addresses than a rank may have".to_owned());
        }
    }
    Ok(Invitation { key, addresses })
}

/// What lies ready between the allgathers.
struct Workbench {
    rank: usize,
    shape: Shape,
    /// Rank 0's is the group's.
    key: [u8; KEY_BYTES],
    listeners: Vec<Listener>,
    /// This end of the link to a parent in the same process.
    to_parent: Option<UnixStream>,
    deposit: Deposit,
    /// The tokens of the children in this process, by rank.
    near: BTreeMap<usize, u64>,
}

impl Workbench {
    /// Listens where children elsewhere may come, and lays out a pair where
    /// the parent is in this process.
    fn prepare(
        rank: usize,
        shape: Shape,
        who: &[Identity],
        options: &TreeOptions,
    ) -> Result<Self, String> {
        let own = &who[rank];
        let is_near = |other: &usize| who[*other].process == own.process;
        let mut to_parent = None;
        let mut deposit = Deposit(None);
        if let Some(_near_parent) = shape.parent(rank).filter(is_near) {
            let (mine, its) = UnixStream::pair().map_err(|error| error.to_string())?;
            to_parent = Some(mine);
            deposit = Deposit::leave(own.token, its);
        }
        let children = shape.children(rank);
        let near = children.clone().filter(is_near);
        let near: BTreeMap<usize, u64> = near.map(|it| (it, who[it].token)).collect();
        let listeners = match near.len() < children.len() {
            true => listen(who, options)?,
            false => Vec::new(),
        };
        let mut key = [0; KEY_BYTES];
        if rank == 0 {
            random::fill(&mut key).map_err(|error| error.to_string())?;
        }
        Ok(Self {
            rank,
            shape,
            key,
            listeners,
            to_parent,
            deposit,
            near,
        })
    }

    fn invitation(&self) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&self.key);
        for listener in &self.listeners {
            put_bytes(&mut bytes, listener.local_addr().to_string().as_bytes());
        }
        bytes
    }

    /// Links up first, then down: the root never waits for a parent, so
    /// nobody waits in a circle.
    fn link(mut self, invitations: &[Invitation], wait: &Wait) -> Result<Group, TreeError> {
        let key = Key::from_bytes(invitations[0].key);
        let parent = match self.shape.parent(self.rank) {
            None => None,
            Some(parent) => Some(match self.to_parent.take() {
                Some(stream) => self.near_link(parent, stream)?,
                None => self.far_parent(parent, &invitations[parent].addresses, &key, wait)?,
            }),
        };
        let mut children = BTreeMap::new();
        while let Some((child, token)) = self.near.pop_first() {
            match Deposit::collect(token) {
                Some(stream) => children.insert(child, self.near_link(child, stream)?),
                None => return Err(self.lost(child)),
            };
        }
        let size = self.shape.size;
        let result = self.far_children(&mut children, &key, wait);
        self.deposit.0 = None;
        let mut group = Group::new((self.rank, size), parent, children.into_values().collect());
        if let Err(error) = result {
            group.refuse(error.clone(), wait);
            return Err(error);
        }
        Ok(group)
    }

    fn near_link(&self, peer: usize, stream: UnixStream) -> Result<Link, TreeError> {
        let stream = LocalStream::new(stream).map_err(|error| TreeError::System {
            rank: self.rank,
            action: format!("linking with rank {peer}"),
            reason: error.to_string(),
        })?;
        Ok(Link::new(peer, Box::new(stream)))
    }

    fn lost(&self, rank: usize) -> TreeError {
        TreeError::RankLost {
            rank,
            noticed_by: self.rank,
        }
    }

    /// Connects to the parent, at whichever of its addresses answers.
    fn far_parent(
        &self,
        parent: usize,
        addresses: &[SocketAddr],
        key: &Key,
        wait: &Wait,
    ) -> Result<Link, TreeError> {
        let mut connector = Connector::new(key.clone(), Role::Cluster);
        connector.spin = Duration::ZERO;
        let mut longest = match addresses {
            [_] => wait.deadline().length(),
            _ => FIRST_TRY,
        };
        loop {
            let mut refused = 0;
            for address in addresses {
                let one_try = wait.at_most(longest);
                match Channel::connect(*address, &connector, &one_try) {
                    Ok(mut channel) => {
                        let hello = (self.rank as u32).to_le_bytes();
                        if channel.send(&hello, &[], &one_try).is_ok() {
                            return Ok(Link::new(parent, Box::new(TcpStream(channel))));
                        }
                    }
                    // It listened before it said where.
                    Err(ChannelError::Refused { .. }) => refused += 1,
                    Err(_) => {}
                }
                self.check(wait, || vec![parent])?;
            }
            if refused == addresses.len() {
                return Err(self.lost(parent));
            }
            longest *= 2;
        }
    }

    /// Accepts the children of other processes until all are there. Who has
    /// not the key is turned away and changes nothing.
    fn far_children(
        &self,
        children: &mut BTreeMap<usize, Link>,
        key: &Key,
        wait: &Wait,
    ) -> Result<(), TreeError> {
        let expected = self.shape.children(self.rank);
        let acceptor = Acceptor::new(key.clone());
        while children.len() < expected.len() {
            let missing = || expected.clone().filter(|it| !children.contains_key(it));
            self.check(wait, || missing().collect())?;
            if let Some(link) = self.accept_one(&acceptor, wait)
                && missing().any(|it| it == link.peer)
            {
                children.insert(link.peer, link);
            }
        }
        Ok(())
    }

    fn accept_one(&self, acceptor: &Acceptor, wait: &Wait) -> Option<Link> {
        let slice = wait.slice().ok()?;
        // Cut short, it is called again.
        let _woken = sleep_on(&self.listeners, slice);
        let nothing_more = Wait::for_at_most(Duration::ZERO);
        let pending = self
            .listeners
            .iter()
            .find_map(|it| it.accept(&nothing_more).ok())?;
        let mut channel = Channel::accept(pending, acceptor, wait).ok()?;
        let one_try = wait.at_most(FIRST_TRY);
        let rank = match channel.receive_head(&one_try) {
            Ok(head) => u32::from_le_bytes(head.bytes.try_into().ok()?),
            Err(_) => return None,
        };
        Some(Link::new(rank as usize, Box::new(TcpStream(channel))))
    }

    fn check(&self, wait: &Wait, awaiting: impl FnOnce() -> Vec<usize>) -> Result<(), TreeError> {
        match wait.slice() {
            Ok(_) => Ok(()),
            Err(error) => Err(CommError::from_wait(error, awaiting()).into()),
        }
    }
}

impl Drop for Workbench {
    /// Ends that this rank will not collect are closed, so that the children
    /// notice.
    fn drop(&mut self) {
        for token in self.near.values() {
            let _closed = Deposit::collect(*token);
        }
    }
}

/// Listens on loopback where all the ranks share it, else on what was named,
/// else on all interfaces.
fn listen(who: &[Identity], options: &TreeOptions) -> Result<Vec<Listener>, String> {
    let host = &who[0].host;
    let one_host = !host.is_empty() && who.iter().all(|it| it.host == *host);
    let addresses = match &options.interface {
        None if one_host => vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        interface => {
            addresses::of_interfaces(interface.as_ref()).map_err(|error| error.to_string())?
        }
    };
    let bind = |address| Listener::bind(SocketAddr::new(address, 0));
    let listeners: Result<Vec<Listener>, _> = addresses.into_iter().map(bind).collect();
    listeners.map_err(|error| error.to_string())
}

/// Ends of links left for parents in this process, by token.
static DEPOSITS: Mutex<BTreeMap<u64, UnixStream>> = Mutex::new(BTreeMap::new());

/// Takes an end back if nobody has collected it.
struct Deposit(Option<u64>);

impl Deposit {
    fn leave(token: u64, stream: UnixStream) -> Self {
        let mut deposits = DEPOSITS.lock().unwrap_or_else(PoisonError::into_inner);
        deposits.insert(token, stream);
        Self(Some(token))
    }

    fn collect(token: u64) -> Option<UnixStream> {
        let mut deposits = DEPOSITS.lock().unwrap_or_else(PoisonError::into_inner);
        deposits.remove(&token)
    }
}

impl Drop for Deposit {
    fn drop(&mut self) {
        if let Some(token) = self.0 {
            let _uncollected = Self::collect(token);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::config::{Interfaces, Value};
    use std::io::Write;
    use std::net::TcpStream as RawStream;
    use std::thread;

    /// The identities of two ranks in different processes of one host.
    fn two_processes() -> Vec<Identity> {
        let identity = |process| Identity {
            fan_out: 2,
            process: (process, 0),
            host: "host".to_owned(),
            token: 0,
        };
        vec![identity(1), identity(2)]
    }

    fn bench(rank: usize) -> Workbench {
        let shape = Shape {
            size: 2,
            fan_out: 2,
        };
        Workbench::prepare(rank, shape, &two_processes(), &TreeOptions::default()).unwrap()
    }

    fn wait() -> Wait {
        Wait::for_at_most(Duration::from_secs(60))
    }

    #[test]
    fn strangers_at_the_door_do_not_keep_the_group_from_opening() {
        let (mut root, mut child) = (bench(0), bench(1));
        let address = root.listeners[0].local_addr();
        assert!(address.ip().is_loopback());
        let invitations = |root: &mut Workbench, child: &mut Workbench| {
            check_invitations(&[root.invitation(), child.invitation()], 2).unwrap()
        };
        let (for_root, for_child) = (
            invitations(&mut root, &mut child),
            invitations(&mut root, &mut child),
        );
        // One who says nothing, one who talks nonsense, one who leaves, and
        // one with a key of its own.
        let _silent = RawStream::connect(address).unwrap();
        let mut nonsense = RawStream::connect(address).unwrap();
        nonsense.write_all(&[b'x'; 600]).unwrap();
        drop(RawStream::connect(address).unwrap());
        let stranger = thread::spawn(move || {
            let key = Key::from_bytes([7; KEY_BYTES]);
            let connector = Connector::new(key, Role::Cluster);
            Channel::connect(address, &connector, &wait()).err()
        });
        let refused = thread::spawn(move || {
            let root = root.link(&for_root, &wait());
            root.map(|mut it| it.gather(b"root".to_vec(), &wait()).unwrap().unwrap())
        });
        assert!(matches!(
            stranger.join().unwrap(),
            Some(ChannelError::WrongKey { .. })
        ));
        let mut child = child.link(&for_child, &wait()).unwrap();
        child.gather(b"child".to_vec(), &wait()).unwrap();
        let gathered = refused.join().unwrap().unwrap();
        assert_eq!(gathered, [Ok(b"root".to_vec()), Ok(b"child".to_vec())]);
    }

    #[test]
    fn a_parent_that_listens_no_more_is_lost_at_once() {
        let (root, child) = (bench(0), bench(1));
        let invitations = [root.invitation(), child.invitation()];
        drop(root);
        let invitations = check_invitations(&invitations, 2).unwrap();
        let error = child.link(&invitations, &wait()).unwrap_err();
        assert_eq!(
            error,
            TreeError::RankLost {
                rank: 0,
                noticed_by: 1
            }
        );
    }

    #[test]
    fn a_child_that_never_comes_is_named_by_the_deadline() {
        let (root, child) = (bench(0), bench(1));
        let invitations = [root.invitation(), child.invitation()];
        let invitations = check_invitations(&invitations, 2).unwrap();
        let short = Duration::from_millis(50);
        let error = root
            .link(&invitations, &Wait::for_at_most(short))
            .unwrap_err();
        let expected = CommError::Deadline {
            awaiting: vec![1],
            after: short,
        };
        assert_eq!(error, TreeError::Open(expected));
    }

    #[test]
    fn a_rank_that_cannot_listen_fails_the_opening_with_its_number_and_reason() {
        let options = TreeOptions {
            interface: Interfaces::parse("nosuch0").ok(),
            ..TreeOptions::default()
        };
        let shape = Shape {
            size: 2,
            fan_out: 2,
        };
        let reason = Workbench::prepare(0, shape, &two_processes(), &options).err();
        let parts = [refusal(&reason.unwrap()), bench(1).invitation()];
        let error = check_invitations(&parts, 2).err().unwrap().to_string();
        assert!(
            error.contains("rank 0") && error.contains("nosuch0"),
            "{error}"
        );
    }
}

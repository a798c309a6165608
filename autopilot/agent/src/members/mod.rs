//! Who is there: gossip over UDP behind a small handle.
//!
//! One task owns the socket and the SWIM state machine ([foca]); it publishes what it knows as a list in a watch
//! channel, and takes requests through a bounded queue. A member is known by its Raft server id; of several lives of
//! one id the latest counts. [foca] knows up and down only; whether a member failed or left on purpose rides in its
//! identity.

mod driver;
mod identity;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thiserror::Error;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};

pub use identity::{DATAGRAM_BYTES_MAX, IDENTITY_BYTES_MAX, Identity, Profile};

use driver::{Driver, Request};

/// Requests that may wait for the gossip task.
const REQUESTS_MAX: usize = 64;
/// How long a join waits for the other side to answer.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What gossip knows about a member's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Liveness {
    /// It answers.
    Alive,
    /// It went on purpose, or was sent away.
    Left,
    /// It stopped answering.
    Failed,
}

/// One member.
#[derive(Clone, Debug)]
pub struct MemberView {
    /// Where its gossip listens.
    pub gossip: SocketAddr,
    /// Grows with each of its lives.
    pub generation: u64,
    /// Whether it lives.
    pub liveness: Liveness,
    /// When this server noticed the present liveness.
    pub since: Instant,
    /// What it says about itself.
    pub profile: Profile,
}

/// All members by name then id, this server included.
pub type MemberList = Arc<[MemberView]>;

/// Why gossip did not start. Nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GossipError {
    /// The port cannot be opened.
    #[error(
        "cannot open the gossip port {address} (UDP): {cause}; stop the other process or choose another gossip_addr"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said. Part of the text, so not a source that would repeat it.
        cause: std::io::Error,
    },
    /// The identity does not fit into a datagram.
    #[error(
        "node_id, node_name, zone, datacenter and meta together take {size} bytes, the limit is {IDENTITY_BYTES_MAX}; shorten them"
    )]
    TooLarge {
        /// Their size in a datagram.
        size: usize,
    },
    /// An address to join cannot be resolved.
    #[error("join: cannot resolve {address:?}: {reason}")]
    Unresolvable {
        /// The address as given.
        address: String,
        /// What the resolver said.
        reason: String,
    },
    /// The number of this life cannot be kept.
    #[error("cannot write {path}: {cause}")]
    Generation {
        /// The file.
        path: String,
        /// What the system said. Part of the text, so not a source that would repeat it.
        cause: std::io::Error,
    },
}

/// Why a join failed. A retry is safe.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// The address cannot be resolved.
    #[error("cannot resolve {address:?}: {reason}")]
    Unresolvable {
        /// The address as given.
        address: String,
        /// What the resolver said.
        reason: String,
    },
    /// It is this server's own address.
    #[error("{address} is this server's own gossip address; name another server")]
    Own {
        /// The address.
        address: SocketAddr,
    },
    /// Nobody answers there.
    #[error("no server answered at {address} within {} s; check that it is the gossip address (UDP) of a running server in datacenter {datacenter}", JOIN_TIMEOUT.as_secs())]
    NoAnswer {
        /// The address.
        address: SocketAddr,
        /// The datacenter of this server.
        datacenter: String,
    },
    /// Too many requests wait.
    #[error("too many requests are waiting; retry after a pause")]
    Overloaded,
    /// Gossip has stopped.
    #[error("this server is shutting down")]
    Stopped,
}

/// Handle to the gossip task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Members {
    requests: mpsc::Sender<Request>,
    list: watch::Receiver<MemberList>,
    address: SocketAddr,
    id: Arc<str>,
    datacenter: Arc<str>,
}

/// A bound socket that is not gossiping yet: its port may go into the profile.
#[derive(Debug)]
pub struct GossipSocket {
    socket: UdpSocket,
    advertised: SocketAddr,
}

impl GossipSocket {
    /// Opens the port.
    ///
    /// # Errors
    /// [`GossipError::Bind`].
    pub async fn bind(address: SocketAddr, advertise: Option<IpAddr>) -> Result<Self, GossipError> {
        let failed = |cause| GossipError::Bind { address, cause };
        let socket = UdpSocket::bind(address).await.map_err(failed)?;
        let mut advertised = socket.local_addr().map_err(failed)?;
        if let Some(ip) = advertise {
            advertised.set_ip(ip);
        }
        Ok(Self { socket, advertised })
    }

    /// What the others are told.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.advertised
    }
}

impl Members {
    /// Starts gossiping. `generation_file` keeps the number of the last life, so that a clock set back does not make
    /// this server look older than its previous life. The task ends with [`Members::leave`] or [`Members::stop`].
    ///
    /// # Errors
    /// See [`GossipError`].
    pub async fn start(
        socket: GossipSocket,
        profile: Profile,
        join: &[String],
        generation_file: &Path,
    ) -> Result<Self, GossipError> {
        let mut targets = Vec::new();
        for address in join {
            targets.extend(
                resolve(address, socket.advertised)
                    .await
                    .map_err(|reason| GossipError::Unresolvable { address: address.clone(), reason })?,
            );
        }
        targets.retain(|target| *target != socket.advertised);
        let generation = next_generation(generation_file)?;
        let id: Arc<str> = profile.id.as_str().into();
        let datacenter: Arc<str> = profile.datacenter.as_str().into();
        let identity = Identity { address: socket.advertised, generation, left: false, profile };
        let size = identity.size();
        if size > IDENTITY_BYTES_MAX {
            return Err(GossipError::TooLarge { size });
        }
        let address = socket.advertised;
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let driver = Driver::new(socket.socket, identity, targets);
        let list = driver.list();
        tokio::spawn(driver.run(queue));
        Ok(Self { requests, list, address, id, datacenter })
    }

    /// Everyone known now, this server included.
    #[must_use]
    pub fn list(&self) -> MemberList {
        Arc::clone(&self.list.borrow())
    }

    /// Follows the list.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<MemberList> {
        self.list.clone()
    }

    /// The member with this Raft server id.
    #[must_use]
    pub fn member(&self, id: &str) -> Option<MemberView> {
        self.list.borrow().iter().find(|member| member.profile.id == id).cloned()
    }

    /// The id of this server.
    #[must_use]
    pub fn own_id(&self) -> &str {
        &self.id
    }

    /// Where this server's gossip is reached.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Joins the cluster of which the server at `address` (`host:port`) is a member; returns once it answered.
    ///
    /// Cancel safe: a join given up may still succeed.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub async fn join(&self, address: &str) -> Result<SocketAddr, JoinError> {
        let unresolvable = |reason| JoinError::Unresolvable { address: address.to_owned(), reason };
        let target = resolve(address, self.address).await.map_err(unresolvable)?[0];
        if target == self.address {
            return Err(JoinError::Own { address: target });
        }
        self.request(Request::Announce(target))?;
        let mut list = self.watch();
        let answered = list.wait_for(|list| {
            list.iter().any(|member| member.gossip == target && member.liveness == Liveness::Alive)
        });
        match tokio::time::timeout(JOIN_TIMEOUT, answered).await {
            Ok(Ok(_)) => Ok(target),
            Ok(Err(_)) => Err(JoinError::Stopped),
            Err(_) => {
                Err(JoinError::NoAnswer { address: target, datacenter: self.datacenter.as_ref().to_owned() })
            }
        }
    }

    /// Tells the others that this server is part of a formed cluster.
    pub fn set_bootstrapped(&self) {
        // A lost request only delays the flag: the caller repeats it while the list does not show it.
        let _ = self.request(Request::Bootstrapped);
    }

    /// Declares that a member is gone for good: it is shown as left, everywhere. It is back when it says so itself.
    ///
    /// Returns whether there is such a member that does not live and has not left.
    pub fn force_leave(&self, id: &str) -> bool {
        let failed = self.member(id).is_some_and(|member| member.liveness == Liveness::Failed);
        failed && self.request(Request::ForceLeave(id.to_owned())).is_ok()
    }

    /// Tells the others that this server goes on purpose, and stops gossiping.
    pub async fn leave(&self) {
        self.end(true).await;
    }

    /// Stops gossiping without a word, as a crash does; the others will see this server fail.
    pub async fn stop(&self) {
        self.end(false).await;
    }

    async fn end(&self, leave: bool) {
        let (done, ended) = oneshot::channel();
        if self.requests.send(Request::End { leave, done }).await.is_ok() {
            let _ = ended.await;
        }
    }

    fn request(&self, request: Request) -> Result<(), JoinError> {
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => JoinError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => JoinError::Stopped,
        })
    }
}

/// The addresses of a name, at least one; of those only the ones that a socket at `own` can reach.
async fn resolve(address: &str, own: SocketAddr) -> Result<Vec<SocketAddr>, String> {
    let mut found: Vec<SocketAddr> =
        tokio::net::lookup_host(address).await.map_err(|error| error.to_string())?.collect();
    if found.is_empty() {
        return Err("the name has no address".to_owned());
    }
    found.retain(|address| address.is_ipv4() == own.is_ipv4());
    if found.is_empty() {
        let family = if own.is_ipv4() { "IPv4" } else { "IPv6" };
        return Err(format!("it has no {family} address, and this server gossips over {family}"));
    }
    Ok(found)
}

/// Milliseconds since 1970: only orders the lives of one member.
fn now_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Higher than in every earlier life, also when the clock was set back.
fn next_generation(file: &Path) -> Result<u64, GossipError> {
    let before = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let generation = before.map_or(0, |number| number.saturating_add(2)).max(now_millis());
    let temporary = file.with_extension("new");
    std::fs::write(&temporary, format!("{generation}\n"))
        .and_then(|()| std::fs::rename(&temporary, file))
        .map_err(|cause| GossipError::Generation { path: file.display().to_string(), cause })?;
    Ok(generation)
}

#[cfg(test)]
mod tests;

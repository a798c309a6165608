//! What people and applications tell autopilot to do and to leave: orders that stand until they are lifted or run out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use raft_types::{ServerId, Time};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{EventKind, Reason, duration_text};

/// Who does something: autopilot itself, or whoever gave the order, by a name of the application's choice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Actor(Cow<'static, str>);

impl Actor {
    /// Autopilot, by its own rules.
    pub const AUTOPILOT: Self = Self(Cow::Borrowed("autopilot"));
    /// Somebody who asked and gave no name.
    pub const REQUESTER: Self = Self(Cow::Borrowed("requester"));

    /// Somebody with a name.
    #[must_use]
    pub fn named(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Who gave an order, why and when.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Order {
    /// Who.
    pub by: Actor,
    /// Why, in their words; may be empty.
    #[serde(default)]
    pub why: String,
    /// When.
    pub at: Time,
}

/// Autopilot changes nothing on its own for a while.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pause {
    /// Who, why and when.
    #[serde(flatten)]
    pub order: Order,
    /// Until when.
    pub until: Time,
}

/// A time in which a server, or everything, is worked on: what happens to it then is no reason to change anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// Which server; the whole cluster if absent.
    #[serde(default)]
    pub server: Option<ServerId>,
    /// From when on.
    pub from: Time,
    /// Until when.
    pub until: Time,
    /// Who, why and when.
    #[serde(flatten)]
    pub order: Order,
}

impl Window {
    /// Whether it is open.
    #[must_use]
    pub fn is_open(&self, now: Time) -> bool {
        self.from <= now && now < self.until
    }
}

/// Everything that was ordered. Times are those of the clock of the autopilot that holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Hand {
    /// Nothing is changed on autopilot's own account.
    pub paused: Option<Pause>,
    /// Who gets neither a vote nor leadership.
    pub cordoned: BTreeMap<ServerId, Order>,
    /// Who gives both away. A drained server counts as cordoned.
    pub drained: BTreeMap<ServerId, Order>,
    /// Maintenance, past windows excluded.
    pub windows: Vec<Window>,
    /// Who was told that it may stop, and until when it counts as gone in answers to others.
    pub leaving: BTreeMap<ServerId, Time>,
}

impl Hand {
    /// The most orders about servers that are held, and the most windows.
    pub const ORDERS_MAX: usize = 4_096;
    /// The longest name and the longest reason, in bytes.
    pub const TEXT_BYTES_MAX: usize = 1_024;
    /// The longest pause and the longest and farthest window.
    pub const SPAN_MAX: Duration = Duration::from_secs(365 * 86_400);
    /// How long a server that was told that it may stop counts as gone in the answers to others.
    pub const LEAVING: Duration = Duration::from_secs(60);

    /// Follows an instruction. Tells whether anything is different now.
    ///
    /// # Errors
    /// See [`HandError`]; nothing is changed then.
    pub fn follow(&mut self, instruction: Instruction, by: &Actor, now: Time) -> Result<bool, HandError> {
        self.expire(now);
        let order = Self::order(&instruction, by, now)?;
        match instruction {
            Instruction::Cordon { server, .. } => Self::put(&mut self.cordoned, server, order),
            Instruction::Uncordon { server } => Ok(self.cordoned.remove(&server).is_some()),
            Instruction::Drain { server, .. } => Self::put(&mut self.drained, server, order),
            Instruction::Undrain { server } => Ok(self.drained.remove(&server).is_some()),
            Instruction::Pause { lasts, .. } => {
                check_span(lasts)?;
                self.paused = Some(Pause { order, until: now + lasts });
                Ok(true)
            }
            Instruction::Resume => Ok(self.paused.take().is_some()),
            Instruction::Schedule { server, starts_in, lasts, .. } => {
                check_span(lasts)?;
                if starts_in > Self::SPAN_MAX {
                    return Err(HandError::Span);
                }
                if self.windows.len() >= Self::ORDERS_MAX {
                    return Err(HandError::TooMany);
                }
                let from = now + starts_in;
                self.windows.push(Window { server, from, until: from + lasts, order });
                Ok(true)
            }
            Instruction::Unschedule { server } => {
                let before = self.windows.len();
                self.windows.retain(|window| window.server != server);
                Ok(self.windows.len() != before)
            }
        }
    }

    fn order(instruction: &Instruction, by: &Actor, now: Time) -> Result<Order, HandError> {
        let why = instruction.why();
        let bytes = why.len().max(by.as_str().len());
        if bytes > Self::TEXT_BYTES_MAX {
            return Err(HandError::TooLong { bytes });
        }
        Ok(Order { by: by.clone(), why: why.to_owned(), at: now })
    }

    /// An order that stands already stays as it was first given.
    fn put(
        orders: &mut BTreeMap<ServerId, Order>,
        server: ServerId,
        order: Order,
    ) -> Result<bool, HandError> {
        if orders.contains_key(&server) {
            return Ok(false);
        }
        if orders.len() >= Self::ORDERS_MAX {
            return Err(HandError::TooMany);
        }
        orders.insert(server, order);
        Ok(true)
    }

    /// Drops what has run out.
    pub fn expire(&mut self, now: Time) {
        if self.paused.as_ref().is_some_and(|pause| pause.until <= now) {
            self.paused = None;
        }
        self.windows.retain(|window| now < window.until);
        self.leaving.retain(|_, until| now < *until);
    }

    /// Whether no order stands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paused.is_none()
            && self.cordoned.is_empty()
            && self.drained.is_empty()
            && self.windows.is_empty()
            && self.leaving.is_empty()
    }
}

fn check_span(lasts: Duration) -> Result<(), HandError> {
    if lasts.is_zero() || lasts > Hand::SPAN_MAX { Err(HandError::Span) } else { Ok(()) }
}

/// What can be ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Instruction {
    /// The server gets neither a vote nor leadership. It keeps what it has.
    Cordon {
        /// Which server; it need not be a member.
        server: ServerId,
        /// Why.
        why: String,
    },
    /// Lifts that.
    Uncordon {
        /// Which server.
        server: ServerId,
    },
    /// The server gives leadership and its vote away, as soon as that is safe, and gets neither back.
    Drain {
        /// Which server; it need not be a member.
        server: ServerId,
        /// Why.
        why: String,
    },
    /// Lifts that.
    Undrain {
        /// Which server.
        server: ServerId,
    },
    /// Autopilot changes nothing on its own for a while; requests are served. Takes the place of an earlier pause.
    Pause {
        /// For how long; more than nothing and at most [`Hand::SPAN_MAX`].
        #[serde(with = "duration_text")]
        lasts: Duration,
        /// Why.
        why: String,
    },
    /// Ends that.
    Resume,
    /// Sets a maintenance window.
    Schedule {
        /// Which server; the whole cluster if absent.
        server: Option<ServerId>,
        /// When it begins, at most [`Hand::SPAN_MAX`] from now.
        #[serde(with = "duration_text")]
        starts_in: Duration,
        /// For how long; more than nothing and at most [`Hand::SPAN_MAX`].
        #[serde(with = "duration_text")]
        lasts: Duration,
        /// Why.
        why: String,
    },
    /// Takes back all windows of this server, or those of the whole cluster.
    Unschedule {
        /// Which server; the whole cluster if absent.
        server: Option<ServerId>,
    },
}

impl Instruction {
    fn why(&self) -> &str {
        match self {
            Self::Cordon { why, .. }
            | Self::Drain { why, .. }
            | Self::Pause { why, .. }
            | Self::Schedule { why, .. } => why,
            Self::Uncordon { .. } | Self::Undrain { .. } | Self::Resume | Self::Unschedule { .. } => "",
        }
    }

    /// The server that it is about, if it is about one.
    #[must_use]
    pub const fn server(&self) -> Option<&ServerId> {
        match self {
            Self::Cordon { server, .. }
            | Self::Uncordon { server }
            | Self::Drain { server, .. }
            | Self::Undrain { server } => Some(server),
            Self::Schedule { server, .. } | Self::Unschedule { server } => server.as_ref(),
            Self::Pause { .. } | Self::Resume => None,
        }
    }

    /// What a timeline calls it.
    #[must_use]
    pub const fn event(&self) -> EventKind {
        match self {
            Self::Cordon { .. } => EventKind::Cordoned,
            Self::Uncordon { .. } => EventKind::Uncordoned,
            Self::Drain { .. } => EventKind::Draining,
            Self::Undrain { .. } => EventKind::Undrained,
            Self::Pause { .. } => EventKind::Paused,
            Self::Resume => EventKind::Resumed,
            Self::Schedule { .. } => EventKind::Scheduled,
            Self::Unschedule { .. } => EventKind::Unscheduled,
        }
    }

    /// Why, for a timeline.
    #[must_use]
    pub fn reason(&self, by: &Actor) -> Reason {
        let (by, why) = (by.clone(), self.why().to_owned());
        match self {
            Self::Cordon { .. } => Reason::Cordoned { by, why },
            Self::Drain { .. } => Reason::Drained { by, why },
            Self::Pause { lasts, .. } => Reason::Paused { by, why, left: *lasts },
            Self::Schedule { lasts, .. } => Reason::Maintenance { by, why, left: *lasts },
            Self::Uncordon { .. } | Self::Undrain { .. } | Self::Resume | Self::Unschedule { .. } => {
                Reason::Requested
            }
        }
    }
}

/// An order is refused. Nothing was changed; a retry of the same order fails again.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandError {
    /// Too many orders stand. Lift some first.
    #[error("{} orders stand, which is the limit", Hand::ORDERS_MAX)]
    TooMany,
    /// The name or the reason is too long.
    #[error("a name or reason of {bytes} bytes is too long, {} is the limit", Hand::TEXT_BYTES_MAX)]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The time is empty or too long.
    #[error("it must last for more than nothing and at most {} days", Hand::SPAN_MAX.as_secs() / 86_400)]
    Span,
}

/// Whether a server may be stopped now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopAnswer {
    /// Who was asked about.
    pub server: ServerId,
    /// Whether it may.
    pub safe: bool,
    /// How many voters may fail once it has stopped, if it may.
    pub failure_tolerance: usize,
    /// Every reason against it; none if it is safe.
    pub reasons: Vec<Reason>,
}

//! S15: a request of an older term changes nothing. E10, M10: a pre-vote moves no term and is granted only where a vote
//! would be; nobody leaves a leader that it hears for a candidate (E13, E19), and TimeoutNow is obeyed only if it comes
//! from the leader of the present term (E18). R03: what is committed is no conflict.

use raft::core::{Effect, Event, Input, RaftCore, ReplyToken, Request, Response, Role};
use raft::{EntryId, LogIndex, ServerId, Term, Time};

use super::Verdict;

/// A request, and what its receiver showed before.
#[derive(Debug)]
pub struct Asked {
    from: ServerId,
    request: Request,
    reply: ReplyToken,
    shown: Shown,
    commit: LogIndex,
    hears_another: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Shown {
    term: Term,
    voted_for: Option<ServerId>,
    role: Role,
    leader: Option<ServerId>,
    last: EntryId,
}

impl Shown {
    fn of(core: &RaftCore) -> Self {
        Self {
            term: core.term(),
            voted_for: core.hard_state().voted_for.clone(),
            role: core.role(),
            leader: core.leader().map(|peer| peer.id.clone()),
            last: core.last(),
        }
    }
}

impl Asked {
    /// Notes a request that a core is about to get; `None` for other inputs, and where a timer that is due could change
    /// the same things.
    #[must_use]
    pub fn of(
        core: &RaftCore,
        input: &Input,
        now: Time,
        election_timeout: std::time::Duration,
    ) -> Option<Self> {
        let Input::Request { from, request, reply, .. } = input else { return None };
        if core.next_wake() <= now {
            return None;
        }
        let fresh = core.leader_contact().is_some_and(|contact| now.since(contact) < election_timeout);
        let other = core.leader().is_some_and(|leader| leader.id != from.id);
        Some(Self {
            from: from.id.clone(),
            request: request.clone(),
            reply: *reply,
            shown: Shown::of(core),
            commit: core.commit_index(),
            hears_another: core.role() == Role::Leader || (fresh && other),
        })
    }

    /// Whether a snapshot from outside is what is committed here, and others went on without it.
    fn is_left_behind(core: &RaftCore, prev: EntryId) -> bool {
        core.first_index() == prev.index.next()
            && core.term_at(prev.index).is_some_and(|own| own < prev.term)
            && core.snapshot().is_some_and(|meta| meta.last.index == prev.index)
    }

    /// Judges what the core did.
    ///
    /// # Errors
    /// It was moved by what must not move it.
    pub fn judge(&self, core: &RaftCore, effects: &[Effect]) -> Verdict {
        let (me, from, now) = (&core.me().id, &self.from, Shown::of(core));
        let before = self.shown.term;
        let answer = effects.iter().find_map(|effect| match effect {
            Effect::Respond { reply, response } if *reply == self.reply => Some(response),
            _ => None,
        });
        let anew = effects.iter().any(|effect| matches!(effect, Effect::Notify(Event::StartedOver { .. })));
        let older = self.request.term().is_some_and(|term| term < before);
        if older && now != self.shown {
            return Err(format!("{me} is moved by a request of {from} in an older term: {:?}", self.request));
        }
        match (&self.request, answer) {
            // Whoever is shown that it has lost something begins anew, and gives up what it was about to do.
            (Request::PreVote { .. }, _)
                if (now.term, now.role) != (before, if anew { Role::Follower } else { self.shown.role }) =>
            {
                Err(format!("a pre-vote of {from} moves {me} from term {before} to {}", now.term))
            }
            (Request::PreVote { last, .. }, Some(Response::PreVote { granted: true, .. }))
                if *last < self.shown.last =>
            {
                Err(format!(
                    "{me} ends at {} and grants a pre-vote to {from}, which ends at {last}",
                    now.last
                ))
            }
            (Request::Vote { transfer: false, .. }, _) if self.hears_another && now.term > before => {
                Err(format!("{me} leaves the leader of term {before}, which it hears, for {from}"))
            }
            (Request::TimeoutNow { term }, _) if now.term > before => {
                let rightful = self.shown.leader.as_ref() == Some(from) && term.is_none_or(|t| t == before);
                let sentence = || format!("{me} campaigns in term {} because {from} says so", now.term);
                if rightful { Ok(()) } else { Err(sentence()) }
            }
            (Request::Append { term, prev, .. }, Some(Response::Append { success: false, .. }))
                if *term >= before && prev.index <= self.commit && !Self::is_left_behind(core, *prev) =>
            {
                Err(format!("{me} has committed {} and refuses what follows {prev}", self.commit))
            }
            _ => Ok(()),
        }
    }
}

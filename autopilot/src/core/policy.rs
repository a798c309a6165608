//! The promoter behind a guard: a panic is caught and reported, and the default answer stands in. The same for one that
//! gives no answer at all.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use raft_types::ServerId;

use crate::model::{NodeType, Reason, ServerState, State};
use crate::promoter::{Changes, DeadServers, Promoter, PromoterInput};

pub(super) struct Policy<'a> {
    /// `None` where it does not answer.
    promoter: Option<&'a dyn Promoter>,
    name: Arc<str>,
    /// The first panic of the round, or why it does not answer.
    fault: Option<String>,
}

impl<'a> Policy<'a> {
    pub(super) fn new(promoter: &'a dyn Promoter) -> Self {
        let mut policy = Self { promoter: Some(promoter), name: Arc::from("unnamed"), fault: None };
        policy.name = policy.ask(|promoter| Arc::from(promoter.name())).unwrap_or_default();
        policy
    }

    /// In the place of a promoter that does not answer.
    pub(super) fn absent(name: &str, fault: &str) -> Self {
        Self { promoter: None, name: Arc::from(name), fault: Some(fault.to_owned()) }
    }

    /// What is to be said of a promoter that does not answer, if it does not.
    pub(super) fn absence(&self) -> Option<Reason> {
        self.fault().filter(|_| self.promoter.is_none())
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What is to be said about a panic or a missing answer, if there was one.
    pub(super) fn fault(&self) -> Option<Reason> {
        self.fault.as_ref().map(|fault| self.wrong(fault.clone()))
    }

    /// A complaint about this promoter.
    pub(super) fn wrong(&self, fault: impl Into<String>) -> Reason {
        Reason::PromoterFault { promoter: self.name.clone(), fault: fault.into() }
    }

    pub(super) fn changes(&mut self, input: &PromoterInput<'_>) -> Changes {
        self.ask(|promoter| promoter.changes(input)).unwrap_or_default()
    }

    /// A promoter that does not say so gives nobody a vote.
    pub(super) fn may_vote(&mut self, server: &ServerState) -> bool {
        self.ask(|promoter| promoter.may_vote(server)).unwrap_or(false)
    }

    pub(super) fn node_type(&mut self, server: &ServerState, state: &State) -> NodeType {
        self.ask(|promoter| promoter.node_type(server, state)).unwrap_or_default()
    }

    /// `None` when the promoter did not say: then nothing may be removed, since it may have wanted to keep all.
    pub(super) fn keep_failed(
        &mut self,
        input: &PromoterInput<'_>,
        dead: &DeadServers,
    ) -> Option<BTreeMap<ServerId, String>> {
        self.ask(|promoter| promoter.keep_failed(input, dead))
    }

    pub(super) fn optimistic_failure_tolerance(&mut self, state: &State) -> Option<usize> {
        self.ask(|promoter| promoter.optimistic_failure_tolerance(state)).flatten()
    }

    pub(super) fn failure_domain(&mut self, server: &ServerState) -> Option<String> {
        self.ask(|promoter| promoter.failure_domain(server)).flatten()
    }

    pub(super) fn server_details(&mut self, server: &ServerState, state: &State) -> BTreeMap<String, String> {
        self.ask(|promoter| promoter.server_details(server, state)).unwrap_or_default()
    }

    pub(super) fn state_details(&mut self, state: &State) -> BTreeMap<String, String> {
        self.ask(|promoter| promoter.state_details(state)).unwrap_or_default()
    }

    fn ask<T>(&mut self, question: impl FnOnce(&dyn Promoter) -> T) -> Option<T> {
        let promoter = self.promoter?;
        // A promoter is pure, so nothing half-changed can be seen after its panic.
        match catch_unwind(AssertUnwindSafe(|| question(promoter))) {
            Ok(answer) => Some(answer),
            Err(panic) => {
                let text = panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned());
                let text = text.unwrap_or_else(|| String::from("no message"));
                self.fault.get_or_insert_with(|| format!("it panicked: {text}"));
                None
            }
        }
    }
}

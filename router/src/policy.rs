//! Who may do what: rules by proven key, flow and verb.
//!
//! Owns the rules and their text form. What no rule allows is denied, so the empty policy, the
//! default, denies everything. It is asked once per binding of a flow and generation, never per
//! message, and always with the key that the handshake proved.
//!
//! ```toml
//! [[rule]]
//! key = "…"                     # a public key, as `cubed key` prints it
//! flow = "orders.*"             # one flow, or a prefix and `*`
//! verbs = ["send", "request"]   # of send, request, publish, subscribe, observe
//! ```
//!
//! A `*` may only stand as the last segment, where it stands for one or more segments: `orders.*`
//! covers `orders.new` and `orders.new.eu`, but neither `orders` nor `ordersx`; `*` alone covers
//! every flow. Several rules may name one key; together they allow what any of them allows.
//!
//! `key = "accepted"` stands for every key that the channel's keep has accepted (see [`crate::keep`]). Without such a rule
//! an accepted key has a session and may do nothing in it.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use cubed_transport::identity::PublicKey;
use serde::Deserialize;
use toml::Spanned;

use crate::address::{FlowName, NameError};
use crate::generation::Generation;

pub(crate) use error::line_of;
pub use error::{PolicyError, PolicyFault};

mod error;

/// Every policy made in this process gets the next number, so that a swap is always visible.
static POLICIES: Generation = Generation::new();

/// Longest policy file that is read, bytes: 64 k rules of 256 bytes.
pub const POLICY_BYTES_MAX: u64 = 16 << 20;

/// In place of a key: every key that the keep has accepted.
const ACCEPTED: &str = "accepted";

/// Rules about who may do what. Immutable: change the rules by swapping the policy.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: HashMap<PublicKey, Vec<Rule>>,
    /// For keys that the keep has accepted.
    accepted: Vec<Rule>,
    open: bool,
    generation: u32,
}

impl Policy {
    /// Admits nobody and allows nothing.
    pub fn deny() -> Self {
        let (rules, accepted) = (HashMap::new(), Vec::new());
        Self { rules, accepted, open: false, generation: POLICIES.advance() }
    }

    /// Admits everybody who proves a key, and allows everything. For first steps and tests.
    pub fn open() -> Self {
        Self { open: true, ..Self::deny() }
    }

    /// Reads a policy file (TOML, see the module's page).
    ///
    /// # Errors
    ///
    /// [`PolicyError`] names the file and, for wrong contents, the line.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, PolicyError> {
        let path = path.as_ref();
        let text = read_limited(path).map_err(|fault| PolicyError::in_file(path, fault))?;
        Self::from_toml(&text).map_err(|error| error.with_file(path))
    }

    /// Reads a policy from TOML text (see the module's page).
    ///
    /// # Errors
    ///
    /// [`PolicyError`] names the line; unknown fields are errors, for a typing mistake must not
    /// widen or narrow a rule in silence.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let file: PolicyFile =
            toml::from_str(text).map_err(|error| PolicyError::from_toml(text, &error))?;
        let mut policy = Self::deny();
        for entry in file.rule {
            match entry.check(text)? {
                (Some(key), rule) => policy.rules.entry(key).or_default().push(rule),
                (None, rule) => policy.accepted.push(rule),
            }
        }
        Ok(policy)
    }

    /// Adds a rule. The result counts as another policy: it has a new generation.
    #[must_use]
    pub fn with_rule(mut self, key: PublicKey, flows: FlowPattern, verbs: &[Verb]) -> Self {
        let rule = Rule { flows, verbs: Verbs::of(verbs) };
        self.rules.entry(key).or_default().push(rule);
        self.generation = POLICIES.advance();
        self
    }

    /// Adds a rule for every key that the keep has accepted.
    #[must_use]
    pub fn with_accepted_rule(mut self, flows: FlowPattern, verbs: &[Verb]) -> Self {
        self.accepted.push(Rule { flows, verbs: Verbs::of(verbs) });
        self.generation = POLICIES.advance();
        self
    }

    /// Whether this key may have a session at all: some rule names it.
    pub fn admits(&self, key: &PublicKey) -> bool {
        self.open || self.rules.contains_key(key)
    }

    /// Whether this key may do `verb` to `flow`.
    pub fn allows(&self, key: &PublicKey, verb: Verb, flow: &str) -> bool {
        let covered = |rule: &Rule| rule.verbs.contains(verb) && rule.flows.covers(flow);
        self.open || self.rules.get(key).is_some_and(|rules| rules.iter().any(covered))
    }

    /// Whether a key that the keep has accepted may do `verb` to `flow`.
    pub fn allows_accepted(&self, verb: Verb, flow: &str) -> bool {
        let covered = |rule: &Rule| rule.verbs.contains(verb) && rule.flows.covers(flow);
        self.open || self.accepted.iter().any(covered)
    }

    /// Whether everybody is admitted; say so where people look.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Differs between any two policies of this process that were built apart; clones share it.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The keys that rules name, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.rules.keys()
    }

    /// How many rules there are.
    pub fn rules_count(&self) -> usize {
        self.accepted.len() + self.rules.values().map(Vec::len).sum::<usize>()
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::deny()
    }
}

/// What somebody may do to a flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verb {
    /// Send messages to it.
    Send,
    /// Send requests to it and get replies.
    Request,
    /// Publish to its subscribers.
    Publish,
    /// Receive what is published.
    Subscribe,
    /// Watch its counters and presence.
    Observe,
}

impl Verb {
    /// All verbs, in the order of their text forms in the documentation.
    pub const ALL: [Self; 5] =
        [Self::Send, Self::Request, Self::Publish, Self::Subscribe, Self::Observe];

    /// The text form, as written in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Request => "request",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Observe => "observe",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The flows that a rule covers: one, or all below a prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FlowPattern {
    /// Written `*`.
    All,
    /// Written as the flow's name.
    One(FlowName),
    /// Written `prefix.*`: flows with at least one more segment.
    Below(FlowName),
}

impl FlowPattern {
    /// Whether `flow` is among them.
    pub fn covers(&self, flow: &str) -> bool {
        match self {
            Self::All => true,
            Self::One(name) => name.as_str() == flow,
            Self::Below(prefix) => flow
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.starts_with('.')),
        }
    }
}

impl FromStr for FlowPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "*" {
            return Ok(Self::All);
        }
        match text.strip_suffix(".*") {
            Some(prefix) => Ok(Self::Below(FlowName::new(prefix)?)),
            None => Ok(Self::One(FlowName::new(text)?)),
        }
    }
}

impl fmt::Display for FlowPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("*"),
            Self::One(name) => write!(formatter, "{name}"),
            Self::Below(prefix) => write!(formatter, "{prefix}.*"),
        }
    }
}

#[derive(Clone, Debug)]
struct Rule {
    flows: FlowPattern,
    verbs: Verbs,
}

/// A set of verbs, one bit each.
#[derive(Clone, Copy, Debug)]
struct Verbs(u8);

impl Verbs {
    fn of(verbs: &[Verb]) -> Self {
        Self(verbs.iter().fold(0, |bits, verb| bits | 1 << *verb as u8))
    }

    fn contains(self, verb: Verb) -> bool {
        self.0 & 1 << verb as u8 != 0
    }
}

/// The file as written, each value with its place in the text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    #[serde(default)]
    rule: Vec<RuleEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    key: Spanned<String>,
    flow: Spanned<String>,
    verbs: Spanned<Vec<Spanned<String>>>,
}

impl RuleEntry {
    /// The rule, and whose it is; `None`: of every accepted key.
    fn check(&self, text: &str) -> Result<(Option<PublicKey>, Rule), PolicyError> {
        let at = |start: usize, fault| PolicyError::at(text, start, fault);
        let key = match self.key.get_ref().as_str() {
            ACCEPTED => None,
            key => Some(key.parse::<PublicKey>().map_err(|error| {
                at(self.key.span().start, PolicyFault::Key { reason: error.to_string() })
            })?),
        };
        let pattern = self.flow.get_ref();
        let flows = pattern.parse().map_err(|error| {
            at(self.flow.span().start, PolicyFault::Flow { pattern: pattern.clone(), error })
        })?;
        if self.verbs.get_ref().is_empty() {
            return Err(at(self.verbs.span().start, PolicyFault::NoVerbs));
        }
        let mut verbs = Vec::new();
        for entry in self.verbs.get_ref() {
            let found = Verb::ALL.into_iter().find(|verb| verb.as_str() == entry.get_ref());
            verbs.push(found.ok_or_else(|| {
                at(entry.span().start, PolicyFault::Verb { word: entry.get_ref().clone() })
            })?);
        }
        Ok((key, Rule { flows, verbs: Verbs::of(&verbs) }))
    }
}

fn read_limited(path: &Path) -> Result<String, PolicyFault> {
    let bytes = std::fs::metadata(path).map_err(PolicyFault::Unreadable)?.len();
    if bytes > POLICY_BYTES_MAX {
        return Err(PolicyFault::TooLong { bytes });
    }
    std::fs::read_to_string(path).map_err(PolicyFault::Unreadable)
}

#[cfg(test)]
pub(crate) mod tests;

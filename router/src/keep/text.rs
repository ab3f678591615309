//! The keep as text: TOML with a check over all of it, so that no damage passes for an older or an emptier keep.

use std::fmt;
use std::net::SocketAddr;

use cubed_transport::identity::PublicKey;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{ENTRIES_MAX, Entry, Keep, KeyState, PENDING_MAX, Portrait};
use crate::policy::line_of;

/// The layout that this version writes and reads.
const VERSION: u32 = 1;
const CHECK: &str = "check = \"";

/// Why text is not a keep: its line, and what is wrong there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeepTextError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for KeepTextError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for KeepTextError {}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    channel: &'a str,
    peer: Vec<WrittenPeer<'a>>,
}

#[derive(Serialize)]
struct WrittenPeer<'a> {
    key: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    check: Spanned<String>,
    version: Spanned<u32>,
    channel: Spanned<String>,
    #[serde(default)]
    peer: Vec<Spanned<ReadPeer>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadPeer {
    key: Spanned<String>,
    state: Spanned<String>,
    address: Option<SocketAddr>,
    name: Option<String>,
    role: Option<String>,
    mode: Option<u8>,
    kind: Option<u8>,
}

impl Keep {
    /// The keep of this channel as text; [`Keep::from_toml`] reads it.
    pub fn to_toml(&self, channel: &str) -> String {
        let peer = self.entries().map(WrittenPeer::new).collect();
        let written = Written { version: VERSION, channel, peer };
        // Plain text and numbers have no way to fail.
        let body = toml::to_string(&written).unwrap_or_default();
        format!("{CHECK}{}\"\n{body}", check_of(&body))
    }

    /// Reads what [`Keep::to_toml`] wrote, and for which channel; `channel`: only for this one. The rules are those of an
    /// empty keep: set them with [`Keep::with_rules`].
    ///
    /// # Errors
    ///
    /// [`KeepTextError`] names the line: damaged text, another channel's, or one changed by hand.
    pub fn from_toml(text: &str, channel: Option<&str>) -> Result<(Self, String), KeepTextError> {
        let at =
            |start: usize, reason: String| KeepTextError { line: line_of(text, start), reason };
        let read: Read = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            at(start, error.message().to_owned())
        })?;
        if *read.version.get_ref() != VERSION {
            let reason =
                format!("this is version {}, and {VERSION} is read", read.version.get_ref());
            return Err(at(read.version.span().start, reason));
        }
        if let Some(channel) = channel
            && read.channel.get_ref() != channel
        {
            let reason =
                format!("the keep of channel {:?}, not of {channel:?}", read.channel.get_ref());
            return Err(at(read.channel.span().start, reason));
        }
        let mut keep = Self::default();
        for peer in &read.peer {
            let entry = peer.get_ref().check(text)?;
            if keep.entries.contains_key(&entry.key) {
                return Err(at(peer.span().start, "this key stands here twice".to_owned()));
            }
            keep.set(entry, &mut Vec::new());
        }
        let body = text.strip_prefix(CHECK).and_then(|rest| rest.split_once("\"\n"));
        if body.is_none_or(|(_, body)| check_of(body) != *read.check.get_ref()) {
            let reason = "the check does not match the text: it is damaged or was changed by hand; restore a copy, \
                          or remove the file to begin with an empty keep";
            return Err(at(read.check.span().start, reason.to_owned()));
        }
        if keep.entries.len() > ENTRIES_MAX || keep.pending.len() > PENDING_MAX {
            return Err(at(0, "more keys than a keep may have".to_owned()));
        }
        Ok((keep, read.channel.into_inner()))
    }
}

impl<'a> WrittenPeer<'a> {
    fn new(entry: &'a Entry) -> Self {
        let portrait = entry.portrait.as_ref();
        Self {
            key: entry.key.to_string(),
            state: entry.state.as_str(),
            address: entry.address,
            name: portrait.map(|portrait| portrait.name.as_str()),
            role: portrait.map(|portrait| portrait.role.as_str()),
            mode: portrait.map(|portrait| portrait.mode),
            kind: portrait.map(|portrait| portrait.kind),
        }
    }
}

impl ReadPeer {
    fn check(&self, text: &str) -> Result<Entry, KeepTextError> {
        let at =
            |start: usize, reason: String| KeepTextError { line: line_of(text, start), reason };
        let key = self.key.get_ref().parse::<PublicKey>();
        let key = key.map_err(|error| at(self.key.span().start, format!("key: {error}")))?;
        let word = self.state.get_ref();
        let state = KeyState::ALL.into_iter().find(|state| state.as_str() == word);
        let state = state.ok_or_else(|| {
            at(
                self.state.span().start,
                format!("{word:?} is no state; use pending, accepted or rejected"),
            )
        })?;
        let portrait = match (&self.name, &self.role, self.mode, self.kind) {
            (None, None, None, None) => None,
            (Some(name), Some(role), Some(mode), Some(kind)) => {
                Some(Portrait { name: name.clone(), role: role.clone(), mode, kind })
            }
            _ => {
                let reason = "name, role, mode and kind stand together or not at all".to_owned();
                return Err(at(self.key.span().start, reason));
            }
        };
        Ok(Entry { key, state, portrait, address: self.address })
    }
}

fn check_of(body: &str) -> String {
    blake3::hash(body.as_bytes()).to_hex()[..32].to_owned()
}

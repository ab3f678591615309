//! Names of flows, and the four levels of an address: channel, node, unit, flow.
//!
//! Owns the grammar of both. What is held here has passed it: a [`FlowName`] is always valid, and an
//! [`Address`] always prints to text that parses back to the same address.
//!
//! ```text
//! address = [ [ [ channel "/" ] node "/" ] unit "/" ] flow      leftmost parts may be left out
//! flow    = segment *( "." segment )                            1 to 255 bytes in all
//! segment = 1*( ALPHA / DIGIT / "_" / "-" )
//! channel = unit = label / ""                                   "" is local
//! node    = key-text / label / ""                               a peer's public key, or its name
//! label   = 1*64( ALPHA / DIGIT / "_" / "-" / "." )             no "." first or last
//! ```
//!
//! A node part with the shape of a public key (56 characters `a-z2-7`) is one or is refused: a
//! mistyped key never becomes the name of some peer.

use std::borrow::Borrow;
use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use cubed_transport::identity::{PUBLIC_KEY_TEXT_CHARACTERS, PublicKey, PublicKeyTextError};

/// Longest flow name, bytes: its length travels as one byte.
pub const FLOW_NAME_BYTES_MAX: usize = 255;
/// Longest channel, node or unit name, bytes: what a greeting carries.
pub const LABEL_BYTES_MAX: usize = 64;

/// The name of a flow: dotted segments of ASCII letters, digits, `_` and `-`.
///
/// Case matters. Cheap to clone; equal to and hashed like its text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowName(Arc<str>);

impl FlowName {
    /// Checks `name` against the grammar and keeps a copy.
    ///
    /// # Errors
    ///
    /// [`NameError`] says which rule is broken and at which byte.
    pub fn new(name: &str) -> Result<Self, NameError> {
        Self::check(name)?;
        Ok(Self(name.into()))
    }

    /// Checks `name` against the grammar without keeping it. Allocates nothing.
    ///
    /// # Errors
    ///
    /// As [`FlowName::new`].
    pub fn check(name: &str) -> Result<(), NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > FLOW_NAME_BYTES_MAX {
            let bytes = name.len();
            return Err(NameError::TooLong { bytes, bytes_max: FLOW_NAME_BYTES_MAX });
        }
        check_characters(name)?;
        match empty_segment(name) {
            Some(at) => Err(NameError::EmptySegment { at }),
            None => Ok(()),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between the dots, leftmost first; at least one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

impl FromStr for FlowName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<&str> for FlowName {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl AsRef<str> for FlowName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for FlowName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FlowName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for FlowName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FlowName({})", self.0)
    }
}

/// Which node an address means, when it is not this one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NodeName {
    /// A peer by its public key: means that peer and no other.
    Key(PublicKey),
    /// A peer by the name that this node's own configuration gives it.
    Name(String),
}

impl fmt::Display for NodeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(formatter, "{key}"),
            Self::Name(name) => formatter.write_str(name),
        }
    }
}

/// Where a message goes: channel, node, unit and flow; a level that is `None` is local.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    channel: Option<String>,
    node: Option<NodeName>,
    unit: Option<String>,
    flow: FlowName,
}

impl Address {
    /// An address of a flow on this node.
    pub fn local(flow: FlowName) -> Self {
        Self { channel: None, node: None, unit: None, flow }
    }

    /// An address of a flow on the node with this key, in the local channel.
    pub fn at(key: PublicKey, flow: FlowName) -> Self {
        Self { channel: None, node: Some(NodeName::Key(key)), unit: None, flow }
    }

    /// The channel's name, or `None` for this one.
    pub fn channel(&self) -> Option<&str> {
        self.channel.as_deref()
    }

    /// The node, or `None` for this one.
    pub fn node(&self) -> Option<&NodeName> {
        self.node.as_ref()
    }

    /// The named group of shards, or `None` for whichever owns the flow.
    pub fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }

    /// The flow.
    pub fn flow(&self) -> &FlowName {
        &self.flow
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut parts = text.rsplit('/');
        let flow = parts.next().unwrap_or_default();
        let flow = FlowName::new(flow).map_err(|error| AddressError::new(Level::Flow, error))?;
        let unit = label(parts.next(), Level::Unit)?;
        let node = match parts.next() {
            None | Some("") => None,
            Some(part) => Some(node_name(part)?),
        };
        let channel = label(parts.next(), Level::Channel)?;
        if parts.next().is_some() {
            return Err(AddressError { level: Level::Channel, cause: Cause::TooManyLevels });
        }
        Ok(Self { channel, node, unit, flow })
    }
}

impl fmt::Display for Address {
    /// The shortest text that means this address.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (channel, node, unit) = (&self.channel, &self.node, &self.unit);
        if let Some(channel) = channel {
            write!(formatter, "{channel}/")?;
        }
        match node {
            Some(node) => write!(formatter, "{node}/")?,
            None if channel.is_some() => formatter.write_str("/")?,
            None => {}
        }
        match unit {
            Some(unit) => write!(formatter, "{unit}/")?,
            None if channel.is_some() || node.is_some() => formatter.write_str("/")?,
            None => {}
        }
        write!(formatter, "{}", self.flow)
    }
}

/// Why text is not a name (the caller's fault). Positions are byte offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameError {
    /// Nothing where a name must be.
    Empty,
    /// Longer than the limit.
    TooLong {
        /// Length found.
        bytes: usize,
        /// Longest allowed.
        bytes_max: usize,
    },
    /// A character outside ASCII letters, digits, `_`, `-` and `.`.
    Character {
        /// The first such character.
        character: char,
        /// Where it begins.
        at: usize,
    },
    /// A dot at an end, or two in a row.
    EmptySegment {
        /// Where a segment was expected.
        at: usize,
    },
}

impl fmt::Display for NameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("is empty; write at least one character"),
            Self::TooLong { bytes, bytes_max } => {
                write!(formatter, "is {bytes} bytes long; shorten it to {bytes_max}")
            }
            Self::Character { character, at } => write!(
                formatter,
                "has {character:?} at byte {at}; use letters, digits, '_', '-' and '.' only"
            ),
            Self::EmptySegment { at } => write!(
                formatter,
                "has no segment at byte {at}; put a name on both sides of each '.'"
            ),
        }
    }
}

impl Error for NameError {}

/// A level of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// The outermost: a network of nodes that share a name.
    Channel,
    /// A node of the channel.
    Node,
    /// A named group of shards of the node.
    Unit,
    /// The flow itself.
    Flow,
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Channel => "channel",
            Self::Node => "node",
            Self::Unit => "unit",
            Self::Flow => "flow",
        })
    }
}

/// Why text is not an address (the caller's fault): which level, and what is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressError {
    level: Level,
    cause: Cause,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cause {
    Name(NameError),
    Key(PublicKeyTextError),
    TooManyLevels,
}

impl AddressError {
    fn new(level: Level, error: NameError) -> Self {
        Self { level, cause: Cause::Name(error) }
    }

    /// The level at fault.
    pub fn level(&self) -> Level {
        self.level
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Name(error) => {
                write!(formatter, "the {} part of the address {error}", self.level)
            }
            Cause::Key(error) => write!(formatter, "the node part of the address: {error}"),
            Cause::TooManyLevels => formatter.write_str(
                "the address has more than four levels; write channel/node/unit/flow.name",
            ),
        }
    }
}

impl Error for AddressError {}

/// Checks a channel, node or unit name: 1 to 64 bytes, same characters as a flow name.
///
/// # Errors
///
/// [`NameError`], as for flow names.
pub fn check_label(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > LABEL_BYTES_MAX {
        return Err(NameError::TooLong { bytes: text.len(), bytes_max: LABEL_BYTES_MAX });
    }
    check_characters(text)?;
    match text {
        _ if text.starts_with('.') => Err(NameError::EmptySegment { at: 0 }),
        _ if text.ends_with('.') => Err(NameError::EmptySegment { at: text.len() }),
        _ => Ok(()),
    }
}

fn label(part: Option<&str>, level: Level) -> Result<Option<String>, AddressError> {
    match part {
        None | Some("") => Ok(None),
        Some(part) => {
            check_label(part).map_err(|error| AddressError::new(level, error))?;
            Ok(Some(part.to_owned()))
        }
    }
}

fn node_name(part: &str) -> Result<NodeName, AddressError> {
    if has_key_shape(part) {
        let key = part.parse::<PublicKey>();
        return key
            .map(NodeName::Key)
            .map_err(|error| AddressError { level: Level::Node, cause: Cause::Key(error) });
    }
    check_label(part).map_err(|error| AddressError::new(Level::Node, error))?;
    Ok(NodeName::Name(part.to_owned()))
}

/// Whether text can only be meant as a public key, right or mistyped.
pub(crate) fn has_key_shape(text: &str) -> bool {
    text.len() == PUBLIC_KEY_TEXT_CHARACTERS
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'))
}

fn check_characters(text: &str) -> Result<(), NameError> {
    let wrong = text.char_indices().find(
        |(_, character)| !matches!(character, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.'),
    );
    match wrong {
        Some((at, character)) => Err(NameError::Character { character, at }),
        None => Ok(()),
    }
}

/// The byte at which a segment should begin and none does.
fn empty_segment(text: &str) -> Option<usize> {
    let mut at = 0;
    for segment in text.split('.') {
        if segment.is_empty() {
            return Some(at);
        }
        at += segment.len() + 1;
    }
    None
}

#[cfg(test)]
mod tests;

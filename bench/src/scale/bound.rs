//! Bounds that the figures of a sheet must keep: `--fail-if 'bytes_per_peer>2048'`.

use std::{fmt, str::FromStr};

use serde_json::{Map, Value};

/// One bound: a column's name, a comparison and a number; the command fails when the comparison holds in any row.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    text: String,
    /// The column.
    name: String,
    is_above: bool,
    includes_equal: bool,
    value: f64,
}

impl Bound {
    /// `None` when the row has no number of this name; otherwise a line for a violation, if it is one.
    pub fn check(&self, row: &Map<String, Value>) -> Option<Option<String>> {
        let found = row.get(&self.name)?.as_f64()?;
        let is_beyond = if self.is_above { found > self.value } else { found < self.value };
        let is_equal = self.includes_equal && found.total_cmp(&self.value).is_eq();
        let line = || format!("{} is {found}, which --fail-if '{self}' forbids", self.name);
        Some((is_beyond || is_equal).then(line))
    }
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let compact: String = text.split_whitespace().collect();
        let at = compact.find(['>', '<']).filter(|at| *at > 0);
        let at = at.ok_or("compare a column by > or <, as in 'resident_bytes>1000000'")?;
        let (name, rest) = compact.split_at(at);
        let is_above = rest.starts_with('>');
        let rest = &rest[1..];
        let (includes_equal, rest) =
            rest.strip_prefix('=').map_or((false, rest), |rest| (true, rest));
        let value: f64 = rest.parse().map_err(|_| format!("{rest:?} is no number"))?;
        if !value.is_finite() {
            return Err(format!("{rest:?} is no finite number"));
        }
        Ok(Self { text: text.into(), name: name.into(), is_above, includes_equal, value })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a bound holds for every row that has its column, and mistakes are named.
    use serde_json::json;

    use super::*;

    #[expect(clippy::option_option, reason = "what `check` gives")]
    fn found(text: &str) -> Option<Option<String>> {
        let row = json!({ "peers": 100, "share": 0.5, "host": "node", "none": null });
        text.parse::<Bound>().unwrap().check(row.as_object().unwrap())
    }

    #[test]
    fn rows_are_compared() {
        for text in ["peers>99", "peers >= 100", "peers<=100", "share<0.51", "share>1e-3"] {
            assert!(matches!(found(text), Some(Some(_))), "{text}");
        }
        for text in ["peers>100", "peers<100", "share>=0.6"] {
            assert_eq!(found(text), Some(None), "{text}");
        }
        for text in ["other>1", "host>1", "none<1"] {
            assert_eq!(found(text), None, "{text}");
        }
        let line = "peers is 100.0, which --fail-if 'peers>99' forbids";
        assert_eq!(found("peers>99").unwrap().unwrap(), line.replace("100.0", "100"));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, wanted) in
            [("peers", "> or <"), (">5", "> or <"), ("peers>5us", "no number"), ("a>inf", "finite")]
        {
            let error = text.parse::<Bound>().unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}

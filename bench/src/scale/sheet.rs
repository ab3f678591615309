//! What a `scale` command hands back: rows of named figures, as a table and as one JSON object.
//!
//! Always holds: every row has the figures of the first one, in its order; a name ends in its unit unless it counts things.

use std::{fmt::Write as _, fs, path::Path};

use serde::Serialize;
use serde_json::{Map, Value};

use super::bound::Bound;
use crate::{
    commands::say,
    error::{BenchError, Result},
    surroundings::{Surroundings, doubts},
};

/// Name of the fields' meaning; changes when a field of some command does.
pub const SCHEMA: &str = "cubed-bench-scale/2";

/// One measured value with its name.
pub type Figure = (&'static str, Value);

/// Result of one command.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sheet {
    /// [`SCHEMA`].
    schema: &'static str,
    /// Sub-command that measured this.
    command: &'static str,
    rows: Vec<Map<String, Value>>,
    /// Where it was measured.
    surroundings: Option<Surroundings>,
    /// Every reason to doubt the figures.
    warnings: Vec<String>,
    /// The table, whose columns stand in the order in which they were given.
    #[serde(skip)]
    lines: Vec<Vec<(&'static str, String)>>,
}

impl Sheet {
    /// A sheet of `command` without rows.
    pub fn new(command: &'static str) -> Self {
        let (rows, lines, warnings) = (Vec::new(), Vec::new(), Vec::new());
        Self { schema: SCHEMA, command, rows, surroundings: None, warnings, lines }
    }

    /// Tells where this was measured, with how many shards on each node, and every reason to doubt it; `stolen` is the part of the
    /// cores' time that the hypervisor gave to others meanwhile.
    #[must_use]
    pub fn within(mut self, surroundings: &Surroundings, shards: usize, stolen: f64) -> Self {
        self.warnings.extend(doubts(surroundings, shards, stolen));
        self.surroundings = Some(surroundings.clone());
        self
    }

    /// Adds a row.
    pub fn add(&mut self, figures: Vec<Figure>) {
        let cells = figures.iter().map(|(name, value)| (*name, cell(value))).collect();
        self.lines.push(cells);
        self.rows.push(figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    }

    /// Prints the table, writes the JSON, if it is wanted, and checks the bounds.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; the text names it. As [`Sheet::check`].
    pub fn finish(&self, json: Option<&Path>, bounds: &[Bound]) -> Result<()> {
        say(self.table().trim_end());
        if let Some(path) = json {
            self.write(path)?;
        }
        self.check(bounds)
    }

    fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| BenchError::Argument(format!("sheet not encodable: {error}")))?;
        fs::write(path, text + "\n")
            .map_err(BenchError::system(format!("write {}", path.display())))
    }

    /// Checks every row against the bounds.
    ///
    /// # Errors
    ///
    /// `Limit` with a line for each violation; `Argument` when no row has the figure of a bound.
    pub fn check(&self, bounds: &[Bound]) -> Result<()> {
        let mut violations = Vec::new();
        for bound in bounds {
            let checks: Vec<_> = self.rows.iter().filter_map(|row| bound.check(row)).collect();
            if checks.is_empty() {
                return Err(BenchError::Argument(format!(
                    "--fail-if '{bound}': no row has a number of this name"
                )));
            }
            let rows = checks.into_iter().flatten();
            violations.extend(rows.map(|line| format!("{}: {line}", self.command)));
        }
        if violations.is_empty() { Ok(()) } else { Err(BenchError::Limit(violations.join("\n"))) }
    }

    fn table(&self) -> String {
        let widths: Vec<usize> = (0..self.lines.first().map_or(0, Vec::len))
            .map(|column| {
                let cells = self.lines.iter().filter_map(|line| line.get(column));
                cells.map(|(name, cell)| name.len().max(cell.len())).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        let mut write = |cells: &mut dyn Iterator<Item = &str>| {
            for (cell, width) in cells.zip(&widths) {
                write!(text, "{cell:>width$}  ").expect("writing to a string does not fail");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        };
        if let Some(first) = self.lines.first() {
            write(&mut first.iter().map(|(name, _)| *name));
        }
        for line in &self.lines {
            write(&mut line.iter().map(|(_, cell)| cell.as_str()));
        }
        for warning in &self.warnings {
            writeln!(text, "warning: {warning}").expect("writing to a string does not fail");
        }
        text
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or_default();
            if number.abs() < 10.0 { format!("{number:.3}") } else { format!("{number:.1}") }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: table and object say the same.
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_stand_in_table_and_object() {
        let mut sheet = Sheet::new("idle");
        sheet.add(vec![("peers", json!(100)), ("share", json!(0.5)), ("kind", json!("sockets"))]);
        sheet.add(vec![("peers", json!(10_000)), ("share", json!(12.5)), ("kind", Value::Null)]);
        assert_eq!(
            sheet.table(),
            "peers  share     kind\n  100  0.500  sockets\n10000   12.5        -\n"
        );
        let object = serde_json::to_value(&sheet).unwrap();
        assert_eq!(object["schema"], SCHEMA);
        assert_eq!(object["rows"][1]["peers"], 10_000);
        assert!(object["rows"][1]["kind"].is_null());
    }

    #[test]
    fn doubts_stand_in_table_and_object() {
        let found = Surroundings { cores: vec![0], ..Surroundings::default() };
        let sheet = Sheet::new("idle").within(&found, 1, 0.5);
        let (table, object) = (sheet.table(), serde_json::to_value(&sheet).unwrap());
        for beginning in ["few cores", "steal time"] {
            assert!(table.contains(&format!("warning: {beginning}")), "{table}");
        }
        assert_eq!(object["warnings"].as_array().map(Vec::len), Some(2));
        assert_eq!(object["surroundings"]["cores"], json!([0]));
    }

    #[test]
    fn bounds_hold_for_every_row_and_must_mean_one() {
        let mut sheet = Sheet::new("idle");
        sheet.add(vec![("peers", json!(100))]);
        sheet.add(vec![("peers", json!(200))]);
        let check = |text: &str| sheet.check(&[text.parse().unwrap()]);
        assert!(check("peers>200").is_ok());
        assert!(matches!(check("peers>150"), Err(BenchError::Limit(_))));
        assert!(matches!(check("pears>150"), Err(BenchError::Argument(_))));
    }
}

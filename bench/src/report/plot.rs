//! One plot as SVG: axes with units, lines with points, a legend. Colours are classes, so the page's style sheet decides them.

use std::fmt::Write as _;

use super::scale::Scale;

/// Width of the drawing; the page scales it, and at half a phone's width its letters are still read.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 280.0;

/// Room for the labels of the y axis, and for the last label of the x axis.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 32.0;
const BOTTOM: f64 = 42.0;

/// Half the width of a label below the axis: the last one ends with the drawing.
const LABEL_HALF: f64 = 24.0;

/// Colours that the style sheet knows.
const COLOURS: usize = 8;

/// One axis.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What it measures, with its unit.
    pub title: String,
    /// Where values lie.
    pub scale: Scale,
    /// Ticks with their labels, if they are not the scale's own.
    pub ticks: Option<Vec<(f64, String)>>,
    /// The label of a value.
    pub label: fn(f64) -> String,
}

/// Lines of one colour.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its entry in the legend.
    pub name: String,
    /// Points x, y; between two of these lists the line is broken.
    pub lines: Vec<Vec<(f64, f64)>>,
    /// Drawn as dashes without points: something to compare with.
    pub is_reference: bool,
}

/// A plot.
#[derive(Debug, Clone)]
pub struct Plot {
    /// Name of the kind of plot: letters and hyphens.
    pub id: &'static str,
    /// What it shows.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
}

impl Plot {
    /// The plot with title and legend as an HTML figure.
    pub fn figure(&self) -> String {
        let title = escaped(&self.title);
        format!(
            "<figure data-plot=\"{}\"><figcaption>{title}</figcaption>\n{}{}</figure>\n",
            self.id,
            self.svg(),
            self.legend()
        )
    }

    fn svg(&self) -> String {
        let title = escaped(&self.title);
        let mut svg =
            format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n");
        svg += &self.axes();
        for (index, series) in self.series.iter().enumerate() {
            svg += &self.lines(index, series);
        }
        svg + "</svg>\n"
    }

    fn axes(&self) -> String {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let mut text = String::new();
        let mut add = |part: std::fmt::Arguments| {
            text.write_fmt(part).expect("writing to a string does not fail");
        };
        for (value, label) in self.y.all_ticks() {
            let y = self.y_of(value);
            add(format_args!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>"));
            let (x, y) = (LEFT - 7.0, y + 4.0);
            add(format_args!(
                "<text class=\"end\" x=\"{x}\" y=\"{y:.1}\">{}</text>\n",
                escaped(&label)
            ));
        }
        for (value, label) in self.x.all_ticks() {
            let x = self.x_of(value);
            add(format_args!("<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>"));
            let (x, y) = (x.min(WIDTH - LABEL_HALF), bottom + 17.0);
            add(format_args!(
                "<text class=\"middle\" x=\"{x:.1}\" y=\"{y}\">{}</text>\n",
                escaped(&label)
            ));
        }
        add(format_args!("<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\n"));
        let (y_title, x_title) = (escaped(&self.y.title), escaped(&self.x.title));
        add(format_args!("<text class=\"title\" x=\"4\" y=\"13\">{y_title}</text>"));
        let y = HEIGHT - 6.0;
        add(format_args!("<text class=\"title end\" x=\"{right}\" y=\"{y}\">{x_title}</text>\n"));
        text
    }

    fn lines(&self, index: usize, series: &Series) -> String {
        let colour = index % COLOURS;
        let kind = if series.is_reference { "line reference" } else { "line" };
        let mut text = String::new();
        for line in &series.lines {
            let points =
                line.iter().map(|(x, y)| format!("{:.1} {:.1}", self.x_of(*x), self.y_of(*y)));
            let path = points.collect::<Vec<_>>().join("L");
            writeln!(text, "<path class=\"{kind} c{colour}\" d=\"M{path}\"/>")
                .expect("writing to a string does not fail");
            if !series.is_reference {
                for point in line {
                    text += &self.point(colour, &series.name, *point);
                }
            }
        }
        text
    }

    /// A point that says its values under a mouse.
    fn point(&self, colour: usize, name: &str, (x, y): (f64, f64)) -> String {
        let value = escaped(&format!("{name}: {}", (self.y.label)(y)));
        let (x, y) = (self.x_of(x), self.y_of(y));
        format!(
            "<circle class=\"c{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\"><title>{value}</title></circle>\n"
        )
    }

    fn legend(&self) -> String {
        let mut text = String::from("<ul class=\"legend\">");
        for (index, series) in self.series.iter().enumerate() {
            let kind = if series.is_reference { "line reference" } else { "line" };
            let (colour, name) = (index % COLOURS, escaped(&series.name));
            let swatch = format!(
                "<svg viewBox=\"0 0 24 8\" aria-hidden=\"true\"><path class=\"{kind} c{colour}\" d=\"M1 4H23\"/></svg>"
            );
            write!(text, "<li>{swatch}{name}</li>").expect("writing to a string does not fail");
        }
        text + "</ul>"
    }

    fn x_of(&self, value: f64) -> f64 {
        LEFT + self.x.scale.position(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y_of(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.scale.position(value) * (HEIGHT - TOP - BOTTOM)
    }
}

impl Axis {
    fn all_ticks(&self) -> Vec<(f64, String)> {
        let own =
            || self.scale.ticks().into_iter().map(|tick| (tick, (self.label)(tick))).collect();
        self.ticks.clone().unwrap_or_else(own)
    }
}

/// `text` with what HTML would read as its own.
pub fn escaped(text: &str) -> String {
    let entity = |letter: char| match letter {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '"' => "&quot;".into(),
        other => other.to_string(),
    };
    text.chars().map(entity).collect()
}

#[cfg(test)]
mod tests {
    //! Goal: each line has its points within the axes, and no text breaks out of the page.
    use super::*;

    fn plot(lines: Vec<Vec<(f64, f64)>>) -> Plot {
        let axis = |title: &str, to| Axis {
            title: title.into(),
            scale: Scale::Linear { from: 0.0, to },
            ticks: None,
            label: |value| value.to_string(),
        };
        let series = Series { name: "a <b>".into(), lines, is_reference: false };
        let (x, y) = (axis("time, s", 10.0), axis("rate", 5.0));
        Plot { id: "rate", title: "A & B".into(), x, y, series: vec![series] }
    }

    #[test]
    fn a_line_goes_through_its_points_and_breaks_between_lists() {
        let figure = plot(vec![vec![(0.0, 0.0), (10.0, 5.0)], vec![(5.0, 2.5)]]).figure();
        assert!(figure.contains("d=\"M62.0 238.0L462.0 32.0\""), "{figure}");
        assert!(figure.contains("d=\"M262.0 135.0\""), "{figure}");
        assert_eq!(figure.matches("<circle").count(), 3);
    }

    #[test]
    fn names_are_text() {
        let figure = plot(vec![vec![(1.0, 1.0)]]).figure();
        assert!(figure.contains("A &amp; B") && figure.contains("a &lt;b&gt;"), "{figure}");
        assert!(!figure.contains("<b>"));
    }
}

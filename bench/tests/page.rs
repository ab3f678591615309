//! Goal: a browser draws every plot of a real run's page, and has nothing to say about it.
//!
//! Needs Chromium, which `.ci/run` installs. Without it the test says loudly that it was skipped, and `CUBED_CHROMIUM=required`
//! makes that a failure.

mod support;

use std::{
    env, fs,
    path::Path,
    process::{Command, Output},
};

use support::bench;
use tempfile::tempdir;

/// Asks each plot, once it is drawn, how long its lines are and where they lie, and writes that into the page.
const PROBE: &str = r#"<script>
const found = [...document.querySelectorAll("figure[data-plot]")].map(figure => {
  const lines = [...figure.querySelectorAll(":scope > svg path.line")];
  const box = figure.querySelector("svg").getBoundingClientRect();
  const inside = lines.every(line => {
    const own = line.getBoundingClientRect();
    return own.left >= box.left - 2 && own.right <= box.right + 2 && own.top >= box.top - 2 && own.bottom <= box.bottom + 2;
  });
  const colour = lines.length > 0 ? getComputedStyle(lines[0]).stroke : "none";
  const length = lines.reduce((sum, line) => sum + line.getTotalLength(), 0);
  const words = figure.querySelectorAll("svg text").length;
  return `${figure.dataset.plot}: lines ${lines.length}, long ${length > 5}, inside ${inside}, ` +
    `coloured ${colour.startsWith("rgb")}, shown ${box.width > 200 && box.height > 100}, words ${words > 4}`;
});
const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
document.body.dataset.found = found.join("|") + `|page wider than its window: ${wide}`;
</script>"#;

/// The browser's executable; `None`, loudly, where there is none.
fn chromium() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok());
    if found.is_none() {
        let must = env::var("CUBED_CHROMIUM").is_ok_and(|value| value == "required");
        assert!(!must, "no Chromium, but CUBED_CHROMIUM=required");
        eprintln!("\nSKIPPED, NOT TESTED: no Chromium here (apt-get install chromium)\n");
    }
    found
}

/// The page as the browser has it after all scripts, and what it said.
fn opened(chromium: &str, page: &Path, width: u32) -> Output {
    let profile = tempdir().unwrap();
    Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--window-size={width},1000"))
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("the browser starts")
}

/// What pages said, of all that the browser itself logs.
fn console(output: &Output) -> Vec<String> {
    let log = String::from_utf8_lossy(&output.stderr);
    log.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect()
}

fn report_page(folder: &Path, command: &[&str]) -> String {
    let file = folder.join("report.html");
    let flags = ["--seconds", "0.6", "--quiet", "--html", file.to_str().unwrap()];
    let output = bench(&[command, &flags].concat());
    assert!(output.status.success(), "{output:?}");
    fs::read_to_string(&file).unwrap()
}

#[test]
fn a_browser_draws_every_plot_and_its_console_stays_silent() {
    let Some(chromium) = chromium() else { return };
    let folder = tempdir().unwrap();
    for (command, plots) in [
        (&["latency"][..], &["percentiles", "rate", "latency", "cores"][..]),
        (&["throughput"], &["rate", "cores"]),
        (
            &["saturate", "--step", "1k,2k", "--p99-below", "1s"],
            &["percentiles", "steps", "rate", "cores"],
        ),
    ] {
        let page = report_page(folder.path(), command);
        let as_is = opened(chromium, &folder.path().join("report.html"), 1200);
        assert_eq!(console(&as_is), [""; 0], "{command:?}");
        assert!(String::from_utf8_lossy(&as_is.stdout).contains("data-plot"), "{as_is:?}");
        // The same page, allowed to run the probe.
        let (before, after) = page.split_once("<meta http-equiv").unwrap();
        let (_, after) = after.split_once('\n').unwrap();
        let probed = format!("{before}{after}").replace("</body>", &format!("{PROBE}</body>"));
        let file = folder.path().join("probed.html");
        fs::write(&file, probed).unwrap();
        for width in [1200, 500] {
            let output = opened(chromium, &file, width);
            let dom = String::from_utf8(output.stdout).unwrap();
            let (_, found) = dom.split_once("data-found=\"").expect("the probe ran");
            let found: Vec<&str> = found.split_once('"').unwrap().0.split('|').collect();
            assert_eq!(found.len(), plots.len() + 1, "{found:?}");
            for (line, plot) in found.iter().zip(plots) {
                let all = "long true, inside true, coloured true, shown true, words true";
                assert!(line.starts_with(plot) && line.ends_with(all), "{width}: {line}");
                assert!(!line.contains("lines 0"), "{line}");
            }
            assert_eq!(found.last(), Some(&"page wider than its window: false"), "{width}");
        }
    }
}

#[test]
fn a_page_that_complains_is_noticed() {
    let Some(chromium) = chromium() else { return };
    let folder = tempdir().unwrap();
    let file = folder.path().join("bad.html");
    let page = "<!doctype html><title>x</title><script>console.error('here')</script>";
    fs::write(&file, page).unwrap();
    let said = console(&opened(chromium, &file, 800));
    assert!(said.len() == 1 && said[0].contains("here"), "{said:?}");
    let report = report_page(folder.path(), &["raw-latency"]);
    let broken = report.replace("</body>", "<img src=\"https://example.invalid/a.png\"></body>");
    fs::write(&file, broken).unwrap();
    let said = console(&opened(chromium, &file, 800));
    assert!(said.iter().any(|line| line.contains("Content Security Policy")), "{said:?}");
}

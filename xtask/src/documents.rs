//! What the documents say, held against what they speak of.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files below a directory whose names end so, without what is built or hidden.
fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let hidden = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name == "target" || name.starts_with('.'))
    };
    let below = directories.iter().filter(|path| !hidden(path)).flat_map(|path| self::files(path, end));
    below.chain(files.into_iter().filter(|path| path.to_string_lossy().ends_with(end))).collect()
}

/// The parts between these two, in order.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    text.split(open).skip(1).filter_map(|rest| Some(rest.split_once(close)?.0)).collect()
}

/// What stands in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The first cells of the rows of all tables.
fn first_cells(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| Some(line.strip_prefix("| ")?.split_once(" |")?.0))
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in files(root(), ".md") {
        let directory = document.parent().unwrap();
        let content = fs::read_to_string(&document).unwrap();
        let links = between(&content, "](", ")").into_iter().chain(between(&content, "srcset=\"", "\""));
        for link in links.chain(between(&content, "src=\"", "\"")) {
            let target = link.split('#').next().unwrap();
            let is_local = !target.is_empty() && !target.contains("://") && !target.contains(char::is_whitespace);
            assert!(!is_local || directory.join(target).exists(), "{}: {link}", document.display());
        }
    }
}

/// The README names three rows of the table of figures; their ratios to what it replaces are made from that table.
#[test]
fn figures_of_the_readme_stand_in_the_performance_document() {
    const BEGIN: &str = "<!-- Rows of docs/performance.md";
    const COLUMN: &str = "to bridge + iptables";
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let performance = text("docs/performance.md");
    let rows: Vec<_> = performance.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    let head = rows.iter().find(|row| row[0].is_empty() && row.iter().any(|cell| cell == COLUMN)).expect(COLUMN);
    let column = head.iter().position(|cell| cell == COLUMN).unwrap();

    let readme = text("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect(BEGIN);
    let (table, after) = rest.split_once("<!-- end -->").unwrap();
    let mut count = 0;
    let made: Vec<_> = table
        .lines()
        .map(|line| match line.strip_prefix("| ").filter(|line| !line.ends_with("| ratio |")) {
            Some(row) => {
                count += 1;
                let what = row.split(" |").next().unwrap();
                let figures = rows.iter().find(|row| row[0] == what && row.len() == head.len());
                let ratio = &figures.unwrap_or_else(|| panic!("docs/performance.md has no row {what:?}"))[column];
                format!("| {what} | {ratio} |")
            }
            None => line.to_owned(),
        })
        .collect();
    assert_eq!(count, 3, "three figures");
    let wanted = format!("{before}{BEGIN}{}\n<!-- end -->{after}", made.join("\n"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join("README.md"), &wanted).unwrap();
    }
    assert_eq!(text("README.md"), wanted, "out of date: run `UPDATE_DOCS=1 cargo test -p xtask readme`");
}

#[test]
fn both_pictures_differ_in_their_colours_alone() {
    let without_style = |path| {
        let picture = text(path);
        let (before, after) = (picture.split_once("<style>").unwrap().0, picture.split_once("</style>").unwrap().1);
        format!("{before}{after}")
    };
    assert_eq!(without_style("docs/images/overview-light.svg"), without_style("docs/images/overview-dark.svg"));
}

/// A message that was reworded or removed leads no reader to its cure.
#[test]
fn messages_in_the_troubleshooting_page_are_those_of_the_programs() {
    let sources: String = files(root(), ".rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let sources = plain(&sources);
    let page = text("docs/troubleshooting.md");
    let sections: String = ["## The agent does not start", "## `status` shows a problem"]
        .iter()
        .flat_map(|heading| between(&page, heading, "\n## "))
        .collect();
    let messages: Vec<_> = first_cells(&sections).flat_map(quoted).collect();
    assert!(messages.len() > 25, "{messages:?}");
    let missing: Vec<_> = messages.into_iter().filter(|message| !sources.contains(plain(message).trim_end())).collect();
    assert!(missing.is_empty(), "no program says {missing:#?}");
}

/// Text as a reader compares it: strings that go on in the next line joined, and an ellipsis for whatever is filled in.
fn plain(source: &str) -> String {
    let mut joined = String::new();
    for line in source.lines() {
        joined.push_str(line.trim_start().strip_suffix('\\').unwrap_or(line.trim_start()));
        if !line.ends_with('\\') {
            joined.push('\n');
        }
    }
    let mut plain = String::new();
    let mut rest = joined.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        plain.push_str(before);
        match after.split_once('}') {
            Some((name, after)) if !name.contains(['\n', '{', ' ']) => {
                plain.push('…');
                rest = after;
            }
            _ => rest = after,
        }
    }
    plain + rest
}

#[test]
fn every_drop_reason_has_a_cure() {
    let (reasons, page) = (text("docs/drop-reasons.md"), text("docs/troubleshooting.md"));
    let names: Vec<_> =
        reasons.lines().filter(|line| line.starts_with("| ")).filter_map(|line| quoted(line).next()).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(first_cells(&page).any(|cell| cell.contains(&format!("`{name}`"))), "{name}");
    }
}

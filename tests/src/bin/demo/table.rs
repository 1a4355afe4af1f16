//! An aligned table; colour only underlines what the words say already.

/// A cell, with what a terminal may add to its text.
pub(crate) struct Cell {
    text: String,
    colour: Option<&'static str>,
}

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[1;31m";
const BOLD: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";

impl Cell {
    pub(crate) fn plain(text: &str) -> Self {
        Self { text: text.into(), colour: None }
    }

    pub(crate) fn good(text: &str) -> Self {
        Self { text: text.into(), colour: Some(GREEN) }
    }

    pub(crate) fn bad(text: &str) -> Self {
        Self { text: text.into(), colour: Some(RED) }
    }
}

/// Rows of `N` cells below a head.
pub(crate) struct Table<const N: usize> {
    rows: Vec<[Cell; N]>,
    right: [bool; N],
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(head: [&str; N]) -> Self {
        let head = head.map(|text| Cell { text: text.into(), colour: Some(BOLD) });
        Self { rows: vec![head], right: [false; N] }
    }

    /// Aligns columns of numbers.
    pub(crate) fn align_right<const M: usize>(&mut self, columns: [usize; M]) {
        for column in columns {
            self.right[column] = true;
        }
    }

    pub(crate) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    pub(crate) fn render(&self, colour: bool) -> String {
        let width = |column: usize| self.rows.iter().map(|row| row[column].text.chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        let mut lines = Vec::new();
        for row in &self.rows {
            let cells = row.iter().enumerate().map(|(column, cell)| {
                let (text, width) = (&cell.text, widths[column]);
                let padded = if self.right[column] { format!("{text:>width$}") } else { format!("{text:<width$}") };
                match cell.colour.filter(|_| colour) {
                    Some(code) => format!("{code}{padded}{RESET}"),
                    None => padded,
                }
            });
            lines.push(cells.collect::<Vec<_>>().join("  ").trim_end().to_owned());
        }
        let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * N.saturating_sub(1));
        lines.insert(1, rule);
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table<2> {
        let mut table = Table::new(["Name", "Rate"]);
        table.align_right([1]);
        table.row([Cell::plain("a long name"), Cell::good("7")]);
        table
    }

    #[test]
    fn columns_line_up() {
        assert_eq!(sample().render(false), "Name         Rate\n-----------------\na long name     7\n");
    }

    #[test]
    fn colour_adds_nothing_but_escapes() {
        let mut coloured = sample().render(true);
        assert!(coloured.contains(GREEN));
        for code in [GREEN, RED, BOLD, RESET] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, sample().render(false));
    }
}

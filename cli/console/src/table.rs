//! Plain tables with aligned columns, and figures formatted for people.

use std::fmt::Write as _;

/// Alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows under headings, with two spaces between columns and no trailing spaces.
pub fn render(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = columns.iter().map(|(name, _)| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let headings: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    for row in std::iter::once(&headings).chain(rows) {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            let gap = if i == 0 { "" } else { "  " };
            let width = widths[i];
            // Writing to a string cannot fail.
            let _ = match columns[i].1 {
                Align::Left => write!(line, "{gap}{cell:<width$}"),
                Align::Right => write!(line, "{gap}{cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `12.3 KiB`, `512 B`
pub fn bytes(n: u64) -> String {
    match n {
        0..1024 => format!("{n} B"),
        1024..1_048_576 => format!("{:.1} KiB", n as f64 / 1024.0),
        _ => format!("{:.1} MiB", n as f64 / 1_048_576.0),
    }
}

/// `1.23 M`, `45.6 k`
pub fn count(n: u64) -> String {
    match n {
        0..1000 => n.to_string(),
        1000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        _ => format!("{:.2} M", n as f64 / 1e6),
    }
}

/// `1h 02m`, `3m 20s`, `45s`
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        _ => format!("{}h {:02}m", s / 3600, s % 3600 / 60),
    }
}

/// A share as percent with two decimals.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// Milliseconds: four decimals below 1 ms, else at least three significant digits.
pub fn milliseconds(ms: f64) -> String {
    let digits = if ms >= 100.0 {
        0
    } else if ms >= 10.0 {
        1
    } else if ms >= 1.0 {
        2
    } else {
        4
    };
    format!("{ms:.digits$} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_have_no_trailing_spaces() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["long".into(), "100".into()]];
        let text = render(&[("name", Align::Left), ("n", Align::Right)], &rows);
        assert_eq!(text, "name    n\na       1\nlong  100\n");
    }

    #[test]
    fn quantities_are_readable() {
        assert_eq!(bytes(5312), "5.2 KiB");
        assert_eq!(count(1_234_567), "1.23 M");
        assert_eq!(duration(3661.0), "1h 01m");
        assert_eq!(duration(59.6), "1m 00s");
        assert_eq!(milliseconds(0.0421), "0.0421 ms");
        assert_eq!(percent(0.97664), "97.66 %");
    }
}

//! A scatter plot in text. Each class of points has its symbol; the better corner is top left.

/// A point with its symbol. Later points are drawn over earlier ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Position on the horizontal axis.
    pub x: f64,
    /// Position on the vertical axis, upwards.
    pub y: f64,
    /// The symbol that is drawn.
    pub symbol: char,
}

/// The plot with its axes. The horizontal axis is logarithmic if the values span more than a factor
/// of ten. Points that are not finite are left out. The text is empty if no point is left.
pub fn render(
    points: &[Point],
    x_label: &str,
    y_label: &str,
    columns: usize,
    rows: usize,
) -> String {
    let finite = |p: &&Point| p.x.is_finite() && p.y.is_finite();
    let points: Vec<Point> = points.iter().filter(finite).copied().collect();
    let (Some(x), Some(y)) = (range(points.iter().map(|p| p.x)), range(points.iter().map(|p| p.y)))
    else {
        return String::new();
    };
    let logarithmic = x.0 > 0.0 && x.1 / x.0 > 10.0;
    let scale = |v: f64| if logarithmic { v.ln() } else { v };
    let (x_low, x_high) = (scale(x.0), scale(x.1));
    let mut grid = vec![vec![' '; columns]; rows];
    for p in &points {
        let column = place(scale(p.x), x_low, x_high, columns);
        let row = rows - 1 - place(p.y, y.0, y.1, rows);
        grid[row][column] = p.symbol;
    }
    let labels = [format!("{:.3}", y.1), format!("{:.3}", y.0)];
    let margin = labels.iter().map(String::len).max().unwrap_or(0);
    let mut text = format!("{:>margin$}   {y_label}\n", "");
    for (i, row) in grid.iter().enumerate() {
        let label = match i {
            0 => labels[0].as_str(),
            i if i == rows - 1 => labels[1].as_str(),
            _ => "",
        };
        let line: String = row.iter().collect();
        text.push_str(&format!("{label:>margin$} |{}\n", line.trim_end()));
    }
    text.push_str(&format!("{:>margin$} +{}\n", "", "-".repeat(columns)));
    let (low, high) = (short(x.0), short(x.1));
    let axis = if logarithmic { format!("{x_label} (log)") } else { x_label.to_owned() };
    let gap = columns.saturating_sub(low.len() + high.len() + axis.len());
    let left = gap / 2;
    text.push_str(&format!(
        "{:>margin$}  {low}{}{axis}{}{high}\n",
        "",
        " ".repeat(left),
        " ".repeat(gap - left)
    ));
    text
}

fn range(values: impl Iterator<Item = f64> + Clone) -> Option<(f64, f64)> {
    let low = values.clone().reduce(f64::min)?;
    let high = values.reduce(f64::max)?;
    Some((low, high))
}

fn place(value: f64, low: f64, high: f64, cells: usize) -> usize {
    if high <= low {
        return cells / 2;
    }
    let share = (value - low) / (high - low);
    ((share * (cells - 1) as f64).round() as usize).min(cells - 1)
}

fn short(v: f64) -> String {
    if v.abs() >= 100.0 { format!("{v:.0}") } else { format!("{v:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(x: f64, y: f64, symbol: char) -> Point {
        Point { x, y, symbol }
    }

    #[test]
    fn corners_hold_the_extremes() {
        let text = render(&[point(1.0, 0.0, 'a'), point(2.0, 1.0, 'b')], "x", "y", 11, 3);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "1.000 |          b");
        assert_eq!(lines[3], "0.000 |a");
    }

    #[test]
    fn wide_spans_are_logarithmic_and_labelled() {
        let points = [point(1.0, 0.0, 'a'), point(10.0, 0.5, 'b'), point(100.0, 1.0, 'c')];
        let text = render(&points, "x", "y", 21, 3);
        assert!(text.contains("x (log)"));
        assert!(text.lines().nth(2).unwrap().ends_with(&format!("|{}b", " ".repeat(10))));
    }

    #[test]
    fn one_point_equal_points_and_no_points_are_fine() {
        assert!(render(&[point(1.0, 1.0, '*')], "x", "y", 20, 5).contains('*'));
        assert!(render(&[point(f64::NAN, 1.0, '*')], "x", "y", 20, 5).is_empty());
        assert!(render(&[], "x", "y", 20, 5).is_empty());
    }
}

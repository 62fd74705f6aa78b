//! Numbers → inline SVG.

use std::fmt::Write;

const WIDTH: f32 = 320.0;
const HEIGHT: f32 = 150.0;
/// Room for the axes' numbers.
const LEFT: f32 = 40.0;
const BELOW: f32 = 20.0;

fn frame(title: &str, inner: &str) -> String {
    let (width, height) = (LEFT + WIDTH + 10.0, HEIGHT + BELOW + 10.0);
    format!(
        "<figure><svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">\
         <path d=\"M{LEFT} 5V{bottom}H{right}\" fill=\"none\" stroke=\"currentColor\"/>{inner}</svg>\
         <figcaption>{title}</figcaption></figure>\n",
        bottom = HEIGHT + 5.0,
        right = LEFT + WIDTH,
    )
}

fn label(x: f32, y: f32, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
}

/// Bars of two parts, one on the other. `title` is the report's own text.
pub(super) fn histogram(title: &str, bins: &[[usize; 2]], low: f32, high: f32) -> String {
    let most = bins.iter().map(|[good, bad]| good + bad).max().unwrap_or(0).max(1);
    let (step, unit) = (WIDTH / bins.len() as f32, HEIGHT / most as f32);
    let mut inner = String::new();
    for (at, &[good, bad]) in bins.iter().enumerate() {
        let (x, mut bottom) = (LEFT + at as f32 * step + 1.0, HEIGHT + 5.0);
        for (count, colour) in [(good, "var(--a)"), (bad, "var(--b)")] {
            let height = count as f32 * unit;
            bottom -= height;
            if count > 0 {
                let width = step - 2.0;
                let _ = write!(
                    inner,
                    "<rect x=\"{x:.1}\" y=\"{bottom:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
                );
            }
        }
    }
    inner += &label(LEFT, HEIGHT + BELOW, "start", &format!("{low:.1}"));
    inner += &label(LEFT + WIDTH, HEIGHT + BELOW, "end", &format!("{high:.1}"));
    inner += &label(LEFT - 4.0, 14.0, "end", &most.to_string());
    frame(title, &inner)
}

/// A line: points over 0..=1 in both directions; one that is not there leaves a gap.
pub(super) struct Line {
    pub(super) colour: &'static str,
    pub(super) points: Vec<(f32, Option<f64>)>,
}

/// Lines in one frame.
pub(super) fn lines(title: &str, lines: &[Line]) -> String {
    let mut inner = String::new();
    for Line { colour, points } in lines {
        let (mut path, mut pen_is_down) = (String::new(), false);
        for &(x, y) in points {
            let Some(y) = y else {
                pen_is_down = false;
                continue;
            };
            let (x, y) = (LEFT + x * WIDTH, HEIGHT + 5.0 - y as f32 * HEIGHT);
            let _ = write!(path, "{}{x:.1} {y:.1}", if pen_is_down { 'L' } else { 'M' });
            pen_is_down = true;
        }
        let _ = write!(inner, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
    }
    for (at, text) in [(0.0, "0"), (0.5, "0.5"), (1.0, "1")] {
        inner += &label(LEFT + at * WIDTH, HEIGHT + BELOW, "middle", text);
        inner += &label(LEFT - 4.0, HEIGHT + 9.0 - at * HEIGHT, "end", text);
    }
    frame(title, &inner)
}

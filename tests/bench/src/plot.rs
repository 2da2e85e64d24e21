//! Line charts as SVG, without a library: a frame, ticks, lines with dots, and each line's name at its end.

use std::fmt::Write;

/// Both axes' scale.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From zero.
    Linear,
    /// Decades; values must be positive.
    Log,
}

/// One line.
pub struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Series {
    pub fn new(name: &str, points: Vec<(f64, f64)>) -> Series {
        Series { name: name.to_string(), points }
    }
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
/// The frame: left, right, top, bottom.
const FRAME: [f64; 4] = [64.0, 540.0, 40.0, 330.0];
/// Okabe and Ito's, told apart by everyone.
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"];

/// One axis: values to pixels.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(scale: Scale, values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Axis {
        let max = values.clone().fold(f64::MIN_POSITIVE, f64::max);
        let min = values.filter(|v| *v > 0.0).fold(max, f64::min);
        let (low, high) = match scale {
            Scale::Linear => (0.0, max * 1.05),
            // At least one decade, so that a single point has an axis.
            Scale::Log => {
                let low = 10f64.powf(min.log10().floor());
                (low, 10f64.powf((max * 0.9999).log10().ceil()).max(low * 10.0))
            }
        };
        Axis { scale, low, high, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => value / self.high,
            Scale::Log => (value.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
        };
        self.from + part * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Log => {
                let decades = (self.high / self.low).log10().round() as i32;
                (0..=decades).map(|n| self.low * 10f64.powi(n)).collect()
            }
            Scale::Linear => {
                let rough = self.high / 5.0;
                let decade = 10f64.powf(rough.log10().floor());
                let steps = [1.0, 2.0, 5.0, 10.0].map(|n| n * decade);
                let step = steps.into_iter().find(|step| *step >= rough).unwrap_or(rough);
                (0..).map(|n| f64::from(n) * step).take_while(|v| *v <= self.high).collect()
            }
        }
    }
}

/// A chart as a whole SVG file.
pub fn lines(title: &str, x_label: &str, y_label: &str, scale: Scale, series: &[Series]) -> String {
    let [left, right, top, bottom] = FRAME;
    let all = || series.iter().flat_map(|s| &s.points);
    let x = Axis::new(scale, all().map(|p| p.0), left, right);
    let y = Axis::new(scale, all().map(|p| p.1), bottom, top);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    // Writing to a String cannot fail.
    let text = |at: (f64, f64), anchor: &str, more: &str, text: &str| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        format!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" {more}>{text}</text>\n", at.0, at.1)
    };
    svg += &text((left, 22.0), "start", "font-size=\"15\" font-weight=\"bold\"", title);
    svg += &text(((left + right) / 2.0, bottom + 38.0), "middle", "", x_label);
    svg += &text((left, top - 6.0), "end", "", y_label);
    let grid = "stroke=\"#ddd\"";
    for tick in x.ticks() {
        let at = x.at(tick);
        let _ = writeln!(svg, "<path d=\"M{at:.1} {top}V{bottom}\" {grid}/>");
        svg += &text((at, bottom + 18.0), "middle", "", &number(tick));
    }
    for tick in y.ticks() {
        let at = y.at(tick);
        let _ = writeln!(svg, "<path d=\"M{left} {at:.1}H{right}\" {grid}/>");
        svg += &text((left - 6.0, at + 4.0), "end", "", &number(tick));
    }
    let mut labels = Vec::new();
    for (one, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<(f64, f64)> = one.points.iter().map(|p| (x.at(p.0), y.at(p.1))).collect();
        let path = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
        let _ = writeln!(svg, "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        for (x, y) in points.iter().filter(|_| points.len() < 30) {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        labels.extend(points.last().map(|(_, y)| (*y, colour, &one.name)));
    }
    // From the top down, none over another.
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = top;
    for (y, colour, name) in labels {
        free = free.max(y) + 15.0;
        svg += &text((right + 10.0, free - 11.0), "start", &format!("fill=\"{colour}\""), name);
    }
    svg + "</svg>\n"
}

/// 10000 as `10,000`, 0.001 as it is.
fn number(value: f64) -> String {
    if value >= 10_000.0 {
        return format!("{},{:03}", value as u64 / 1000, value as u64 % 1000);
    }
    format!("{}", (value * 1e6).round() / 1e6)
}

//! A drawing before it is pixels or text: shapes in the order they are painted.
//!
//! Lengths are logical pixels, y grows downwards; a PNG has [`PNG_SCALE`] pixels to each, an SVG one unit.

use super::colour::{Colour, INK};
use super::{font, raster, svg};
use crate::error::{Error, Result};
use crate::files;
use crate::media::png;
use std::io::Write;
use std::path::Path;

/// Pixels of a PNG to a logical one: sharp on dense screens and in print.
pub const PNG_SCALE: usize = 2;

/// Logical pixels from the left and from the top.
pub type Point = [f64; 2];

/// What a line is drawn with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pen {
    /// Its colour.
    pub colour: Colour,
    /// Its width.
    pub width: f64,
    /// Length of dashes and of the gaps between them; 0 draws through.
    pub dash: f64,
}

impl Pen {
    /// A pen that draws through.
    pub const fn new(colour: Colour, width: f64) -> Pen {
        Pen { colour, width, dash: 0.0 }
    }

    /// The same, dashed.
    pub const fn dashed(self, dash: f64) -> Pen {
        Pen { dash, ..self }
    }
}

/// Where a text's point lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The text begins there.
    Start,
    /// The text has its middle there.
    Middle,
    /// The text ends there.
    End,
}

/// A line of text.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// On the line the letters stand on.
    pub at: Point,
    /// What it says.
    pub text: String,
    /// Size of the font; capitals are 0.72 of it.
    pub size: f64,
    /// Its colour.
    pub colour: Colour,
    /// Where `at` lies.
    pub anchor: Anchor,
    /// Whether it is bold.
    pub bold: bool,
    /// Whether it is turned to read upwards.
    pub turned: bool,
}

impl Text {
    /// Dark text of size 12 that begins at `at`.
    pub fn new(at: Point, text: impl Into<String>) -> Text {
        let (colour, anchor) = (INK, Anchor::Start);
        Text { at, text: text.into(), size: 12.0, colour, anchor, bold: false, turned: false }
    }

    /// The same in another size.
    pub fn size(self, size: f64) -> Text {
        Text { size, ..self }
    }

    /// The same in another colour.
    pub fn colour(self, colour: Colour) -> Text {
        Text { colour, ..self }
    }

    /// The same with its middle at the point.
    pub fn middle(self) -> Text {
        Text { anchor: Anchor::Middle, ..self }
    }

    /// The same with its end at the point.
    pub fn end(self) -> Text {
        Text { anchor: Anchor::End, ..self }
    }

    /// The same in bold.
    pub fn bold(self) -> Text {
        Text { bold: true, ..self }
    }

    /// The same, reading upwards.
    pub fn turned(self) -> Text {
        Text { turned: true, ..self }
    }
}

/// One thing to paint.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A line through points, with round joints and ends.
    Line {
        /// At least two.
        points: Vec<Point>,
        /// What it is drawn with.
        pen: Pen,
    },
    /// A filled polygon.
    Area {
        /// Its corners.
        points: Vec<Point>,
        /// Its colour.
        fill: Colour,
    },
    /// A filled rectangle.
    Rect {
        /// Upper left.
        corner: Point,
        /// Width and height.
        size: [f64; 2],
        /// Its colour.
        fill: Colour,
    },
    /// A disc, a ring, or both.
    Circle {
        /// Its centre.
        centre: Point,
        /// Its radius.
        radius: f64,
        /// Its colour.
        fill: Option<Colour>,
        /// What its rim is drawn with.
        pen: Option<Pen>,
    },
    /// A line of text.
    Text(Text),
    /// A picture, smoothed when stretched.
    Image {
        /// Upper left.
        corner: Point,
        /// Width and height it fills.
        size: [f64; 2],
        /// `[rows, columns, 3]`.
        rgb: Vec<u8>,
        /// Rows and columns.
        pixels: [usize; 2],
    },
}

/// A drawing on white.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Logical pixels.
    pub width: f64,
    /// Logical pixels.
    pub height: f64,
    /// What it shows, for those who cannot see it.
    pub title: String,
    /// In the order they are painted.
    pub shapes: Vec<Shape>,
}

impl Scene {
    /// An empty drawing; sizes are rounded up to whole logical pixels.
    pub fn new(width: f64, height: f64, title: impl Into<String>) -> Scene {
        Scene { width: width.ceil(), height: height.ceil(), title: title.into(), shapes: Vec::new() }
    }

    /// A line through points. Points that are not finite leave gaps; one that stands alone becomes a dot.
    pub fn line(&mut self, points: &[Point], pen: Pen) {
        for run in points.split(|point| !point.iter().all(|v| v.is_finite())) {
            match run {
                [] => {}
                [centre] => self.dot(*centre, pen.width.max(1.0), pen.colour),
                _ => self.shapes.push(Shape::Line { points: run.to_vec(), pen }),
            }
        }
    }

    /// A filled polygon.
    pub fn area(&mut self, points: &[Point], fill: Colour) {
        self.shapes.push(Shape::Area { points: points.to_vec(), fill });
    }

    /// A filled rectangle from its upper left corner.
    pub fn rect(&mut self, corner: Point, size: [f64; 2], fill: Colour) {
        self.shapes.push(Shape::Rect { corner, size, fill });
    }

    /// The outline of a rectangle.
    pub fn outline(&mut self, [x, y]: Point, [width, height]: [f64; 2], pen: Pen) {
        let (right, bottom) = (x + width, y + height);
        self.line(&[[x, y], [right, y], [right, bottom], [x, bottom], [x, y]], pen);
    }

    /// A disc.
    pub fn dot(&mut self, centre: Point, radius: f64, fill: Colour) {
        self.shapes.push(Shape::Circle { centre, radius, fill: Some(fill), pen: None });
    }

    /// A line of text.
    pub fn text(&mut self, text: Text) {
        self.shapes.push(Shape::Text(text));
    }

    /// A picture `[rows, columns, 3]`, stretched over `size`.
    pub fn image(&mut self, corner: Point, size: [f64; 2], rgb: Vec<u8>, pixels: [usize; 2]) {
        self.shapes.push(Shape::Image { corner, size, rgb, pixels });
    }

    /// The drawing as pixels: `[height, width, 3]`, height and width, `scale` pixels to a logical one.
    ///
    /// Errors: [`Error::Shape`] for a size that no picture may have.
    pub fn pixels(&self, scale: usize) -> Result<(Vec<u8>, usize, usize)> {
        raster::draw(self, scale)
    }

    /// The drawing as SVG.
    pub fn svg(&self) -> String {
        svg::write(self)
    }

    /// Writes PNG or SVG, as the file's ending says, whole or not at all.
    ///
    /// Errors: [`Error::Setting`] for another ending; [`Error::Shape`] for a size that no picture may have;
    /// [`Error::Write`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        match FileKind::of(path, "plot")? {
            FileKind::Png => {
                let (rgb, height, width) = self.pixels(PNG_SCALE)?;
                png::write(path, &rgb, height, width, &self.title)
            }
            FileKind::Svg => files::write_atomically(path, |file| {
                file.write_all(self.svg().as_bytes()).map_err(Error::write(path))
            }),
        }
    }
}

/// What a drawing is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Pixels.
    Png,
    /// Shapes.
    Svg,
}

impl FileKind {
    /// What the ending of the name asks for that was given to `flag`.
    ///
    /// Errors: [`Error::Setting`] for another ending.
    pub fn of(path: &Path, flag: &str) -> Result<FileKind> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("png") => Ok(FileKind::Png),
            Some("svg") => Ok(FileKind::Svg),
            _ => {
                let detail = format!("'{}' ends in neither .png nor .svg", path.display());
                Err(Error::setting(flag, detail))
            }
        }
    }
}

/// Width of a text in logical pixels, as a PNG has it; fonts of an SVG's reader come close.
pub fn text_width(text: &str, size: f64) -> f64 {
    font::width(text, size)
}

/// The text, or its beginning and an ellipsis, so that it is at most `width` wide.
pub fn fitted(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_string();
    }
    let letters: Vec<char> = text.chars().collect();
    let cut = |n: usize| letters[..n].iter().collect::<String>().trim_end().to_string() + "…";
    (0..letters.len()).rev().map(cut).find(|cut| text_width(cut, size) <= width).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_break_a_line_and_lone_points_are_dots() {
        let mut scene = Scene::new(9.5, 5.0, "");
        let nan = f64::NAN;
        scene
            .line(&[[0.0, 0.0], [1.0, 1.0], [2.0, nan], [3.0, 1.0], [nan, 1.0], [5.0, 1.0], [6.0, 1.0]], PEN);
        assert_eq!((scene.width, scene.shapes.len()), (10.0, 3));
        assert!(matches!(scene.shapes[1], Shape::Circle { centre: [3.0, 1.0], .. }));
        scene.line(&[], PEN);
        scene.line(&[[nan, nan]], PEN);
        assert_eq!(scene.shapes.len(), 3);
    }

    const PEN: Pen = Pen::new(INK, 1.0);

    #[test]
    fn names_that_are_too_long_are_cut() {
        assert_eq!(fitted("alpha", 12.0, 100.0), "alpha");
        let cut = fitted("a very long name of a class", 12.0, 60.0);
        assert!(cut.ends_with('…') && cut.starts_with("a ver") && text_width(&cut, 12.0) <= 60.0, "{cut}");
        assert_eq!(fitted("abc", 12.0, 0.0), "");
    }

    #[test]
    fn files_are_what_their_endings_say() {
        let folder = tempfile::tempdir().unwrap();
        let mut scene = Scene::new(40.0, 20.0, "a square");
        scene.rect([10.0, 5.0], [10.0, 10.0], [200, 0, 0]);
        let (png, svg) = (folder.path().join("a.PNG"), folder.path().join("a.svg"));
        scene.save(&png).unwrap();
        scene.save(&svg).unwrap();
        let (picture, comment) = crate::media::png::read(&png).unwrap();
        assert_eq!((picture.width, picture.height, comment.as_deref()), (80, 40, Some("a square")));
        assert_eq!(picture.rgb[3 * (80 * 20 + 30)..][..3], [200, 0, 0]);
        assert!(std::fs::read_to_string(&svg).unwrap().starts_with("<svg "));
        let error = scene.save(folder.path().join("a.pdf")).unwrap_err();
        assert!(error.to_string().contains("neither .png nor .svg"), "{error}");
        assert_eq!(error.exit_code(), 2);
        let error = Scene::new(1e9, 10.0, "").save(&png).unwrap_err();
        assert!(error.to_string().contains("8192"), "{error}");
    }
}

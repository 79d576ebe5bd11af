//! Gallery: pictures with what they are called under them, several to a row.

use super::axes::{MARGIN, heading};
use super::colour::{INK, MUTED};
use super::scene::{Scene, Text, text_width};
use crate::error::{Error, Result};

/// Most cards.
pub const MAX_CARDS: usize = 64;
/// Side of the square a picture is fitted into.
const SIDE: f64 = 160.0;
const GAP: f64 = 18.0;
const SIZE: f64 = 11.0;
const LINE: f64 = 15.0;
/// Most lines of a title; the last ends in an ellipsis where there is more.
const MOST_LINES: usize = 6;

/// Pictures of one thing, one above the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// Each `[height, width, 3]`, with what it is called beside it.
    pub pictures: Vec<Picture>,
    /// What stands below, in as many lines as it takes.
    pub title: String,
}

/// A picture of a card.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// `[height, width, 3]`.
    pub rgb: Vec<u8>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// A word above it; empty for none.
    pub label: String,
}

/// A table of cards, `columns` to a row.
///
/// Errors: [`Error::Shape`] without cards, with more than [`MAX_CARDS`], and for a picture whose bytes are not of its size.
pub fn gallery(title: &str, cards: &[Card], columns: usize) -> Result<Scene> {
    if cards.is_empty() || cards.len() > MAX_CARDS || columns == 0 {
        let detail = format!("{} cards in {columns} columns, wanted 1 to {MAX_CARDS}", cards.len());
        return Err(Error::shape("gallery", detail));
    }
    let pictures = || cards.iter().flat_map(|card| &card.pictures);
    if pictures().any(|p| p.rgb.len() != p.height * p.width * 3 || p.rgb.is_empty()) {
        return Err(Error::shape("gallery", "a picture of another size"));
    }
    let columns = columns.min(cards.len());
    let width =
        (2.0 * MARGIN + columns as f64 * (SIDE + GAP) - GAP).max(2.0 * MARGIN + text_width(title, 16.0));
    let mut scene = Scene::new(width, 0.0, title);
    let mut y = heading(&mut scene, title, "") + 8.0;
    for row in cards.chunks(columns) {
        let mut lowest = y;
        for (at, card) in row.iter().enumerate() {
            let (x, mut below) = (MARGIN + at as f64 * (SIDE + GAP), y);
            for picture in &card.pictures {
                if !picture.label.is_empty() {
                    let label = Text::new([x, below + 10.0], &*picture.label).size(9.0).colour(MUTED);
                    scene.text(label);
                    below += 14.0;
                }
                let longest = picture.height.max(picture.width) as f64;
                let [high, wide] = [picture.height, picture.width].map(|n| SIDE * n as f64 / longest);
                scene.image([x, below], [wide, high], picture.rgb.clone(), [picture.height, picture.width]);
                below += high + 6.0;
            }
            for line in wrapped(&card.title, SIZE, SIDE, MOST_LINES) {
                below += LINE;
                scene.text(Text::new([x, below - 3.0], line).size(SIZE).colour(INK));
            }
            lowest = lowest.max(below);
        }
        y = lowest + GAP;
    }
    scene.height = (y + MARGIN - GAP).ceil();
    Ok(scene)
}

/// A text in lines at most `width` wide, broken at white space, inside a word where that alone is too wide; the last of
/// `most` lines ends in an ellipsis where there is more.
pub fn wrapped(text: &str, size: f64, width: f64, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    let fits = |line: &str| text_width(line, size) <= width;
    for word in text.split_whitespace() {
        let longer = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
        if fits(&longer) {
            line = longer;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for letter in word.chars() {
            if !line.is_empty() && !fits(&format!("{line}{letter}")) {
                lines.push(std::mem::take(&mut line));
            }
            line.push(letter);
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            while !last.is_empty() && !fits(&format!("{last}…")) {
                last.pop();
            }
            last.push('…');
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::scene::Shape;

    fn card(title: &str, height: usize, width: usize) -> Card {
        let picture = Picture { rgb: vec![90; height * width * 3], height, width, label: "made".into() };
        Card { pictures: vec![picture.clone(), picture], title: title.into() }
    }

    #[test]
    fn titles_wrap_at_words_and_end_in_an_ellipsis() {
        let lines = wrapped("a man riding a horse on the beach", 11.0, 90.0, 6);
        assert!(lines.len() > 1 && lines.concat().len() >= 25, "{lines:?}");
        assert_eq!(lines.join(" "), "a man riding a horse on the beach");
        assert!(lines.iter().all(|line| text_width(line, 11.0) <= 90.0));
        let word = wrapped(&"x".repeat(100), 11.0, 60.0, 50);
        assert!(word.len() > 3 && word.concat() == "x".repeat(100));
        let cut = wrapped("many words and more words and more of them", 11.0, 60.0, 2);
        assert!(cut.len() == 2 && cut[1].ends_with('…') && text_width(&cut[1], 11.0) <= 60.0, "{cut:?}");
        assert!(wrapped(" \n ", 11.0, 60.0, 2).is_empty());
    }

    #[test]
    fn nothing_lies_outside_or_on_something_else() {
        let cards: Vec<Card> = (1..8).map(|n| card(&"word ".repeat(4 * n), 20 * n, 90)).collect();
        let scene = gallery("what was seen", &cards, 3).unwrap();
        let mut places: Vec<[f64; 4]> = Vec::new();
        for shape in &scene.shapes {
            if let Shape::Image { corner: [x, y], size: [w, h], .. } = shape {
                assert!(x + w <= scene.width && y + h <= scene.height);
                let apart = |p: &[f64; 4]| x + w <= p[0] || p[2] <= *x || y + h <= p[1] || p[3] <= *y;
                assert!(places.iter().all(apart));
                places.push([*x, *y, x + w, y + h]);
            }
        }
        assert_eq!(places.len(), 14);
        assert!(gallery("", &[], 3).is_err());
        let mut wrong = card("", 2, 2);
        wrong.pictures[0].rgb.pop();
        assert!(gallery("", &[wrong], 3).is_err());
    }
}

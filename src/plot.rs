//! Charts: from numbers to a [`Scene`], and from a scene to PNG or SVG.
//!
//! ```text
//! recording ─spectrum─> µV²/Hz     vectors ─tsne─> points
//!
//! pictures ── gallery ──────────────────────────────────────────────────┐
//! numbers ── curves, confusion, bars, traces, psd, topomap, scatter ──> Scene ──raster──> FILE.png
//!                                                                             └──svg────> FILE.svg
//! ```
//!
//! Each chart is one file with one function. No fonts, no libraries of the system: the same numbers give the same
//! bytes. A value that is not finite leaves a gap; a chart without any finite value is refused. There is no
//! transparency and no state: shapes are painted in the order they stand in.

pub mod colour;
pub mod scene;

mod font;
mod raster;
mod svg;

pub(crate) mod axes;

pub mod bars;
pub mod confusion;
pub mod curves;
pub mod gallery;
pub mod psd;
pub mod scatter;
pub mod topomap;
pub mod traces;

pub mod spectrum;
pub mod tsne;

pub use bars::{Bar, bars};
pub use confusion::{CONFUSION_MAX_CLASSES, confusion};
pub use curves::{Panel, Series, curves};
pub use gallery::{Card, gallery};
pub use psd::psd;
pub use scatter::scatter;
pub use scene::Scene;
pub use spectrum::Spectrum;
pub use topomap::{Map, topomap};
pub use traces::traces;
pub use tsne::tsne;

/// Fails unless `svg` is well-formed as XML: tags close in order, attributes are quoted, nothing is bare.
#[cfg(test)]
fn well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = svg;
    let is_text = |text: &str| {
        let entities = ["&amp;", "&lt;", "&gt;", "&quot;", "&apos;"];
        let bare = entities.iter().fold(text.to_string(), |text, entity| text.replace(entity, ""));
        !bare.contains(['&', '<', '>'])
    };
    while let Some(at) = rest.find('<') {
        assert!(is_text(&rest[..at]), "{}", &rest[..at]);
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        let (tag, closes) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let quotes: Vec<&str> = attributes.split('"').collect();
        assert!(quotes.len() % 2 == 1, "{tag}");
        for (i, part) in quotes.iter().enumerate() {
            assert!(if i % 2 == 1 { is_text(part) } else { part.is_empty() || part.ends_with('=') }, "{tag}");
        }
        if !closes {
            open.push(name);
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
}

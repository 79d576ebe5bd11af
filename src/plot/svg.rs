//! A scene as SVG: one element a shape, text as text, pictures inside as PNG. Format: W3C, SVG 1.1.

use super::colour::Colour;
use super::scene::{Anchor, Scene, Shape, Text};
use crate::media::png;
use std::fmt::Write;

pub(super) fn write(scene: &Scene) -> String {
    let (width, height) = (number(scene.width), number(scene.height));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" \
         width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"Helvetica, Arial, sans-serif\" stroke-linecap=\"round\" stroke-linejoin=\"round\">\n\
         <title>{}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
        escaped(&scene.title)
    );
    for shape in &scene.shapes {
        element(&mut out, shape);
    }
    out + "</svg>\n"
}

fn element(out: &mut String, shape: &Shape) {
    // Writing to a String never fails.
    let _ = match shape {
        Shape::Line { points, pen } => {
            let dash = match pen.dash {
                dash if dash > 0.0 => format!(" stroke-dasharray=\"{0} {0}\"", number(dash)),
                _ => String::new(),
            };
            let places: Vec<String> =
                points.iter().map(|[x, y]| format!("{},{}", number(*x), number(*y))).collect();
            let (colour, width) = (hex(pen.colour), number(pen.width));
            writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"{dash}/>",
                places.join(" ")
            )
        }
        Shape::Area { points, fill } => {
            let places: Vec<String> =
                points.iter().map(|[x, y]| format!("{},{}", number(*x), number(*y))).collect();
            writeln!(out, "<polygon points=\"{}\" fill=\"{}\"/>", places.join(" "), hex(*fill))
        }
        Shape::Rect { corner: [x, y], size: [width, height], fill } => writeln!(
            out,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" shape-rendering=\"crispEdges\"/>",
            number(*x),
            number(*y),
            number(*width),
            number(*height),
            hex(*fill)
        ),
        Shape::Circle { centre: [x, y], radius, fill, pen } => {
            let fill = fill.map_or("none".to_string(), hex);
            let rim = pen.map_or(String::new(), |pen| {
                format!(" stroke=\"{}\" stroke-width=\"{}\"", hex(pen.colour), number(pen.width))
            });
            let (x, y, radius) = (number(*x), number(*y), number(*radius));
            writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" fill=\"{fill}\"{rim}/>")
        }
        Shape::Text(text) => writeln!(out, "{}", text_element(text)),
        Shape::Image { corner: [x, y], size: [width, height], rgb, pixels: [rows, columns] } => {
            match png::encode(rgb, *rows, *columns) {
                Ok(picture) => writeln!(
                    out,
                    "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" \
                     xlink:href=\"data:image/png;base64,{}\"/>",
                    number(*x),
                    number(*y),
                    number(*width),
                    number(*height),
                    base64(&picture)
                ),
                // As in pixels: what is no picture is not drawn.
                Err(_) => Ok(()),
            }
        }
    };
}

fn text_element(text: &Text) -> String {
    let ([x, y], size) = (text.at.map(number), number(text.size));
    let anchor = match text.anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    let bold = if text.bold { " font-weight=\"bold\"" } else { "" };
    let turn = if text.turned { format!(" transform=\"rotate(-90 {x} {y})\"") } else { String::new() };
    let (fill, words) = (hex(text.colour), escaped(&text.text));
    format!(
        "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" fill=\"{fill}\"{anchor}{bold}{turn}>{words}</text>"
    )
}

/// At most two decimals, none that say nothing; what is not finite becomes 0.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "0".into();
    }
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

fn hex([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Text as XML has it; characters that XML 1.0 forbids become U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&apos;",
            '\t' | '\n' | '\r' => out.push(' '),
            '\0'..' ' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(*group.get(i).unwrap_or(&0)));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) as usize & 63;
            out.push(if digit <= group.len() { char::from(DIGITS[value]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Pen, Text};
    use super::*;

    #[test]
    fn names_from_outside_stay_text() {
        let mut scene = Scene::new(50.0, 20.0, "a <b> & \"c\"");
        scene.text(Text::new([1.0, 2.0], "</text><script>alert('x')</script>\u{1}").bold().turned().end());
        let svg = scene.svg();
        assert!(svg.contains("<title>a &lt;b&gt; &amp; &quot;c&quot;</title>"), "{svg}");
        assert!(
            svg.contains("&lt;/text&gt;&lt;script&gt;alert(&apos;x&apos;)&lt;/script&gt;\u{fffd}</text>")
        );
        assert!(!svg.contains("<script"), "{svg}");
        assert!(
            svg.contains("text-anchor=\"end\" font-weight=\"bold\" transform=\"rotate(-90 1 2)\""),
            "{svg}"
        );
    }

    #[test]
    fn every_shape_is_an_element_that_closes() {
        let mut scene = Scene::new(50.0, 20.0, "all");
        scene.line(&[[0.0, 0.333], [10.0, -0.001]], Pen::new([1, 2, 3], 1.5).dashed(4.0));
        scene.area(&[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [9; 3]);
        scene.rect([1.0, 2.0], [3.0, 4.0], [255, 0, 0]);
        let pen = Some(Pen::new([0; 3], 1.0));
        scene.shapes.push(Shape::Circle { centre: [f64::NAN, 1.0], radius: 2.0, fill: None, pen });
        scene.image([0.0, 0.0], [4.0, 4.0], vec![7; 12], [2, 2]);
        scene.image([0.0, 0.0], [4.0, 4.0], vec![7; 11], [2, 2]);
        let svg = scene.svg();
        assert!(svg.contains("points=\"0,0.33 10,0\" fill=\"none\" stroke=\"#010203\" stroke-width=\"1.5\" stroke-dasharray=\"4 4\"/>"), "{svg}");
        assert!(svg.contains("base64,iVBORw0KGgo"), "{svg}");
        assert_eq!(svg.matches("<image").count(), 1);
        super::super::well_formed(&svg);
    }

    #[test]
    fn base64_is_rfc_4648s() {
        let known = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (n, wanted) in known.into_iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..n]), wanted);
        }
    }
}

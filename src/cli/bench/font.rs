//! A small font for pictures: capitals, digits and signs of 5 x 7 dots. Systems without fonts get the same picture.

/// Columns of a letter, the gap after it included.
pub(super) const ADVANCE: usize = 6;
/// Rows of a letter.
pub(super) const HEIGHT: usize = 7;

/// Rows of a letter from the top, five bits each, the left one highest; small letters look like capitals, what is
/// not there is blank.
pub(super) fn glyph(letter: char) -> [u8; HEIGHT] {
    let letter = letter.to_ascii_uppercase();
    GLYPHS.iter().find(|glyph| glyph.0 == letter).map_or([0; HEIGHT], |glyph| glyph.1)
}

const GLYPHS: [(char, [u8; HEIGHT]); 51] = [
    ('A', [14, 17, 17, 31, 17, 17, 17]),
    ('B', [30, 17, 17, 30, 17, 17, 30]),
    ('C', [14, 17, 16, 16, 16, 17, 14]),
    ('D', [30, 17, 17, 17, 17, 17, 30]),
    ('E', [31, 16, 16, 30, 16, 16, 31]),
    ('F', [31, 16, 16, 30, 16, 16, 16]),
    ('G', [14, 17, 16, 23, 17, 17, 15]),
    ('H', [17, 17, 17, 31, 17, 17, 17]),
    ('I', [14, 4, 4, 4, 4, 4, 14]),
    ('J', [7, 2, 2, 2, 2, 18, 12]),
    ('K', [17, 18, 20, 24, 20, 18, 17]),
    ('L', [16, 16, 16, 16, 16, 16, 31]),
    ('M', [17, 27, 21, 21, 17, 17, 17]),
    ('N', [17, 25, 21, 19, 17, 17, 17]),
    ('O', [14, 17, 17, 17, 17, 17, 14]),
    ('P', [30, 17, 17, 30, 16, 16, 16]),
    ('Q', [14, 17, 17, 17, 21, 18, 13]),
    ('R', [30, 17, 17, 30, 20, 18, 17]),
    ('S', [15, 16, 16, 14, 1, 1, 30]),
    ('T', [31, 4, 4, 4, 4, 4, 4]),
    ('U', [17, 17, 17, 17, 17, 17, 14]),
    ('V', [17, 17, 17, 17, 17, 10, 4]),
    ('W', [17, 17, 17, 21, 21, 27, 17]),
    ('X', [17, 17, 10, 4, 10, 17, 17]),
    ('Y', [17, 17, 10, 4, 4, 4, 4]),
    ('Z', [31, 1, 2, 4, 8, 16, 31]),
    ('0', [14, 17, 19, 21, 25, 17, 14]),
    ('1', [4, 12, 4, 4, 4, 4, 14]),
    ('2', [14, 17, 1, 6, 8, 16, 31]),
    ('3', [14, 17, 1, 6, 1, 17, 14]),
    ('4', [2, 6, 10, 18, 31, 2, 2]),
    ('5', [31, 16, 30, 1, 1, 17, 14]),
    ('6', [6, 8, 16, 30, 17, 17, 14]),
    ('7', [31, 1, 2, 4, 8, 8, 8]),
    ('8', [14, 17, 17, 14, 17, 17, 14]),
    ('9', [14, 17, 17, 15, 1, 2, 12]),
    ('.', [0, 0, 0, 0, 0, 12, 12]),
    (',', [0, 0, 0, 0, 12, 4, 8]),
    ('-', [0, 0, 0, 31, 0, 0, 0]),
    ('+', [0, 4, 4, 31, 4, 4, 0]),
    ('/', [1, 1, 2, 4, 8, 16, 16]),
    ('%', [24, 25, 2, 4, 8, 19, 3]),
    ('[', [14, 8, 8, 8, 8, 8, 14]),
    (']', [14, 2, 2, 2, 2, 2, 14]),
    ('(', [2, 4, 8, 8, 8, 4, 2]),
    (')', [8, 4, 2, 2, 2, 4, 8]),
    (':', [0, 12, 12, 0, 12, 12, 0]),
    ('_', [0, 0, 0, 0, 0, 0, 31]),
    ('>', [8, 4, 2, 1, 2, 4, 8]),
    ('#', [10, 10, 31, 10, 31, 10, 10]),
    (' ', [0; HEIGHT]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_distinct_and_fit() {
        for (at, (letter, rows)) in GLYPHS.iter().enumerate() {
            assert!(rows.iter().all(|&row| row < 32), "{letter}");
            assert!(GLYPHS[..at].iter().all(|other| other.1 != *rows && other.0 != *letter), "{letter}");
        }
        assert_eq!(glyph('a'), glyph('A'));
        assert_eq!(glyph('é'), [0; HEIGHT]);
    }
}

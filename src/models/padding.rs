//! Which places of a batch of texts hold tokens: transformers' `attention_mask`.

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::tensor::Tensor;

/// A row of places for each text; a place is seen or padding.
#[derive(Clone, Debug, PartialEq)]
pub struct Padding {
    rows: Vec<Vec<bool>>,
}

impl Padding {
    /// No padding at all.
    pub fn none([batch, tokens]: [usize; 2]) -> Padding {
        Padding { rows: vec![vec![true; tokens]; batch] }
    }

    /// From a mask `[batch, tokens]`, row-major, 0 at padding.
    ///
    /// Errors: when the mask does not fill the shape, or the shape is empty; values other than 0 and 1.
    pub fn new(mask: &[i64], [batch, tokens]: [usize; 2]) -> Result<Padding> {
        if batch * tokens != mask.len() || mask.is_empty() {
            let detail = format!("a mask of {} does not fill [{batch}, {tokens}]", mask.len());
            return Err(Error::shape("attention_mask", detail));
        }
        if let Some(odd) = mask.iter().find(|&&seen| seen != 0 && seen != 1) {
            return Err(Error::shape("attention_mask", format!("holds {odd}, wanted 1, or 0 at padding")));
        }
        Ok(Padding {
            rows: mask.chunks(tokens).map(|row| row.iter().map(|&seen| seen == 1).collect()).collect(),
        })
    }

    /// Texts, places.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows.len(), self.rows.first().map_or(0, Vec::len)]
    }

    /// As many more places before the others, all seen.
    pub fn after(&self, tokens: usize) -> Padding {
        let seen = |row: &Vec<bool>| [&vec![true; tokens][..], row].concat();
        Padding { rows: self.rows.iter().map(seen).collect() }
    }

    /// One more place in each text, seen.
    pub fn grow(&mut self) {
        self.rows.iter_mut().for_each(|row| row.push(true));
    }

    /// Of these texts, in this order.
    pub fn pick(&self, texts: &[usize]) -> Padding {
        Padding { rows: texts.iter().map(|&text| self.rows[text].clone()).collect() }
    }

    /// Place of each token among those seen, from `start` on: -1 at padding.
    pub fn places(&self, start: usize) -> Vec<i64> {
        let of_row = |row: &Vec<bool>| {
            let mut count = 0;
            let place = |&seen: &bool| {
                count += i64::from(seen);
                if seen { count - 1 } else { -1 }
            };
            row.iter().map(place).collect::<Vec<_>>().split_off(start)
        };
        self.rows.iter().flat_map(of_row).collect()
    }

    /// Tokens of the longest text.
    pub fn longest(&self) -> usize {
        self.rows.iter().map(|row| row.iter().filter(|&&seen| seen).count()).max().unwrap_or(0)
    }

    /// `[batch, tokens]` of 1 and 0 on the device; nothing where there is no padding.
    pub fn mask(&self, gpu: &Gpu) -> Result<Option<Tensor>> {
        let values: Vec<f32> = self.rows.iter().flatten().map(|&seen| f32::from(u8::from(seen))).collect();
        match values.contains(&0.0) {
            true => Ok(Some(Tensor::new(gpu, &self.shape(), &values)?)),
            false => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_what_is_seen() {
        let mut padding = Padding::new(&[0, 0, 1, 1, 1, 0, 1, 1], [2, 4]).unwrap();
        assert_eq!(padding.places(0), [-1, -1, 0, 1, 0, -1, 1, 2]);
        assert_eq!((padding.shape(), padding.longest()), ([2, 4], 3));
        padding.grow();
        assert_eq!(padding.places(4), [2, 3]);
        assert_eq!(padding.after(2).places(0)[..7], [0, 1, -1, -1, 2, 3, 4]);
        assert!(Padding::new(&[1, 1, 1], [2, 2]).is_err());
        assert!(Padding::new(&[1, 2, 1, 0], [2, 2]).unwrap_err().to_string().contains("holds 2, wanted 1"));
        assert!(Padding::none([2, 3]).mask(&Gpu::plan()).unwrap().is_none());
    }
}

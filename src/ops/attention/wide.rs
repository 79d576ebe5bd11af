//! Heads too wide for registers: two matrix products with a softmax between, a bounded number of rows at a time.
//! Heads are read and written where they lie, beside each other.

use super::super::gemm::{Epilogue, Product};
use super::super::matmul::ROWS_PER_TEXTURE;
use super::super::pack::Packed;
use super::Sight;
use crate::error::Result;
use crate::tensor::Tensor;

/// Scores that are kept at once.
pub(super) const WIDE_SCORES: usize = 8 << 20;

impl Tensor {
    /// Heads too wide for registers: scores of a bounded number of rows at a time.
    pub(super) fn wide_attention(
        &self,
        k: &Tensor,
        v: &Tensor,
        heads: usize,
        scale: f32,
        sight: Sight,
    ) -> Result<Tensor> {
        let &[b, m, c] = self.shape() else { unreachable!("three axes were asked for") };
        if self.is_empty() {
            return Tensor::empty(self.gpu(), self.shape(), self.dtype());
        }
        match sight {
            Sight::All | Sight::Causal => {}
            Sight::SparseCausal { frames } => {
                let (k, v) = (k.seen_before(frames)?, v.seen_before(frames)?);
                return self.wide_attention(&k, &v, heads, scale, Sight::All);
            }
            Sight::Temporal { frames } => {
                // Frames become the tokens of an attention per pixel, and go back.
                let swapped = |x: &Tensor, [outer, inner]: [usize; 2]| {
                    x.reshape(&[b / frames, outer, inner, c])?.permute(&[0, 2, 1, 3])
                };
                let pixels = |x: &Tensor| swapped(x, [frames, m])?.reshape(&[b / frames * m, frames, c]);
                let o = pixels(self)?.wide_attention(&pixels(k)?, &pixels(v)?, heads, scale, Sight::All)?;
                return swapped(&o, [m, frames])?.reshape(self.shape());
            }
        }
        let (n, share, width) = (k.shape()[1], b / k.shape()[0], c / heads);
        let rows = (WIDE_SCORES / n).clamp(1, m);
        let mut parts = Vec::new();
        for image in 0..b {
            let packed = |x: &Tensor, head: usize, transposed: bool| {
                let columns = head * width..(head + 1) * width;
                Packed::from_columns(x, image / share, columns, transposed, m >= ROWS_PER_TEXTURE)
            };
            let both = |head| -> Result<_> { Ok((packed(k, head, true)?, packed(v, head, false)?)) };
            let packed = (0..heads).map(both).collect::<Result<Vec<_>>>()?;
            for start in (0..m).step_by(rows) {
                let rows = rows.min(m - start);
                let q = self.narrow(0, image, 1)?.reshape(&[m, c])?.narrow(0, start, rows)?;
                let q = q.scale(scale, 0.0)?;
                let o = Tensor::empty(self.gpu(), &[rows, c], self.dtype())?;
                for (head, (keys, values)) in packed.iter().enumerate() {
                    let mut scores = Tensor::empty(self.gpu(), &[rows, n], self.dtype())?;
                    product(&q, head * width, keys, &scores, 0)?;
                    if sight == Sight::Causal {
                        scores = scores.add(&later(&scores, start)?)?;
                    }
                    product(&scores.softmax()?, 0, values, &o, head * width)?;
                }
                parts.push(o);
            }
        }
        match &parts[..] {
            [o] => o.reshape(self.shape()),
            parts => Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?.reshape(self.shape()),
        }
    }

    /// Keys or values [b * frames, n, c] -> [b * frames, 2 n, c]: the first frame's, then the frame before's.
    pub(super) fn seen_before(&self, frames: usize) -> Result<Tensor> {
        let &[images, n, c] = self.shape() else { unreachable!("three axes were asked for") };
        let video = self.reshape(&[images / frames, frames, n, c])?;
        let first = video.narrow(1, 0, 1)?;
        let before = match frames {
            1 => first.clone(),
            frames => Tensor::concat(&[&first, &video.narrow(1, 0, frames - 1)?], 1)?,
        };
        Tensor::concat(&[&first.expand(before.shape())?, &before], 2)?.reshape(&[images, 2 * n, c])
    }
}

/// c's columns from `c_first` on become a's columns from `a_first` on times b.
fn product(a: &Tensor, a_first: usize, b: &Packed, c: &Tensor, c_first: usize) -> Result<()> {
    let product = Product {
        op: "attention",
        a,
        a_stride: a.dim(0),
        a_offset: a_first,
        b,
        c,
        c_stride: c.dim(0),
        c_offset: c_first,
        m: a.dim(1),
        batch: 1,
        image: None,
        epilogue: Epilogue::default(),
    };
    product.run()
}

/// What hides the keys after a query's own place, added to scores [rows, keys] whose first row is query `start`.
pub(super) fn later(scores: &Tensor, start: usize) -> Result<Tensor> {
    let (rows, keys) = (scores.dim(1), scores.dim(0));
    // Far below every score, and finite in f16.
    let hidden = |at: usize| if at % keys > start + at / keys { -3e4 } else { 0.0 };
    let mask: Vec<f32> = (0..rows * keys).map(hidden).collect();
    Tensor::new(scores.gpu(), scores.shape(), &mask)?.cast(scores.dtype())
}

//! Heads too wide for registers: two matrix products with a softmax between, a bounded number of rows at a time.

use super::Sight;
use crate::error::Result;
use crate::tensor::Tensor;

/// Scores that are kept at once.
const WIDE_SCORES: usize = 8 << 20;

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
        // [images, tokens, heads * width] -> [images, heads, tokens, width]
        let apart = |x: &Tensor| {
            let (images, tokens) = (x.dim(2), x.dim(1));
            x.reshape(&[images, tokens, heads, width])?.permute(&[0, 2, 1, 3])
        };
        let (q, k, v) = (apart(&self.scale(scale, 0.0)?)?, apart(k)?, apart(v)?);
        let rows = (WIDE_SCORES / n).clamp(1, m);
        let mut parts = Vec::new();
        for (image, head) in (0..b * heads).map(|at| (at / heads, at % heads)) {
            let matrix = |x: &Tensor, image: usize| {
                x.narrow(0, image, 1)?.narrow(1, head, 1)?.reshape(&[x.dim(1), width])
            };
            let (queries, keys, values) =
                (matrix(&q, image)?, matrix(&k, image / share)?, matrix(&v, image / share)?);
            for start in (0..m).step_by(rows) {
                let part = queries.narrow(0, start, rows.min(m - start))?;
                let mut scores = part.matmul(&keys, true)?;
                if sight == Sight::Causal {
                    scores = scores.add(&later(&scores, start)?)?;
                }
                parts.push(scores.softmax()?.matmul(&values, false)?);
            }
        }
        let o = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?.reshape(&[b, heads, m, width])?;
        o.permute(&[0, 2, 1, 3])?.reshape(self.shape())
    }

    /// Keys or values [b * frames, n, c] -> [b * frames, 2 n, c]: the first frame's, then the frame before's.
    fn seen_before(&self, frames: usize) -> Result<Tensor> {
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

/// What hides the keys after a query's own place, added to scores [rows, keys] whose first row is query `start`.
fn later(scores: &Tensor, start: usize) -> Result<Tensor> {
    let (rows, keys) = (scores.dim(1), scores.dim(0));
    // Far below every score, and finite in f16.
    let hidden = |at: usize| if at % keys > start + at / keys { -3e4 } else { 0.0 };
    let mask: Vec<f32> = (0..rows * keys).map(hidden).collect();
    Tensor::new(scores.gpu(), scores.shape(), &mask)?.cast(scores.dtype())
}

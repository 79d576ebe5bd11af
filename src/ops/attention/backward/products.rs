//! Attention's way back for heads too wide for registers: plain products and softmax over bounded pieces of the scores.

use super::super::wide::{WIDE_SCORES, later};
use crate::error::Result;
use crate::tensor::{DType, Tensor};

/// Far below any score, and far above what `later` adds: where no key is left, the weights fall on those the mask takes.
const HIDDEN: f32 = 1e4;

/// Gradients of q `[sets, queries, heads * width]`, and of k and v `[sets, keys, heads * width]`, from those two, the
/// output and its gradient g. `causal` hides the keys after a query's own place, `mask [sets, keys]` those where it is 0.
pub(super) fn products(
    [q, k, v, o, g]: [&Tensor; 5],
    heads: usize,
    scale: f32,
    causal: bool,
    mask: Option<&Tensor>,
) -> Result<[Tensor; 3]> {
    let (sets, queries, keys, c) = (q.shape()[0], q.dim(1), k.dim(1), q.dim(0));
    let (batch, width) = (sets * heads, c / heads);
    let apart = |x: &Tensor| {
        let tokens = x.dim(1);
        let heads_first = x.reshape(&[sets, tokens, heads, width])?.permute(&[0, 2, 1, 3])?;
        heads_first.reshape(&[batch, tokens, width])
    };
    let [q, k, v, o, g] = [apart(q)?, apart(k)?, apart(v)?, apart(o)?, apart(g)?];
    let of_head = |mask: &Tensor| {
        mask.reshape(&[sets, 1, keys])?.expand(&[sets, heads, keys])?.reshape(&[batch, 1, keys])
    };
    let mask = mask.map(of_head).transpose()?;
    // Matrices that go together, and rows of one where it alone has too many scores.
    let largest = (queries * keys).max(queries * width).max(keys * width).max(1);
    let most = (WIDE_SCORES / largest).clamp(1, batch.max(1));
    let rows = if most > 1 { queries } else { (WIDE_SCORES / keys.max(width)).clamp(1, queries) };
    let (mut dq, mut dk, mut dv) = (Vec::new(), Vec::new(), Vec::new());
    for start in (0..batch).step_by(most) {
        let n = most.min(batch - start);
        let piece = |x: &Tensor, first: usize, len: usize| {
            x.narrow(0, start, n)?.narrow(1, first, len)?.cast(DType::F32)
        };
        let (keys_here, values) = (piece(&k, 0, keys)?, piece(&v, 0, keys)?);
        let mask = mask.as_ref().map(|mask| piece(mask, 0, 1)).transpose()?;
        let mut sums: Option<[Tensor; 2]> = None;
        let mut of_rows = Vec::new();
        for first in (0..queries).step_by(rows) {
            let len = rows.min(queries - first);
            let [q, o, g] = [piece(&q, first, len)?, piece(&o, first, len)?, piece(&g, first, len)?];
            let mut scores = q.scale(scale, 0.0)?.matmul(&keys_here, true)?;
            if causal {
                scores = scores.add(&later(&scores.narrow(0, 0, 1)?.reshape(&[len, keys])?, first)?)?;
            }
            if let Some(mask) = &mask {
                scores = scores.add(&mask.scale(HIDDEN, -HIDDEN)?)?;
            }
            let mut p = scores.softmax()?;
            if let Some(mask) = &mask {
                // Where all keys are hidden the softmax is even, and nothing was seen.
                p = p.mul(mask)?;
            }
            let mean = g.mul(&o)?.sum(&[2])?.reshape(&[n, len, 1])?;
            let e = p.mul(&g.matmul(&values, true)?.sub(&mean)?)?;
            of_rows.push(e.matmul(&keys_here, false)?.scale(scale, 0.0)?);
            let turned = |x: &Tensor| x.permute(&[0, 2, 1]);
            let more = [turned(&e)?.matmul(&q, false)?.scale(scale, 0.0)?, turned(&p)?.matmul(&g, false)?];
            sums = Some(match sums {
                Some([dk, dv]) => [dk.add(&more[0])?, dv.add(&more[1])?],
                None => more,
            });
        }
        dq.push(joined(of_rows, 1)?);
        if let Some([of_keys, of_values]) = sums {
            dk.push(of_keys);
            dv.push(of_values);
        }
    }
    let together = |parts: Vec<Tensor>, tokens: usize| {
        let all = joined(parts, 0)?.reshape(&[sets, heads, tokens, width])?;
        all.permute(&[0, 2, 1, 3])?.reshape(&[sets, tokens, c])
    };
    Ok([together(dq, queries)?, together(dk, keys)?, together(dv, keys)?])
}

/// Parts of one tensor, side by side along an axis.
fn joined(mut parts: Vec<Tensor>, axis: usize) -> Result<Tensor> {
    match parts.len() {
        1 => Ok(parts.remove(0)),
        _ => Tensor::concat(&parts.iter().collect::<Vec<_>>(), axis),
    }
}

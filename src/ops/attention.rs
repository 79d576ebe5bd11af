//! Fused attention: `softmax(q k^T / sqrt(width)) v` per head, scores never stored.
//! Same as PyTorch `scaled_dot_product_attention` on `[batch, heads, tokens, width]`; here heads stay side by side
//! in the last axis, `[batch, tokens, heads * width]`, so that nothing is permuted.
//!
//! Two forms: `subgroup` (8 lanes = 8 or 16 queries, keys spread by shuffles; for software adapters) and `tiled`
//! (64 queries per workgroup, keys staged in workgroup memory). Heads wider than 192 run as two matrix products
//! with a softmax between, a bounded number of rows at a time.

use super::{common, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Class, Gpu, Launch, Program, Variant, Work};
use crate::tensor::Tensor;

params! {
    struct Params {
        attentions: u32,
        queries: u32,
        keys: u32,
        heads: u32,
        tiles: u32,
        q_inner: u32,
        q_outer: u32,
        q_step: u32,
        q_token: u32,
        share: u32,
        k_outer: u32,
        k_step: u32,
        k_token: u32,
        split: u32,
        head: u32,
        width: u32,
        causal: u32,
        scale: f32,
    }
}

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// All keys. `q [b * r, m, c]` sees `k, v [b, n, c]`: r consecutive batches share their keys.
    All,
    /// Keys up to the query's own place; as many keys as queries.
    Causal,
    /// `q, k, v [b * frames, pixels, c]`: the keys of the video's first frame, then of the frame before (the first
    /// frame sees itself twice). Tune-A-Video's sparse causal attention.
    SparseCausal {
        /// Frames of one video.
        frames: usize,
    },
    /// `q, k, v [b * frames, pixels, c]`: each pixel over the frames of its video.
    Temporal {
        /// Frames of one video.
        frames: usize,
    },
}

/// Queries of a workgroup in the tiled form.
const TILE_QUERIES: u32 = 64;
/// Widest head that stays in registers.
const MAX_WIDTH: usize = 192;
/// Bytes of workgroup memory for a tile of keys and one of values; every device has 16 KiB.
const TILE_BYTES: usize = 16 << 10;
/// Scores of a wide head that are kept at once.
const WIDE_SCORES: usize = 8 << 20;

/// One form of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Form {
    /// Queries per lane of the subgroup form; 0 for the tiled one.
    queries_per_lane: u32,
    /// Vectors of 4 in a head, the last one padded.
    vectors: u32,
    /// Read four at once.
    wide: bool,
}

impl Form {
    fn key(self) -> u64 {
        u64::from(self.vectors) | u64::from(self.queries_per_lane) << 16 | u64::from(self.wide) << 20
    }

    fn workgroup(self) -> u32 {
        if self.queries_per_lane > 0 { 8 } else { TILE_QUERIES }
    }

    /// Queries of one workgroup.
    fn tile(self) -> u32 {
        if self.queries_per_lane > 0 { 8 * self.queries_per_lane } else { TILE_QUERIES }
    }

    fn text(self) -> String {
        let read = if self.wide { shaders!("attention_read4") } else { shaders!("attention_read1") };
        let product = if self.queries_per_lane > 0 { self.subgroup() } else { self.tiled() };
        [shaders!("attention"), read, common::INDEX, &product].join("\n")
    }

    /// Lanes are queries; when reading, lanes are keys, spread by shuffles with constant lanes.
    fn subgroup(self) -> String {
        let (per_lane, vectors) = (self.queries_per_lane, self.vectors);
        let mut w = String::new();
        let mut line = |text: String| {
            w.push_str(&text);
            w.push('\n');
        };
        line(format!(
            "@compute @workgroup_size(8)\n\
             fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,\n\
             \x20   @builtin(subgroup_invocation_id) lane: u32) {{\n\
             \x20   let at = group_index(group, groups);\n\
             \x20   let head = at / params.tiles % params.heads;\n\
             \x20   let n = at / (params.tiles * params.heads);\n\
             \x20   if (n >= params.attentions) {{ return; }}\n\
             \x20   let first = at % params.tiles * {}u + lane;",
            8 * per_lane
        ));
        for i in 0..per_lane {
            line(format!(
                "    let query{i} = first + {}u;\n\
                 \x20   let q_at{i} = q_base(n, head) + min(query{i}, params.queries - 1u) * params.q_token;\n\
                 \x20   var m{i} = LEAST; var l{i} = 0.0;",
                8 * i
            ));
            for d in 0..vectors {
                line(format!(
                    "    let q{i}_{d} = read_q(q_at{i}, {d}u) * params.scale; var o{i}_{d} = vec4<f32>();"
                ));
            }
        }
        // Keys past the last query of this tile count for none of its queries.
        line(format!(
            "    let end = select(params.keys, min(params.keys, at % params.tiles * {0}u + {0}u), params.causal == 1u);\n\
             \x20   for (var start = 0u; start < end; start += 8u) {{\n\
             \x20       let base = key_base(n, head, min(start + lane, params.keys - 1u));",
            8 * per_lane
        ));
        for i in 0..per_lane {
            line(format!(
                "        let last{i} = select(params.keys - 1u, min(query{i}, params.keys - 1u), params.causal == 1u);"
            ));
            for j in 0..8 {
                line(format!("        var s{i}_{j} = 0.0;"));
            }
        }
        for d in 0..vectors {
            line(format!("        let k{d} = read_k(base, {d}u);"));
            for j in 0..8 {
                line(format!("        let k{d}_{j} = subgroupShuffle(k{d}, {j}u);"));
                for i in 0..per_lane {
                    line(format!("        s{i}_{j} += dot(q{i}_{d}, k{d}_{j});"));
                }
            }
        }
        for i in 0..per_lane {
            for j in 0..8 {
                line(format!("        s{i}_{j} = select(LEAST, s{i}_{j}, start + {j}u <= last{i});"));
            }
            let pairs: Vec<_> = (0..4).map(|j| format!("max(s{i}_{}, s{i}_{})", 2 * j, 2 * j + 1)).collect();
            line(format!(
                "        let top{i} = max(m{i}, max(max({}, {}), max({}, {})));\n\
                 \x20       let shrink{i} = exp2(m{i} - top{i}); m{i} = top{i};",
                pairs[0], pairs[1], pairs[2], pairs[3]
            ));
            for j in 0..8 {
                line(format!("        let p{i}_{j} = exp2(s{i}_{j} - top{i});"));
            }
            let sum: Vec<_> = (0..8).map(|j| format!("p{i}_{j}")).collect();
            line(format!("        l{i} = l{i} * shrink{i} + ({});", sum.join(" + ")));
        }
        for d in 0..vectors {
            line(format!("        let v{d} = read_v(base, {d}u);"));
            for j in 0..8 {
                line(format!("        let v{d}_{j} = subgroupShuffle(v{d}, {j}u);"));
            }
            for i in 0..per_lane {
                let terms: Vec<_> = (0..8).map(|j| format!("p{i}_{j} * v{d}_{j}")).collect();
                line(format!("        o{i}_{d} = o{i}_{d} * shrink{i} + {};", terms.join(" + ")));
            }
        }
        line("    }".into());
        for i in 0..per_lane {
            line(format!("    if (query{i} < params.queries) {{ let part = 1.0 / l{i};"));
            for d in 0..vectors {
                line(format!("        write_o(q_at{i}, {d}u, o{i}_{d} * part);"));
            }
            line("    }".into());
        }
        line("}".into());
        w
    }

    /// Invocations are queries; a tile of keys and values lies in workgroup memory, read by all at once.
    fn tiled(self) -> String {
        let vectors = self.vectors;
        let keys = self.tile_keys();
        let mut w = format!(
            "var<workgroup> k_tile: array<vec4<f32>, {0}>;  // [{keys} keys, {vectors}]\n\
             var<workgroup> v_tile: array<vec4<f32>, {0}>;\n\
             @compute @workgroup_size({TILE_QUERIES})\n\
             fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,\n\
             \x20   @builtin(local_invocation_index) lane: u32) {{\n\
             \x20   let at = group_index(group, groups);\n\
             \x20   let head = at / params.tiles % params.heads;\n\
             \x20   let n = min(at / (params.tiles * params.heads), params.attentions - 1u);\n\
             \x20   let query = at % params.tiles * {TILE_QUERIES}u + lane;\n\
             \x20   let q_at = q_base(n, head) + min(query, params.queries - 1u) * params.q_token;\n\
             \x20   let last = select(params.keys - 1u, min(query, params.keys - 1u), params.causal == 1u);\n\
             \x20   var m = LEAST; var l = 0.0;\n",
            keys * vectors
        );
        let mut line = |text: String| {
            w.push_str(&text);
            w.push('\n');
        };
        for d in 0..vectors {
            line(format!("    let q{d} = read_q(q_at, {d}u) * params.scale; var o{d} = vec4<f32>();"));
        }
        line(format!(
            "    for (var start = 0u; start < params.keys; start += {keys}u) {{\n\
             \x20       for (var i = lane; i < {}u; i += {TILE_QUERIES}u) {{\n\
             \x20           let key = i / {vectors}u;\n\
             \x20           let base = key_base(n, head, min(start + key, params.keys - 1u));\n\
             \x20           k_tile[i] = read_k(base, i - key * {vectors}u);\n\
             \x20           v_tile[i] = read_v(base, i - key * {vectors}u);\n\
             \x20       }}\n\
             \x20       workgroupBarrier();\n\
             \x20       for (var key = 0u; key < {keys}u; key++) {{\n\
             \x20           if (start + key <= last) {{\n\
             \x20               let row = key * {vectors}u;",
            keys * vectors
        ));
        let terms: Vec<_> = (0..vectors).map(|d| format!("dot(q{d}, k_tile[row + {d}u])")).collect();
        line(format!("                let s = {};", terms.join(" + ")));
        line(
            "                if (s > m) {\n                    let shrink = exp2(m - s); m = s; l *= shrink;"
                .into(),
        );
        for d in 0..vectors {
            line(format!("                    o{d} *= shrink;"));
        }
        line("                }\n                let p = exp2(s - m); l += p;".into());
        for d in 0..vectors {
            line(format!("                o{d} += p * v_tile[row + {d}u];"));
        }
        line(
            "            }\n        }\n        workgroupBarrier();\n    }\n\
             \x20   if (query < params.queries && at < params.attentions * params.heads * params.tiles) {\n\
             \x20       let part = 1.0 / l;"
                .into(),
        );
        for d in 0..vectors {
            line(format!("        write_o(q_at, {d}u, o{d} * part);"));
        }
        line("    }\n}".into());
        w
    }

    /// Keys of a tile: a power of two that fits workgroup memory.
    fn tile_keys(self) -> u32 {
        let most = (TILE_BYTES / (2 * 16 * self.vectors as usize)).clamp(1, 32);
        1 << most.ilog2()
    }
}

impl Tensor {
    /// q `[b, m, heads * width]` with keys and values `[.., n, heads * width]` -> as q. `scale` is
    /// `1 / sqrt(width)` unless given. See [`Sight`] for which keys are seen and which leading sizes go together.
    ///
    /// Errors: when the shapes do not go together, or the operands of one image are larger than a binding.
    pub fn attention(
        &self,
        k: &Tensor,
        v: &Tensor,
        heads: usize,
        scale: Option<f32>,
        sight: Sight,
    ) -> Result<Tensor> {
        let wrong = |detail: String| Error::shape("attention", detail);
        let (&[b, m, c], &[b_keys, n, c_keys]) = (self.shape(), k.shape()) else {
            return Err(wrong(format!(
                "wanted q, k, v [batch, tokens, channels], got {:?}, {:?}",
                self.shape(),
                k.shape()
            )));
        };
        if v.shape() != k.shape() || c != c_keys || [k.dtype(), v.dtype()] != [self.dtype(); 2] {
            return Err(wrong(format!("wanted q, k, v alike, got {self:?}, {k:?}, {v:?}")));
        }
        if heads == 0 || c % heads != 0 {
            return Err(wrong(format!("{c} channels do not divide into {heads} heads")));
        }
        if b_keys == 0 || n == 0 {
            return Err(wrong("wanted at least one key".into()));
        }
        let _op = self.gpu().op(|| format!("attention {self} x {n} keys, {heads} heads, {sight:?}"));
        let width = c / heads;
        let frames = match sight {
            Sight::All => {
                if b % b_keys != 0 {
                    return Err(wrong(format!("{b} images cannot share {b_keys} sets of keys evenly")));
                }
                b / b_keys
            }
            Sight::Causal if k.shape() == self.shape() => 1,
            Sight::SparseCausal { frames } | Sight::Temporal { frames }
                if k.shape() == self.shape() && frames > 0 && b % frames == 0 =>
            {
                frames
            }
            _ => {
                return Err(wrong(format!(
                    "{sight:?} wants q, k, v of one shape and whole videos, got {:?}",
                    self.shape()
                )));
            }
        };
        let scale = scale.unwrap_or(1.0 / (width as f32).sqrt());
        if width > MAX_WIDTH {
            return self.wide_attention(k, v, heads, scale, sight);
        }
        let o = Tensor::empty(self.gpu(), self.shape(), self.dtype())?;
        if o.is_empty() {
            return Ok(o);
        }
        let wide = width.is_multiple_of(4);
        let unit = if wide { 4 } else { 1 };
        let per_unit = |elements: usize| (elements / unit) as u32;
        // `videos` groups of `frames` images go together; a launch takes as many groups as fit a binding.
        let (videos, k_group) = (b / frames.max(1), if b_keys == b { frames * n * c } else { n * c });
        let size = self.dtype().bytes();
        for group in self.gpu().row_windows("attention", videos, &[frames * m * c * size, k_group * size])? {
            let images = group.len() * frames;
            let (queries, keys, attentions) = match sight {
                Sight::All | Sight::Causal => (m, n, images),
                Sight::SparseCausal { .. } => (m, 2 * n, images),
                Sight::Temporal { frames } => (frames, frames, group.len() * m),
            };
            let form = Form {
                queries_per_lane: queries_per_lane(self.gpu(), queries, width),
                vectors: width.div_ceil(4) as u32,
                wide,
            };
            let tiles = (queries as u32).div_ceil(form.tile());
            let image = per_unit(m * c);
            let token = per_unit(c);
            let mut params = Params {
                attentions: attentions as u32,
                queries: queries as u32,
                keys: keys as u32,
                heads: heads as u32,
                tiles,
                q_inner: 1,
                q_outer: image,
                q_step: 0,
                q_token: token,
                share: 1,
                k_outer: per_unit(n * c),
                k_step: 0,
                k_token: token,
                split: keys as u32,
                head: per_unit(width),
                width: width as u32,
                causal: u32::from(sight == Sight::Causal),
                scale: scale * std::f32::consts::LOG2_E,
            };
            match sight {
                Sight::All => params.share = frames as u32,
                Sight::Causal => {}
                Sight::SparseCausal { .. } => {
                    (params.share, params.k_outer, params.split) =
                        (frames as u32, image * frames as u32, n as u32);
                }
                Sight::Temporal { .. } => {
                    (params.q_inner, params.share) = (m as u32, m as u32);
                    (params.q_outer, params.k_outer) = (image * frames as u32, image * frames as u32);
                    (params.q_step, params.k_step) = (token, token);
                    (params.q_token, params.k_token) = (image, image);
                }
            }
            // The tiled form also turns once per key, and for its share of staging them.
            let turns = match form.queries_per_lane {
                0 => keys * (2 + form.vectors as usize / TILE_QUERIES as usize),
                _ => keys.div_ceil(8),
            };
            if self.gpu().facts().class == Class::Software && turns > super::MAX_TURNS * 4 {
                return Err(Error::Limit {
                    what: "attention: the keys of one query, in steps".into(),
                    needed: turns as u64,
                    available_what: "the longest loop this adapter counts right".into(),
                    available: 4 * super::MAX_TURNS as u64,
                });
            }
            let q_elements = group.start * frames * m * c..group.end * frames * m * c;
            let k_elements = group.start * k_group..group.end * k_group;
            let variant =
                Variant { scalar: self.scalar("attention")?, width: 4, workgroup: form.workgroup() };
            let (total, pairs) = (attentions * heads, (queries * keys) as u64);
            self.gpu().run(&Launch {
                program: Program::generated("attention", "forward", variant, form.key(), &|| form.text()),
                params: params.as_bytes(),
                inputs: &[
                    self.window(q_elements.clone()),
                    k.window(k_elements.clone()),
                    v.window(k_elements.clone()),
                ],
                outputs: &[o.window(q_elements.clone())],
                groups: self.gpu().grid("attention", total as u64 * u64::from(tiles))?,
                work: Work {
                    flops: total as u64 * pairs * 4 * width as u64,
                    bytes: ((2 * q_elements.len() + 2 * k_elements.len()) * size) as u64,
                },
            })?;
        }
        Ok(o)
    }

    /// Heads too wide for registers: scores of a bounded number of rows at a time.
    fn wide_attention(
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

/// Queries each lane owns in the subgroup form, 0 where the tiled form runs.
fn queries_per_lane(gpu: &Gpu, queries: usize, width: usize) -> u32 {
    let facts = gpu.facts();
    if facts.class != Class::Software || facts.features.subgroup_size != Some(8) {
        return 0;
    }
    if queries > 8 && width <= 80 { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Options, Scalar};
    use crate::testing::{assert_close, gpu, gpu_with, random_from, validate};

    /// Plain loops in f64; `sees(image, query, key)` gives the place of a key, or nothing.
    fn reference(
        q: &[f32],
        k: &[f32],
        v: &[f32],
        [b, m, heads, width]: [usize; 4],
        sees: impl Fn(usize, usize) -> Vec<usize>,
    ) -> Vec<f64> {
        let c = heads * width;
        let mut o = vec![0.0; b * m * c];
        for (image, query, head) in (0..b * m * heads).map(|i| (i / heads / m, i / heads % m, i % heads)) {
            let at = (image * m + query) * c + head * width;
            let keys = sees(image, query);
            let dot = |token: usize| {
                let other = token * c + head * width;
                (0..width).map(|d| f64::from(q[at + d]) * f64::from(k[other + d])).sum::<f64>()
            };
            let scores: Vec<f64> = keys.iter().map(|&key| dot(key) / (width as f64).sqrt()).collect();
            let top = scores.iter().cloned().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for (key, weight) in keys.iter().zip(&weights) {
                for d in 0..width {
                    o[at + d] += weight / sum * f64::from(v[key * c + head * width + d]);
                }
            }
        }
        o
    }

    fn check(gpu: &Gpu, [b, m, heads, width]: [usize; 4], [b_keys, n]: [usize; 2], sight: Sight) {
        let c = heads * width;
        let q = random_from(1, b * m * c, 2.0);
        let (k, v) = (random_from(2, b_keys * n * c, 2.0), random_from(3, b_keys * n * c, 1.0));
        let tensor = |shape: [usize; 3], values: &[f32]| Tensor::new(gpu, &shape, values).unwrap();
        let (q_gpu, k_gpu, v_gpu) =
            (tensor([b, m, c], &q), tensor([b_keys, n, c], &k), tensor([b_keys, n, c], &v));
        let o = q_gpu.attention(&k_gpu, &v_gpu, heads, None, sight).unwrap();
        let want = reference(&q, &k, &v, [b, m, heads, width], |image, query| match sight {
            Sight::All => (0..n).map(|key| image / (b / b_keys) * n + key).collect(),
            Sight::Causal => (0..=query).map(|key| image * n + key).collect(),
            Sight::SparseCausal { frames } => {
                let (first, before) = (image / frames * frames, image - (image % frames).min(1));
                [first, before].iter().flat_map(|f| (0..n).map(move |key| f * n + key)).collect()
            }
            Sight::Temporal { frames } => {
                (0..frames).map(|frame| (image / frames * frames + frame) * n + query).collect()
            }
        });
        let what = format!("[{b}, {m}, {heads} x {width}] keys [{b_keys}, {n}] {sight:?}");
        // exp2 and sums of up to a few hundred weights in f32
        assert_close(&o.to_vec().unwrap(), &want, 1e-5, &what);
    }

    fn check_all(gpu: &Gpu) {
        check(gpu, [1, 1, 1, 4], [1, 1], Sight::All);
        check(gpu, [2, 17, 3, 8], [2, 77], Sight::All);
        check(gpu, [6, 13, 2, 40], [2, 7], Sight::All);
        check(gpu, [1, 65, 1, 5], [1, 33], Sight::All);
        check(gpu, [2, 19, 2, 12], [2, 19], Sight::Causal);
        check(gpu, [1, 77, 2, 64], [1, 77], Sight::Causal);
        check(gpu, [6, 11, 2, 8], [6, 11], Sight::SparseCausal { frames: 3 });
        check(gpu, [4, 40, 1, 20], [4, 40], Sight::SparseCausal { frames: 1 });
        check(gpu, [6, 7, 2, 8], [6, 7], Sight::Temporal { frames: 3 });
        check(gpu, [12, 5, 4, 3], [12, 5], Sight::Temporal { frames: 6 });
        check(gpu, [2, 9, 2, 160], [2, 21], Sight::All);
    }

    #[test]
    fn every_sight_matches() {
        let Some(gpu) = gpu() else { return };
        check_all(&gpu);
    }

    #[test]
    fn the_tiled_form_matches_too() {
        let Some(gpu) = gpu_with(Options { without_subgroups: true, ..Default::default() }) else { return };
        check_all(&gpu);
    }

    #[test]
    fn many_keys_are_all_seen_or_refused() {
        let Some(gpu) = gpu() else { return };
        check(&gpu, [1, 3, 1, 4], [1, 70_001], Sight::All);
        let plain =
            gpu_with(Options { without_subgroups: true, ..Default::default() }).expect("opened above");
        check(&plain, [1, 3, 1, 4], [1, 30_001], Sight::All);
        if plain.facts().class == Class::Software {
            let [q, k] =
                [3, 70_001].map(|n| Tensor::zeros(&plain, &[1, n, 4], crate::tensor::DType::F32).unwrap());
            assert!(q.attention(&k, &k, 1, None, Sight::All).is_err());
        }
    }

    #[test]
    fn a_wide_head_runs_in_pieces() {
        let Some(gpu) = gpu() else { return };
        check(&gpu, [2, 21, 1, 260], [2, 21], Sight::All);
        check(&gpu, [4, 5, 3, 201], [2, 7], Sight::All);
        check(&gpu, [2, 6, 2, 200], [2, 6], Sight::Causal);
        check(&gpu, [6, 5, 2, 200], [6, 5], Sight::SparseCausal { frames: 3 });
        check(&gpu, [2, 5, 1, 200], [2, 5], Sight::SparseCausal { frames: 1 });
        check(&gpu, [6, 5, 2, 200], [6, 5], Sight::Temporal { frames: 3 });
    }

    #[test]
    fn videos_larger_than_a_binding_are_cut() {
        let options = Options { binding_bytes: Some(20 << 10), ..Default::default() };
        let Some(gpu) = gpu_with(options) else { return };
        check(&gpu, [36, 11, 2, 8], [36, 11], Sight::SparseCausal { frames: 3 });
        check(&gpu, [48, 8, 2, 8], [48, 8], Sight::Temporal { frames: 3 });
        check(&gpu, [40, 16, 2, 8], [20, 7], Sight::All);
    }

    #[test]
    fn misfits_are_refused() {
        let gpu = Gpu::plan();
        let tensor = |shape: &[usize]| Tensor::empty(&gpu, shape, crate::tensor::DType::F32).unwrap();
        let (q, k) = (tensor(&[2, 3, 8]), tensor(&[2, 3, 8]));
        assert!(q.attention(&k, &k, 3, None, Sight::All).is_err());
        assert!(q.attention(&tensor(&[2, 3, 4]), &tensor(&[2, 3, 4]), 2, None, Sight::All).is_err());
        assert!(q.attention(&tensor(&[2, 4, 8]), &tensor(&[2, 4, 8]), 2, None, Sight::Causal).is_err());
        assert!(q.attention(&k, &k, 2, None, Sight::Temporal { frames: 3 }).is_err());
        assert!(q.attention(&k, &k, 2, None, Sight::All).is_ok());
    }

    #[test]
    fn every_form_validates_without_a_gpu() {
        for width in [4, 5, 40, 64, 80, 88, 96, 160] {
            for queries_per_lane in 0..=2 {
                let form = Form { queries_per_lane, vectors: u32::div_ceil(width, 4), wide: width % 4 == 0 };
                for scalar in [Scalar::F32, Scalar::F16] {
                    let variant = Variant { scalar, width: 4, workgroup: form.workgroup() };
                    let generate = || form.text();
                    let program = Program::generated("attention", "forward", variant, form.key(), &generate);
                    validate(&format!("{form:?} {scalar:?}"), &program.text(true), Params::FIELDS);
                }
            }
        }
    }
}

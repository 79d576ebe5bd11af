//! Fused attention: `softmax(q k^T / sqrt(width)) v` per head, scores never stored.
//! Same as PyTorch `scaled_dot_product_attention` on `[batch, heads, tokens, width]`; here heads stay side by side
//! in the last axis, `[batch, tokens, heads * width]`, so that nothing is permuted.
//!
//! Several families, chosen by rule from adapter and shape:
//!
//! * `subgroup`: flash attention of 8 lanes in registers, for software adapters; keys and values through textures;
//! * `tiled`: flash attention with keys and values in workgroup memory, for cards;
//! * `temporal`: few keys at very many places (the frames of each pixel), held in registers or walked over;
//! * `decode`: single queries, lanes over keys;
//! * `wide`: heads wider than 192 run as two matrix products with a softmax between, some rows at a time.

mod backward;
mod decode;
mod lanes;
mod masked;
mod subgroup;
mod temporal;
mod tiled;
mod wide;

use self::lanes::Meeting;
use self::tiled::Tile;
use super::{common, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{self, Binding, Class, Gpu, Launch, Program, TEXEL_BYTES, Texel, Texture, Variant, Work};
use crate::tensor::{DType, Tensor};
use std::ops::Range;

params! {
    struct Params {
        attentions: u32,
        queries: u32,
        keys: u32,
        heads: u32,
        tiles: u32,
        heads_first: u32,
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

/// A line of generated text.
macro_rules! line {
    ($text:expr, $($what:tt)*) => {
        writeln!($text, $($what)*).expect("a string takes all")
    };
}
use line;

/// Widest head that stays in registers.
const MAX_WIDTH: usize = 192;
/// Below this work a small kernel's shorter compilation is worth more than a large one's speed.
const SMALL_FLOPS: u64 = 30_000_000;
/// Keys and values of all heads, in bytes, that a core's cache holds beside everything else.
const CACHED_BYTES: usize = 1 << 20;
/// Places at which few keys are seen before lanes go over places.
const MANY_PLACES: usize = 64;
/// Tiles that read the same keys before a copy of them into a texture pays.
const TEXEL_TILES: u32 = 2;
/// Loop turns of one invocation that a software adapter counts right; see ARCHITECTURE.md.
const MAX_TURNS: usize = 60_000;

/// How the work of one launch is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Family {
    /// Queries of a lane, lanes of a key.
    Subgroup { queries: u32, split: u32 },
    /// Keys and values in workgroup memory.
    Tiled(Tile),
    /// All keys in registers, lanes of a head.
    Held { keys: u32, split: u32 },
    /// Lanes of a query.
    Walked { split: u32, meeting: Meeting },
    /// Lanes of a workgroup, each with its own keys.
    Decode { lanes: u32 },
}

/// How elements are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Read {
    One,
    Four,
    /// From textures, four at once.
    Texel,
}

/// One form of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Form {
    family: Family,
    /// Vectors of 4 in a head, the last one padded.
    vectors: u32,
    read: Read,
    /// Some keys are hidden from all queries.
    masked: bool,
}

/// Sizes of one launch.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    attentions: usize,
    heads: usize,
    queries: usize,
    keys: usize,
    width: usize,
}

impl Sizes {
    fn flops(&self) -> u64 {
        (self.attentions * self.heads * self.width) as u64 * 4 * (self.queries * self.keys) as u64
    }

    fn vectors(&self) -> u32 {
        self.width.div_ceil(4) as u32
    }
}

impl Family {
    /// The family that runs best.
    fn choose(gpu: &Gpu, sizes: &Sizes, masked: bool) -> Family {
        let facts = gpu.facts();
        let (queries, keys, vectors) = (sizes.queries, sizes.keys, sizes.vectors());
        let software = facts.class == Class::Software;
        if facts.family == gpu::Family::Subgroup {
            let split = temporal::held_split(vectors);
            return if queries == 1 && keys > 1 {
                Family::Decode { lanes: subgroup::LANES }
            } else if !masked
                && keys <= temporal::MOST_HELD
                && queries <= temporal::MOST_WALKED
                && sizes.attentions * sizes.heads * split as usize >= MANY_PLACES
            {
                Family::Held { keys: keys as u32, split }
            } else if queries <= 8 || sizes.flops() < SMALL_FLOPS {
                Family::Subgroup { queries: 1, split: subgroup::small_split(vectors) }
            } else {
                let (most, split) = subgroup::tile(vectors);
                Family::Subgroup { queries: most.min(queries.div_ceil(8) as u32), split }
            };
        }
        // Four neighbours meet in any subgroup of a fixed size of 4 or more.
        let meeting = match facts.features.subgroup_size {
            Some(4..) => Meeting::Shuffles,
            _ => Meeting::Workgroup,
        };
        if queries <= 4 && keys > temporal::MOST_WALKED {
            Family::Decode { lanes: if software { subgroup::LANES } else { 128 } }
        } else if !masked
            && keys.max(queries) <= temporal::MOST_WALKED
            && sizes.attentions * sizes.heads * queries >= MANY_PLACES
        {
            let split = [1, 1, 2, 4][(vectors as usize).div_ceil(12).min(3)];
            Family::Walked { split, meeting }
        } else {
            Family::Tiled(Tile::new(queries, vectors, meeting))
        }
    }

    /// Invocations of a workgroup.
    fn lanes(self) -> u32 {
        match self {
            Family::Subgroup { .. } => subgroup::LANES,
            Family::Tiled(tile) => tile.lanes,
            Family::Held { .. } | Family::Walked { .. } => temporal::LANES,
            Family::Decode { lanes } => lanes,
        }
    }

    /// Tiles of the queries of one attention and head.
    fn tiles(self, queries: u32) -> u32 {
        match self {
            Family::Subgroup { queries: own, .. } => queries.div_ceil(subgroup::LANES * own),
            Family::Tiled(tile) => queries.div_ceil(tile.rows()),
            Family::Held { .. } | Family::Walked { .. } => 1,
            Family::Decode { .. } => queries,
        }
    }

    /// Workgroups of a launch.
    fn groups(self, sizes: &Sizes) -> u64 {
        let both = (sizes.attentions * sizes.heads) as u64;
        match self {
            Family::Held { split, .. } => (both * u64::from(split)).div_ceil(temporal::LANES.into()),
            Family::Walked { split, .. } => {
                (both * u64::from(split) * sizes.queries as u64).div_ceil(temporal::LANES.into())
            }
            _ => both * u64::from(self.tiles(sizes.queries as u32)),
        }
    }

    /// Loop turns of one invocation, at most.
    fn turns(self, sizes: &Sizes) -> usize {
        match self {
            Family::Subgroup { split, .. } => sizes.keys.div_ceil((subgroup::LANES / split) as usize),
            Family::Tiled(tile) => tile.turns(sizes.keys, sizes.vectors()),
            Family::Held { .. } => sizes.queries,
            Family::Walked { .. } => sizes.keys,
            Family::Decode { lanes } => sizes.keys.div_ceil(2 * lanes as usize) + 1_000,
        }
    }
}

impl Form {
    /// Its name in the pipeline cache.
    fn key(self) -> u64 {
        let (family, a, b, c) = match self.family {
            Family::Subgroup { queries, split } => (0, queries, split, Meeting::Shuffles),
            Family::Tiled(tile) => (1 + u64::from(tile.lanes == 128), tile.queries, tile.split, tile.meeting),
            Family::Held { keys, split } => (3, keys, split, Meeting::Shuffles),
            Family::Walked { split, meeting } => (4, 0, split, meeting),
            Family::Decode { lanes } => (5, lanes, 0, Meeting::Workgroup),
        };
        family
            | u64::from(a) << 4
            | u64::from(b) << 16
            | (c as u64) << 24
            | u64::from(self.vectors) << 28
            | (self.read as u64) << 40
            | u64::from(self.masked) << 44
    }

    fn text(self) -> String {
        let read = match self.read {
            Read::One => shaders!("attention_read1"),
            Read::Four => shaders!("attention_read4"),
            Read::Texel => shaders!("attention_read_texel"),
        };
        let product = match self.family {
            Family::Subgroup { queries, split } => {
                subgroup::product(self.vectors, queries, split, self.masked)
            }
            Family::Tiled(tile) => tile.product(self.vectors, self.masked),
            Family::Held { keys, split } => temporal::held(self.vectors, keys, split),
            Family::Walked { split, meeting } => temporal::walked(self.vectors, split, meeting),
            Family::Decode { lanes } => decode::product(self.vectors, lanes, self.masked),
        };
        let open = if self.masked { shaders!("attention_masked") } else { shaders!("attention_open") };
        [shaders!("attention"), open, read, common::INDEX, &product].join("\n")
    }
}

impl Tensor {
    /// q `[b, m, heads * width]` with keys and values `[.., n, heads * width]` -> as q. `scale` is
    /// `1 / sqrt(width)` unless given. See [`Sight`] for which keys are seen and which leading sizes go together.
    /// Gradients flow to q, k and v.
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
        self.attention_with(k, v, heads, scale, sight, None)
    }

    /// The same with or without a mask, and its way back.
    fn attention_with(
        &self,
        k: &Tensor,
        v: &Tensor,
        heads: usize,
        scale: Option<f32>,
        sight: Sight,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let o = self.attention_in(k, v, heads, scale, sight, mask, None)?;
        let wants = [self, k, v].map(Tensor::wants_gradient);
        if o.is_empty() || !wants.contains(&true) {
            return Ok(o);
        }
        let [q_kept, k_kept, v_kept] = [self, k, v].map(Tensor::detach);
        let scale = scale.unwrap_or_else(|| unit_scale(self.dim(0) / heads));
        let mask = mask.map(Tensor::detach);
        let kept = backward::Kept { q: q_kept, k: k_kept, v: v_kept, heads, scale, sight, mask };
        Ok(o.made_by([self, k, v], move |o, g| Ok(kept.backward(o, g)?.map(Some))))
    }

    /// The same, by `family` where one is given, without the keys that a mask hides.
    #[allow(clippy::too_many_arguments)] // what attention is of; the last two are seldom there
    fn attention_in(
        &self,
        k: &Tensor,
        v: &Tensor,
        heads: usize,
        scale: Option<f32>,
        sight: Sight,
        mask: Option<&Tensor>,
        family: Option<Family>,
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
        let scale = scale.unwrap_or_else(|| unit_scale(width));
        masked::check(mask, self, k, width, sight)?;
        if width > MAX_WIDTH {
            return self.detach().wide_attention(&k.detach(), &v.detach(), heads, scale, sight);
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
            let sizes = Sizes { attentions, heads, queries, keys, width };
            let family = family.unwrap_or_else(|| Family::choose(self.gpu(), &sizes, mask.is_some()));
            let tiles = family.tiles(queries as u32);
            let image = per_unit(m * c);
            let token = per_unit(c);
            let mut params = Params {
                attentions: attentions as u32,
                queries: queries as u32,
                keys: keys as u32,
                heads: heads as u32,
                tiles,
                heads_first: u32::from(2 * keys * c * size <= CACHED_BYTES),
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
            let turns = family.turns(&sizes);
            if self.gpu().facts().class == Class::Software && turns > MAX_TURNS {
                return Err(Error::Limit {
                    what: "attention: the keys of one query, in steps".into(),
                    needed: turns as u64,
                    available_what: "the longest loop this adapter counts right".into(),
                    available: MAX_TURNS as u64,
                });
            }
            let q_elements = group.start * frames * m * c..group.end * frames * m * c;
            let k_elements = group.start * k_group..group.end * k_group;
            let texels = match family {
                Family::Subgroup { queries: 2.., .. } if wide && tiles >= TEXEL_TILES => {
                    texels([(self, &q_elements), (k, &k_elements), (v, &k_elements)])?
                }
                _ => None,
            };
            let inputs = match &texels {
                Some(textures) => textures.each_ref().map(Binding::Texture),
                None => {
                    let [k, v] = [k, v].map(|x| x.window(k_elements.clone()));
                    [self.window(q_elements.clone()), k, v]
                }
            };
            let mask = masked::of_sets(mask, &group)?;
            let mut inputs = inputs.to_vec();
            inputs.extend(mask.as_ref().map(Tensor::binding));
            let read = match texels {
                Some(_) => Read::Texel,
                None if wide => Read::Four,
                None => Read::One,
            };
            let form = Form { family, vectors: sizes.vectors(), read, masked: mask.is_some() };
            let variant = Variant { scalar: self.scalar("attention")?, width: 4, workgroup: family.lanes() };
            self.gpu().run(&Launch {
                program: Program::generated("attention", "forward", variant, form.key(), &|| form.text()),
                params: params.as_bytes(),
                inputs: &inputs,
                outputs: &[o.window(q_elements.clone())],
                groups: self.gpu().grid("attention", family.groups(&sizes))?,
                work: Work {
                    flops: sizes.flops(),
                    bytes: ((2 * q_elements.len() + 2 * k_elements.len()) * size) as u64,
                },
            })?;
        }
        Ok(o)
    }
}

/// The scale of scores that keeps their variance.
fn unit_scale(width: usize) -> f32 {
    1.0 / (width as f32).sqrt()
}

/// These elements of several tensors in f32 in textures, where texels are cheap and all fit. Queries are read once, but
/// by code that runs once: a buffer's is so much longer that the copy pays.
fn texels<const N: usize>(parts: [(&Tensor, &Range<usize>); N]) -> Result<Option<[Texture; N]>> {
    let gpu = parts[0].0.gpu();
    let fit = |(_, elements): &(&Tensor, &Range<usize>)| elements.len() as u64 / 4 <= gpu.texture_texels();
    if !gpu.facts().features.cheap_texels || !parts.iter().all(fit) {
        return Ok(None);
    }
    let copy = |(x, elements): (&Tensor, &Range<usize>)| {
        let (x, texels) = (x.detach().cast(DType::F32)?, elements.len() as u64 / 4);
        let texture = gpu.alloc_texture("attention", Texel::Floats, texels)?;
        let first = x.first_byte() + elements.start as u64 / 4 * TEXEL_BYTES;
        gpu.copy_to_texture(x.buffer(), first, &texture, 0, texels);
        Ok(texture)
    };
    let textures = parts.map(copy).into_iter().collect::<Result<Vec<_>>>()?;
    Ok(textures.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Options, Scalar};
    use crate::testing::{assert_close, gpu, gpu_with, random_from, validate};

    /// Plain loops in f64; `sees(image, query, key)` gives the place of a key, or nothing.
    pub(super) fn reference<T: Copy + Into<f64>>(
        q: &[T],
        k: &[T],
        v: &[T],
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
                (0..width).map(|d| q[at + d].into() * k[other + d].into()).sum::<f64>()
            };
            let scores: Vec<f64> = keys.iter().map(|&key| dot(key) / (width as f64).sqrt()).collect();
            let top = scores.iter().cloned().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for (key, weight) in keys.iter().zip(&weights) {
                for d in 0..width {
                    o[at + d] += weight / sum * v[key * c + head * width + d].into();
                }
            }
        }
        o
    }

    fn check(gpu: &Gpu, sizes: [usize; 4], keys: [usize; 2], sight: Sight) {
        check_in(gpu, sizes, keys, sight, None, DType::F32);
    }

    fn check_in(
        gpu: &Gpu,
        [b, m, heads, width]: [usize; 4],
        [b_keys, n]: [usize; 2],
        sight: Sight,
        family: Option<Family>,
        dtype: DType,
    ) {
        let c = heads * width;
        let q = random_from(1, b * m * c, 2.0);
        let (k, v) = (random_from(2, b_keys * n * c, 2.0), random_from(3, b_keys * n * c, 1.0));
        let [q, k, v] = [q, k, v].map(|x| match dtype {
            DType::F16 => x.into_iter().map(|x| half::f16::from_f32(x).to_f32()).collect(),
            _ => x,
        });
        let tensor = |shape: [usize; 3], values: &[f32]| {
            Tensor::new(gpu, &shape, values).unwrap().cast(dtype).unwrap()
        };
        let (q_gpu, k_gpu, v_gpu) =
            (tensor([b, m, c], &q), tensor([b_keys, n, c], &k), tensor([b_keys, n, c], &v));
        let o = q_gpu.attention_in(&k_gpu, &v_gpu, heads, None, sight, None, family).unwrap();
        assert_eq!(o.dtype(), dtype);
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
        let what =
            format!("[{b}, {m}, {heads} x {width}] keys [{b_keys}, {n}] {sight:?} {family:?} {dtype:?}");
        // exp2 and sums of up to a few hundred weights in f32; f16 rounds the output to 11 bits
        let tolerance = if dtype == DType::F16 { 6e-4 } else { 1e-5 };
        assert_close(&o.cast(DType::F32).unwrap().to_vec().unwrap(), &want, tolerance, &what);
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

    /// Every sight by one family, with tails of queries, keys, heads and places.
    fn check_family(gpu: &Gpu, width: usize, family: Family) {
        let check = |sizes: [usize; 4], keys, sight| {
            check_in(gpu, sizes, keys, sight, Some(family), DType::F32);
        };
        check([4, 53, 3, width], [2, 77], Sight::All);
        check([1, 1, 1, width], [1, 1], Sight::All);
        check([2, 29, 2, width], [2, 29], Sight::Causal);
        check([3, 35, 2, width], [3, 35], Sight::SparseCausal { frames: 3 });
        check([6, 7, 3, width], [6, 7], Sight::Temporal { frames: 3 });
        if gpu.facts().features.f16 && width == 40 {
            check_in(gpu, [1, 35, 2, width], [1, 13], Sight::All, Some(family), DType::F16);
        }
    }

    #[test]
    fn the_subgroup_family_matches() {
        let Some(gpu) = gpu() else { return };
        if gpu.facts().features.subgroup_size != Some(subgroup::LANES) {
            return;
        }
        for (width, queries, split) in [(40, 2, 2), (88, 1, 4), (64, 1, 8), (5, 1, 1)] {
            check_family(&gpu, width, Family::Subgroup { queries, split });
        }
        // As it is chosen: large enough for the large tile.
        check(&gpu, [2, 205, 2, 40], [2, 301], Sight::All);
        let plain = gpu_with(Options { without_textures: true, ..Default::default() }).expect("opened above");
        check_family(&plain, 12, Family::Subgroup { queries: 2, split: 2 });
    }

    #[test]
    fn the_tiled_family_matches() {
        let Some(gpu) = gpu() else { return };
        let tile = |queries, split, lanes, meeting| Family::Tiled(Tile { queries, split, lanes, meeting });
        for (width, queries, split, lanes) in [(40, 2, 2, 64), (5, 1, 1, 128), (88, 1, 4, 64)] {
            check_family(&gpu, width, tile(queries, split, lanes, Meeting::Workgroup));
            if gpu.facts().features.subgroup_size.is_some_and(|size| size >= 4) {
                check_family(&gpu, width, tile(queries, split, lanes, Meeting::Shuffles));
            }
        }
    }

    #[test]
    fn the_temporal_families_match() {
        let Some(gpu) = gpu() else { return };
        let subgroups = gpu.facts().features.subgroup_size.is_some_and(|size| size >= 8);
        for (width, split) in [(40, 1), (5, 1), (28, 4)] {
            check_family(&gpu, width, Family::Walked { split, meeting: Meeting::Workgroup });
            if subgroups {
                check_family(&gpu, width, Family::Walked { split, meeting: Meeting::Shuffles });
            }
        }
        for (width, keys, split) in [(40, 6, 2), (5, 3, 1), (32, 8, 8)] {
            if split == 1 || subgroups {
                let (family, n) = (Some(Family::Held { keys: keys as u32, split }), keys);
                let check = |sizes, keys, sight, dtype| check_in(&gpu, sizes, keys, sight, family, dtype);
                check([2 * n, 19, 3, width], [2 * n, 19], Sight::Temporal { frames: n }, DType::F32);
                check([6, 13, 2, width], [2, n], Sight::All, DType::F32);
                check([3, n, 5, width], [3, n], Sight::Causal, DType::F32);
                if gpu.facts().features.f16 {
                    check([n, 9, 2, width], [n, 9], Sight::Temporal { frames: n }, DType::F16);
                }
            }
        }
        // As they are chosen.
        check(&gpu, [12, 77, 2, 40], [12, 77], Sight::Temporal { frames: 6 });
        check(&gpu, [24, 33, 2, 8], [24, 33], Sight::Temporal { frames: 12 });
    }

    #[test]
    fn the_decode_family_matches() {
        let Some(gpu) = gpu() else { return };
        for (width, lanes) in [(64, 8), (5, 64), (40, 128)] {
            check_family(&gpu, width, Family::Decode { lanes });
            check_in(
                &gpu,
                [2, 1, 3, width],
                [2, 517],
                Sight::All,
                Some(Family::Decode { lanes }),
                DType::F32,
            );
        }
        check(&gpu, [2, 1, 3, 80], [2, 301], Sight::All);
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
                [3, 2_000_001].map(|n| Tensor::zeros(&plain, &[1, n, 4], crate::tensor::DType::F32).unwrap());
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
        let mut keys = std::collections::HashSet::new();
        for width in [4_u32, 5, 40, 64, 80, 88, 96, 160, 192] {
            let vectors = width.div_ceil(4);
            let (queries, split) = subgroup::tile(vectors);
            let mut families = vec![
                Family::Subgroup { queries: 1, split: subgroup::small_split(vectors) },
                Family::Subgroup { queries, split },
                Family::Held { keys: 1, split: 1 },
                Family::Held { keys: 6, split: temporal::held_split(vectors) },
                Family::Decode { lanes: 8 },
                Family::Decode { lanes: 128 },
            ];
            for meeting in [Meeting::Shuffles, Meeting::Workgroup] {
                families.extend([1, 2, 4].map(|split| Family::Walked { split, meeting }));
                families
                    .extend([20, 4096].map(|queries| Family::Tiled(Tile::new(queries, vectors, meeting))));
            }
            families.dedup();
            let reads: &[Read] =
                if width % 4 == 0 { &[Read::One, Read::Four, Read::Texel] } else { &[Read::One] };
            for (family, &read) in
                families.iter().flat_map(|family| reads.iter().map(move |read| (family, read)))
            {
                let walks = matches!(family, Family::Held { .. } | Family::Walked { .. });
                for masked in if walks { &[false][..] } else { &[false, true] } {
                    let form = Form { family: *family, vectors, read, masked: *masked };
                    assert!(keys.insert((form.key(), width % 4)), "{form:?} shares its key");
                    for scalar in [Scalar::F32, Scalar::F16] {
                        let variant = Variant { scalar, width: 4, workgroup: family.lanes() };
                        let text = || form.text();
                        let program = Program::generated("attention", "forward", variant, form.key(), &text);
                        validate(&format!("{form:?} {scalar:?}"), &program.text(true), Params::FIELDS);
                    }
                }
            }
        }
    }
}

//! The way back of attention. Scores are found again, never kept: by two passes in the manner of flash attention, one over
//! the queries and one over the keys; in one pass where few keys are held in registers; by plain products over bounded
//! pieces where heads are too wide for registers.

mod held;
mod passes;
mod products;

use self::passes::Stream;
use super::lanes::Meeting;
use super::{
    MANY_PLACES, MAX_TURNS, MAX_WIDTH, Read, SMALL_FLOPS, Sight, TEXEL_TILES, subgroup, temporal, texels,
};
use crate::error::Result;
use crate::gpu::{self, Binding, Class, Gpu, Launch, Program, Variant, Work};
use crate::ops::{common, params, shaders};
use crate::tensor::{DType, Tensor};

params! {
    struct Params {
        sets: u32,
        queries: u32,
        keys: u32,
        heads: u32,
        tiles: u32,
        slices: u32,
        slice: u32,
        inner: u32,
        q_outer: u32,
        k_outer: u32,
        step: u32,
        q_token: u32,
        k_token: u32,
        dk_slice: u32,
        head: u32,
        width: u32,
        causal: u32,
        scale: f32,
        slope: f32,
    }
}

/// Elements of the parts that slices of the queries leave for dk, and for dv.
const PARTS: usize = 16 << 20;

/// What the way there leaves for the way back.
pub(super) struct Kept {
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
    pub heads: usize,
    pub scale: f32,
    pub sight: Sight,
    /// 1 for keys that are seen, `[b_keys, n]`.
    pub mask: Option<Tensor>,
}

/// Sizes of one launch: a set is what shares its keys.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    sets: usize,
    heads: usize,
    queries: usize,
    keys: usize,
    width: usize,
}

impl Sizes {
    fn vectors(&self) -> u32 {
        self.width.div_ceil(4) as u32
    }

    /// Of one product of all queries and keys.
    fn flops(&self) -> u64 {
        (self.sets * self.heads * self.width) as u64 * 2 * (self.queries * self.keys) as u64
    }
}

/// How the way back goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Family {
    /// All keys in registers, lanes of a head.
    Held { keys: u32, split: u32 },
    /// A pass over the queries, one over the keys in this many slices of the queries.
    Passes { queries: Stream, keys: Stream, slices: u32 },
    /// Plain products.
    Products,
}

impl Family {
    /// The family that runs best.
    fn choose(gpu: &Gpu, sizes: &Sizes) -> Family {
        let facts = gpu.facts();
        let vectors = sizes.vectors();
        if sizes.width > MAX_WIDTH {
            return Family::Products;
        }
        let places = sizes.sets * sizes.heads;
        let software = facts.class == Class::Software;
        let (queries, keys) = if facts.family == gpu::Family::Subgroup {
            let split = temporal::held_split(vectors);
            if sizes.keys <= temporal::MOST_HELD
                && sizes.queries <= temporal::MOST_WALKED
                && places * split as usize >= MANY_PLACES
            {
                return Family::Held { keys: sizes.keys as u32, split };
            }
            // Measured on lavapipe 22 at widths 40, 80 and 160: two rows beat one and three, and what a step costs
            // beside its tokens is little, so that few tokens keep the code within the cache.
            let small = sizes.flops() < SMALL_FLOPS;
            let stream = |count: usize, split: u32| match small || count <= 8 {
                true => Stream::Spread { rows: 1, split: subgroup::small_split(vectors) },
                false => Stream::Spread { rows: 2, split },
            };
            (stream(sizes.queries, if vectors <= 12 { 2 } else { 4 }), stream(sizes.keys, 4))
        } else {
            let meeting = match facts.features.subgroup_size {
                Some(4..) => Meeting::Shuffles,
                _ => Meeting::Workgroup,
            };
            let split = [1, 2, 4][(vectors as usize).div_ceil(8).min(3) - 1];
            let direct = Stream::Direct { split, meeting };
            (direct, direct)
        };
        // Slices where keys alone do not keep the device busy, and none longer than a kernel may walk.
        let rows = places * sizes.keys;
        let enough = if software { 256 } else { 1 << 16 };
        let parts = (PARTS / (sizes.sets * sizes.keys * sizes.heads * sizes.width).max(1)).max(1);
        let few = (enough / rows.max(1)).min(sizes.queries / 64).min(parts).max(1);
        let slices = match software {
            true => few.max(sizes.queries.div_ceil(MAX_TURNS)),
            false => few,
        };
        let slices = (slices as u32).min(sizes.queries as u32);
        if software && sizes.keys.div_ceil(queries.tokens() as usize) > MAX_TURNS {
            return Family::Products;
        }
        Family::Passes { queries, keys, slices }
    }
}

/// One kernel of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Held { keys: u32, split: u32 },
    Queries(Stream),
    Keys(Stream),
}

impl Form {
    fn entry(self) -> &'static str {
        match self {
            Form::Held { .. } => "backward_held",
            Form::Queries(_) => "backward_queries",
            Form::Keys(_) => "backward_keys",
        }
    }

    /// Its name in the pipeline cache.
    fn key(self, vectors: u32, read: Read) -> u64 {
        let own = match self {
            Form::Held { keys, split } => u64::from(keys) << 8 | u64::from(split),
            Form::Queries(stream) | Form::Keys(stream) => stream.key(),
        };
        own | u64::from(vectors) << 28 | (read as u64) << 40
    }

    fn text(self, vectors: u32, read: Read) -> String {
        let (names, results, product): (&[&str], &[(&str, &str)], String) = match self {
            Form::Held { keys, split } => (
                &["q", "k", "v", "g"],
                &[("dq", "scalar"), ("dk", "scalar"), ("dv", "scalar")],
                held::held(vectors, keys, split),
            ),
            Form::Queries(stream) => {
                (&["q", "k", "v", "g", "o"], &[("dq", "scalar")], passes::queries(vectors, stream))
            }
            Form::Keys(stream) => {
                (&["q", "k", "v", "g"], &[("dk", "f32"), ("dv", "f32")], passes::keys(vectors, stream))
            }
        };
        let mut text = shaders!("attention_backward").to_string();
        for (at, name) in names.iter().enumerate() {
            // The output is read once and has no texture.
            let read = if *name == "o" && read == Read::Texel { Read::Four } else { read };
            text += &reader(name, at + 1, read);
        }
        let known = "array<vec2f>;  // [sets, heads, queries, (log of the sum, mean)]\n";
        match self {
            Form::Held { .. } => {}
            Form::Queries(_) => {
                text += &format!("@group(0) @binding(7) var<storage, read_write> found: {known}");
            }
            Form::Keys(_) => text += &format!("@group(0) @binding(5) var<storage, read> found: {known}"),
        }
        let first = if let Form::Held { .. } = self { 5 } else { 6 };
        for (at, (name, scalar)) in results.iter().enumerate() {
            text += &writer(name, first + at, scalar, read);
        }
        [&text, common::INDEX, &product].join("\n")
    }
}

/// Declares tensor `name` and `read_<name>`, four elements of a head.
fn reader(name: &str, binding: usize, read: Read) -> String {
    let place = format!("@group(0) @binding({binding}) var");
    let head = format!("fn read_{name}(base: u32, at: u32) -> vec4<f32> {{");
    match read {
        Read::One => format!(
            "{place}<storage, read> {name}: array<scalar>;\n{head}\n    let i = base + 4u * at; \
             let last = base + params.width - 1u;\n    \
             return kept(at, vec4<f32>(f32({name}[i]), f32({name}[min(i + 1u, last)]), \
             f32({name}[min(i + 2u, last)]), f32({name}[min(i + 3u, last)])));\n}}\n"
        ),
        Read::Four => format!(
            "{place}<storage, read> {name}: array<stored>;\n{head} return vec4<f32>({name}[base + at]); }}\n"
        ),
        Read::Texel => format!(
            "{place} {name}: texture_storage_2d<rgba32float, read>;\n\
             {head} let i = base + at; return textureLoad({name}, vec2u(i & 4095u, i >> 12u)); }}\n"
        ),
    }
}

/// Declares tensor `name` and `write_<name>`.
fn writer(name: &str, binding: usize, scalar: &str, read: Read) -> String {
    let element = if read == Read::One { scalar.to_string() } else { format!("vec4<{scalar}>") };
    let place = format!("@group(0) @binding({binding}) var<storage, read_write> {name}: array<{element}>;");
    let head = format!("fn write_{name}(base: u32, at: u32, value: vec4<f32>) {{");
    match read {
        Read::One => format!(
            "{place}\n{head}\n    for (var i = 0u; i < 4u && 4u * at + i < params.width; i++) {{ \
             {name}[base + 4u * at + i] = {scalar}(value[i]); }}\n}}\n"
        ),
        _ => format!("{place}\n{head} {name}[base + at] = {element}(value); }}\n"),
    }
}

impl Kept {
    /// Gradients of q, k and v from the output and its gradient g.
    pub(super) fn backward(&self, o: &Tensor, g: &Tensor) -> Result<[Tensor; 3]> {
        self.backward_in(o, g, None)
    }

    /// The same, by `family` where one is given.
    fn backward_in(&self, o: &Tensor, g: &Tensor, family: Option<Family>) -> Result<[Tensor; 3]> {
        let Kept { q, k, v, heads, scale, sight, .. } = self;
        let (o, gpu, dtype) = (&o.detach(), q.gpu(), q.dtype());
        let &[b, m, c] = q.shape() else { unreachable!("three axes were asked for") };
        let (b_keys, n) = (k.shape()[0], k.dim(1));
        let _op = gpu.op(|| format!("attention gradient {q} x {n} keys, {heads} heads, {sight:?}"));
        let width = c / heads;
        // Tokens of a set in q and k, sets that lie between each other, and how far their tokens lie apart.
        let (outer, queries, keys, inner, apart) = match *sight {
            Sight::SparseCausal { frames } => {
                let (k, v) = (k.seen_before(frames)?, v.seen_before(frames)?);
                let all = Kept { q: q.clone(), k, v, sight: Sight::All, mask: None, ..*self };
                let [dq, dk, dv] = all.backward_in(o, g, family)?;
                return Ok([dq, to_frames(&dk, frames)?, to_frames(&dv, frames)?]);
            }
            Sight::Temporal { frames } => (b / frames, frames, frames, m, m * c),
            Sight::All | Sight::Causal => (b_keys, b / b_keys * m, n, 1, c),
        };
        let causal = *sight == Sight::Causal;
        let of = |sets| Sizes { sets, heads: *heads, queries, keys, width };
        let family = family.unwrap_or_else(|| Family::choose(gpu, &of(outer * inner)));
        if family == Family::Products || self.mask.is_some() {
            return self.by_products(o, g);
        }
        let size = dtype.bytes();
        let (q_outer, k_outer) = (inner * queries * c, inner * keys * c);
        // What is written beside q and k is bound whole: no alignment is asked of it.
        let beside = [k_outer * 4, inner * heads * queries * 8].map(|bytes| bytes.next_multiple_of(256));
        let outer_bytes = [q_outer * size, k_outer * size, beside[0], beside[1]];
        let (dq, mut both) = (Tensor::empty(gpu, q.shape(), dtype)?, [Vec::new(), Vec::new()]);
        for group in gpu.row_windows("attention", outer, &outer_bytes)? {
            let sizes = of(group.len() * inner);
            let shape = |slices: usize| [slices, group.len() * k_outer];
            let wide = width.is_multiple_of(4);
            let unit = if wide { 4 } else { 1 };
            let params = Params {
                sets: sizes.sets as u32,
                queries: queries as u32,
                keys: keys as u32,
                heads: *heads as u32,
                tiles: 1,
                slices: 1,
                slice: queries as u32,
                inner: inner as u32,
                q_outer: (q_outer / unit) as u32,
                k_outer: (k_outer / unit) as u32,
                step: (c / unit) as u32,
                q_token: (apart / unit) as u32,
                k_token: (apart / unit) as u32,
                dk_slice: (shape(1)[1] / unit) as u32,
                head: (width / unit) as u32,
                width: width as u32,
                causal: causal.into(),
                scale: scale * std::f32::consts::LOG2_E,
                slope: *scale,
            };
            let q_elements = group.start * q_outer..group.end * q_outer;
            let k_elements = group.start * k_outer..group.end * k_outer;
            let textures = match family {
                Family::Passes { queries: by_queries, keys: by_keys, .. }
                    if wide
                        && matches!(by_queries, Stream::Spread { .. })
                        && by_queries.tiles(queries).min(by_keys.tiles(keys)) >= TEXEL_TILES as usize =>
                {
                    let [q_range, k_range] = [&q_elements, &k_elements];
                    texels([(q, q_range), (k, k_range), (v, k_range), (g, q_range)])?
                }
                _ => None,
            };
            let read = match textures {
                Some(_) => Read::Texel,
                None if wide => Read::Four,
                None => Read::One,
            };
            let [o, dq] = [o, &dq].map(|x| x.window(q_elements.clone()));
            let [q, k, v, g] = match &textures {
                Some(textures) => textures.each_ref().map(Binding::Texture),
                None => {
                    let [k, v] = [k, v].map(|x| x.window(k_elements.clone()));
                    [q.window(q_elements.clone()), k, v, g.window(q_elements.clone())]
                }
            };
            let moved = ((2 * q_elements.len() + 2 * k_elements.len()) * size) as u64;
            let run = |form: Form, params: Params, lanes, groups, inputs: &[_], outputs: &[_], products| {
                let vectors = sizes.vectors();
                let variant = Variant { scalar: self.q.scalar("attention")?, width: 4, workgroup: lanes };
                let text = || form.text(vectors, read);
                gpu.run(&Launch {
                    program: Program::generated(
                        "attention",
                        form.entry(),
                        variant,
                        form.key(vectors, read),
                        &text,
                    ),
                    params: params.as_bytes(),
                    inputs,
                    outputs,
                    groups: gpu.grid("attention", groups)?,
                    work: Work { flops: products * sizes.flops(), bytes: moved },
                })
            };
            let sums = match family {
                Family::Held { keys, split } => {
                    let sums = [0; 2].map(|_| Tensor::empty(gpu, &shape(1), dtype));
                    let [dk, dv] = sums;
                    let sums = [dk?, dv?];
                    let [dk, dv] = sums.each_ref().map(Tensor::binding);
                    let lanes = (sizes.sets * heads) as u64 * u64::from(split);
                    let groups = lanes.div_ceil(held::LANES.into());
                    let form = Form::Held { keys, split };
                    run(form, params, held::LANES, groups, &[q, k, v, g], &[dq, dk, dv], 5)?;
                    sums
                }
                Family::Passes { queries: by_queries, keys: by_keys, slices } => {
                    let rows = (sizes.sets * heads) as u64;
                    let found = Tensor::empty(gpu, &[sizes.sets, *heads, queries, 2], DType::F32)?;
                    let tiles = by_queries.tiles(queries);
                    let groups = by_queries.groups(rows * tiles as u64);
                    let of_queries = Params { tiles: tiles as u32, ..params };
                    let form = Form::Queries(by_queries);
                    let inputs = [q, k, v, g, o];
                    run(form, of_queries, by_queries.lanes(), groups, &inputs, &[dq, found.binding()], 3)?;
                    let slice = queries.div_ceil(slices as usize).max(1);
                    let slices = queries.div_ceil(slice);
                    let tiles = by_keys.tiles(keys);
                    let groups = by_keys.groups(rows * (tiles * slices) as u64);
                    let of_keys =
                        Params { tiles: tiles as u32, slices: slices as u32, slice: slice as u32, ..params };
                    let parts = [
                        Tensor::empty(gpu, &shape(slices), DType::F32)?,
                        Tensor::empty(gpu, &shape(slices), DType::F32)?,
                    ];
                    let [dk, dv] = parts.each_ref().map(Tensor::binding);
                    let inputs: [Binding<'_>; 5] = [q, k, v, g, found.binding()];
                    run(Form::Keys(by_keys), of_keys, by_keys.lanes(), groups, &inputs, &[dk, dv], 4)?;
                    let [dk, dv] = parts;
                    [dk.sum(&[0])?.cast(dtype)?, dv.sum(&[0])?.cast(dtype)?]
                }
                Family::Products => unreachable!("products went another way"),
            };
            both.iter_mut().zip(sums).for_each(|(all, sum)| all.push(sum));
        }
        let [dk, dv] = both.map(|parts| match &parts[..] {
            [one] => one.reshape(k.shape()),
            parts => {
                let flat =
                    parts.iter().map(|part| part.reshape(&[part.len()])).collect::<Result<Vec<_>>>()?;
                Tensor::concat(&flat.iter().collect::<Vec<_>>(), 0)?.reshape(k.shape())
            }
        });
        Ok([dq, dk?, dv?])
    }

    /// By plain products; frames become the tokens of an attention per pixel, and go back.
    fn by_products(&self, o: &Tensor, g: &Tensor) -> Result<[Tensor; 3]> {
        let Kept { q, k, v, heads, scale, sight, mask } = self;
        let &[b, m, c] = q.shape() else { unreachable!("three axes were asked for") };
        let swapped = |x: &Tensor, frames: usize, [outer, inner]: [usize; 2]| {
            x.reshape(&[b / frames, outer, inner, c])?.permute(&[0, 2, 1, 3])
        };
        let causal = *sight == Sight::Causal;
        let there = |x: &Tensor| match *sight {
            Sight::Temporal { frames } => {
                swapped(x, frames, [frames, m])?.reshape(&[b / frames * m, frames, c])
            }
            _ => x.reshape(&[k.shape()[0], x.len() / (k.shape()[0] * c), c]),
        };
        let inputs = [there(q)?, there(k)?, there(v)?, there(o)?, there(g)?];
        let found = products::products(inputs.each_ref(), *heads, *scale, causal, mask.as_ref())?;
        let back = |(gradient, x): (&Tensor, &Tensor)| {
            let gradient = match *sight {
                Sight::Temporal { frames } => swapped(gradient, frames, [m, frames])?,
                _ => gradient.clone(),
            };
            gradient.reshape(x.shape())?.cast(x.dtype())
        };
        let [dq, dk, dv] = &found;
        Ok([back((dq, q))?, back((dk, k))?, back((dv, v))?])
    }
}

/// Gradients of keys or values from those of what each frame sees, [b, 2 n, c]: the first frame, then the one before.
fn to_frames(seen: &Tensor, frames: usize) -> Result<Tensor> {
    let (images, n, c) = (seen.shape()[0], seen.dim(1) / 2, seen.dim(0));
    let video = seen.reshape(&[images / frames, frames, 2 * n, c])?;
    let (firsts, before) = (video.narrow(2, 0, n)?, video.narrow(2, n, n)?);
    let shape = [images / frames, 1, n, c];
    let mut first = firsts.sum(&[1])?.reshape(&shape)?.add(&before.narrow(1, 0, 1)?)?;
    if frames > 1 {
        first = first.add(&before.narrow(1, 1, 1)?)?;
    }
    // The last frame is before none.
    let last = Tensor::zeros(seen.gpu(), &shape, seen.dtype())?;
    let all = match frames {
        1 => first,
        2 => Tensor::concat(&[&first, &last], 1)?,
        frames => Tensor::concat(&[&first, &before.narrow(1, 2, frames - 2)?, &last], 1)?,
    };
    all.reshape(&[images, n, c])
}

#[cfg(test)]
mod tests {
    use super::super::tests::reference;
    use super::*;
    use crate::gpu::{Options, Scalar};
    use crate::testing::{assert_close, assert_gradients, gpu, gpu_with, random_from, validate};

    /// Places of the keys that a query of an image sees.
    fn sees(sight: Sight, [share, n]: [usize; 2], image: usize, query: usize) -> Vec<usize> {
        match sight {
            Sight::All => (0..n).map(|key| image / share * n + key).collect(),
            Sight::Causal => (0..=query).map(|key| image * n + key).collect(),
            Sight::SparseCausal { frames } => {
                let (first, before) = (image / frames * frames, image - (image % frames).min(1));
                [first, before].iter().flat_map(|f| (0..n).map(move |key| f * n + key)).collect()
            }
            Sight::Temporal { frames } => {
                (0..frames).map(|frame| (image / frames * frames + frame) * n + query).collect()
            }
        }
    }

    /// Against differences, by the family that is chosen.
    fn check(gpu: &Gpu, [b, m, heads, width]: [usize; 4], [b_keys, n]: [usize; 2], sight: Sight) {
        let c = heads * width;
        let (q, k) = (random_from(1, b * m * c, 2.0), random_from(2, b_keys * n * c, 2.0));
        let v = random_from(3, b_keys * n * c, 1.0);
        assert_gradients(
            gpu,
            &[(&[b, m, c], &q), (&[b_keys, n, c], &k), (&[b_keys, n, c], &v)],
            |x| x[0].attention(&x[1], &x[2], heads, None, sight),
            |x| {
                let sees = |image, query| sees(sight, [b / b_keys, n], image, query);
                reference(&x[0], &x[1], &x[2], [b, m, heads, width], sees)
            },
            1e-4,
            &format!("[{b}, {m}, {heads} x {width}] keys [{b_keys}, {n}] {sight:?}"),
        );
    }

    fn check_all(gpu: &Gpu) {
        check(gpu, [1, 1, 1, 4], [1, 1], Sight::All);
        check(gpu, [2, 17, 3, 8], [2, 77], Sight::All);
        check(gpu, [6, 13, 2, 40], [2, 7], Sight::All);
        check(gpu, [1, 65, 1, 5], [1, 33], Sight::All);
        check(gpu, [2, 19, 2, 12], [2, 19], Sight::Causal);
        check(gpu, [1, 37, 2, 64], [1, 37], Sight::Causal);
        check(gpu, [6, 11, 2, 8], [6, 11], Sight::SparseCausal { frames: 3 });
        check(gpu, [4, 10, 1, 20], [4, 10], Sight::SparseCausal { frames: 1 });
        check(gpu, [4, 10, 1, 12], [4, 10], Sight::SparseCausal { frames: 2 });
        check(gpu, [6, 7, 2, 8], [6, 7], Sight::Temporal { frames: 3 });
        check(gpu, [12, 5, 4, 3], [12, 5], Sight::Temporal { frames: 6 });
        check(gpu, [24, 5, 3, 8], [24, 5], Sight::Temporal { frames: 12 });
        check(gpu, [2, 9, 2, 160], [2, 21], Sight::All);
        check(gpu, [2, 1, 3, 24], [2, 51], Sight::All);
    }

    #[test]
    fn every_sight_matches() {
        let Some(gpu) = gpu() else { return };
        check_all(&gpu);
    }

    #[test]
    fn without_subgroups_too() {
        let Some(gpu) = gpu_with(Options { without_subgroups: true, ..Default::default() }) else { return };
        check_all(&gpu);
    }

    #[test]
    fn wide_heads_go_by_products() {
        let Some(gpu) = gpu() else { return };
        check(&gpu, [2, 11, 1, 260], [2, 11], Sight::All);
        check(&gpu, [4, 5, 3, 201], [2, 7], Sight::All);
        check(&gpu, [2, 6, 2, 200], [2, 6], Sight::Causal);
        check(&gpu, [6, 5, 2, 200], [6, 5], Sight::SparseCausal { frames: 3 });
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

    /// By a family, against plain products.
    fn compare(
        gpu: &Gpu,
        [b, m, heads, width]: [usize; 4],
        [b_keys, n]: [usize; 2],
        sight: Sight,
        family: Option<Family>,
        dtype: DType,
    ) {
        let c = heads * width;
        let tensor = |seed, shape: [usize; 3], scale| {
            let values = random_from(seed, shape.iter().product(), scale);
            Tensor::new(gpu, &shape, &values).unwrap().cast(dtype).unwrap()
        };
        let (q, g) = (tensor(1, [b, m, c], 2.0), tensor(4, [b, m, c], 1.0));
        let [k, v] = [(2, 2.0), (3, 1.0)].map(|(seed, scale)| tensor(seed, [b_keys, n, c], scale));
        let o = q.attention(&k, &v, heads, None, sight).unwrap();
        let kept = Kept { q, k, v, heads, scale: 1.0 / (width as f32).sqrt(), sight, mask: None };
        let got = kept.backward_in(&o, &g, family).unwrap();
        let want = kept.backward_in(&o, &g, Some(Family::Products)).unwrap();
        for (name, (got, want)) in ["dq", "dk", "dv"].iter().zip(got.iter().zip(&want)) {
            let want: Vec<f64> = want.to_vec().unwrap().into_iter().map(f64::from).collect();
            let what =
                format!("{name} of [{b}, {m}, {heads} x {width}], [{b_keys}, {n}] {sight:?} {family:?}");
            assert_eq!(got.dtype(), dtype);
            let tolerance = if dtype == DType::F16 { 2e-3 } else { 2e-5 };
            assert_close(&got.to_vec().unwrap(), &want, tolerance, &what);
        }
    }

    /// Every sight by one family, with tails of queries, keys, heads and places.
    fn compare_family(gpu: &Gpu, width: usize, family: Family) {
        let compare = |sizes: [usize; 4], keys, sight| {
            compare(gpu, sizes, keys, sight, Some(family), DType::F32);
        };
        compare([4, 53, 3, width], [2, 77], Sight::All);
        compare([2, 29, 2, width], [2, 29], Sight::Causal);
        compare([3, 35, 2, width], [3, 35], Sight::SparseCausal { frames: 3 });
        compare([6, 7, 3, width], [6, 7], Sight::Temporal { frames: 3 });
    }

    #[test]
    fn every_stream_matches_the_products() {
        let Some(gpu) = gpu() else { return };
        let subgroups = gpu.facts().features.subgroup_size.is_some_and(|size| size >= 4);
        let mut streams =
            vec![(40, 1, Meeting::Workgroup), (5, 1, Meeting::Workgroup), (28, 4, Meeting::Workgroup)];
        if subgroups {
            streams.extend([(40, 2, Meeting::Shuffles), (88, 4, Meeting::Shuffles)]);
        }
        for (width, split, meeting) in streams {
            let direct = Stream::Direct { split, meeting };
            compare_family(&gpu, width, Family::Passes { queries: direct, keys: direct, slices: 3 });
        }
        if gpu.facts().features.subgroup_size == Some(8) {
            for (width, rows, split) in [(40, 2, 2), (88, 1, 4), (64, 1, 8), (5, 1, 1)] {
                let spread = Stream::Spread { rows, split };
                compare_family(&gpu, width, Family::Passes { queries: spread, keys: spread, slices: 3 });
            }
        }
    }

    #[test]
    fn chosen_families_match_the_products_in_both_types() {
        let Some(gpu) = gpu() else { return };
        for dtype in [DType::F32, DType::F16] {
            if dtype == DType::F16 && !gpu.facts().features.f16 {
                continue;
            }
            compare(&gpu, [2, 205, 2, 40], [2, 301], Sight::All, None, dtype);
            compare(&gpu, [12, 77, 2, 40], [12, 77], Sight::Temporal { frames: 6 }, None, dtype);
            compare(&gpu, [12, 150, 2, 40], [2, 77], Sight::All, None, dtype);
            compare(&gpu, [3, 8, 5, 20], [3, 8], Sight::Causal, None, dtype);
        }
    }

    #[test]
    fn many_keys_and_many_queries_are_all_seen() {
        let Some(gpu) = gpu() else { return };
        compare(&gpu, [1, 3, 1, 4], [1, 70_001], Sight::All, None, DType::F32);
        compare(&gpu, [1, 70_001, 1, 4], [1, 3], Sight::All, None, DType::F32);
        let plain =
            gpu_with(Options { without_subgroups: true, ..Default::default() }).expect("opened above");
        compare(&plain, [1, 70_001, 1, 4], [1, 3], Sight::All, None, DType::F32);
    }

    #[test]
    fn every_form_validates_without_a_gpu() {
        let mut keys = std::collections::HashSet::new();
        for width in [4_u32, 5, 40, 64, 88, 160, 192] {
            let vectors = width.div_ceil(4);
            let mut forms = vec![
                Form::Held { keys: 1, split: 1 },
                Form::Held { keys: 6, split: temporal::held_split(vectors) },
            ];
            let mut streams =
                vec![Stream::Spread { rows: 1, split: 2 }, Stream::Spread { rows: 2, split: 4 }];
            for meeting in [Meeting::Shuffles, Meeting::Workgroup] {
                streams.extend([1, 2, 4].map(|split| Stream::Direct { split, meeting }));
            }
            forms.extend(streams.iter().flat_map(|&stream| [Form::Queries(stream), Form::Keys(stream)]));
            let reads: &[Read] =
                if width % 4 == 0 { &[Read::One, Read::Four, Read::Texel] } else { &[Read::One] };
            for (form, &read) in forms.iter().flat_map(|form| reads.iter().map(move |read| (form, read))) {
                let key = (form.entry(), form.key(vectors, read), width % 4);
                assert!(keys.insert(key), "{form:?} shares its key");
                for scalar in [Scalar::F32, Scalar::F16] {
                    let variant = Variant { scalar, width: 4, workgroup: 64 };
                    let text = || form.text(vectors, read);
                    let program = Program::generated("attention", form.entry(), variant, key.1, &text);
                    validate(&format!("{form:?} {read:?} {scalar:?}"), &program.text(true), Params::FIELDS);
                }
            }
        }
    }
}

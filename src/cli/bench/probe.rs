//! Probes: how fast a device computes when it does nothing else, and how fast it copies.
//!
//! No form of such a kernel is the best everywhere, so each device gets the one that ran best there.
//! Registers only: on lavapipe many scalars over a long stretch of straight code win, on cards vectors.

use super::clock::Clock;
use super::roofline::Roof;
use crate::error::Result;
use crate::gpu::{Binding, Buffer, Class, Gpu, Launch, Program, Scalar, Variant, Work};
use crate::tensor::{DType, Tensor};

/// Turns of a loop that every adapter counts right.
const MAX_TURNS: f64 = 60_000.0;

/// A multiply-add kernel, by what its inner loop looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fma {
    scalar: Scalar,
    /// Lanes of one accumulator.
    lanes: u32,
    /// Accumulators that do not wait for each other.
    accumulators: u32,
    /// Steps of each in one turn of the loop.
    steps: u32,
    workgroup: u32,
    groups: u32,
    turns: u32,
}

/// A kernel of products on matrix units: f16 fragments of `edge` by `edge`, sums in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Units {
    edge: u32,
    /// Fragments of sums that do not wait for each other.
    accumulators: u32,
    turns: u32,
}

/// A copy kernel: vectors of 4 floats that one invocation moves, and invocations of a workgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Copy {
    vectors: u32,
    workgroup: u32,
}

/// The best kernels of a device, with buffers to run on.
pub(super) struct Probes {
    gpu: Gpu,
    clock: Clock,
    fma: Fma,
    fma_f16: Option<Fma>,
    units: Option<Units>,
    copy: Copy,
    sink: Buffer,
    from: Buffer,
    to: Buffer,
}

/// Rates of several runs: FLOPs or bytes per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    /// Of the fastest run.
    pub(super) best: f64,
    /// Half of the runs were faster.
    pub(super) median: f64,
}

impl Probes {
    /// Tries the forms and keeps the best of each kind; those in f16 only `with_f16`.
    ///
    /// Errors: GPU trouble.
    pub(super) fn new(gpu: &Gpu, clock: Clock, with_f16: bool) -> Result<Probes> {
        let software = gpu.facts().class == Class::Software;
        // More than any cache holds.
        let bytes = if software { 128 << 20 } else { 1 << 30 }.min(gpu.facts().limits.binding_bytes);
        let mut probes = Probes {
            gpu: gpu.clone(),
            clock,
            fma: forms(Scalar::F32, software)[0],
            fma_f16: None,
            units: None,
            copy: Copy { vectors: 4, workgroup: 64 },
            sink: gpu.alloc("probe", 4 * 256 * 4096)?,
            from: gpu.alloc("probe", bytes)?,
            to: gpu.alloc("probe", bytes)?,
        };
        probes.fma = probes.best_fma(Scalar::F32, software)?;
        if with_f16 && gpu.facts().features.f16 {
            probes.fma_f16 = Some(probes.best_fma(Scalar::F16, software)?);
            if let Some(edge) = gpu.facts().features.matrix_edge {
                probes.units = Some(probes.best_units(edge)?);
            }
        }
        let mut best = (0.0, probes.copy);
        let shapes: &[_] = if software {
            &[(4, 64), (8, 64), (8, 256), (16, 64)]
        } else {
            &[(1, 256), (2, 256), (4, 256), (1, 64), (4, 64), (8, 128)]
        };
        for &(vectors, workgroup) in shapes {
            probes.copy = Copy { vectors, workgroup };
            probes.bytes(1)?; // compiles
            let rate = probes.bytes(2)?.best;
            if rate > best.0 {
                best = (rate, probes.copy);
            }
        }
        probes.copy = best.1;
        Ok(probes)
    }

    /// What the device can do now, by the middle of a few short runs.
    pub(super) fn roof(&self) -> Result<Roof> {
        Ok(Roof { flops: self.flops(Scalar::F32, 3)?.median, bytes: self.bytes(3)?.median })
    }

    /// FLOPs per second of a number type; 0 where the device does not have it.
    pub(super) fn flops(&self, scalar: Scalar, runs: usize) -> Result<Rate> {
        match (scalar, self.fma_f16) {
            (Scalar::F32, _) => self.rate_of(&self.fma, runs),
            (Scalar::F16, Some(fma)) => self.rate_of(&fma, runs),
            (Scalar::F16, None) => Ok(Rate { best: 0.0, median: 0.0 }),
        }
    }

    /// FLOPs per second of matrix units, where they were tried.
    pub(super) fn matrix(&self, runs: usize) -> Result<Option<Rate>> {
        self.units.map(|units| self.rate_of_units(&units, runs)).transpose()
    }

    /// Bytes read and written per second.
    pub(super) fn bytes(&self, runs: usize) -> Result<Rate> {
        let bytes = self.to.bytes();
        let Copy { vectors, workgroup } = self.copy;
        let total = bytes / 16;
        let copy = self.copy;
        let launch = || {
            self.gpu.run(&Launch {
                program: Program::generated(
                    "copy_probe",
                    "forward",
                    Variant { scalar: Scalar::F32, width: 4, workgroup },
                    u64::from(vectors),
                    &|| copy.text(),
                ),
                params: &(total as u32).to_le_bytes(),
                inputs: &[Binding::new(&self.from, 0, bytes)],
                outputs: &[Binding::new(&self.to, 0, bytes)],
                groups: self.gpu.grid("copy", total.div_ceil(u64::from(vectors * workgroup)))?,
                work: Work { flops: 0, bytes: 2 * bytes },
            })
        };
        self.rate((2 * bytes) as f64, runs, launch)
    }

    /// The copy kernel's form, for people.
    pub(super) fn copy_form(&self) -> String {
        let Copy { vectors, workgroup } = self.copy;
        format!("{vectors} x vec4 per invocation, workgroups of {workgroup}")
    }

    /// The multiply-add kernel's form, for people.
    pub(super) fn fma_form(&self, scalar: Scalar) -> String {
        match (scalar, self.fma_f16) {
            (Scalar::F32, _) => self.fma.describe(),
            (Scalar::F16, Some(fma)) => fma.describe(),
            (Scalar::F16, None) => String::new(),
        }
    }

    /// The matrix kernel's form, for people.
    pub(super) fn matrix_form(&self) -> String {
        self.units.map_or(String::new(), |units| units.describe())
    }

    fn best_units(&self, edge: u32) -> Result<Units> {
        let mut best: Option<(f64, Units)> = None;
        for accumulators in [2, 4, 8] {
            let mut units = Units { edge, accumulators, turns: 8 };
            units.turns = turns_for(0.005, units.turns, &|turns| {
                let units = Units { turns, ..units };
                Ok(units.flops() / self.rate_of_units(&units, 1)?.best)
            })?;
            let rate = self.rate_of_units(&units, 3)?.best;
            if best.is_none_or(|(most, _)| rate > most) {
                best = Some((rate, units));
            }
        }
        Ok(best.expect("three were tried").1)
    }

    fn rate_of_units(&self, units: &Units, runs: usize) -> Result<Rate> {
        let edge = units.edge as usize;
        let n = edge * edge * (1 + units.accumulators as usize);
        // Numbers, not zeros: what a unit's clock is depends on them.
        let values: Vec<f32> = (0..n).map(|at| (at * 7 % 13) as f32 * 0.125 - 0.75).collect();
        let operands = Tensor::new(&self.gpu, &[n], &values)?.cast(DType::F16)?;
        let launch = || {
            self.gpu.run(&Launch {
                program: Program::generated(
                    "matrix_probe",
                    "forward",
                    Units::VARIANT,
                    u64::from(units.edge) | u64::from(units.accumulators) << 8,
                    &|| units.text(),
                ),
                params: &units.turns.to_le_bytes(),
                inputs: &[operands.binding()],
                outputs: &[Binding::new(&self.sink, 0, self.sink.bytes())],
                groups: [Units::GROUPS, 1, 1],
                work: Work { flops: units.flops() as u64, bytes: 0 },
            })
        };
        self.rate(units.flops(), runs, launch)
    }

    fn best_fma(&self, scalar: Scalar, software: bool) -> Result<Fma> {
        let target_s = if software { 0.02 } else { 0.005 };
        let mut best: Option<(f64, Fma)> = None;
        for mut form in forms(scalar, software) {
            form.turns = turns_for(target_s, form.turns, &|turns| {
                let form = Fma { turns, ..form };
                Ok(form.flops() / self.rate_of(&form, 1)?.best)
            })?;
            let rate = self.rate_of(&form, 3)?.best;
            if best.is_none_or(|(most, _)| rate > most) {
                best = Some((rate, form));
            }
        }
        Ok(best.map_or(forms(scalar, software)[0], |(_, form)| form))
    }

    fn rate_of(&self, form: &Fma, runs: usize) -> Result<Rate> {
        let params = [form.turns, 0.999_f32.to_bits(), 0.001_f32.to_bits()];
        let launch = || {
            self.gpu.run(&Launch {
                program: Program::generated(
                    "fma_probe",
                    "forward",
                    Variant { scalar: form.scalar, width: 4, workgroup: form.workgroup },
                    form.key(),
                    &|| form.text(),
                ),
                params: bytemuck::cast_slice(&params),
                inputs: &[],
                outputs: &[Binding::new(&self.sink, 0, self.sink.bytes())],
                groups: [form.groups, 1, 1],
                work: Work { flops: form.flops() as u64, bytes: 0 },
            })
        };
        self.rate(form.flops(), runs, launch)
    }

    fn rate(&self, amount: f64, runs: usize, launch: impl Fn() -> Result<()>) -> Result<Rate> {
        let mut seconds = Vec::new();
        for _ in 0..runs.max(1) {
            seconds.extend(self.clock.time(&self.gpu, 1, &launch)?);
        }
        seconds.sort_by(f64::total_cmp);
        // A clock too coarse for a run must not make the rate endless.
        let rate = |seconds: f64| amount / seconds.max(1e-9);
        Ok(Rate { best: rate(seconds[0]), median: rate(seconds[seconds.len() / 2]) })
    }
}

/// Turns that take so long; `seconds` tells how long some take.
fn turns_for(target_s: f64, mut turns: u32, seconds: &dyn Fn(u32) -> Result<f64>) -> Result<u32> {
    seconds(turns)?; // compiles
    for _ in 0..3 {
        turns = (f64::from(turns) * target_s / seconds(turns)?).clamp(1.0, MAX_TURNS) as u32;
    }
    Ok(turns)
}

/// Forms worth a try.
fn forms(scalar: Scalar, software: bool) -> Vec<Fma> {
    let (workgroup, groups) = if software { (64, 64) } else { (256, 4096) };
    let form = |(lanes, accumulators, steps)| Fma {
        scalar,
        lanes,
        accumulators,
        steps,
        workgroup,
        groups,
        turns: 8,
    };
    let shapes: &[_] = if software {
        &[(1, 12, 64), (4, 3, 32)]
    } else {
        &[(4, 8, 8), (4, 4, 16), (2, 8, 16), (1, 16, 16), (1, 8, 32)]
    };
    shapes.iter().copied().map(form).collect()
}

impl Fma {
    fn flops(&self) -> f64 {
        let per_turn = 2 * self.lanes * self.accumulators * self.steps;
        f64::from(self.groups * self.workgroup) * f64::from(self.turns) * f64::from(per_turn)
    }

    fn key(&self) -> u64 {
        u64::from(self.lanes) | u64::from(self.accumulators) << 8 | u64::from(self.steps) << 16
    }

    fn describe(&self) -> String {
        let lanes = if self.lanes == 1 { String::new() } else { format!(" of vec{}", self.lanes) };
        format!("{} accumulators{lanes}, {} steps a turn", self.accumulators, self.steps)
    }

    fn text(&self) -> String {
        let kind = if self.lanes == 1 { "scalar".into() } else { format!("vec{}<scalar>", self.lanes) };
        let places: Vec<String> = (0..self.accumulators).map(|i| format!("x{i}")).collect();
        let start: String = (0..self.accumulators)
            .map(|i| format!("    var x{i} = acc(scalar(f32(id.x % 64u) * 0.001 + {i}.0));\n"))
            .collect();
        let turn: String = places.iter().map(|x| format!("{x} = fma({x}, a, b); ")).collect();
        let turn = format!("        {turn}\n").repeat(self.steps as usize);
        let sum = places.join(" + ");
        let lanes: Vec<String> = match self.lanes {
            1 => vec!["sum".into()],
            n => ["sum.x", "sum.y", "sum.z", "sum.w"][..n as usize].iter().map(ToString::to_string).collect(),
        };
        format!(
            "struct Params {{ turns: u32, a: f32, b: f32 }}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
alias acc = {kind};

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) id: vec3u) {{
    let a = acc(scalar(params.a));
    let b = acc(scalar(params.b));
{start}    for (var turn = 0u; turn < params.turns; turn++) {{
{turn}    }}
    let sum = {sum};
    y[id.x] = f32({});
}}
",
            lanes.join(" + ")
        )
    }
}

impl Units {
    /// 8 subgroups of 32 in a workgroup.
    const VARIANT: Variant = Variant { scalar: Scalar::F16, width: 4, workgroup: 256 };
    /// More than any card holds at once.
    const GROUPS: u32 = 2048;
    /// Products of each accumulator in one turn of the loop.
    const STEPS: u32 = 8;

    fn flops(&self) -> f64 {
        let subgroups = f64::from(Units::GROUPS) * 8.0;
        let products = f64::from(self.turns) * f64::from(Units::STEPS * self.accumulators);
        subgroups * products * 2.0 * f64::from(self.edge).powi(3)
    }

    fn describe(&self) -> String {
        let Units { edge, accumulators, .. } = self;
        format!("{accumulators} sums of {edge} x {edge}, f16 to f32, {} steps a turn", Units::STEPS)
    }

    /// Every subgroup adds products of the same fragments to sums of its own. All write what they have to few places,
    /// where nobody looks.
    fn text(&self) -> String {
        let edge = self.edge;
        let kind = |scalar: &str, role: &str| format!("coop_mat{edge}x{edge}<{scalar}, {role}>");
        let each = |line: &dyn Fn(u32) -> String| (0..self.accumulators).map(line).collect::<String>();
        let start = each(&|i| {
            let at = (i + 1) * edge * edge;
            format!(
                "    let b{i} = coopLoadT<{}>(&x[{at}u], {edge}u);\n    var c{i} = {}();\n",
                kind("f16", "B"),
                kind("f32", "C")
            )
        });
        let turn = each(&|i| format!("        c{i} = coopMultiplyAdd(a, b{i}, c{i});\n"));
        let end = each(&|i| format!("    coopStoreT(c{i}, &y[at + {}u], {edge}u);\n", i * edge * edge));
        format!(
            "enable wgpu_cooperative_matrix;
struct Params {{ turns: u32 }}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f16>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_id) subgroup: u32) {{
    let at = (group.x % 32u * 8u + subgroup % 8u) * {}u;
    let a = coopLoadT<{}>(&x[0u], {edge}u);
{start}    for (var turn = 0u; turn < params.turns; turn++) {{
{}    }}
{end}}}
",
            self.accumulators * edge * edge,
            kind("f16", "A"),
            turn.repeat(Units::STEPS as usize)
        )
    }
}

impl Copy {
    fn text(&self) -> String {
        let vectors = self.vectors;
        let moves: String = (0..vectors)
            .map(|i| {
                format!("    if (at + {i}u * WG < params.n) {{ y[at + {i}u * WG] = x[at + {i}u * WG]; }}\n")
            })
            .collect();
        format!(
            "struct Params {{ n: u32 }}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) local: u32) {{
    let at = (group.x + group.y * groups.x) * (WG * {vectors}u) + local;
{moves}}}
"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::validate;

    #[test]
    fn every_form_validates() {
        for (scalar, software) in
            [(Scalar::F32, true), (Scalar::F32, false), (Scalar::F16, true), (Scalar::F16, false)]
        {
            for form in forms(scalar, software) {
                let variant = Variant { scalar, width: 4, workgroup: form.workgroup };
                let generate = || form.text();
                let program = Program::generated("fma_probe", "forward", variant, form.key(), &generate);
                let fields = [("turns", 0), ("a", 4), ("b", 8)];
                validate(&form.describe(), &program.text(true), &fields);
            }
        }
        for (edge, accumulators) in [(8, 2), (16, 4), (16, 8)] {
            let units = Units { edge, accumulators, turns: 1 };
            let generate = || units.text();
            let program = Program::generated("matrix_probe", "forward", Units::VARIANT, 0, &generate);
            validate(&units.describe(), &program.text(true), &[("turns", 0)]);
            // What the sums are written to holds them all.
            assert!(256 * accumulators * edge * edge <= 256 * 4096);
        }
        let copy = Copy { vectors: 8, workgroup: 64 };
        let variant = Variant { scalar: Scalar::F32, width: 4, workgroup: 64 };
        let generate = || copy.text();
        let program = Program::generated("copy_probe", "forward", variant, 8, &generate);
        validate("copy", &program.text(false), &[("n", 0)]);
    }

    #[test]
    fn flops_are_counted_whole() {
        let form = Fma { turns: 10, ..forms(Scalar::F32, true)[0] };
        assert_eq!(form.flops(), 64.0 * 64.0 * 10.0 * 2.0 * 12.0 * 64.0);
    }
}

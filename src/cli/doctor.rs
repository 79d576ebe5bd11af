//! `mindreel doctor`: what there is to compute on, whether it computes right, and what would run on it.

mod selftest;

use super::Shell;
use super::progress::Progress;
use crate::error::{Error, Result, bytes};
use crate::gpu::{self, Checks, Class, Facts, Gpu, Options};
use crate::models::{Inputs, Preset, presets};
use crate::nn::Precision;
use crate::ops::matrix_units;
use selftest::Outcome;
use serde_json::{Value, json};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

const EXAMPLES: &str = "\
Examples:
  mindreel doctor                     everything, as a block to paste into a bug report
  mindreel doctor --adapter 1         self-test of another adapter
  mindreel doctor --json              the same for programs

Ends with 0 when the adapter that would be taken computes right, with 4 when there is none or it does not.";

/// Adapters found, a self-test with its verdict, and what would run where
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {}

pub(super) fn run(_args: &Args, shell: &Shell) -> Result<()> {
    let machine = Machine::new();
    let adapters = gpu::list();
    let opened = shell.open_gpu();
    let mut text = format!("mindreel {}\n{}", env!("CARGO_PKG_VERSION"), machine.text());
    let taken = opened.as_ref().ok().map(|gpu| gpu.facts().index);
    text += "\nadapters\n";
    for facts in &adapters {
        text += &describe(facts, taken == Some(facts.index));
    }
    if adapters.is_empty() {
        text += &format!("  none found\n{}", what_to_install(std::env::consts::OS));
    }
    let mut report = json!({
        "mindreel": env!("CARGO_PKG_VERSION"),
        "machine": machine.json(),
        "adapters": adapters.iter().map(facts_json).collect::<Vec<Value>>(),
        "taken": taken,
    });

    let gpu = match opened {
        Ok(gpu) => gpu,
        Err(error) => {
            report["verdict"] = json!("no adapter");
            text += "\nverdict: no adapter to compute on\n";
            shell.print(&text, &report)?;
            return Err(error);
        }
    };
    text += &format!("\nkernels  {}\n", gpu.facts().family);
    report["kernels"] = json!(gpu.facts().family.name());
    if let Some(found) = matrix_units(&gpu) {
        text += &format!("matrix units  {found}\n");
        report["matrix_units"] = json!(found);
    }
    let outcomes = self_test(&gpu, shell, "self-test");
    text += &format!("\nself-test on adapter {}, against f64 on the host\n", gpu.facts().index);
    text += &outcomes.iter().map(outcome_text).collect::<String>();
    report["self_test"] = outcomes.iter().map(outcome_json).collect();
    if gpu.facts().class != Class::Software && !shell.checked {
        // Kernels that go without run-time checks are held against themselves with them.
        let checked = Gpu::open(&Options { checks: Checks::All, ..shell.options() })?;
        let outcomes = self_test(&checked, shell, "self-test, checked");
        text += "\nthe same with run-time checks in every kernel (--checked)\n";
        text += &outcomes.iter().map(outcome_text).collect::<String>();
        report["self_test_checked"] = outcomes.iter().map(outcome_json).collect();
    }

    text += "\nwhat would run, with f16 weights and guidance\n";
    let mut plans = Vec::new();
    for preset in presets() {
        let (line, plan) = would_run(&preset, &gpu, &machine)?;
        text += &line;
        plans.push(plan);
    }
    report["would_run"] = json!(plans);

    let failed: Vec<&str> = outcomes.iter().filter(|o| !o.is_ok()).map(|o| o.name).collect();
    let verdict = if failed.is_empty() { "ok".to_string() } else { format!("failed: {}", failed.join(", ")) };
    text += &format!("\nverdict: {verdict}\n");
    report["verdict"] = json!(verdict);
    shell.print(&text, &report)?;
    if failed.is_empty() {
        return Ok(());
    }
    let (name, what) = (&gpu.facts().name, failed.join(", "));
    Err(Error::Device(format!(
        "'{name}' computes {what} wrong; update its driver, or choose another with --adapter"
    )))
}

fn self_test(gpu: &Gpu, shell: &Shell, what: &'static str) -> Vec<Outcome> {
    let mut progress = Progress::new(shell.quiet, what, selftest::count(gpu) as u64);
    let outcomes = selftest::run(gpu, |done| progress.set(done));
    progress.finish();
    outcomes
}

/// The host.
struct Machine {
    system: String,
    cores: usize,
    total_bytes: u64,
    available_bytes: u64,
}

impl Machine {
    fn new() -> Machine {
        let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
        let (mut total_bytes, mut available_bytes) = (0, 0);
        if let Ok(system) = System::new_with_specifics(memory) {
            (total_bytes, available_bytes) = (system.total_memory(), system.available_memory());
            // A container may be allowed less than the machine has.
            if let Some(limits) = system.cgroup_limits() {
                total_bytes = total_bytes.min(limits.total_memory);
                available_bytes = available_bytes.min(limits.free_memory);
            }
        }
        let os = System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_string());
        Machine {
            system: format!("{os} ({})", std::env::consts::ARCH),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            total_bytes,
            available_bytes,
        }
    }

    fn text(&self) -> String {
        let memory = match self.total_bytes {
            0 => "unknown".to_string(),
            total => format!("{}, {} available", bytes(total), bytes(self.available_bytes)),
        };
        format!("system  {}\ncores   {}\nmemory  {memory}\n", self.system, self.cores)
    }

    fn json(&self) -> Value {
        json!({
            "system": self.system,
            "cores": self.cores,
            "memory_bytes": self.total_bytes,
            "available_bytes": self.available_bytes,
        })
    }
}

fn class(class: Class) -> &'static str {
    match class {
        Class::Discrete => "discrete",
        Class::Integrated => "integrated",
        Class::Software => "software",
    }
}

fn describe(facts: &Facts, is_taken: bool) -> String {
    let yes = |there: bool| if there { "yes" } else { "no" };
    let (f, l) = (facts.features, facts.limits);
    let subgroups = f.subgroup_size.map_or("no".to_string(), |size| format!("of {size}"));
    let mark = if is_taken { "*" } else { " " };
    format!(
        "{mark} {}  {} ({}, {}{})\n\
         \x20    driver     {}\n\
         \x20    features   f16 {}, subgroups {subgroups}, immediates {}, timestamps {}, matrix units {}\n\
         \x20    limits     binding {}, buffer {}, aligned to {}\n\
         \x20               workgroup {}, {} invocations, {} groups per axis\n",
        facts.index,
        facts.name,
        class(facts.class),
        facts.backend,
        if is_taken { ", taken" } else { "" },
        facts.driver,
        yes(f.f16),
        yes(f.immediates),
        yes(f.timestamps),
        yes(f.cooperative_matrix),
        bytes(l.binding_bytes),
        bytes(l.buffer_bytes),
        l.binding_alignment,
        bytes(l.workgroup_bytes.into()),
        l.workgroup_invocations,
        l.groups_per_axis,
    )
}

pub(super) fn facts_json(facts: &Facts) -> Value {
    let (f, l) = (facts.features, facts.limits);
    json!({
        "index": facts.index,
        "name": facts.name,
        "driver": facts.driver,
        "backend": facts.backend,
        "class": class(facts.class),
        "features": {
            "f16": f.f16,
            "subgroup_size": f.subgroup_size,
            "immediates": f.immediates,
            "timestamps": f.timestamps,
            "cooperative_matrix": f.cooperative_matrix,
        },
        "limits": {
            "binding_bytes": l.binding_bytes,
            "buffer_bytes": l.buffer_bytes,
            "binding_alignment": l.binding_alignment,
            "workgroup_bytes": l.workgroup_bytes,
            "workgroup_invocations": l.workgroup_invocations,
            "groups_per_axis": l.groups_per_axis,
        },
    })
}

fn outcome_text(outcome: &Outcome) -> String {
    let what = match &outcome.error {
        Ok(error) => format!("largest error {error:.1e}, allowed {:.0e}", outcome.tolerance),
        Err(error) => super::one_line(&error.to_string()),
    };
    let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
    format!("  {:<12} {verdict:<7} {what}\n", outcome.name)
}

fn outcome_json(outcome: &Outcome) -> Value {
    json!({
        "op": outcome.name,
        "ok": outcome.is_ok(),
        "max_error": outcome.error.as_ref().ok(),
        "tolerance": outcome.tolerance,
        "trouble": outcome.error.as_ref().err().map(ToString::to_string),
    })
}

/// Memory of the largest moments of a preset on this adapter: nothing is allocated for it.
fn would_run(preset: &Preset, gpu: &Gpu, machine: &Machine) -> Result<(String, Value)> {
    let mut needed = 0;
    for part in preset.parts.iter().filter(|part| part.architecture().is_some()) {
        let inputs = Inputs::example(&part.model_config()?, &preset.clip())?;
        needed = needed.max(part.memory(gpu, Precision::F16, &inputs)?.peak);
    }
    // A card's free memory is not told by its driver through wgpu.
    let shares_memory = gpu.facts().class != Class::Discrete;
    let fits = (shares_memory && machine.total_bytes > 0).then_some(needed <= machine.available_bytes);
    let verdict = match fits {
        Some(true) => format!("fits into the {} available", bytes(machine.available_bytes)),
        Some(false) => format!("does not fit into the {} available", bytes(machine.available_bytes)),
        None => "compare it with the card's memory".to_string(),
    };
    let slow = match gpu.facts().class {
        Class::Software if preset.parts.iter().any(|part| part.folder == "unet") && needed > 1 << 30 => {
            "; minutes per step on a software adapter"
        }
        _ => "",
    };
    let (name, frames) = (preset.name, preset.num_frames);
    let line = format!(
        "  {name:<16} clips of {frames} frames {}x{}: largest part {}, {verdict}{slow}\n",
        preset.height,
        preset.width,
        bytes(needed)
    );
    let plan = json!({ "name": name, "adapter": gpu.facts().index, "peak_bytes": needed, "fits": fits });
    Ok((line, plan))
}

/// Where drivers come from.
fn what_to_install(os: &str) -> &'static str {
    match os {
        "linux" => {
            "  no GPU    `apt-get install mesa-vulkan-drivers` gives a software adapter (slow, but right)\n  \
             AMD, Intel  the same package drives the card\n  \
             NVIDIA    the vendor's driver, which brings Vulkan; in a container also libvulkan1 and graphics \
             among its capabilities\n"
        }
        "macos" => "  Metal is part of the system; in a virtual machine there may be none\n",
        "windows" => "  DX12 and Vulkan come with the vendor's driver\n",
        _ => "  a Vulkan driver is needed\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_can_be_planned_without_a_device() {
        let (gpu, machine) = (Gpu::plan(), Machine::new());
        for preset in presets() {
            let (line, plan) = would_run(&preset, &gpu, &machine).unwrap();
            let needed = plan["peak_bytes"].as_u64().unwrap();
            // The UNet of the full size has 1.7 GiB of weights in f16, the semantic predictor as much.
            let bounds = if preset.name == "tiny" { 1 << 20..1 << 30 } else { 17 << 27..10 << 30 };
            assert!(bounds.contains(&needed), "{line}");
        }
    }

    #[test]
    fn every_system_is_told_what_to_install() {
        for os in ["linux", "macos", "windows", "haiku"] {
            assert!(what_to_install(os).ends_with('\n'));
        }
    }
}

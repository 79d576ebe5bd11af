//! Adapters: what is there, which one to take, what it can do.

use super::cores;
use super::family::{Checks, Family};
use crate::error::{Error, Result};
use std::path::PathBuf;

/// What kind of machine runs the kernels; the first thing a kernel's variant is chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A card with its own memory.
    Discrete,
    /// Shares the host's memory.
    Integrated,
    /// A driver that runs on the CPU (lavapipe, SwiftShader, WARP).
    Software,
}

/// Optional features we use, each only where the adapter lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// f16 in shaders: activations may be stored in half precision.
    pub f16: bool,
    /// Invocations per subgroup, where subgroups are there and their size is fixed.
    pub subgroup_size: Option<u32>,
    /// 64-bit integers in shaders: on a software adapter an access of 8 bytes costs little more than one of 4.
    pub int64: bool,
    /// Parameters ride in the command stream; else in a uniform buffer.
    pub immediates: bool,
    /// Texels are cheaper to read than buffers: so it is on software adapters.
    pub cheap_texels: bool,
    /// Kernel times can be read from the device's clock.
    pub timestamps: bool,
    /// Matrix units are listed.
    pub cooperative_matrix: bool,
    /// Rows, columns and depth of their products from f16 to f32, 16 or 8, where kernels can use them: listed for
    /// these types, f16 in shaders, and subgroups of 32.
    pub matrix_edge: Option<u32>,
}

/// Sizes nothing may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one storage binding; a larger tensor is bound in windows.
    pub binding_bytes: u64,
    /// Bytes of one buffer; a larger tensor is refused.
    pub buffer_bytes: u64,
    /// Offset of a binding is a multiple of this.
    pub binding_alignment: u64,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Invocations of one workgroup.
    pub workgroup_invocations: u32,
    /// Workgroups along one axis of a dispatch.
    pub groups_per_axis: u32,
    /// Rows of a texture.
    pub texture_rows: u32,
}

/// An adapter, as `doctor` and `run.json` tell of it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Position in [`list`], accepted by `--adapter`.
    pub index: usize,
    /// The adapter's own name.
    pub name: String,
    /// Driver and its version.
    pub driver: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// Discrete, integrated or software.
    pub class: Class,
    /// What it offers of what we can use.
    pub features: Features,
    /// Its limits.
    pub limits: Limits,
    /// Workgroups that run side by side, by the adapter's name; a guess where it is not known.
    pub cores: u32,
    /// Which generated kernels run.
    pub family: Family,
    /// Which kernels keep their run-time checks.
    pub checks: Checks,
    /// Buffers lie between guard words.
    pub guards: bool,
}

/// How a device is to be opened. `Options::default()` takes the best adapter with all it offers.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Index in [`list`], or a part of the name (case does not matter).
    pub adapter: Option<String>,
    /// Leave f16 out.
    pub without_f16: bool,
    /// Leave subgroups out.
    pub without_subgroups: bool,
    /// Leave 64-bit integers out.
    pub without_int64: bool,
    /// Leave immediates out.
    pub without_immediates: bool,
    /// Read from buffers only.
    pub without_textures: bool,
    /// A smaller limit for one binding than the adapter's, in bytes.
    pub binding_bytes: Option<u64>,
    /// This family of generated kernels; else the best one.
    pub family: Option<Family>,
    /// Which kernels keep their run-time checks.
    pub checks: Checks,
    /// A table of measured choices (see [`super::Tuning`]), in place of the one that is part of the program.
    pub tuning: Option<PathBuf>,
    /// Every buffer lies between guard words (see [`super::Gpu::broken_guards`]): for tests.
    pub guards: bool,
    /// Look through what every op wrote; the first to make a NaN or an infinity is named by the next read or wait.
    pub check_finite: bool,
}

impl Options {
    /// What the environment asks for: `MINDREEL_ADAPTER` (index or name), `MINDREEL_KERNELS` (`auto` or a
    /// family), `MINDREEL_CHECKED=1` and `MINDREEL_UNCHECKED=1` (run-time checks in all kernels, in none), and
    /// `MINDREEL_TUNING` (file of a table of measured choices).
    ///
    /// Errors: [`Error::Setting`] for a family that is none.
    pub fn from_env() -> Result<Options> {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let is_set = |name: &str| text(name).is_some_and(|value| value != "0");
        let family = text("MINDREEL_KERNELS").filter(|name| name != "auto");
        let checks = match (is_set("MINDREEL_CHECKED"), is_set("MINDREEL_UNCHECKED")) {
            (true, _) => Checks::All,
            (false, true) => Checks::None,
            (false, false) => Checks::Auto,
        };
        let family = family.map(|name| name.parse()).transpose()?;
        let tuning = text("MINDREEL_TUNING").map(PathBuf::from);
        Ok(Options { adapter: text("MINDREEL_ADAPTER"), family, checks, tuning, ..Default::default() })
    }
}

/// Every adapter found, best first: discrete, integrated, software.
pub fn list() -> Vec<Facts> {
    found().into_iter().map(|(facts, _)| facts).collect()
}

/// The adapters with their facts, best first.
pub(super) fn found() -> Vec<(Facts, wgpu::Adapter)> {
    let mut backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let mut backend_options = wgpu::BackendOptions::default();
    if cfg!(feature = "noop") {
        backends |= wgpu::Backends::NOOP;
        backend_options.noop.enable = true;
    }
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        backend_options,
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let mut adapters: Vec<_> = pollster::block_on(instance.enumerate_adapters(backends))
        .into_iter()
        .map(|adapter| (facts(&adapter), adapter))
        .collect();
    adapters.sort_by_key(|(facts, _)| facts.class);
    for (index, (facts, _)) in adapters.iter_mut().enumerate() {
        facts.index = index;
    }
    adapters
}

/// The adapter `--adapter` means, or the best one.
pub(super) fn choose(selector: Option<&str>) -> Result<(Facts, wgpu::Adapter)> {
    let adapters = found();
    if adapters.is_empty() {
        return Err(Error::Device(
            "no adapter found; install a driver (`apt-get install mesa-vulkan-drivers` gives a software one)"
                .into(),
        ));
    }
    let names: Vec<String> =
        adapters.iter().map(|(facts, _)| format!("{} '{}'", facts.index, facts.name)).collect();
    let wanted = |facts: &Facts| match selector {
        None => true,
        Some(text) => match text.parse::<usize>() {
            Ok(index) => facts.index == index,
            Err(_) => facts.name.to_lowercase().contains(&text.to_lowercase()),
        },
    };
    adapters.into_iter().find(|(facts, _)| wanted(facts)).ok_or_else(|| {
        Error::Device(format!(
            "no adapter is called '{}'; there are: {}",
            selector.unwrap_or(""),
            names.join(", ")
        ))
    })
}

fn facts(adapter: &wgpu::Adapter) -> Facts {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    let fixed =
        info.subgroup_min_size == info.subgroup_max_size && features.contains(wgpu::Features::SUBGROUP);
    let class = match info.device_type {
        wgpu::DeviceType::DiscreteGpu | wgpu::DeviceType::VirtualGpu => Class::Discrete,
        wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::Other => Class::Integrated,
        wgpu::DeviceType::Cpu => Class::Software,
    };
    let offered = Features {
        f16: features.contains(wgpu::Features::SHADER_F16),
        subgroup_size: fixed.then_some(info.subgroup_min_size),
        int64: features.contains(wgpu::Features::SHADER_INT64),
        immediates: features.contains(wgpu::Features::IMMEDIATES) && limits.max_immediate_size >= 128,
        cheap_texels: info.device_type == wgpu::DeviceType::Cpu && limits.max_texture_dimension_2d >= 4096,
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        cooperative_matrix: features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
        matrix_edge: None,
    };
    let offered = Features { matrix_edge: matrix_edge(adapter, info.backend, &offered), ..offered };
    Facts {
        cores: cores::of(&info.name, class),
        family: Family::by_rule(class, &offered),
        checks: Checks::default(),
        guards: false,
        index: 0,
        name: info.name,
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        backend: info.backend.to_str().to_string(),
        class,
        features: offered,
        limits: Limits {
            binding_bytes: limits.max_storage_buffer_binding_size & !255,
            buffer_bytes: limits.max_buffer_size & !255,
            binding_alignment: u64::from(limits.min_storage_buffer_offset_alignment).max(16),
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            groups_per_axis: limits.max_compute_workgroups_per_dimension,
            texture_rows: limits.max_texture_dimension_2d,
        },
    }
}

/// Edge of the square products from f16 to f32 that kernels can use; see [`Features::matrix_edge`].
fn matrix_edge(adapter: &wgpu::Adapter, backend: wgpu::Backend, features: &Features) -> Option<u32> {
    use wgpu::CooperativeScalarType::{F16, F32};
    // A subgroup owns a part of a tile: its size goes into the kernel's text.
    if !features.cooperative_matrix || !features.f16 || features.subgroup_size != Some(32) {
        return None;
    }
    let listed = adapter.cooperative_matrix_properties();
    // The one size that shaders for Metal can be written in.
    let edges: &[u32] = if backend == wgpu::Backend::Metal { &[8] } else { &[16, 8] };
    edges.iter().copied().find(|&edge| {
        listed
            .iter()
            .any(|p| [p.m_size, p.n_size, p.k_size] == [edge; 3] && (p.ab_type, p.cr_type) == (F16, F32))
    })
}

/// Opens the device with what `facts` says we use and the adapter's own limits.
pub(super) fn open(facts: &Facts, adapter: &wgpu::Adapter) -> Result<(wgpu::Device, wgpu::Queue)> {
    let mut features = wgpu::Features::empty();
    features.set(wgpu::Features::SHADER_F16, facts.features.f16);
    features.set(wgpu::Features::SUBGROUP, facts.features.subgroup_size.is_some());
    features.set(wgpu::Features::SHADER_INT64, facts.features.int64);
    features.set(wgpu::Features::IMMEDIATES, facts.features.immediates);
    features.set(wgpu::Features::TIMESTAMP_QUERY, facts.features.timestamps);
    let mut experimental = wgpu::ExperimentalFeatures::disabled();
    if facts.family == Family::Matrix {
        features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        // SAFETY: the feature is asked for where the adapter lists it and kernels are to use it; what they compute is
        // tried before they are trusted (`ops/gemm/trial.rs`), and `--kernels tiled` goes without.
        experimental = unsafe { wgpu::ExperimentalFeatures::enabled() };
    }
    let mut limits = adapter.limits();
    limits.max_non_sampler_bindings = limits.max_non_sampler_bindings.min(1_000_000);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("mindreel"),
        required_features: features,
        required_limits: limits,
        experimental_features: experimental,
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..Default::default()
    };
    pollster::block_on(adapter.request_device(&descriptor))
        .map_err(|e| Error::Device(format!("'{}' gave no device: {e}", facts.name)))
}

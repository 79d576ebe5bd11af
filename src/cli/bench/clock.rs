//! Which time is told: the device's own, or the CPU's where a software adapter shares it with others.

use crate::error::{Error, Result};
use crate::gpu::{Class, Gpu, Op};
use clap::ValueEnum;

/// `--clock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Clock {
    /// The device's, from the beginning of a launch to its end
    Device,
    /// CPU time of this process, shared out over the cores: for software adapters on a busy machine
    Cpu,
}

impl Clock {
    /// Refuses a clock that this device or system does not have.
    pub(super) fn check(self, gpu: &Gpu) -> Result<()> {
        if self == Clock::Cpu && (gpu.facts().class != Class::Software || cpu_s().is_none()) {
            let detail = "cpu is there for software adapters on Unix; use device";
            return Err(Error::setting("--clock", detail));
        }
        Ok(())
    }

    /// Runs something `runs` times; seconds of each run by the device, of their mean by the CPU.
    pub(super) fn time(self, gpu: &Gpu, runs: usize, run: &dyn Fn() -> Result<()>) -> Result<Vec<f64>> {
        let all = || (0..runs).try_for_each(|_| run());
        match self {
            Clock::Device => {
                let listener = gpu.listen()?;
                all()?;
                Ok(listener.finish()?.ops.iter().map(Op::seconds).collect())
            }
            Clock::Cpu => {
                gpu.wait()?;
                let before = cpu_s().unwrap_or(f64::NAN);
                all()?;
                gpu.wait()?;
                let after = cpu_s().unwrap_or(f64::NAN);
                Ok(vec![(after - before) / (runs * threads()) as f64])
            }
        }
    }
}

/// Threads of the software adapter.
fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let asked = std::env::var("LP_NUM_THREADS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(cores).max(1)
}

/// Seconds that this process's threads have run so far, those that have ended included.
#[cfg(unix)]
fn cpu_s() -> Option<f64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
}

#[cfg(not(unix))]
fn cpu_s() -> Option<f64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_grows_with_work_and_is_refused_elsewhere() {
        if let Some(before) = cpu_s() {
            let sum: u64 = (0..20_000_000_u64).map(|i| i.wrapping_mul(i) >> 3).fold(0, u64::wrapping_add);
            assert!(sum > 0 && cpu_s().unwrap() > before);
        }
        assert!(Clock::Device.check(&Gpu::plan()).is_ok());
    }
}

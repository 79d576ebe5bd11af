//! What the tests share: the device.

use mindreel::gpu::{Gpu, Options};

/// The device, or nothing, said aloud; `MINDREEL_REQUIRE_GPU=1` turns that into a failure.
pub fn gpu() -> Option<Gpu> {
    match Options::from_env().and_then(|options| Gpu::open(&options)) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            assert!(std::env::var_os("MINDREEL_REQUIRE_GPU").is_none(), "a GPU is required: {error}");
            eprintln!("skipped: {error}");
            None
        }
    }
}

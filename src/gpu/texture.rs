//! Textures: read-only copies of what kernels read often. A software adapter reads a texel for about half the price
//! of the same bytes in a buffer; see ARCHITECTURE.md. Texel t lies at (t % [`TEXTURE_WIDTH`], t / [`TEXTURE_WIDTH`]).

use super::Gpu;
use super::pool::{Held, Kind, Raw};

/// Texels of a row of every texture; shaders know it.
pub const TEXTURE_WIDTH: u64 = 4096;
/// Bytes of a texel, whatever it holds.
pub const TEXEL_BYTES: u64 = 16;

/// What a texel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Texel {
    /// Four f32: `texture_storage_2d<rgba32float, read>`.
    Floats,
    /// Four words: `texture_storage_2d<rgba32uint, read>`.
    Words,
}

/// A row of texels on the device, given back to the pool when dropped. In a plan there are none, only the count.
pub struct Texture {
    pub(super) gpu: Gpu,
    pub(super) raw: Option<(wgpu::Texture, wgpu::TextureView)>,
    pub(super) id: u64,
    pub(super) bytes: u64,
    pub(super) texel: Texel,
}

impl Texture {
    /// Bytes of the texture, at least what was asked for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Texture {
    fn drop(&mut self) {
        let raw = self.raw.take().map(|(texture, view)| Raw::Texture(texture, view));
        self.gpu.give_back((self.bytes, Kind::Texture(self.texel)), Held { id: self.id, raw });
    }
}

impl Texel {
    pub(super) fn format(self) -> wgpu::TextureFormat {
        match self {
            Texel::Floats => wgpu::TextureFormat::Rgba32Float,
            Texel::Words => wgpu::TextureFormat::Rgba32Uint,
        }
    }
}

/// Rectangles that hold `texels` from `first` on: (x, y, width, height, texels before it).
pub(super) fn rectangles(first: u64, texels: u64) -> Vec<[u64; 5]> {
    let (mut at, end, mut found) = (first, first + texels, Vec::new());
    while at < end {
        let (x, y) = (at % TEXTURE_WIDTH, at / TEXTURE_WIDTH);
        let whole_rows = (end - at) / TEXTURE_WIDTH;
        let (width, height) = if x == 0 && whole_rows > 0 {
            (TEXTURE_WIDTH, whole_rows)
        } else {
            ((TEXTURE_WIDTH - x).min(end - at), 1)
        };
        found.push([x, y, width, height, at - first]);
        at += width * height;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_hold_every_texel_once() {
        for (first, texels) in
            [(0, 1), (0, 4096), (0, 4097), (5, 10), (4000, 9000), (4095, 1), (8192, 8192), (1, 20_000)]
        {
            let mut next = first;
            for [x, y, width, height, before] in rectangles(first, texels) {
                assert_eq!((y * TEXTURE_WIDTH + x, before), (next, next - first));
                assert!(height == 1 || width == TEXTURE_WIDTH);
                assert!(x + width <= TEXTURE_WIDTH);
                next += width * height;
            }
            assert_eq!(next, first + texels);
            assert!(rectangles(first, texels).len() <= 3);
        }
    }
}

//! stub
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation { #[default] None = 0, Silu = 1, Gelu = 2, GeluTanh = 3, QuickGelu = 4, Relu = 5 }

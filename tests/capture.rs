//! What was captured once gives, replayed, what recording it anew would give.

mod common;

use common::gpu;
use mindreel::gpu::{Gpu, Options};
use mindreel::tensor::{DType, Tensor};

/// A few ops with short-lived tensors between them, and a constant from the host in the middle.
fn model(x: &Tensor) -> Tensor {
    let n = x.len();
    let shift: Vec<f32> = (0..n).map(|at| at as f32).collect();
    let doubled = x.scale(2.0, 0.0).unwrap();
    let bent = doubled.scale(1.0, 1.0).unwrap().relu().unwrap();
    drop(doubled);
    let shift = Tensor::new(x.gpu(), x.shape(), &shift).unwrap();
    let moved = bent.add(&shift).unwrap();
    drop((bent, shift));
    // Takes the place of what went.
    moved.scale(1.0, -3.0).unwrap().tanh().unwrap().add(&moved).unwrap()
}

fn own_gpu() -> Option<Gpu> {
    gpu()?; // says aloud where there is none
    let adapter = std::env::var("MINDREEL_ADAPTER").ok();
    Some(Gpu::open(&Options { adapter, ..Default::default() }).unwrap())
}

#[test]
fn replays_follow_their_input() {
    let Some(gpu) = own_gpu() else { return };
    let n = 300;
    let input = Tensor::empty(&gpu, &[n], DType::F32).unwrap();
    let (capture, y) = gpu.capture(|| Ok(model(&input))).unwrap();
    assert!(capture.counts().dispatches >= 6 && capture.counts().work.flops > 0);
    for round in 0..3 {
        let values: Vec<f32> = (0..n).map(|at| (at as f32 - 150.0) * 0.01 * (round + 1) as f32).collect();
        let fresh = Tensor::new(&gpu, &[n], &values).unwrap();
        gpu.copy(fresh.buffer(), 0, input.buffer(), 0, fresh.bytes()).unwrap();
        // Other work between takes no memory of the capture.
        let others: Vec<_> =
            (0..8).map(|at| Tensor::full(&gpu, &[n], DType::F32, at as f32).unwrap()).collect();
        let before = gpu.counts().dispatches;
        capture.replay().unwrap();
        assert_eq!(gpu.counts().dispatches - before, capture.counts().dispatches);
        assert_eq!(y.to_vec().unwrap(), model(&fresh).to_vec().unwrap(), "round {round}");
        for (at, other) in others.iter().enumerate() {
            assert!(other.to_vec().unwrap().iter().all(|&v| v == at as f32), "round {round}");
        }
    }
}

#[test]
fn tensors_may_go_and_their_memory_comes_back_with_the_capture() {
    let Some(gpu) = own_gpu() else { return };
    let before = gpu.memory().live;
    let input = Tensor::full(&gpu, &[300], DType::F32, 0.25).unwrap();
    let want = model(&input).to_vec().unwrap();
    let (capture, y) = gpu.capture(move || Ok(model(&input))).unwrap();
    for _ in 0..2 {
        let others: Vec<_> = (0..8).map(|_| Tensor::full(&gpu, &[300], DType::F32, 9.0).unwrap()).collect();
        capture.replay().unwrap();
        assert_eq!(y.to_vec().unwrap(), want);
        drop(others);
    }
    // Two captures over the same tensors; either may go first.
    let (second, z) = gpu.capture(|| y.scale(2.0, 0.0)).unwrap();
    drop(y);
    drop(capture);
    let others: Vec<_> = (0..8).map(|_| Tensor::full(&gpu, &[300], DType::F32, 9.0).unwrap()).collect();
    second.replay().unwrap();
    assert_eq!(z.to_vec().unwrap(), want.iter().map(|v| 2.0 * v).collect::<Vec<_>>());
    drop((others, second, z));
    assert_eq!(gpu.memory().live, before);
    assert_eq!(gpu.live_buffers(), 0);
}

#[test]
fn what_cannot_be_captured_is_refused() {
    let Some(gpu) = own_gpu() else { return };
    let x = Tensor::full(&gpu, &[4], DType::F32, 1.0).unwrap();
    let read = gpu.capture(|| x.scale(2.0, 0.0)?.to_vec()).err().expect("refused").to_string();
    assert!(read.contains("under way"), "{read}");
    let nested = gpu.capture(|| gpu.capture(|| Ok(())).map(|_| ())).err().expect("refused").to_string();
    assert!(nested.contains("cannot hold another"), "{nested}");
    let listener = gpu.listen().unwrap();
    assert!(gpu.capture(|| Ok(())).is_err());
    drop(listener);
    // A refusal leaves the device as it was.
    assert_eq!(x.scale(2.0, 0.0).unwrap().to_vec().unwrap(), [2.0; 4]);
    let (_, y) = gpu.planner().capture(|| Tensor::full(&gpu.planner(), &[4], DType::F32, 1.0)).unwrap();
    assert_eq!(y.shape(), [4]);
}

"""PyTorch on the CPU, as a child of `peers`: one JSON request per line in, one answer per line out.

The requests are those of `contestant.rs`; tensors travel as files of f32.
"""

import json
import math
import os
import sys
import time


def main():
    try:
        import torch
    except ImportError as error:
        say(error=str(error))
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(cores)
    torch.set_grad_enabled(False)
    say(about=f"{torch.__version__}, CPU ({torch.backends.cpu.get_cpu_capability()}), {cores} threads")

    forward = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "prepare":
                inputs = [load(torch, file) for file in request["inputs"]]
                forward = prepare(torch, request["op"], inputs)
                save(torch, forward(), request["output"])
                say()
            elif request["do"] == "run":
                start = time.perf_counter()
                for _ in range(request["times"]):
                    forward()  # computed when it returns
                say(seconds=time.perf_counter() - start)
            else:
                forward = None
                say()
        except Exception as error:
            say(error=f"{type(error).__name__}: {error}")


def prepare(torch, op, inputs):
    """A function without arguments that computes `op`."""
    F = torch.nn.functional
    x, *rest = inputs
    name = op["name"]
    if name == "matmul":
        return lambda: torch.matmul(x, *rest)
    if name == "linear":
        return lambda: F.linear(x, *rest)
    if name == "conv":
        return lambda: F.conv2d(x, *rest, padding=op["kernel"] // 2)
    if name == "attention":
        return lambda: F.scaled_dot_product_attention(x, *rest)
    if name == "group_norm_silu":
        return lambda: F.silu(F.group_norm(x, op["groups"], *rest, eps=1e-5))
    if name == "layer_norm":
        return lambda: F.layer_norm(x, [op["features"]], *rest, eps=1e-5)
    raise ValueError(f"unknown op {name}")


def load(torch, file):
    shape = file["shape"]
    return torch.from_file(file["path"], size=math.prod(shape), dtype=torch.float32).clone().reshape(shape)


def save(torch, y, path):
    torch.from_file(path, shared=True, size=y.numel(), dtype=torch.float32).copy_(y.flatten())


def say(**answer):
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

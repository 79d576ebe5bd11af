"""Makes the small files of tests/golden/torch: tensors by torch.save, and what must be refused.

    pip install torch==2.15.0
    python tests/golden/torch_files.py
"""

import os

import torch


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


def main():
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch")
    os.makedirs(folder, exist_ok=True)
    ramp = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) / 4
    for name, value in {
        "plain": ramp,
        "turned": ramp[:, 1].T,
        "half": ramp.half(),
        "double": ramp.double(),
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "scalar": torch.tensor(2.5),
        "dictionary": {"weight": ramp},
        "evil": Evil(),
        "integers": torch.arange(3),
    }.items():
        torch.save(value, os.path.join(folder, f"{name}.pt"))


if __name__ == "__main__":
    main()

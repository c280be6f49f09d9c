"""Which numbers a machine computes with: asked by both model families' settings."""

from __future__ import annotations

import torch


def bf16_supported(use_cpu: bool = False) -> bool:
    """Whether the GPU, or the processor where there is none or it isn't used, multiplies in bfloat16 itself.

    A processor does with AMX or AVX512-BF16; without either bfloat16 is emulated, which is slower than float32.
    """
    if torch.cuda.is_available() and not use_cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check() for check in checks if check is not None)

"""Dropout that follows from the seed and the step alone, so that a resumed run drops what an undisturbed one would have.

On a CPU torch draws a number at a time, which took a sixth of a training step (docs/LOG.md); numpy's SFC64 fills 16 bits of a number
six times as fast.
"""

import numpy as np
import torch


class Noise:
    """What one process drops in one part of one optimizer step. Seeds torch's own generators, too, for modules that draw from those.

    Args:
        seeds: what the numbers follow from, such as (seed, step, process, part).
    """

    def __init__(self, *seeds: int) -> None:
        self._bits = np.random.Generator(np.random.SFC64(seeds))
        torch.manual_seed(int(self._bits.integers(2**63)))

    def factors(self, like: torch.Tensor, p: float) -> torch.Tensor:
        """Draw fp32 factors for `like`: 0 with probability `p` (on a CPU, to a 65,536th of 1), else 1 / (1 - p)."""
        if like.device.type != "cpu":
            return (torch.rand(like.shape, device=like.device) >= p).float().div_(1 - p)
        words = self._bits.integers(2**64, size=-(-like.numel() // 4), dtype=np.uint64)
        threshold = round(p * 2**16)
        kept = (words.view(np.uint16)[: like.numel()] >= threshold).astype(np.float32)
        kept *= np.float32(2**16 / (2**16 - threshold))
        return torch.from_numpy(kept).view(like.shape)

    def drop(self, x: torch.Tensor, p: float) -> torch.Tensor:
        """Drop numbers of `x` with probability `p`, in fp32."""
        return x * self.factors(x, p) if p else x

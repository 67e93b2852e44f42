"""One thread for each test worker: two that spin on the same cores are a hundred times slower than one."""

from __future__ import annotations

import torch

torch.set_num_threads(1)

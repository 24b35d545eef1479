"""Balanced batches for training on several streams of rows (text tokens, image tiles, audio frames, ...).

    packed = gimbal.balance.pack(sizes, {"vision": 16, "tokens": 5376}, names=["vision", "tokens"], ranks=8)
    packed.report["packs"], packed.report["packs_lower_bound"], packed.report["waste"]

`BalancedBatchSampler` is the same as a `batch_sampler` of a torch DataLoader. Only numpy is needed. docs/balance.md tells how it
works.
"""

from __future__ import annotations

from gimbal import UserError
from gimbal.balance.errors import Stopped
from gimbal.balance.lengths import LengthTable, read_lengths
from gimbal.balance.packed_epoch import PackedEpoch, Rejection, load_packs, save_packs
from gimbal.balance.packing import lower_bound, pack
from gimbal.balance.patterns import Patterns, solve_patterns
from gimbal.balance.planning import CapChoice, CapPoint, RebalancePlan, choose_cap, model_costs, plan_rebalance, read_costs
from gimbal.balance.sampler import BalancedBatchSampler
from gimbal.balance.streaming import StreamPacker

__all__ = [
    "BalancedBatchSampler",
    "CapChoice",
    "CapPoint",
    "LengthTable",
    "PackedEpoch",
    "Patterns",
    "RebalancePlan",
    "Rejection",
    "Stopped",
    "StreamPacker",
    "UserError",
    "choose_cap",
    "load_packs",
    "lower_bound",
    "model_costs",
    "pack",
    "plan_rebalance",
    "read_costs",
    "read_lengths",
    "save_packs",
    "solve_patterns",
]

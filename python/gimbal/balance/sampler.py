"""`BalancedBatchSampler`: balanced packs as the `batch_sampler` of a torch DataLoader, one on each rank. Needs no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from gimbal import UserError
from gimbal.balance import arrays
from gimbal.balance.packed_epoch import PackedEpoch, pack_index
from gimbal.balance.packing import choice, pack_problem
from gimbal.balance.patterns import Patterns, as_patterns
from gimbal.balance.problem import make_problem
from gimbal.balance.spread import sample_weights, split_parts, whole_steps

STATE_VERSION = 1
_STATE_KEYS = {"version", "seed", "epoch", "packs", "packs_per_step", "packs_per_slot", "steps", "fingerprint", "order"}


class BalancedBatchSampler:
    """Yields lists of sample numbers: the packs of this rank, one after another. A batch is a pack.

    All ranks have the same number of batches, and every sample is in exactly one batch of one rank per epoch. A step is
    `packs_per_step` packs of all ranks together (default: one for each rank); each rank runs `batches_per_step` of them. The
    order of the packs does not depend on the number of ranks: a state that was saved on 4 ranks goes on on 2.

    rank, world_size: of this process. packs_per_slot: packs that are made alike (default packs_per_step, so that the order
        suits every number of ranks).
    incomplete: the packs of an epoch rarely fill the last step. "split": packs at the end are split into more, so that every
        batch has a sample (the default; works with every collate function). "empty": ranks without a pack get an empty list,
        which the collate function must take.
    equal_epochs: the first so many epochs get as many steps as the longest of them, by splitting packs. For trainers that ask
        for the length once. They are all packed at the start.
    patterns: from `solve_patterns`, or a file of them. Must be equal on all ranks. By default each rank solves them for
        itself, without a limit of time, and all come to the same. Compare `order_fingerprint` over the ranks once per run.
    The other arguments are those of `pack`.

    Call `set_epoch` before each epoch. Iterate with one iterator at a time.
    """

    def __init__(
        self,
        sizes: Any,
        caps: arrays.Caps,
        *,
        rank: int,
        world_size: int,
        packs_per_step: int | None = None,
        packs_per_slot: int | None = None,
        incomplete: str = "split",
        equal_epochs: int = 0,
        seed: int = 0,
        costs: arrays.Costs | None = None,
        pairs: Any = None,
        names: Sequence[str] | None = None,
        method: str = "gimbal",
        sources: Any = None,
        source_weights: Any = None,
        oversize: str = "error",
        samples_per_pack: int = 0,
        cost_cap: float = 0,
        patterns: Patterns | str | os.PathLike[str] | None = None,
        progress: Callable[[float], object] | None = None,
    ) -> None:
        self.world_size = arrays.whole_number(world_size, "world_size", least=1, most=2**31)
        self.rank = arrays.whole_number(rank, "rank", most=self.world_size - 1)
        self.packs_per_step = (
            self.world_size if packs_per_step is None else arrays.whole_number(packs_per_step, "packs_per_step", least=1)
        )
        self.packs_per_slot = (
            self.packs_per_step if packs_per_slot is None else arrays.whole_number(packs_per_slot, "packs_per_slot", least=1)
        )
        if self.packs_per_step % self.packs_per_slot:
            raise UserError(f"packs_per_slot {packs_per_slot} does not divide packs_per_step {self.packs_per_step}")
        # Mini-batches of fixed size are in `pack` for comparison; a plain DataLoader makes them.
        self._method = choice(method, ("gimbal", "isf", "bfd"), "method")
        self._incomplete = choice(incomplete, ("split", "empty"), "incomplete")
        self._oversize = oversize
        self._problem = make_problem(
            sizes, caps, costs=costs, pairs=pairs, names=names, samples_per_pack=samples_per_pack, cost_cap=cost_cap,
            sources=sources, source_weights=source_weights,
        )  # fmt: skip
        self.seed = arrays.whole_number(seed, "seed")
        self.epoch = 0
        self._patterns = as_patterns(patterns)
        self._patterns_given = patterns is not None
        self._progress = progress
        self._packed: PackedEpoch | None = None
        self._fingerprint: str | None = None
        self._resume = 0  # batches of this rank in the epoch that come before the first one
        self._begin = 0  # the same, of the iteration that runs
        self._handed = 0  # batches that it has given
        self._steps: int | None = None  # of every epoch; None: as many as an epoch needs
        self._equal_epochs = arrays.whole_number(equal_epochs, "equal_epochs", most=10**6)
        if self._equal_epochs:
            self._steps = max(self._pack(epoch).steps for epoch in range(self._equal_epochs))

    # The epoch.

    def set_epoch(self, epoch: int) -> None:
        """The epoch to iterate over. The one at hand stays where it is, so that a loaded position is kept."""
        epoch = arrays.whole_number(epoch, "epoch", most=2**64 - 2)
        if epoch != self.epoch:
            self.epoch, self._resume, self._begin, self._handed = epoch, 0, 0, 0

    @property
    def packed(self) -> PackedEpoch:
        """The epoch at hand as packs, in the order of all ranks, with `report`, `rejected` and `patterns`."""
        if self._packed is None or self._packed.epoch != self.epoch:
            self._packed = None  # before the next one is made: one epoch's memory is enough
            self._packed = self._whole(self._pack(self.epoch))
        return self._packed

    @property
    def steps(self) -> int:
        """Steps of this epoch."""
        return self.packed.steps

    @property
    def batches_per_step(self) -> int:
        """Batches of each rank in a step: how many to accumulate."""
        return -(-self.packs_per_step // self.world_size)

    def __len__(self) -> int:
        """Batches of each rank in this epoch, from its start."""
        return self.steps * self.batches_per_step

    def _pack(self, epoch: int) -> PackedEpoch:
        packed = pack_problem(
            self._problem,
            method=self._method,
            oversize=self._oversize,
            seed=self.seed,
            epoch=epoch,
            packs_per_step=self.packs_per_step,
            packs_per_slot=self.packs_per_slot,
            patterns=self._patterns,
            progress=self._progress,
        )
        # Solved once; they do not depend on the epoch.
        self._patterns = packed.patterns if self._patterns is None else self._patterns
        return packed

    def _whole(self, packed: PackedEpoch) -> PackedEpoch:
        if self._incomplete == "empty":
            if self._steps is not None and packed.steps != self._steps:
                raise UserError('equal_epochs needs incomplete="split": only split packs make epochs equal')
            return packed
        packed.replace_packs(
            *whole_steps(packed.offsets, packed.samples, self._problem, self.packs_per_step, self._steps)
        )
        return packed

    # Iteration.

    def __iter__(self) -> Iterator[list[int]]:
        packed = self.packed
        if self._incomplete == "split":
            self._check_step_sizes(packed)
        self._begin, self._handed = self._resume, 0
        return self._batches(packed, self._resume)

    def _batches(self, packed: PackedEpoch, begin: int) -> Iterator[list[int]]:
        per_step = self.batches_per_step
        for batch in range(begin, packed.steps * per_step):
            step, turn = divmod(batch, per_step)
            self._handed = batch + 1 - begin
            yield self._batch(packed, step, pack_index(turn, self.rank, self.world_size))
        if self.epoch == packed.epoch:
            self._resume = 0

    def _batch(self, packed: PackedEpoch, step: int, place: int) -> list[int]:
        if self._incomplete == "empty" or self.packs_per_step % self.world_size == 0:
            return packed.pack(step, place).tolist() if place < self.packs_per_step else []
        # The ranks do not divide a step: its heaviest packs are split, so that no rank goes without.
        parts = [packed.pack(step, i) for i in range(self.packs_per_step)]
        samples = np.concatenate(parts)
        weight = dict(zip(samples.tolist(), sample_weights(self._problem, samples)))
        return split_parts([p.tolist() for p in parts], self.batches_per_step * self.world_size, weight)[place]

    def _check_step_sizes(self, packed: PackedEpoch) -> None:
        need = self.batches_per_step * self.world_size
        if need == self.packs_per_step or packed.steps == 0:
            return
        counts = np.diff(packed.offsets[:: self.packs_per_step].astype(np.int64))
        if (counts < need).any():
            raise UserError(
                f"step {int(np.argmax(counts < need))} has {int(counts.min())} samples for {self.world_size} ranks; take a number "
                f'of ranks that divides packs_per_step {self.packs_per_step}, or incomplete="empty"'
            )

    # The position.

    def state_dict(self, num_consumed: int | None = None) -> dict[str, Any]:
        """The position as a few numbers, equal on all ranks.

        num_consumed: batches that the training loop has finished since its iteration was begun (after a resume: since then);
        by default those that were handed out. A DataLoader with workers takes batches ahead of the loop, so give it there.
        """
        consumed = self._handed if num_consumed is None else arrays.whole_number(num_consumed, "num_consumed")
        if consumed > self._handed:
            raise UserError(f"num_consumed is {consumed}, but {self._handed} batches were handed out since the iteration began")
        position = (self._begin if self._handed else self._resume) + consumed
        epoch, packs, order = self.epoch, 0, ""
        if position and position == len(self):
            epoch += 1
        elif position:
            step, turn = divmod(position, self.batches_per_step)
            if turn and self.packs_per_step % self.world_size:
                raise UserError(
                    f"{position} batches are no whole steps of {self.batches_per_step}; when the ranks do not divide "
                    f"packs_per_step {self.packs_per_step}, save the state after whole steps"
                )
            packs, order = step * self.packs_per_step + turn * self.world_size, self.order_fingerprint
        return {
            "version": STATE_VERSION,
            "seed": self.seed,
            "epoch": epoch,
            "packs": packs,  # of the epoch, done by all ranks together
            "packs_per_step": self.packs_per_step,
            "packs_per_slot": self.packs_per_slot,
            "steps": self._steps,
            "fingerprint": self.fingerprint,
            "order": order,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on at the position, also on another number of ranks. Raises UserError when the order could not be the same."""
        if state.get("version") != STATE_VERSION or set(state) != _STATE_KEYS:
            raise UserError("this is not a state of BalancedBatchSampler of this version")
        if state["fingerprint"] != self.fingerprint:
            raise UserError(
                "the state is of other sizes, caps or options; make the sampler with those that it had when it was saved"
            )
        packs, per_step = int(state["packs"]), int(state["packs_per_step"])
        step, rest = divmod(packs, per_step)
        if rest and (per_step % self.world_size or rest % self.world_size):
            raise UserError(
                f"the state is {rest} packs into a step of {per_step}, where {self.world_size} ranks cannot begin; take a "
                "number of ranks that divides both, or a state that was saved after a whole step"
            )
        before = self.__dict__.copy()
        self._packed = None
        if state["seed"] != self.seed and not self._patterns_given:
            self._patterns = None
        self.seed, self.epoch, self._steps = int(state["seed"]), int(state["epoch"]), state["steps"]
        self.packs_per_step, self.packs_per_slot = per_step, int(state["packs_per_slot"])
        self._resume = step * self.batches_per_step + rest // self.world_size
        self._begin, self._handed = 0, 0
        if state["order"] and state["order"] != self.order_fingerprint:
            self.__dict__.update(before)
            raise UserError(
                "the epoch comes out in another order than when the state was saved, so samples would be lost or repeated: the "
                "patterns differ, or the version of gimbal. Give the patterns of that run (patterns=), or begin an epoch anew"
            )

    @property
    def fingerprint(self) -> str:
        """Of sizes, caps and options, without what the state holds. Equal on all ranks."""
        if self._fingerprint is None:
            problem = self._problem
            digest = hashlib.blake2b(digest_size=8)
            for array in (problem.rows, problem.pairs, problem.sources):
                digest.update(b"-" if array is None else array.reshape(-1).data)
            options = (
                problem.rows.shape, problem.names, problem.caps, problem.costs, problem.samples_per_pack, problem.cost_cap,
                problem.source_weights, self._method, self._incomplete, self._oversize,
            )  # fmt: skip
            digest.update(repr(options).encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    @property
    def order_fingerprint(self) -> str:
        """Of this epoch's order: equal on all ranks, or something is wrong."""
        digest = hashlib.blake2b(digest_size=8)
        digest.update(self.packed.offsets.data)
        digest.update(self.packed.samples.data)
        return digest.hexdigest()

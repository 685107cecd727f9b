"""What goes into one run of the decoder's graph besides the caches: arrays of fixed shape that are filled anew.

Arrays of short runs are kept and stay bound to the session: a decode step then binds nothing, and its host side costs a
third of what making and binding fresh arrays did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backend import Row, VisualTokens
from exaone_ros.engine.backends.batching import Batch
from exaone_ros.engine.backends.ring import positions_in
from exaone_ros.errors import EngineError


class DecoderInputs:
    """Inputs of one shape, and the logits (and hidden states) that come out.

    Args:
        slots: neighbouring slots of the run.
        length: tokens of each.
        capacity: positions of the caches.
        local: those of layers with a sliding window, where they are fewer: a ring.
        window: of the layers with a sliding window; None = there are none.
        logits: how many rows of logits are wanted.
        vocab: their width.
        no_visual: float32 [1, hidden], what stands in where there are no visual tokens.
        takes_hidden: the graph reads a hidden state with each token (the MTP layer).
        gives_hidden: rows of hidden states that come out, 0 = none.
    """

    def __init__(
        self,
        slots: int,
        length: int,
        capacity: int,
        window: int | None,
        logits: int,
        vocab: int,
        no_visual: NDArray[np.float32],
        *,
        local: int | None = None,
        takes_hidden: bool = False,
        gives_hidden: int = 0,
    ) -> None:
        shape = (slots, length)
        self._window = window
        self._keys, self._steps = np.arange(capacity), np.arange(length)
        self._local = capacity if local is None else min(local, capacity)
        self._asked: list[int] = []
        """What `logit_rows` holds."""
        # An empty product is not worth finding out how every runtime treats it: at least one row of logits.
        self.logits = np.empty((max(1, logits), vocab), np.float32)
        width = no_visual.shape[1]
        self.hidden = np.empty((gives_hidden, width), np.float32) if gives_hidden else None
        mask = np.empty((slots, 1, length, capacity), np.bool_)
        apart = window is not None and window < capacity
        rings = self._local < capacity
        index = np.empty(slots, np.int64)
        self.feeds: dict[str, NDArray[Any]] = {
            "input_ids": np.zeros(shape, np.int64),
            "visual": no_visual,
            "visual_row": np.full(shape, -1, np.int64),
            "position_ids": np.empty(shape, np.int64),
            "write_index": index,
            "write_index_local": np.empty_like(index) if rings else index,
            "logit_rows": np.zeros(max(1, logits), np.int64),
            "mask_global": mask,
            "mask_local": np.empty((*mask.shape[:3], self._local), np.bool_) if apart else mask,
        }
        if takes_hidden:  # the only layer; where it sees all, there is no window
            self.feeds["mask"], self.feeds["write_index"] = (
                self.feeds["mask_local"],
                self.feeds["write_index_local"],
            )
            self.feeds["hidden"] = np.zeros((slots * length, width), np.float32)

    def fill(
        self,
        batch: Batch,
        rows: Sequence[Row],
        starts: Sequence[int],
        image_token: int,
        hidden: Sequence[NDArray[np.float32]] = (),
    ) -> list[tuple[int, int, int]]:
        """Write a batch into the arrays.

        Args:
            batch: of this shape.
            rows: of the call.
            starts: where each slot's tokens go.
            image_token: id of an image pad.
            hidden: float32 [n, hidden] with the n tokens of each row of the call, where the graph takes them.

        Returns:
            (index of the row, first, end) of each row's logits.
        """
        feeds, wanted, at = self.feeds, [], 0
        ids, logit_rows = feeds["input_ids"], feeds["logit_rows"]
        visual: list[NDArray[np.float32]] = []
        asked: list[int] = []
        seen = 0
        for place, index in enumerate(batch.rows):
            if index is None:
                ids[place] = 0
                continue
            row = rows[index]
            count = len(row.tokens)
            if count < batch.length:
                ids[place, count:] = 0
            ids[place, :count] = row.tokens
            if hidden:
                feeds["hidden"][place * batch.length :][:count] = hidden[index]
            if row.visual:
                pads = np.flatnonzero(row.tokens == image_token)
                feeds["visual_row"][place, pads] = seen + np.arange(len(pads))
                seen += len(pads)
                visual += [_embeddings(image) for image in row.visual]
            end = place * batch.length + count
            wanted.append((index, at, at + row.logits))
            asked += range(end - row.logits, end)
            at += row.logits
        if asked != self._asked:  # mostly as in the run before
            logit_rows[:at] = self._asked = asked
        if visual:
            feeds["visual"] = np.concatenate(visual)
        index_of = feeds["write_index"]
        index_of[:] = starts
        positions = np.add(index_of[:, None], self._steps, out=feeds["position_ids"])[:, None, :, None]
        seen_keys = np.less_equal(self._keys, positions, out=feeds["mask_global"])
        if self._window is not None and feeds["mask_local"] is not feeds["mask_global"]:
            self._see_window(self._window, np.array(starts), positions, seen_keys)
        return wanted

    def _see_window(
        self, window: int, starts: NDArray[np.int64], positions: NDArray[np.int64], seen: NDArray[np.bool_]
    ) -> None:
        """Write mask and index of the layers with a sliding window."""
        feeds, keys, behind = self.feeds, self._keys[: self._local], positions - window
        newest = starts + (len(self._steps) - 1)
        if newest.max() < self._local:  # nothing has wrapped: each position lies at its own place
            np.logical_and(seen[..., : self._local], keys > behind, out=feeds["mask_local"])
            feeds["write_index_local"][:] = starts
            return
        held = positions_in(self._local, newest)[:, None, None, :]
        np.logical_and((held >= 0) & (held <= positions), held > behind, out=feeds["mask_local"])
        np.remainder(starts, self._local, out=feeds["write_index_local"])


def _embeddings(image: VisualTokens) -> NDArray[np.float32]:
    if not isinstance(image.embeddings, np.ndarray):
        raise EngineError(
            f"visual tokens are a {type(image.embeddings).__name__}; expected those of this backend's encode()"
        )
    return image.embeddings

"""Writes checkpoints beside the training: the state is copied to the CPU at once, and written by a thread."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from lamp_model.storage.checkpoints import Checkpoint, save_checkpoint


class CheckpointWriter:
    """Writes one checkpoint at a time into a folder; each is complete or absent.

    Training waits only for the copy, and for the write before this one if that has not ended yet.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = folder, keep
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future | None = None

    def begin(self, checkpoint: Checkpoint) -> None:
        """Copy a checkpoint and begin to write it.

        Raises:
            OSError: the write before this one failed; earlier checkpoints are kept.
        """
        self.wait()
        copied = replace(checkpoint, weights=_copied(checkpoint.weights), optimizer=_copied(checkpoint.optimizer))
        self._writing = self._pool.submit(save_checkpoint, self.folder, copied, self.keep)

    def check(self) -> None:
        """Raise the error of a write that has failed by now.

        Raises:
            OSError: the disk is full or failing; earlier checkpoints are kept.
        """
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            OSError: the disk is full or failing; earlier checkpoints are kept.
        """
        if self._writing is not None:
            written, self._writing = self._writing, None
            written.result()

    def close(self) -> None:
        """Let the current write end; its error, if any, is not raised."""
        self._pool.shutdown(wait=True)


def _copied(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies on the CPU, which the next step cannot change."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

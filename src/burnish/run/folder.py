"""The run folder: the one file that knows the names in it."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from burnish.errors import RunError
from burnish.files import FINAL, RUN_CONFIG, STAGED, read_json, writing

LOCK = ".lock"
TRACKED = ("tensorboard", "wandb")
"""Folders in which trackers write."""


@dataclass(frozen=True)
class RunFolder:
    """Everything that a run leaves behind, under one folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config, YAML."""
        return self.path / RUN_CONFIG

    @property
    def provenance(self) -> Path:
        """Hashes of data, base and config, versions, times, the command."""
        return self.path / "provenance.json"

    @property
    def ledger(self) -> Path:
        """A line for every row that was not trained as it stands, and a last one with the counts."""
        return self.path / "ledger.jsonl"

    @property
    def metrics(self) -> Path:
        """A line for each training step and for each evaluation."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Answers to held-out prompts, by the base (step 0) and as training went on."""
        return self.path / "samples.jsonl"

    @property
    def examples(self) -> Path:
        """A few training examples, token by token, with the trained ones marked."""
        return self.path / "examples.jsonl"

    @property
    def evaluation(self) -> Path:
        """``{"base": {...}, "tuned": {...}}``."""
        return self.path / "evaluation.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def final(self) -> Path:
        """The model or adapter, the tokenizer with its template, and the generation config."""
        return self.path / FINAL

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end. Its report is written last, but can be asked for before."""
        written = self.provenance.is_file() and self.report.is_file()
        return written and "finished" in read_json(self.provenance)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out within the block. The folder is made where there is none, and removed
        where nothing came into it. The lock is the system's: it ends with the process however that ends.

        Raises ``RunError`` where another process holds the lock, and where the folder, or what a run writes
        in it, is a symbolic link."""
        self._require_no_links()
        lock = self.path / LOCK
        handle = self._handle(lock)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            if not any(self.path.iterdir()):
                self.path.rmdir()
            os.close(handle)

    def _handle(self, lock: Path) -> int:
        """An open handle to the file ``lock``, locked and with our process id in it."""
        while True:
            with writing(str(self.path)):
                self.path.mkdir(parents=True, exist_ok=True)
                handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                os.close(handle)
                raise RunError(
                    f"{lock} is no lock of a run: it is another file too",
                    why="The process id would be written over what that file holds.",
                    fix=f"Remove {lock}, or choose another --out.",
                )
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(handle, 20).decode()
                os.close(handle)
                raise RunError(
                    f"another process ({holder or 'just started'}) is working in {self.path}",
                    why="Two runs in one folder would overwrite each other.",
                    fix="Wait for it, stop it, or choose another --out.",
                ) from error
            if os.fstat(handle).st_nlink:
                os.ftruncate(handle, 0)
                os.write(handle, str(os.getpid()).encode())
                return handle
            os.close(handle)  # meanwhile its holder ended and removed it

    def _require_no_links(self) -> None:
        written = (self.config, self.provenance, self.ledger, self.metrics, self.samples, self.examples)
        made = (self.evaluation, self.checkpoints, self.final, self.report, self.path / LOCK)
        for path in (self.path, *written, *made, *(self.path / name for name in TRACKED)):
            if path.is_symlink():
                raise RunError(
                    f"{path} is a symbolic link, to {path.readlink()}",
                    why="A run writes only into its own folder; through a link it would change others.",
                    fix="Give the folder itself that the link leads to, or choose another --out."
                    if path == self.path
                    else f"Remove {path}, or put what it leads to in its place.",
                )

    def require_free(self) -> RunFolder:
        """Raises ``RunError`` where the folder holds anything: a run is never overwritten. Call it within
        ``locked``."""
        if any(path.name != LOCK and not path.name.startswith(STAGED) for path in self.path.iterdir()):
            raise RunError(
                f"{self.path} already holds {'a run' if self.config.exists() else 'files'}",
                why="A run is never overwritten.",
                fix="Choose another --out, remove the folder, or go on with --resume.",
            )
        return self

    def require_run(self) -> RunFolder:
        """Raises ``RunError`` where no run has begun in the folder."""
        if not self.config.is_file():
            raise RunError(
                f"{self.path} is not a run folder: it has no {self.config.name}",
                fix="Give the folder that a run wrote, as its --out named it.",
            )
        return self

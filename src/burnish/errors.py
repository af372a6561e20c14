"""What can go wrong for a user, in one small tree.

    BurnishError            anything a user can mend; the command line prints it without a traceback
    ├── ConfigError         a key, a value or a combination in a config
    ├── DataError           a file or a row; names both
    ├── TemplateError       a chat template breaks a mask law; names the law and the remedies
    │   └── RunawayTemplateError   it had to be ended
    ├── ModelError          a model folder that is missing, unsafe or does not fit
    ├── RunError            a run folder that is taken, incomplete or does not match
    └── TrainingError       training that cannot go on: no gradient, a loss that is not finite

``Interrupted`` stands beside them: nothing is wrong, the person stopped a run. A broken invariant of our
own is an ``assert``, not one of these.
"""

from __future__ import annotations


class BurnishError(Exception):
    """Says what happened, why it matters and what to change."""

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        super().__init__("\n".join(line for line in (what, why, fix) if line))


class ConfigError(BurnishError):
    """A config that names what does not exist or asks for what cannot be."""


class DataError(BurnishError):
    """A file or row that cannot be read as what it should be."""


class TemplateError(BurnishError):
    """A chat template that breaks one of the mask laws for a conversation.

    ``law``: served, faithful, stops, borders or only; empty where the template cannot be used at all.
    ``remedies``: each a set of names for ``template.remedies`` with which the conversation was proven.
    """

    def __init__(
        self,
        what: str,
        *,
        why: str = "",
        fix: str = "",
        law: str = "",
        remedies: tuple[tuple[str, ...], ...] = (),
    ) -> None:
        super().__init__(what, why=why, fix=fix)
        self.law, self.remedies = law, remedies


class RunawayTemplateError(TemplateError):
    """A chat template that had to be ended: no remedy is tried on it."""


class ModelError(BurnishError):
    """A model that cannot or must not be loaded."""


class RunError(BurnishError):
    """A run folder that cannot be written to, resumed or read."""


class TrainingError(BurnishError):
    """Training that cannot go on without harm."""


class Interrupted(Exception):
    """The person stopped a run, which can go on. ``signal``: the number of the signal that did it.

    Not a ``KeyboardInterrupt``, which the command line's library would swallow.
    """

    def __init__(self, saved: int, resume_command: str, signal: int) -> None:
        self.signal = signal
        done = f"everything up to step {saved} is saved" if saved else "no step was saved yet"
        super().__init__(f"Stopped: {done}.\nGo on with: {resume_command}")

"""The program ``burnish``: runs what was typed, and turns what goes wrong into words and an exit code.

Nothing that takes time is imported before ``main`` is there for a Ctrl-C.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

CTRL_C = 128 + signal.SIGINT


def main() -> None:
    """Exit codes: 0 done, 1 a mistake that the message explains, 2 wrong usage, 130 stopped by SIGINT, 143 by
    SIGTERM."""
    sys.excepthook, unraisable = _print_traceback, sys.unraisablehook
    try:
        sys.unraisablehook = _heed_ctrl_c
        code = _run()
    except KeyboardInterrupt:
        code = CTRL_C
    except (ImportError, SystemError) as error:
        if not _from_ctrl_c(error):
            raise
        code = CTRL_C
    finally:
        sys.unraisablehook = unraisable
    if code == CTRL_C:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # another one would print a traceback on the way out
    sys.exit(code)


def _run() -> int:
    import warnings

    from burnish.errors import BurnishError, Interrupted

    # What libraries warn of is theirs to mend; what matters in it, burnish says itself.
    warnings.filterwarnings("ignore", module="transformers|peft|torch")
    try:
        from burnish.cli.app import run

        return run()
    except BurnishError as error:
        _explain(error.what, error.why, error.fix)
        return 1
    except Interrupted as stop:
        _explain_stop(str(stop))
        return 128 + stop.signal


def _from_ctrl_c(error: BaseException | None) -> bool:
    """Whether a KeyboardInterrupt led to an error, as it does in some extension modules that are being
    imported."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _heed_ctrl_c(ignored: sys.UnraisableHookArgs) -> None:
    """Python goes on after a KeyboardInterrupt within a destructor, where the person meant the program."""
    if isinstance(ignored.exc_value, KeyboardInterrupt):
        from burnish.cli.terminal import leave_at_once

        leave_at_once(CTRL_C)
    sys.__unraisablehook__(ignored)


def _print_traceback(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    import traceback

    from burnish.cli.terminal import complain

    complain("".join(traceback.format_exception(kind, error, where)).rstrip())


def _explain(what: str, why: str, fix: str) -> None:
    from burnish.cli.rank import rank
    from burnish.cli.terminal import complain

    if rank() > 0:  # mostly what the first one explains too
        complain(f"rank {rank()}: {what}")
        return
    complain(f"error: {what}")
    if why:
        complain(f"  why: {why}")
    if fix:
        complain(f"  fix: {fix}")


def _explain_stop(text: str) -> None:
    from burnish.cli.rank import rank
    from burnish.cli.terminal import complain

    if rank() == 0:
        complain(f"\n{text}")


if __name__ == "__main__":
    main()

"""The program ``burnish``: runs what was typed, and turns what goes wrong into words and an exit code.

Only what is quick to import is imported here: while the rest is, ``main`` is there already for a Ctrl-C.
"""

from __future__ import annotations

import signal
import sys
import traceback
import warnings
from types import TracebackType

from burnish.cli.rank import rank
from burnish.cli.terminal import complain
from burnish.errors import BurnishError, Interrupted


def main() -> None:
    """Exit codes: 0 done, 1 a mistake that the message explains, 2 wrong usage, 130 stopped by SIGINT, 143 by
    SIGTERM."""
    sys.excepthook = _print_traceback
    # What libraries warn of is theirs to mend; what matters in it, burnish says itself.
    warnings.filterwarnings("ignore", module="transformers|peft|torch")
    try:
        from burnish.cli.app import run

        code = run()
    except BurnishError as error:
        _explain(error)
        code = 1
    except Interrupted as stop:
        if rank() == 0:
            complain(f"\n{stop}")
        code = 128 + stop.signal
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except (ImportError, SystemError) as error:
        if not _from_ctrl_c(error):
            raise
        code = 128 + signal.SIGINT
    if code == 128 + signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # another one would print a traceback on the way out
    sys.exit(code)


def _from_ctrl_c(error: BaseException | None) -> bool:
    """Whether a KeyboardInterrupt led to an error, as it does in some extension modules that are being
    imported."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _explain(error: BurnishError) -> None:
    if rank() > 0:  # mostly what the first one explains too
        complain(f"rank {rank()}: {error.what}")
        return
    complain(f"error: {error.what}")
    if error.why:
        complain(f"  why: {error.why}")
    if error.fix:
        complain(f"  fix: {error.fix}")


def _print_traceback(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    complain("".join(traceback.format_exception(kind, error, where)).rstrip())


if __name__ == "__main__":
    main()

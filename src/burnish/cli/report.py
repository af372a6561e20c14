"""burnish report"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Write a run's report.html again."""
    from burnish.cli.terminal import out
    from burnish.report import write_report
    from burnish.run.folder import RunFolder

    out(str(write_report(RunFolder(run).require_run())))

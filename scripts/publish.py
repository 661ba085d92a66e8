"""Give a staged file its final name if its report allows it: publish.py STAGED REPORT TARGET [NAME].

The file is linked and the link moved, so that it appears whole or not at all, and a kill leaves nothing beside it. Where
its format has a second file, that one comes first, and goes again if the file itself cannot be placed. What did not
compute the same is kept below rejected/. NAME: what the user calls the target, if not by its path. Prints one line; a
failure's sentence is printed again when Snakemake ends.
"""

import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter import formats
from converter.publishing import report
from converter.run_state import failures
from converter.run_state.folder import state_path
from converter.running.progress import CLEAR


def main(staged: Path, report_path: Path, target: Path, wanted: str | None = None) -> int:
    result = report.read(report_path)
    name = report_path.relative_to(state_path("reports")).with_suffix("")
    wanted = wanted or str(target)
    if result["target"] != wanted:
        failures.remember(
            f"{name} for {wanted}",
            f"{wanted}: it would share {report_path} with {result['target']}: give that job another convert_to",
        )
        return 1
    try:
        if not report.publishable(result):
            if result["status"] == "inaccurate":
                _place_all(staged, state_path("rejected") / name)
            failures.remember(str(name), report.line(result))
            return 1
        _place_all(staged, target)
    except OSError as error:
        failures.remember(
            str(name), f"{wanted} cannot be written ({error.strerror}): make room or give rights, and run it again"
        )
        return 1
    if sys.stdout.isatty():
        print(CLEAR, end="")  # a bar may stand there
    print(report.line(result), *report.decision_lines(result), sep="\n", flush=True)
    return 0


def _place_all(staged: Path, target: Path) -> None:
    """Also the file beside it, where its format has one."""
    found = formats.find_target(staged.name.rpartition(".")[2])
    beside = found.beside_of(target) if found else None
    staged_beside = found.staged_beside(staged) if found else None
    try:
        if beside and staged_beside:
            _place(staged_beside, beside)
        _place(staged, target)
    except OSError:
        if beside:
            beside.unlink(missing_ok=True)
        raise


def _place(staged: Path, target: Path) -> None:
    """Link or copy, then move; the new name gets the present time, so that it is younger than what it was made from."""
    target.parent.mkdir(parents=True, exist_ok=True)
    linked, copied = (path.with_name(f".{path.name}.tmp") for path in (staged, target))
    for temporary in (linked, copied):  # of a killed step
        temporary.unlink(missing_ok=True)
    try:
        os.link(staged, linked)
        os.utime(linked)
        os.replace(linked, target)
    except OSError:  # another file system, or one without links
        try:
            shutil.copyfile(staged, copied)
            os.replace(copied, target)
        finally:
            copied.unlink(missing_ok=True)
    finally:
        linked.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:4]), *sys.argv[4:5]))

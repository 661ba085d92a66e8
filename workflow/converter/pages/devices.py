"""The page of devices: which of a model's files fit which profile, and what does not fit."""

from __future__ import annotations

from collections.abc import Mapping

from converter.devices.facts import Facts
from converter.devices.fit import check
from converter.pages.page import Section, Table, render
from converter.planning.profiles import profiles

__all__ = ["devices_page"]


def devices_page(model: str, files: Mapping[str, Facts]) -> str:
    """The whole page. `files`: what each of the model's files asks, by its name."""
    rows = []
    for profile in profiles().values():
        found = {
            name: check(facts, profile) if facts.extension in profile.formats else None for name, facts in files.items()
        }
        cells = [
            None if entry is None else "fits" if entry["fits"] else "; ".join(entry["misfits"])
            for entry in found.values()
        ]
        rows.append((profile.name, profile.title, *cells))
    asked = [
        (
            name,
            f"{facts.oldest['runtime']} {facts.oldest['release'] or 'not known'}",
            facts.oldest["reason"],
            facts.bytes,
        )
        for name, facts in files.items()
    ]
    sections = [
        Section(
            "Profiles", ["A dash: the profile is for files of another format."], [Table(("device", "", *files), rows)]
        ),
        Section("Oldest runtime", [], [Table(("file", "oldest runtime", "because of", "bytes"), asked)]),
    ]
    fitting = sum("fits" in row[2:] for row in rows)
    return render(f"{model}: devices", sections, f"{fitting} of {len(rows)} profiles have a file that fits.")

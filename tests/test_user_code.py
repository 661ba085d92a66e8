"""Loading the user's Python files: as members of packages, with names that libraries have too; and what is recorded."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from converter.errors import ParameterError, SourceError
from converter.hub.hub import Hub
from converter.importing.network_script import load_script
from converter.importing.user_code import Record, is_users, load_file, recorded
from converter.planning import recorded_code
from converter.planning.recorded_code import RecordedCode, refuse_changed


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def record_of(path: str) -> dict:
    record = Record()
    with recorded(record):
        load_file(path)
    return record.to_json()


def files_of(record: dict) -> list[str]:
    return [path for path, *_ in record["files"] if not Path(path).is_absolute()]


def test_what_is_the_users(work):
    assert is_users(str(work)) and is_users(str(work / "nets" / "net.py"))
    for file in (json.__file__, np.__file__, recorded_code.__file__):
        assert not is_users(os.path.abspath(file))


@pytest.mark.parametrize("init", ["", "from .net import VALUE\n"])
def test_a_script_with_relative_imports_is_a_member_of_its_package(work, init):
    write("nets_a/deep/__init__.py", init)
    write("nets_a/__init__.py", "ABOVE = 1\n")
    write("nets_a/common.py", "X = 40\n")
    write("nets_a/deep/blocks.py", "from ..common import X\nY = 2\n")
    write("nets_a/deep/net.py", "from .blocks import X, Y\nclass Net:\n    pass\nVALUE = X + Y\n")
    with recorded(Record()):
        script = load_script(Path("nets_a/deep/net.py"))
        assert script.module.VALUE == 42 and script.module.__name__ == "nets_a.deep.net"
        assert "Net" in script.classes()
        assert [module.__name__ for module in script.siblings] == [
            *("nets_a", "nets_a.common", "nets_a.deep", "nets_a.deep.blocks")
        ]
    assert not any(name.startswith("nets_a") for name in sys.modules)


def test_a_folder_without_init_is_a_package_too_and_one_that_no_name_fits_is_a_sentence(work):
    for folder in ("nets_g", "my nets"):
        write(f"{folder}/blocks.py", "Y = 2\n")
        write(f"{folder}/net.py", "from .blocks import Y\n")
    assert load_script(Path("nets_g/net.py")).module.Y == 2
    with pytest.raises(ParameterError, match="its folder my nets cannot be a package: rename the folder"):
        load_script(Path("my nets/net.py"))


def test_modules_of_one_conversion_are_not_those_of_the_next(work):
    for number in (1, 2):
        write(f"m{number}/net.py", "from blocks_b import value\n")
        write(f"m{number}/blocks_b.py", f"value = {number}\n")
        with recorded(Record()):
            assert load_file(f"m{number}/net.py").value == number


@pytest.mark.parametrize("name", ["numpy", "converter", "aup", "json"])
def test_a_name_that_a_library_has_is_refused_with_the_way_out(work, name):
    import aup  # noqa: F401

    write("net.py", f"import {name}\n")
    assert load_script(Path("net.py"))  # the library's
    write(f"{name}.py", "value = 1\n")
    with pytest.raises(ParameterError, match=rf"net\.py imports {name}, which is {name}\.py .* rename {name}\.py"):
        load_script(Path("net.py"))
    assert load_script(Path(f"{name}.py")).module.value == 1  # as a script it may bear any name


def test_names_that_python_finds_first_anyway_are_fine(work):
    write("net.py", "import sys, os\nvalue = os.sep\n")
    write("sys.py", "")
    write("os.py", "")
    assert load_script(Path("net.py")).module.value == os.sep


def test_libraries_look_for_nothing_beside_a_script(work, monkeypatch):
    """They ask for other libraries that need not be installed; beside a script there may be a stranger's files."""
    library = """
import importlib
def optional():
    try:
        import optional_q
    except ImportError:
        return False
    return True
known = optional()
def named(name):
    return importlib.import_module(name)
"""
    write("site-packages/library_q.py", library)
    write("nets/optional_q.py", "open('pwned', 'w')\n")
    write("nets/blocks_q.py", "value = 1\n")
    write("nets/net.py", "import library_q\nknown, library = library_q.known, library_q\n")
    monkeypatch.syspath_prepend(work / "site-packages")
    record = Record()
    with recorded(record):
        module = load_file("nets/net.py")
        assert not module.known and not module.library.optional()  # while it loads, and when it is called
        assert module.library.named("blocks_q").value == 1  # a name that it was given may be the user's
    assert not Path("pwned").exists()
    assert files_of(record.to_json()) == ["nets/blocks_q.py", "nets/net.py"]
    write("nets/net.py", "import optional_q\n")
    with recorded(Record()):
        load_file("nets/net.py")
    assert Path("pwned").exists()  # the script's own import


@pytest.mark.parametrize("parameter", ["network_script", "quantization.load"])
@pytest.mark.parametrize("name", ["net.py", "net", "the net.txt"])
def test_a_script_that_ends_the_program_is_a_sentence(work, parameter, name):
    write(name, "import sys\nsys.exit(3)\n")
    with pytest.raises(ParameterError, match=rf"^{parameter}: {name} raised SystemExit: 3 \(line 2\)"):
        load_script(Path(name), parameter)
    write(name, "value = 1\n")
    assert load_script(Path(name)).module.value == 1


def test_the_record_names_each_file_that_ran_and_each_that_would_go_first(work, monkeypatch):
    write("nets/net.py", "import library_c\ntry:\n    import fast_c\nexcept ImportError:\n    pass\nimport zipped_c\n")
    write("library/library_c.py", "")
    with zipfile.ZipFile("library/packed.zip", "w") as archive:
        archive.writestr("zipped_c.py", "")
    monkeypatch.syspath_prepend("library/packed.zip")
    monkeypatch.syspath_prepend("library")
    record = record_of("nets/net.py")
    assert files_of(record) == ["library/library_c.py", "library/packed.zip", "nets/net.py"]
    assert {"library_c", "fast_c"} <= set(record["absent"]["nets"]) and "fast_c" in record["absent"]["library"]
    assert "library_c" not in record["absent"]["library"]
    assert "library/library_c/__init__.py" in record["packages"]


def key(record: dict) -> str:
    return RecordedCode().key("base", "net.py", record)


def test_the_key_stays_until_a_file_changes_and_always_differs_then(work):
    write("net.py", "from blocks_d import value\n")
    write("blocks_d.py", "value = 1\n")
    first = key({})
    record = {"key": first, **record_of("net.py")}
    write("other.py", "")  # nobody imports it
    assert key(record) == first and key({}) != first
    os.utime("blocks_d.py", (0, 0))
    assert key(record) == first
    write("blocks_d.py", "value = 2\n")
    second = key(record)
    assert second not in (first, key({"key": "", "files": [], "absent": {}}))
    record = {"key": second, **record_of("net.py")}
    assert key(record) == second
    # A file that was changed between planning and reading, and put back: what ran is not what is there.
    record["files"] = [
        [path, 0, 0, "0" * 64] if path == "blocks_d.py" else [path, *rest] for path, *rest in record["files"]
    ]
    assert key(record) != second


def test_a_cache_between_workflows_tells_modules_apart_before_anything_ran(work):
    write("net.py", "")
    write("parts/__init__.py", "")
    found = set()
    for text in ("1", "2"):
        write("blocks_e.py", text)
        found.add(key({}))
        write("parts/deep.py", text)
        found.add(key({}))
    assert len(found) == 4


def test_an_export_refuses_a_hub_of_other_code(work):
    write("blocks_f.py", "value = 1\n")
    hub = Hub(work, source={"path": "models/a.pt"}, user_code={"key": "", **record_of("blocks_f.py")})
    refuse_changed(hub)
    write("blocks_f.py", "value = 2\n")
    with pytest.raises(SourceError, match=r"blocks_f\.py is another file by now than when models/a\.pt was read"):
        refuse_changed(hub)
    Path("blocks_f.py").unlink()  # a cluster's node has no copy of the user's folder
    refuse_changed(hub)


def test_a_model_beside_a_script_is_no_module(work: Path) -> None:
    """Libraries try names that are not installed, and a stranger's SavedModel may bear one of them."""
    write("models/not_installed/__init__.py", "raise SystemExit('a stranger ran')\n")
    write("models/not_installed/saved_model.pb", "")
    write("models/bare_folder/saved_model.pbtxt", "")
    write("models/blocks/__init__.py", "X = 1\n")
    write(
        "models/net.py",
        "import blocks\nmissing = []\nfor name in ('not_installed', 'bare_folder'):\n    try:\n        __import__(name)\n"
        "    except ModuleNotFoundError as error:\n        missing.append(error.name)\n",
    )
    with recorded(Record()):
        script = load_script(Path("models/net.py"))
    assert script.module.missing == ["not_installed", "bare_folder"] and script.module.blocks.X == 1


READERS = """
import json
from pathlib import Path
import numpy as np
import yaml

ARRAY = np.load("data/array.npy")
with np.load("data/arrays.npz") as stored:
    WIDTH = stored["width"]
SETTINGS = yaml.safe_load(Path("data/settings.yaml").open())

def build():
    with open("data/late.json") as file:
        return json.load(file)

try:
    open("data/optional.txt")
except FileNotFoundError:
    pass
"""


def test_data_that_the_users_code_reads_counts_as_the_code_does(work):
    write("data/settings.yaml", "a: 1\n")
    write("data/late.json", "{}")
    write("data/aside.txt", "nobody opens it")
    np.save("data/array.npy", np.zeros(3))
    np.savez("data/arrays.npz", width=3)
    write("net.py", READERS)
    record = Record()
    with recorded(record):
        script = load_file("net.py")
        with open("data/aside.txt") as file:  # not by the user's code
            file.read()
        script.build()  # called after it was loaded
    stored = record.to_json()
    read = [f"data/{name}" for name in ("array.npy", "arrays.npz", "late.json", "optional.txt", "settings.yaml")]
    assert files_of(stored) == [*read, "net.py"]

    stored["key"] = f"base.{RecordedCode().key('base', 'net.py', {}).partition('.')[2]}"
    assert RecordedCode().is_current(stored)
    np.save("data/array.npy", np.ones(3))
    assert not RecordedCode().is_current(stored)
    assert RecordedCode().key("base", "net.py", stored) != stored["key"]
    np.save("data/array.npy", np.zeros(3))
    assert RecordedCode().is_current(stored) and RecordedCode().key("base", "net.py", stored) == stored["key"]
    write("data/optional.txt", "it is there now")
    assert not RecordedCode().is_current(stored)
    Path("data/optional.txt").unlink()
    Path("data/late.json").unlink()
    assert not RecordedCode().is_current(stored)


def test_what_libraries_and_steps_read_is_no_data_of_the_users(work, tmp_path, monkeypatch):
    """Settings of a library that the script imports, the machine's own files, and what the script wrote itself."""
    write("library/site-packages/quiet/__init__.py", "open('settings.ini').close()\n")
    write("settings.ini", "")
    write(
        "net.py",
        "import quiet, os\nopen('/proc/self/stat').close()\nopen('made.txt', 'w').close()\nopen('made.txt').close()\n",
    )
    monkeypatch.syspath_prepend(str(work / "library" / "site-packages"))
    assert files_of(record_of("net.py")) == ["net.py"]

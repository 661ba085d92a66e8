"""Write a hub that holds only the reason why its target cannot be planned: refuse.py SENTENCE HUB."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.hub.hub import Hub


def main(sentence: str, hub: Path) -> None:
    hub.mkdir(parents=True, exist_ok=True)
    Hub(hub, error={"kind": "ParameterError", "message": sentence}).write()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

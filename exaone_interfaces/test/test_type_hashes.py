"""Pins every type of this package: a changed hash cuts off each node and bag that was made with the old one.

If a change is meant, write the new hashes down: `python3 test/test_type_hashes.py FOLDER > test/type_hashes.json`,
where FOLDER is the installed share/exaone_interfaces, and raise the version in package.xml.
"""

import json
import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
PINNED = PACKAGE / "test" / "type_hashes.json"


def type_hashes(folder: Path) -> dict:
    """The hash of every message, service and action, from the descriptions that the generator leaves in `folder`."""
    hashes = {}
    definitions = [path for kind in ("msg", "srv", "action") for path in (PACKAGE / kind).iterdir()]
    for definition in sorted(definitions):
        description = folder / definition.parent.name / f"{definition.stem}.json"
        for entry in json.loads(description.read_text(encoding="utf-8"))["type_hashes"]:
            if entry["type_name"] == f"exaone_interfaces/{description.parent.name}/{description.stem}":
                hashes[entry["type_name"]] = entry["hash_string"]
    return hashes


def test_no_type_has_changed():
    found = type_hashes(Path(os.environ["EXAONE_TYPE_DESCRIPTIONS"]))
    assert found == json.loads(PINNED.read_text(encoding="utf-8"))


if __name__ == "__main__":
    print(json.dumps(type_hashes(Path(sys.argv[1])), indent=2))

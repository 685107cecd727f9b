"""docs/messages.md: the definitions of our own messages, services and actions, as they stand. Knows no rclpy."""

from __future__ import annotations

from pathlib import Path

from exaone_ros.errors import ExaoneError

HEAD = """\
# Messages, services and actions of exaone_interfaces

Written by `python -m exaone_ros.nodes.graph write` from the definitions; a test holds the page to them. Boxes are
`vision_msgs`, see docs/interfaces.md for which topic has which type.
"""


def messages_page(package: Path) -> str:
    """The page.

    Args:
        package: folder of exaone_interfaces, with msg/, srv/ and action/.

    Raises:
        ExaoneError: there are no definitions.
    """
    parts = [HEAD]
    for kind, title in (("msg", "Messages"), ("srv", "Services"), ("action", "Actions")):
        files = sorted((package / kind).glob(f"*.{kind}"))
        if not files:
            raise ExaoneError(f"'{package}' holds no {kind}/*.{kind}; expected the folder of exaone_interfaces")
        parts.append(f"## {title}\n")
        parts += [f"### {file.stem}\n\n```text\n{file.read_text(encoding='utf-8').rstrip()}\n```\n" for file in files]
    return "\n".join(parts)

"""Texts out of somebody else's code, a head's above all, made fit to be published and logged."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` as valid UTF-8: lone surrogates, as in the name of a file that is none, become escapes.

    Neither a message nor the log of ROS takes them as they are.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def described(error: BaseException) -> str:
    """Type and words of an error; its type alone where its words cannot be had."""
    kind = type(error).__name__
    try:
        return printable(f"{kind}: {error}")
    except Exception:  # its own __str__ failed
        return f"{kind}, whose message cannot be read"

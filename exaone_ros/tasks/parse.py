"""Tasks from plain data (YAML files, messages) and back, with reasons for what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import yaml

from exaone_ros.errors import TaskError
from exaone_ros.tasks.ask import Ask
from exaone_ros.tasks.base import StandingTask, Task, checked_label, shown
from exaone_ros.tasks.count import Count
from exaone_ros.tasks.decide import Decide
from exaone_ros.tasks.ground import Ground

KINDS: dict[str, type[Task]] = {kind.KIND: kind for kind in (Ground, Count, Decide, Ask)}
_SCHEDULE = {"rate": "rate_hz", "priority": "priority", "deadline": "deadline_s", "camera": "camera"}


def task_from_dict(data: Mapping[str, Any]) -> StandingTask:
    """Make a standing task from plain data: `kind`, the fields of that kind of task, and rate (Hz), priority,
    deadline (s) and camera.

    Raises:
        TaskError: an unknown kind or key, or a value that the task refuses.
    """
    if not isinstance(data, Mapping):
        raise TaskError(f"a task is {shown(data)}; expected a mapping with the keys name, kind, ...")
    kind, called = data.get("kind"), shown(data.get("name", "?"))
    if not isinstance(kind, str) or kind not in KINDS:
        raise TaskError(f"task {called}: kind is {shown(kind)}; expected one of {sorted(KINDS)}")
    names = {field.name for field in fields(KINDS[kind])}
    unknown = sorted(str(key) for key in data if key not in names and key not in _SCHEDULE and key != "kind")
    if unknown:
        known = sorted(names | set(_SCHEDULE))
        raise TaskError(f"task {called}: unknown key {shown(unknown[0])}; a {kind} task takes {known}")
    task = KINDS[kind](**{key: value for key, value in data.items() if key in names})
    return StandingTask(task, **{_SCHEDULE[key]: value for key, value in data.items() if key in _SCHEDULE})


def task_to_dict(standing: StandingTask) -> dict[str, Any]:
    """The inverse of `task_from_dict`: plain data that YAML and JSON can hold."""
    task = standing.task
    out: dict[str, Any] = {"kind": task.KIND}
    for field in fields(task):
        value = getattr(task, field.name)
        out[field.name] = list(value) if isinstance(value, tuple) else value
    return out | {key: getattr(standing, name) for key, name in _SCHEDULE.items()}


def standing_tasks_from_yaml(text: str) -> tuple[StandingTask, ...]:
    """Read a task file: a mapping from task name to its data.

    Raises:
        TaskError: no YAML, not a mapping, or tasks refused (the message names each of them, and what is wrong with it).
    """
    try:
        data = yaml.load(text, _TaskLoader)
    except TaskError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none, a thousand brackets
        raise TaskError(f"the task file is not valid YAML: {error}") from error
    if not isinstance(data, Mapping) or not data:
        found = f"holds a {type(data).__name__}" if data else "is empty"
        raise TaskError(f"the task file {found}; expected a mapping from task names to tasks, as in config/tasks.yaml")
    tasks: list[StandingTask] = []
    problems: list[str] = []
    for name, entry in data.items():
        try:
            tasks.append(_named_task(name, entry))
        except TaskError as error:
            problems.append(str(error))
    names = [standing.task.name for standing in tasks]
    twice = sorted({name for name in names if names.count(name) > 1})  # keys that differ only in spaces around them
    problems += [f"the task file names the task '{name}' twice; each may stand once" for name in twice]
    if problems:
        raise TaskError("; ".join(problems))
    return tuple(tasks)


def _named_task(name: Any, entry: Any) -> StandingTask:
    """One entry of a task file.

    Raises:
        TaskError: it is refused.
    """
    checked_label(name, "task name")
    if not isinstance(entry, Mapping):
        raise TaskError(f"task '{name}' is {shown(entry)}; expected a mapping with the keys kind, ...")
    if entry.get("name", name) != name:
        raise TaskError(f"task '{name}' is also named {shown(entry['name'])}; its name is the key it stands under")
    return task_from_dict({"name": name} | dict(entry))


class _TaskLoader(yaml.SafeLoader):
    """Refuses what YAML would take without a word, or fall over: a key that stands twice, of which it would keep the
    second, and a value that is not of the kind that its tag says."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except TaskError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            line, tag = node.start_mark.line + 1, node.tag.rpartition(":")[2]
            told = isinstance(error, (ArithmeticError, ValueError))  # the others are about PyYAML's own code
            reason = f": {error}" if told else ""
            raise TaskError(
                f"line {line} of the task file: {shown(node.value)} is no {tag}{reason}; write a text in quotes"
            ) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                where = f"line {key.start_mark.line + 1}"
                raise TaskError(f"{where} of the task file has {shown(key.value)} a second time; each may stand once")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

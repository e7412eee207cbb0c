r"""Limits of YAML documents, which are checked before anything is constructed."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
import itertools
from typing import Any

import yaml

from audmodel.core.yaml import python_tags


MAX_BYTES = 4 * 1024 * 1024
MAX_EXPANSION = 16 * MAX_BYTES
MAX_DEPTH = 64
MAX_NODES = 200_000
# libyaml compares each of these directives with all before
MAX_TAG_DIRECTIVES = 1000

YAML_TAG = "tag:yaml.org,2002:"
TUPLE_TAG = f"{YAML_TAG}python/tuple"
_TAGS = {
    TUPLE_TAG,
    *python_tags.TAGS,
    *(
        f"{YAML_TAG}{name}"
        for name in (
            "binary bool float int map merge null omap pairs seq set str timestamp"
        ).split()
    ),
}


def check_directives(content: bytes) -> None:
    r"""Refuse thousands of ``%TAG`` directives, which take quadratic time."""
    if content.count(b"%") <= MAX_TAG_DIRECTIVES:
        return
    has_mark = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if has_mark else "utf-8", "replace")
    lines = (line.lstrip("\ufeff") for line in text.splitlines())
    if sum(line.startswith("%TAG") for line in lines) > MAX_TAG_DIRECTIVES:
        raise yaml.YAMLError(f"more than {MAX_TAG_DIRECTIVES} tags are declared")


def check_events(content: bytes, loader: Any) -> None:
    r"""Refuse great depth and many values before anything is built."""
    depth = 0
    for number, event in enumerate(yaml.parse(content, Loader=loader)):
        if number > 2 * MAX_NODES:
            raise yaml.YAMLError(f"more than {MAX_NODES} values")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested more than {MAX_DEPTH} times")


def check_tags(root: yaml.Node) -> None:
    r"""Refuse foreign tags before anything is constructed."""
    nodes, seen = [root], {id(root)}
    while nodes:
        node = nodes.pop()
        if node.tag not in _TAGS:
            raise yaml.YAMLError(f"tag {str(node.tag)[:100]!r} is not allowed")
        for item in _items(node):
            if id(item) not in seen:
                seen.add(id(item))
                nodes.append(item)


def _items(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.ScalarNode):
        return ()
    if isinstance(node, yaml.MappingNode):
        return itertools.chain.from_iterable(node.value)
    items: list[yaml.Node] = node.value
    return items


def _check_keys(node: yaml.Node) -> None:
    r"""Refuse a mapping that has a key twice."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[tuple[str, str]] = set()
    for name, _ in node.value:
        if isinstance(name, yaml.ScalarNode):
            if (name.tag, name.value) in seen:
                raise yaml.YAMLError(f"key {name.value[:100]!r} occurs twice")
            seen.add((name.tag, name.value))


def check_expansion(root: yaml.Node) -> None:
    r"""Refuse references that expand to too much, or to themselves.

    A document may refer to the same value several times.
    A value counts once for each reference,
    since a program that walks through the data visits it as often.
    """
    sizes: dict[int, tuple[int, int]] = {}
    open_nodes: set[int] = set()

    def measure(node: yaml.Node) -> tuple[int, int]:
        key = id(node)
        if key in sizes:
            return sizes[key]
        if key in open_nodes:
            raise yaml.YAMLError("a value refers to itself")
        if isinstance(node, yaml.ScalarNode):
            return 1, len(node.value)
        open_nodes.add(key)
        _check_keys(node)
        values, length = 1, 0
        for item in _items(node):
            more, longer = measure(item)
            values += more
            length += longer
        for count, most, what in (
            (values, MAX_NODES, "values"),
            (length, MAX_EXPANSION, "characters"),
        ):
            if count > most:
                raise yaml.YAMLError(f"references expand to more than {most} {what}")
        open_nodes.discard(key)
        sizes[key] = values, length
        return sizes[key]

    measure(root)

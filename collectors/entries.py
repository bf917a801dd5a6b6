"""Entries of `snapshots` and `upcoming` added to and moved in the text of params.yaml, all else left byte for byte.

An entry is copied and moved as text, with its comments, between positions that the YAML parser gives. A round
trip through a document model would keep comments too, but attaches those above a section to the last entry of the
section before it, where a new entry would then follow them. The result is parsed again: an edit that does not say
exactly what was meant is refused.
"""

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

import yaml

from collectors.document import UserError

Params = dict[str, Any]


def copied(text: str, name: str, *, like: str, section: str, since: date, until: date) -> str:
    """Return params.yaml with a new entry at the end of a section, a copy of another but for its window.

    Args:
        text: params.yaml.
        name: of the new entry.
        like: the entry to copy, of `snapshots` or `upcoming`. Its `partial` was decided for it alone, and is
            false in the copy.
        section: `snapshots` or `upcoming`.
        since: start of the new window.
        until: its end, not included.

    Raises:
        UserError: when the file is written in a way that cannot be edited safely.
    """
    text, newline = _unified(text)
    before = _loaded(text)
    origin = next(part for part in ("snapshots", "upcoming") if like in before[part])
    fixed = {"since": f"{since}", "until": f"{until}"}
    entry = before[origin][like]
    partial = {"partial": False} if "partial" in entry else {}
    wanted = _appended(before, section, name, {**entry, **fixed, **partial})

    start, end = _own(text, origin, like)
    _, value = _child(_node(text, origin), like)
    replaced = {_span(_child(_node(text, origin), like)[0]): name}
    for setting, said in {
        **{key: f'"{day}"' for key, day in fixed.items()},
        **dict.fromkeys(partial, "false"),
    }.items():
        replaced[_span(_child(value, setting, like)[1])] = said
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.AnchorToken) and start <= token.start_mark.index < end:
            replaced[token.start_mark.index - 1, token.end_mark.index] = ""  # the original keeps it
    if not all(start <= first <= last <= end for first, last in replaced):
        raise _unsafe(like)
    block = text[start:end]
    for (first, last), said in sorted(replaced.items(), reverse=True):
        block = block[: first - start] + said + block[last - start :]
    return _checked(_inserted(text, section, _dedented(text, start, block)), wanted, name, newline)


def moved(text: str, name: str) -> str:
    """Return params.yaml with an entry of `upcoming` at the end of `snapshots`, with the comments right above it.

    Raises:
        UserError: when the file is written in a way that cannot be edited safely.
    """
    text, newline = _unified(text)
    before = _loaded(text)
    rest = {key: entry for key, entry in before["upcoming"].items() if key != name}
    wanted = _appended({**before, "upcoming": rest}, "snapshots", name, before["upcoming"][name])
    start, end = _own(text, "upcoming", name)
    if _node(text, "upcoming").flow_style:
        raise _unsafe(name)
    begin, column = _line(text, start), start - _line(text, start)
    while (above := _line(text, begin - 1)) < begin and re.match(rf" {{{column}}}#", text[above:begin]):
        begin = above
    block = _dedented(text, begin + column, text[begin + column : end])
    left = text[:begin] + text[end:].removeprefix("\n")
    if not rest:
        key, _ = _child(_root(left), "upcoming")
        colon = left.index(":", key.end_mark.index) + 1
        left = f"{left[:colon]} {{}}{left[colon:]}"
    return _checked(_inserted(left, "snapshots", block), wanted, name, newline)


def _loaded(text: str) -> Params:
    params = yaml.load(text, Loader=yaml.SafeLoader)
    return {**params, **{section: params.get(section) or {} for section in ("snapshots", "upcoming")}}


def _appended(params: Params, section: str, name: str, entry: Mapping[str, Any]) -> Params:
    return {**params, section: {**params[section], name: entry}}


def _checked(text: str, wanted: Params, name: str, newline: str) -> str:
    """Return the edited text, unless it says anything but what is wanted."""
    try:
        said = _loaded(text)
    except yaml.YAMLError as error:
        raise _unsafe(name) from error
    if said != wanted or any(list(said[part]) != list(wanted[part]) for part in ("snapshots", "upcoming")):
        raise _unsafe(name)
    return text.replace("\n", newline)


def _unsafe(name: str) -> UserError:
    return UserError(
        f"params.yaml is written in a way in which entry {name} cannot be copied or moved safely; write sections and "
        "entries as indented blocks with `since` and `until` of their own, or make the change by hand"
    )


def _unified(text: str) -> tuple[str, str]:
    """Return a text with line feeds, one at its end, and the line end that it had."""
    newline = "\r\n" if "\r\n" in text else "\n"
    text = text.replace("\r\n", "\n")
    return text if text.endswith("\n") else f"{text}\n", newline


def _root(text: str) -> yaml.MappingNode:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)  # noqa: S101  as `params.read` has checked
    return root


def _node(text: str, section: str) -> yaml.MappingNode:
    _, node = _child(_root(text), section)
    if not isinstance(node, yaml.MappingNode):
        raise _unsafe(section)
    return node


def _child(node: yaml.Node, name: str, entry: str = "") -> tuple[yaml.ScalarNode, yaml.Node]:
    """Return a key of a mapping, of an entry for instance, with its value: as the text has it, not by a merge."""
    children = node.value if isinstance(node, yaml.MappingNode) else []
    for key, value in children:
        if isinstance(key, yaml.ScalarNode) and key.value == name:
            return key, value
    raise _unsafe(entry or name)


def _span(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.index, node.end_mark.index


def _line(text: str, index: int) -> int:
    """Return where the line of an index begins."""
    return text.rfind("\n", 0, max(index, 0)) + 1


def _own(text: str, section: str, name: str) -> tuple[int, int]:
    """Return where an entry begins, and where its last line ends: comments in it are its own, those below are not."""
    node = _node(text, section)
    key, _ = _child(node, name)
    start = key.start_mark.index
    following = [k.start_mark.index for k, _ in node.value if k.start_mark.index > start]
    if node.flow_style:
        raise _unsafe(name)
    stop = min(following, default=node.end_mark.index)
    return start, _trimmed(text, start, stop, key.start_mark.column + 1)


def _trimmed(text: str, start: int, stop: int, column: int) -> int:
    """Return the end of the last line that is neither blank nor a comment left of a column."""
    lines = text[start:stop].split("\n")
    if stop < len(text):
        lines.pop()  # what stands left of the next key
    while lines and re.fullmatch(rf" {{0,{column - 1}}}#.*|\s*", lines[-1]):
        lines.pop()
    return start + len("\n".join(lines))


def _dedented(text: str, start: int, block: str) -> str:
    """Return a block that begins at an index without the indentation of its first line."""
    column = start - _line(text, start)
    return re.sub(rf"^ {{0,{column}}}", "", block, flags=re.MULTILINE)


def _inserted(text: str, section: str, block: str) -> str:
    """Return the text with a block at the end of a section, which is made where there is none."""
    root = _root(text)
    if section not in (key.value for key, _ in root.value):
        return f"{text}\n{section}:\n{_indented(block, 2)}\n"
    key, node = _child(root, section)
    if isinstance(node, yaml.MappingNode) and node.value:
        if node.flow_style:
            raise _unsafe(section)
        first = node.value[0][0].start_mark
        end = _trimmed(text, first.index, node.end_mark.index, first.column)
        return f"{text[:end]}\n{_indented(block, first.column)}{text[end:]}"
    begin, end = _span(node)
    if begin < end:  # `{}`
        text = text[:begin].rstrip(" ") + text[end:]
    end = text.index("\n", key.end_mark.index)
    return f"{text[:end]}\n{_indented(block, 2)}{text[end:]}"


def _indented(block: str, column: int) -> str:
    return re.sub(r"^(?=.)", " " * column, block, flags=re.MULTILINE)

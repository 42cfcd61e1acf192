"""How train.py reads each source: the loading call, and a small function where rows must change shape."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from ftc.emit.job import Job
from ftc.emit.quoting import python_literal as py
from ftc.facts import RowFacts, column_name, load_words
from ftc.probe.data import EXTENSIONS
from ftc.recipe import SourceTable
from ftc.settings import CHAT_FORMATS


class Reader(NamedTuple):
    """One source in train.py: a variable, the lines that load it, and the function that reshapes a row, if any."""

    variable: str
    comment: str
    load: tuple[str, ...]
    converter: tuple[str, ...]


class CarriedFile(NamedTuple):
    """A local data file: where the recipe has it, and where train.py looks for it."""

    facts: RowFacts
    bundle_path: str
    carried: bool


def list_files(job: Job) -> tuple[CarriedFile, ...]:
    """Returns every local data file once, with a name in the bundle that no other has."""
    found: dict[str, CarriedFile] = {}
    taken: set[str] = set()
    for files in job.facts.data.files.values():
        for file in files:
            if file.path in found:
                continue
            carried = job.carries(file.size_bytes)
            name = _free_name(file.path, taken) if carried else file.path
            taken.add(name.casefold())
            found[file.path] = CarriedFile(facts=file, bundle_path=name, carried=carried)
    return tuple(found.values())


def _free_name(path: str, taken: set[str]) -> str:
    """Returns a flat name for the bundle's `data/`, told apart without case, as some file systems do."""
    name = PurePosixPath(path).name
    count = 2
    while name.casefold() in taken:
        name = f"{PurePosixPath(path).stem}_{count}{PurePosixPath(path).suffix}"
        count += 1
    return name


def list_readers(job: Job, part: str) -> tuple[Reader, ...]:
    """Returns the readers of the sources of `train` or `eval`."""
    rows = job.recipe.data.train if part == "train" else job.recipe.data.eval or ()
    used: set[str] = set()
    readers = []
    for index, row in enumerate(rows):
        variable = _variable(row, part, used)
        readers.append(_reader(job, part, index, row, variable))
    return tuple(readers)


def _variable(row: SourceTable, part: str, used: set[str]) -> str:
    stem = re.sub(r"[^a-z0-9]+", "_", PurePosixPath(row.source).stem.lower()).strip("_")[:24]
    name = stem if re.match(r"[a-z]", stem) else f"{part}_rows"
    base = f"{name}_rows" if name in _RESERVED or (part == "eval" and not name.endswith("eval")) else name
    count = 2
    name = base
    while name in used:
        name, count = f"{base}_{count}", count + 1
    used.add(name)
    return name


_RESERVED = frozenset(
    ("json", "os", "torch", "args", "row", "rows", "data", "main", "train", "eval", "text", "in", "is", "if", "or",
     "and", "not", "for", "def", "del", "try", "as", "from", "import", "class", "pass", "with", "list", "dict", "str",
     "trl", "path", "here", "run", "model", "messages", "tokenizer", "trainer", "dataset")
)  # fmt: skip


def _reader(job: Job, part: str, index: int, row: SourceTable, variable: str) -> Reader:
    files = job.facts.data.files.get((part, index), ())
    load = list(_load_files(job, files, variable) if files else _load_hub(row, variable))
    converter = tuple(_converter(job, row, f"{variable}_row"))
    if converter:
        load += [
            f"{variable} = {variable}.map(",
            f"    {variable}_row, remove_columns={variable}.column_names",
            ")",
        ]
        load = _joined(load)
    else:
        load.append(_one_line_list(variable, _plain_columns(row)))
    if part == "train" and row.weight is not None and row.weight != 1:
        load += _weighted(variable, row.weight, job.settings.seed)
    return Reader(variable=variable, comment=f"{row.source}: {row.format} rows", load=tuple(load), converter=converter)


def _joined(lines: list[str]) -> list[str]:
    """Returns the last three lines as one where they fit, as ruff format would write them."""
    one = lines[-3] + lines[-2].strip() + lines[-1]
    return [*lines[:-3], one] if len(one) + 4 <= 88 else lines


def _one_line_list(variable: str, columns: tuple[str, ...]) -> str:
    return f"{variable} = {variable}.select_columns([{', '.join(py(c) for c in columns)}])"


def _plain_columns(row: SourceTable) -> tuple[str, ...]:
    return tuple(load_words()["columns"][row.format])


def _load_files(job: Job, files: tuple[RowFacts, ...], variable: str) -> Iterator[str]:
    by_path = {f.facts.path: f for f in list_files(job)}
    kind = EXTENSIONS[PurePosixPath(files[0].path).suffix]
    places = [
        f"str({'DATA' if by_path[f.path].carried else 'LARGE_DATA'} / {py(by_path[f.path].bundle_path)})" for f in files
    ]
    if len(places) == 1:
        one = f'{variable} = load_dataset("{kind}", data_files={places[0]}, split="train")'
        if len(one) + 4 <= 88:
            yield one
            return
        yield f"{variable} = load_dataset("
        inner = f'    "{kind}", data_files={places[0]}, split="train"'
        yield from (
            [inner]
            if len(inner) + 4 <= 88
            else [f'    "{kind}",', f"    data_files={places[0]},", '    split="train",']
        )
        yield ")"
        return
    yield f"{variable} = load_dataset("
    yield f'    "{kind}",'
    yield "    data_files=["
    yield from (f"        {place}," for place in places)
    yield "    ],"
    yield '    split="train",'
    yield ")"


def _load_hub(row: SourceTable, variable: str) -> Iterator[str]:
    yield f"{variable} = load_dataset("
    yield f"    {py(row.source)},"
    if row.revision is not None:
        yield f"    revision={py(row.revision)},"
    yield f"    split={py(row.split or 'train')},"
    yield ")"


def _weighted(variable: str, weight: float, seed: int) -> Iterator[str]:
    whole, part = int(weight), weight - int(weight)
    yield f"# Seen {weight:g} times per epoch: the recipe's weight."
    pieces = [variable] * whole
    if part > 0:
        yield f"{variable}_part = {variable}.shuffle(seed={seed}).select("
        yield f"    range(round(len({variable}) * {py(round(part, 6))}))"
        yield ")"
        pieces.append(f"{variable}_part")
    if len(pieces) == 1:
        yield f"{variable} = {pieces[0]}"
        return
    yield f"{variable} = concatenate_datasets("
    yield "    ["
    yield from (f"        {piece}," for piece in pieces)
    yield "    ]"
    yield ")"


def _converter(job: Job, row: SourceTable, name: str) -> Iterator[str]:
    """Yields the function that turns a row of this source into TRL's shape; nothing where it has it already."""
    if row.format in CHAT_FORMATS:
        yield from _chat_converter(job, row, name)
    elif any(theirs != ours for ours, theirs in (row.columns or {}).items()):
        columns = [(ours, column_name(row.format, ours, row.columns)) for ours in _plain_columns(row)]
        yield f"def {name}(row: dict[str, Any]) -> dict[str, Any]:"
        if len(columns) == 1:
            yield f"    return {{{py(columns[0][0])}: row[{py(columns[0][1])}]}}"
            return
        for ours, theirs in columns:
            yield f"    {ours} = row[{py(theirs)}]"
        yield f"    return {{{', '.join(f'{py(ours)}: {ours}' for ours, _ in columns)}}}"


def _chat_converter(job: Job, row: SourceTable, name: str) -> Iterator[str]:
    needs_split = job.settings.loss_on == "completion"
    has_system = job.settings.system_prompt is not None
    if row.format == "chat" and not (row.columns or row.roles or needs_split or has_system):
        return
    yield f"def {name}(row: dict[str, Any]) -> dict[str, Any]:"
    yield from (_alpaca_messages(row) if row.format == "alpaca" else _turn_messages(row))
    if has_system:
        yield '    if messages[0]["role"] != "system":'
        yield '        messages = [{"role": "system", "content": SYSTEM_PROMPT}, *messages]'
    if needs_split:
        yield '    return {"prompt": messages[:-1], "completion": messages[-1:]}'
    else:
        yield '    return {"messages": messages}'


def _turn_messages(row: SourceTable) -> Iterator[str]:
    columns = {ours: column_name(row.format, ours, row.columns) for ours in ("messages", "role", "content")}
    roles = role_map(row)
    if not roles and columns["role"] == "role" and columns["content"] == "content":
        yield f"    messages = row[{py(columns['messages'])}]"
        return
    yield "    messages = []"
    yield f"    for turn in row[{py(columns['messages'])}]:"
    yield f"        role = turn[{py(columns['role'])}]"
    if roles:
        yield "        role = ROLES.get(role, role)"
    yield f"        content = turn[{py(columns['content'])}]"
    yield '        messages.append({"role": role, "content": content})'


def _alpaca_messages(row: SourceTable) -> Iterator[str]:
    columns = {ours: column_name("alpaca", ours, row.columns) for ours in ("instruction", "input", "output", "system")}
    yield f"    request = row[{py(columns['instruction'])}]"
    yield f"    if row.get({py(columns['input'])}):"
    yield f'        request += "\\n\\n" + row[{py(columns["input"])}]'
    yield '    messages = [{"role": "user", "content": request}]'
    if "system" in (row.columns or {}):
        yield f"    if row.get({py(columns['system'])}):"
        yield f"        system = row[{py(columns['system'])}]"
        yield '        messages = [{"role": "system", "content": system}, *messages]'
    yield f"    answer = row[{py(columns['output'])}]"
    yield '    messages.append({"role": "assistant", "content": answer})'


def role_map(row: SourceTable) -> dict[str, str]:
    """Returns their role -> our role where the two differ."""
    words = load_words()["roles"]
    base = dict(words["sharegpt"]) if row.format == "sharegpt" else {}
    theirs = {their: our for our, their in (row.roles or {}).items()}
    return {their: our for their, our in {**base, **theirs}.items() if their != our}


def all_roles(job: Job) -> dict[str, str]:
    """Returns the role map of all sources together; two sources that disagree are refused by FTC523."""
    merged: dict[str, str] = {}
    for _, _, row in job.recipe.data.sources():
        if row.format in ("chat", "sharegpt"):
            merged.update(role_map(row))
    return merged

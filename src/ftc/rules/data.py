"""Formats, columns, roles, templates, lengths: where most failed runs fail."""

import re
from collections.abc import Iterator
from math import ceil

from ftc.diagnostic import Diagnostic, did_you_mean, nearest
from ftc.facts import column_name, known_columns, load_words, template_marks
from ftc.recipe import SourceTable
from ftc.resolve import is_local
from ftc.rules.context import Context
from ftc.settings import CHAT_FORMATS

_LONGEST_NAME = 48
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


def _is_chat(c: Context) -> bool:
    return c.recipe.data.train[0].format in CHAT_FORMATS


def base_without_template(c: Context) -> Iterator[Diagnostic]:
    """FTC505"""
    if _is_chat(c) and c.settings.chat_template == "auto" and c.facts.model.chat_template is False:
        family = c.facts.model.chat_template_family
        known = family if family in c.facts.stack.training_families else "qwen3"
        yield c.error(
            "FTC505",
            f"the tokenizer of {c.facts.model.id} has no chat template, the data is chat",
            ("model", "base"),
            f'write `[model] chat_template = "{known}"`, name a .jinja file, or take the instruct model',
        )


def longer_than_context(c: Context) -> Iterator[Diagnostic]:
    """FTC506"""
    limit = c.facts.model.max_position_embeddings
    if limit is not None and c.settings.max_length > limit:
        yield c.error(
            "FTC506",
            f"max_length {c.settings.max_length} is beyond the {limit} positions of {c.facts.model.id}",
            ("data", "max_length"),
            f"write `max_length = {limit}` or less",
        )


def packing_leaks(c: Context) -> Iterator[Diagnostic]:
    """FTC507"""
    words = load_words()["packing"]
    if c.settings.packing and c.facts.model.model_type in words["leaking"]:
        yield c.error(
            "FTC507",
            f"packed samples would leak into each other in `{c.facts.model.model_type}`",
            ("data", "packing"),
            "write `packing = false`",
            note=words["why"],
        )


def packing_attention(c: Context) -> Iterator[Diagnostic]:
    """FTC521"""
    apart = ("sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention")
    if c.settings.packing and c.settings.attention not in apart:
        yield c.error(
            "FTC521",
            f"`{c.settings.attention}` does not keep packed samples apart",
            ("model", "attention"),
            'write `attention = "sdpa"`, or `packing = false`',
        )


def loss_without_roles(c: Context) -> Iterator[Diagnostic]:
    """FTC508"""
    row_format, loss = c.recipe.data.train[0].format, c.settings.loss_on
    possible = {"prompt-completion": ("completion", "all"), "text": ("all",)}.get(row_format)
    if possible and loss not in possible:
        yield c.error(
            "FTC508",
            f"rows of format `{row_format}` have no {loss} to train on",
            ("method", "loss_on"),
            f'write `loss_on = "{possible[0]}"`, or leave it out',
        )


def mixed_formats(c: Context) -> Iterator[Diagnostic]:
    """FTC509"""
    first = _family(c.recipe.data.train[0].format)
    for part, index, row in c.recipe.data.sources():
        if _family(row.format) != first:
            yield c.error(
                "FTC509",
                f"`{row.format}` rows cannot be mixed with `{c.recipe.data.train[0].format}` rows",
                ("data", part, index, "format"),
                "make all sources chat-like (chat, sharegpt, alpaca), all prompt-completion, or all text",
            )


def _family(row_format: str) -> str:
    return "chat" if row_format in CHAT_FORMATS else row_format


def unknown_column_key(c: Context) -> Iterator[Diagnostic]:
    """FTC512"""
    for part, index, row in c.recipe.data.sources():
        known = known_columns(row.format)
        for name in row.columns or {}:
            if name not in known:
                at = ("data", part, index, "columns", name)
                message = f"format `{row.format}` has no column `{name[:80]}`"
                yield c.wrong_key("FTC512", message, at, *did_you_mean(name, known))


def missing_column(c: Context) -> Iterator[Diagnostic]:
    """FTC513"""
    for part, index, row in c.recipe.data.sources():
        for file in c.facts.data.files.get((part, index), ()):
            for ours in load_words()["columns"][row.format] if file.rows is not None else ():
                theirs = column_name(row.format, ours, row.columns)
                if theirs not in file.columns:
                    yield _missing_column(c, (part, index), row, ours, theirs, file.path, file.columns)


def _missing_column(
    c: Context,
    at: tuple[str, int],
    row: SourceTable,
    ours: str,
    theirs: str,
    path: str,
    there: tuple[str, ...],
) -> Diagnostic:
    near = nearest(theirs, there) or (there[0] if len(there) == 1 else None)
    target = near or "..."
    mapped = ours in (row.columns or {})
    where: tuple[str | int, ...] = ("data", *at, *(("columns", ours) if mapped else ("source",)))
    return c.error(
        "FTC513",
        f"not every row of `{path}` has a column `{theirs}`, which format `{row.format}` reads",
        where,
        f'write `columns = {{ {ours} = "{target}" }}`',
        note=f"columns in every row: {', '.join(there) or 'none'}",
    )


def unknown_roles(c: Context) -> Iterator[Diagnostic]:
    """FTC514"""
    words = load_words()["roles"]
    for part, index, row in c.recipe.data.sources():
        if row.format not in ("chat", "sharegpt"):
            continue
        known = set(words["known"]) if row.format == "chat" else set(words["sharegpt"])
        mapped = set((row.roles or {}).values())
        for file in c.facts.data.files.get((part, index), ()):
            strange = [r for r in file.roles if r not in known | mapped]
            if strange:
                yield c.error(
                    "FTC514",
                    f"`{file.path}` has messages with role `{strange[0][:80]}`",
                    ("data", part, index, "source"),
                    f'write `roles = {{ assistant = "{strange[0][:40]}" }}` if that is what it is',
                    note=f"known roles: {', '.join(sorted(known))}",
                )


def unknown_role_key(c: Context) -> Iterator[Diagnostic]:
    """FTC522"""
    known = load_words()["roles"]["known"]
    for part, index, row in c.recipe.data.sources():
        if row.roles and row.format not in ("chat", "sharegpt"):
            message = f"rows of format `{row.format}` have no roles"
            yield c.error("FTC522", message, ("data", part, index, "roles"), "remove `roles`")
            continue
        for name in row.roles or {}:
            if name not in known:
                at = ("data", part, index, "roles", name)
                yield c.wrong_key("FTC522", f"there is no role `{name[:80]}` to map to", at, *did_you_mean(name, known))


def roles_disagree(c: Context) -> Iterator[Diagnostic]:
    """FTC523"""
    seen: dict[str, str] = {}
    for part, index, row in c.recipe.data.sources():
        for ours, theirs in (row.roles or {}).items():
            if seen.setdefault(theirs, ours) != ours:
                yield c.error(
                    "FTC523",
                    f"role `{theirs[:40]}` is mapped to `{seen[theirs]}` in one source and to `{ours[:40]}` in another",
                    ("data", part, index, "roles", ours),
                    "give the same role the same meaning in all sources",
                )


def long_names(c: Context) -> Iterator[Diagnostic]:
    """FTC524"""
    for part, index, row in c.recipe.data.sources():
        for table in ("columns", "roles"):
            for ours, theirs in (getattr(row, table) or {}).items():
                if not 1 <= len(theirs) <= _LONGEST_NAME or not theirs.isprintable():
                    yield c.error(
                        "FTC524",
                        f"a name in `{table}` has 1 to {_LONGEST_NAME} printable characters",
                        ("data", part, index, table, ours),
                        "rename it in the data",
                    )


def template_without_markers(c: Context) -> Iterator[Diagnostic]:
    """FTC516"""
    if c.settings.loss_on != "assistant":
        return
    template = c.facts.template_file
    name = c.settings.chat_template
    unmarked_file = template is not None and not _GENERATION.search(template[1])
    stack = c.facts.stack
    marked = (*stack.training_families, *stack.marked_families)
    unmarked_family = name in stack.template_families and name not in marked
    marks = template_marks(c.facts.model.id)
    unmarked_own = name == "auto" and _is_chat(c) and marks is not None and not marks.own
    if unmarked_file or unmarked_family or unmarked_own:
        yield c.error(
            "FTC516",
            "the tokenizer's own chat template does not mark which tokens are the assistant's"
            if unmarked_own
            else f"template `{name}` does not mark which tokens are the assistant's",
            ("method", "loss_on") if unmarked_own else ("model", "chat_template"),
            'write `loss_on = "completion"`, which trains the last answer of each row',
            "or put `{% generation %}` ... `{% endgeneration %}` round the assistant's text and its terminator",
        )


def bad_new_tokens(c: Context) -> Iterator[Diagnostic]:
    """FTC517"""
    seen: set[str] = set()
    for index, token in enumerate(c.settings.new_tokens):
        fault = "is there twice" if token in seen else "" if token.strip() == token and token else "has blanks round it"
        seen.add(token)
        if fault:
            yield c.error(
                "FTC517",
                f"new token `{token[:80]}` {fault}",
                ("model", "new_tokens", index),
                "remove or mend it",
            )


def system_prompt_without_chat(c: Context) -> Iterator[Diagnostic]:
    """FTC518"""
    if c.settings.system_prompt is not None and c.recipe.data.train[0].format not in CHAT_FORMATS:
        yield c.error(
            "FTC518",
            f"rows of format `{c.recipe.data.train[0].format}` have no place for a system prompt",
            ("data", "system_prompt"),
            "remove `system_prompt`, or use a chat format",
        )


def hub_keys_on_files(c: Context) -> Iterator[Diagnostic]:
    """FTC519"""
    for part, index, row in c.recipe.data.sources():
        for key in ("split", "revision"):
            if is_local(row) and getattr(row, key) not in (None, "train" if key == "split" else None):
                yield c.error(
                    "FTC519",
                    f"`{key}` picks from a data set on the hub, `{row.source[:80]}` is a file",
                    ("data", part, index, key),
                    f"remove `{key}`",
                )


def evaluation_without_rows(c: Context) -> Iterator[Diagnostic]:
    """FTC520"""
    fraction = c.settings.eval_fraction
    rows = c.train_rows
    if fraction is not None and rows is not None and rows - ceil(rows * fraction) < 1:
        yield c.error(
            "FTC520",
            f"{fraction:g} of {rows} row{'s' if rows > 1 else ''}, rounded up, leaves nothing to train on",
            ("data", "eval_fraction"),
            "write a smaller `eval_fraction`" if rows > 2 else "name `[[data.eval]]`, or remove `eval_fraction`",
        )


RULES = (
    base_without_template,
    longer_than_context,
    packing_leaks,
    packing_attention,
    loss_without_roles,
    mixed_formats,
    unknown_column_key,
    missing_column,
    unknown_roles,
    unknown_role_key,
    roles_disagree,
    long_names,
    template_without_markers,
    bad_new_tokens,
    system_prompt_without_chat,
    hub_keys_on_files,
    evaluation_without_rows,
)

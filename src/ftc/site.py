"""`--site`: facts of the place where a bundle will run."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ftc.diagnostic import Diagnostic, did_you_mean
from ftc.source import Source

_WORD = r"^[A-Za-z0-9][A-Za-z0-9._,:+/-]{0,127}$"
Word = Annotated[str, Field(pattern=_WORD)]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True)


class SlurmTable(_Table):
    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    time: Annotated[str, Field(pattern=r"^(\d{1,3}-)?\d{1,3}(:\d{2}){0,2}$")] | None = None
    cpus_per_gpu: Annotated[int, Field(ge=1, le=512)] | None = None
    gpu_type: Word | None = None
    modules: Annotated[tuple[Word, ...], Field(strict=False)] = ()


class PathsTable(_Table):
    data: str | None = Field(None, description="folder that holds data files too large for the bundle")
    cache: str | None = Field(None, description="shared Hugging Face cache")


class NodeTable(_Table):
    memory_gib: Annotated[int, Field(ge=1)] | None = None


class PriceTable(_Table):
    gpu_hour: Annotated[float, Field(gt=0)] | None = None


class Site(_Table):
    """The facts of one place, each optional."""

    slurm: SlurmTable = SlurmTable()
    paths: PathsTable = PathsTable()  # type: ignore[call-arg]
    node: NodeTable = NodeTable()
    price: PriceTable = PriceTable()
    environment: dict[EnvName, str] = {}


def load_site(source: Source) -> tuple[Site | None, tuple[Diagnostic, ...]]:
    """Returns the site, or None and all that is wrong with the file."""
    try:
        return Site.model_validate(dict(source.data)), ()
    except ValidationError as error:
        return None, tuple(_translate(source, tuple(e["loc"]), e["type"], e["msg"]) for e in error.errors())


def _translate(source: Source, loc: tuple[str | int, ...], kind: str, message: str) -> Diagnostic:
    path = tuple(part for part in loc if part != "[key]")
    name = str(path[-1])
    if kind == "extra_forbidden":
        fields = Site.model_fields if len(path) == 1 else _fields_of(str(path[0]))
        return Diagnostic(
            code="FTC101",
            severity="error",
            message=f"unknown key `{name}` in the site file",
            span=source.key(*path),
            hints=did_you_mean(name, list(fields), limit=20),
        )
    return Diagnostic(
        code="FTC116",
        severity="error",
        message=f"`{name}` in the site file cannot be used: {message[:1].lower()}{message[1:]}",
        span=source.value(*path),
        hints=("plain words only: letters, digits and . _ , : + / -",),
    )


def _fields_of(table: str) -> dict[str, object]:
    annotation = Site.model_fields[table].annotation if table in Site.model_fields else None
    return dict(getattr(annotation, "model_fields", {}))

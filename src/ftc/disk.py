"""Writing a bundle: whole or not at all, never over a hand's edit, never losing what else is in the folder."""

import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from ftc.diagnostic import Diagnostic
from ftc.emit import Bundle
from ftc.emit.bundle import EXECUTABLE

MANIFEST = "MANIFEST.sha256"


def compare_bundle(bundle: Bundle, folder: Path) -> tuple[Diagnostic, ...]:
    """Returns FTC703 for every file of the bundle on disk that is not what would be written."""
    planned = _digests(bundle)
    present = _read_manifest(folder)
    changed = [f"{path} differs" for path in sorted(planned) if _digest(folder / path) not in (planned[path], None)]
    missing = [f"{path} is missing" for path in sorted(planned) if _digest(folder / path) is None]
    extra = [f"{path} is not part of it any more" for path in sorted(set(present) - set(planned))]
    faults = [*missing, *changed, *extra]
    if not faults:
        return ()
    return (
        Diagnostic(
            code="FTC703",
            severity="error",
            message=f"the bundle in `{folder}` is not up to date",
            notes=tuple(faults[:20]),
            hints=("compile without `--check` and commit the result",),
        ),
    )


def write_bundle(bundle: Bundle, folder: Path, beside: Path, *, force: bool) -> tuple[Diagnostic, ...]:
    """Writes the bundle into `folder`; returns why not where it would overwrite what ftc did not write."""
    _finish_interrupted(folder)
    if folder.exists() and not force:
        faults = tuple(_hand_edits(bundle, folder))
        if faults:
            return faults
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    for path, text in bundle.texts.items():
        _write(new / path, text.encode(), executable=path in EXECUTABLE)
    for path, (name, _) in bundle.copies.items():
        _write(new / path, (beside / name).read_bytes(), executable=False)
    _swap(new, folder)
    return ()


def _write(path: Path, raw: bytes, *, executable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    path.chmod(0o755 if executable else 0o644)


def _swap(new: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    _finish_interrupted(folder)


def _finish_interrupted(folder: Path) -> None:
    """Brings back what is not the bundle's (runs, logs, an environment) from the folder that was set aside."""
    old = folder.with_name(f".{folder.name}.old")
    if not old.exists():
        return
    if not folder.exists():
        old.rename(folder)
        return
    ours = set(_read_manifest(old)) | {MANIFEST}
    for root, _, names in os.walk(old):
        for name in names:
            path = Path(root, name)
            relative = path.relative_to(old)
            if relative.as_posix() not in ours and not (folder / relative).exists():
                (folder / relative).parent.mkdir(parents=True, exist_ok=True)
                path.rename(folder / relative)
    shutil.rmtree(old)


def _hand_edits(bundle: Bundle, folder: Path) -> Iterator[Diagnostic]:
    if not folder.is_dir():
        yield _fault("FTC702", f"`{folder}` is a file", (), "choose another folder with `-o`")
        return
    manifest = _read_manifest(folder)
    if not manifest and any(folder.iterdir()):
        yield _fault(
            "FTC702",
            f"`{folder}` holds something that is no bundle",
            (),
            "choose another folder with `-o`, or `--force`",
        )
        return
    edited = [p for p, digest in manifest.items() if _digest(folder / p) not in (digest, None)]
    edited += [p for p in _digests(bundle) if p not in manifest and p != MANIFEST and (folder / p).exists()]
    if edited:
        notes = tuple(f"{path} was changed since it was compiled" for path in sorted(edited)[:20])
        hint = "carry the edit over into the recipe, or overwrite it with `--force`"
        yield _fault("FTC701", f"the bundle in `{folder}` was edited by hand", notes, hint)


def _fault(code: str, message: str, notes: tuple[str, ...], hint: str) -> Diagnostic:
    return Diagnostic(code=code, severity="error", message=message, notes=notes, hints=(hint,))


def _digests(bundle: Bundle) -> dict[str, str]:
    texts = {path: sha256(text.encode()).hexdigest() for path, text in bundle.texts.items()}
    return {**texts, **{path: digest for path, (_, digest) in bundle.copies.items()}}


def _digest(path: Path) -> str | None:
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _read_manifest(folder: Path) -> dict[str, str]:
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    pairs = (line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines() if "  " in line)
    return {name: digest for digest, name in pairs}

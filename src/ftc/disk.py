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
_SHOWN_FAULTS = 20
_SHOWN_PATH = 200


def compare_bundle(bundle: Bundle, folder: Path) -> tuple[Diagnostic, ...]:
    """Returns FTC703 with every file of the bundle on disk that is not what would be written."""
    planned, present = _digests(bundle), _read_manifest(folder)
    missing = [f"{path} is missing" for path in sorted(planned) if _digest(folder / path) is None]
    changed = [f"{path} differs" for path in sorted(planned) if _digest(folder / path) not in (planned[path], None)]
    extra = [f"{path} is not part of it any more" for path in sorted(set(present) - set(planned))]
    modes = [f"{path} cannot be executed" for path in sorted(EXECUTABLE) if _lacks_mode(folder / path)]
    faults = (*missing, *changed, *extra, *modes)
    hint = "compile without `--check` and commit the result"
    message = f"the bundle in `{folder}` is not up to date"
    return (_fault("FTC703", message, faults[:_SHOWN_FAULTS], hint),) if faults else ()


def write_bundle(bundle: Bundle, folder: Path, beside: Path, *, force: bool) -> tuple[Diagnostic, ...]:
    """Writes the bundle into `folder`; returns why not where it would overwrite what ftc did not write.

    `beside` is the recipe's folder, where the carried files come from. A link to a folder is followed.
    """
    try:
        place = folder.resolve()
        faults = tuple(_no_place(folder, place, beside.resolve()))
        if faults:
            return faults
        _finish_interrupted(place)
        faults = () if force or not place.exists() else tuple(_hand_edits(bundle, folder, place))
        if not faults:
            _replace_folder(bundle, place, beside)
    except OSError as error:
        message = f"cannot write `{_short(folder)}`: {error.strerror or type(error).__name__}"
        return (_fault("FTC704", message, (), "choose another folder with `-o`"),)
    return faults


def _no_place(folder: Path, place: Path, beside: Path) -> Iterator[Diagnostic]:
    """Yields FTC702 for what can never become a bundle: a file, and a folder that we stand in."""
    hint = "choose another folder with `-o`"
    if place.is_file():
        yield _fault("FTC702", f"`{_short(folder)}` is a file", (), hint)
    elif any(inner == place or place in inner.parents for inner in (beside, Path.cwd())):
        yield _fault("FTC702", f"`{_short(folder)}` holds the recipe or the working folder", (), hint)


def _short(folder: Path) -> str:
    return str(folder)[:_SHOWN_PATH]


def _replace_folder(bundle: Bundle, place: Path, beside: Path) -> None:
    """Writes all files into a new folder, then swaps it in; what is not the bundle's moves over."""
    new = place.with_name(f".{place.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    for path, text in bundle.texts.items():
        _write(new / path, text.encode(), executable=path in EXECUTABLE)
    for path, (name, _) in bundle.copies.items():
        _write(new / path, (beside / name).read_bytes(), executable=False)
    if place.exists():
        place.rename(place.with_name(f".{place.name}.old"))
    new.rename(place)
    _finish_interrupted(place)


def _write(path: Path, raw: bytes, *, executable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    path.chmod(0o755 if executable else 0o644)


def _finish_interrupted(place: Path) -> None:
    """Ends a swap: brings back from the old folder what is not the bundle's (runs, logs, an environment)."""
    old = place.with_name(f".{place.name}.old")
    if not old.exists():
        return
    if not place.exists():
        old.rename(place)
        return
    ours = {Path(path) for path in _read_manifest(old)} | {Path(MANIFEST)}
    ours |= {parent for path in ours for parent in path.parents}
    _bring_back(old, place, ours, Path())
    shutil.rmtree(old)


def _bring_back(old: Path, place: Path, ours: set[Path], below: Path) -> None:
    """Moves every entry that is not ours; goes into folders that both have, or that hold something of ours."""
    for entry in sorted((old / below).iterdir()):
        path = below / entry.name
        target = place / path
        is_folder = entry.is_dir() and not entry.is_symlink()
        if is_folder and (path in ours or target.is_dir()):
            _bring_back(old, place, ours, path)
        elif path not in ours and not target.exists() and not target.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            entry.rename(target)


def _hand_edits(bundle: Bundle, folder: Path, place: Path) -> Iterator[Diagnostic]:
    manifest = _read_manifest(place)
    if not manifest and any(place.iterdir()):
        hint = "choose another folder with `-o`, or `--force`"
        yield _fault("FTC702", f"`{_short(folder)}` holds something that is no bundle", (), hint)
        return
    edited = [p for p, digest in manifest.items() if _digest(place / p) not in (digest, None)]
    edited += [p for p in _digests(bundle) if p not in manifest and p != MANIFEST and (place / p).exists()]
    if edited:
        notes = tuple(f"{path} was changed since it was compiled" for path in sorted(edited)[:_SHOWN_FAULTS])
        hint = "carry the edit over into the recipe, or overwrite it with `--force`"
        yield _fault("FTC701", f"the bundle in `{_short(folder)}` was edited by hand", notes, hint)


def _fault(code: str, message: str, notes: tuple[str, ...], hint: str) -> Diagnostic:
    return Diagnostic(code=code, severity="error", message=message, notes=notes, hints=(hint,))


def _lacks_mode(path: Path) -> bool:
    return path.is_file() and not os.access(path, os.X_OK)


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

"""Opens what `--host` is given: tells records, sos reports and plain trees apart, and says what is none of them."""

from __future__ import annotations

import lzma
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidegate.errors import BadInput, Lacking, TidegateError
from tidegate.host import sos
from tidegate.host.archive import folder_files, from_files, tar_files
from tidegate.host.live import read_tree
from tidegate.host.record import MANIFEST, Record
from tidegate.host.tar_stream import next_member, open_tar


def open_record(path: Path) -> Record:
    """A record or an sos report from a directory or an archive.

    Raises BadInput (file, place, found, expected) for anything that is neither; Lacking where it may not be read.
    """
    name = str(path)
    with _reading(name):
        if path.is_dir():
            if (path / MANIFEST).is_file():
                return from_files(name, folder_files(path))
            if sos.looks_like_folder(path):
                return sos.from_folder(path)
            if (path / "proc").is_dir() and (path / "sys").is_dir():
                return read_tree(path)
            raise BadInput(
                name, "", f"a directory without {MANIFEST}", "a record, an sos report or a sysroot"
            )
        if not path.exists():
            raise BadInput(name, "", "no such file", "a record (directory or .tar.xz) or an sos report")
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadInput(name, "", "no regular file", "a record (directory or .tar.xz) or an sos report")
        with path.open("rb") as raw, open_tar(name, raw) as tar:
            first = next_member(name, tar)
            if first is not None and sos.looks_like_member(first.name):
                return sos.from_tar(name, first, tar)
            return from_files(name, tar_files(name, first, tar))


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise Lacking(
            f"{name}: may not be read ({error.strerror}); read it as its owner or as root"
        ) from None
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInput(name, "", str(error.strerror), "a record or an sos report") from None
    except (lzma.LZMAError, zlib.error, EOFError) as error:
        raise BadInput(name, "", f"a damaged archive ({error})", "a whole archive") from None
    except OSError as error:
        if isinstance(error, TidegateError):
            raise
        raise BadInput(name, "", error.strerror or str(error), "a readable record or sos report") from None

"""Where the files of a collection lie: in a folder or in a zip that is read in place, never unpacked."""

import hashlib
import os
import shutil
import tempfile
import threading
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from inkwash.data.picture import VOLUMES, Picture, Unreadable, decode
from inkwash.errors import WrongUse

# One file of an archive may unpack to this much; a bomb promises kilobytes and delivers gigabytes.
_LARGEST = 1 << 30


class Source(ABC):
    """A place with named files. Names are relative and use "/"."""

    kind: str

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path, self.names = path, names

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The bytes of one file, or `Unreadable`."""

    def start(self, name: str, length: int) -> bytes:
        """The first bytes of a file; fewer where it is shorter, none where it can't be read."""
        return b""

    def local(self, name: str) -> Path:
        """Where the file lies on this machine, for libraries that open it themselves, or `Unreadable`."""
        raise Unreadable("is no file of its own")

    def forget(self, name: str) -> None:  # noqa: B027 (what lies in a folder stays there)
        """Nobody needs what `local` said of the file any more."""

    def digest(self, name: str) -> str:
        """A hash of the file's bytes, or `Unreadable`."""
        try:
            with self.local(name).open("rb") as file:
                return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        except PermissionError as error:
            raise Unreadable("may not be read (no permission)") from error
        except OSError as error:
            raise Unreadable(f"cannot be read ({error.strerror or error})") from error

    def picture(self, name: str, *, mask: bool = False) -> Picture:
        """The decoded picture, or `Unreadable`."""
        if name.lower().endswith(VOLUMES):
            raise Unreadable("is a volume or DICOM file: only 2-D pictures are read")
        return decode(self.read(name), mask=mask)


class Folder(Source):
    """A folder at any depth; links to folders are followed, hidden files are not seen."""

    kind = "folder"

    def __init__(self, path: Path) -> None:
        super().__init__(path, sorted(_walk(path)))

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except PermissionError as error:
            raise Unreadable("may not be read (no permission)") from error
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise Unreadable("does not exist") from error
        except OSError as error:
            raise Unreadable(f"cannot be read ({error.strerror or error})") from error

    def start(self, name: str, length: int) -> bytes:
        try:
            with (self.path / name).open("rb") as file:
                return file.read(length)
        except OSError:
            return b""

    def local(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise Unreadable("does not exist")
        return path


class File(Folder):
    """A file by itself; what lies beside it is not looked at."""

    kind = "file"

    def __init__(self, path: Path) -> None:
        Source.__init__(self, path.parent, [path.name])


class Archive(Source):
    """A zip, read in place; what `local` unpacks is removed with it."""

    kind = "zip"

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except PermissionError as error:
            raise WrongUse(f"{path}: may not be read (no permission)") from error
        except (zipfile.BadZipFile, OSError) as error:
            raise WrongUse(f"{path}: is damaged or no zip archive") from error
        files = {i.filename: i for i in self._zip.infolist() if not i.is_dir()}
        super().__init__(path, sorted(n for n in files if not _hidden(n)))
        self._files = files
        self._unpacked: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()

    def start(self, name: str, length: int) -> bytes:
        try:
            with self._zip.open(self._checked(name)) as file:
                return file.read(length)
        except Exception:  # as of `read`
            return b""

    def local(self, name: str) -> Path:
        info = self._checked(name)
        with self._lock:
            self._unpacked = self._unpacked or tempfile.TemporaryDirectory(prefix="inkwash-")
        path = Path(self._unpacked.name) / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}")
            try:
                with self._zip.open(info) as packed, draft.open("wb") as file:
                    shutil.copyfileobj(packed, file)
            except OSError as error:
                raise Unreadable(f"cannot be unpacked ({error.strerror or error})") from error
            except Exception as error:  # as of `read`
                raise Unreadable("is damaged inside the archive") from error
            draft.rename(path)
        return path

    def forget(self, name: str) -> None:
        if self._unpacked is not None:
            (Path(self._unpacked.name) / name).unlink(missing_ok=True)

    def read(self, name: str) -> bytes:
        info = self._checked(name)
        try:
            with self._zip.open(info) as file:
                data = file.read(_LARGEST + 1)
        except Exception as error:  # zlib.error, BadZipFile, EOFError and their kin share no base class
            raise Unreadable("is damaged inside the archive") from error
        if len(data) > _LARGEST:
            raise Unreadable("unpacks to more than it declares (a zip bomb?)")
        return data

    def _checked(self, name: str) -> zipfile.ZipInfo:
        info = self._files.get(name)
        if info is None:
            raise Unreadable("does not exist")
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or parts[0] == "/" or ":" in parts[0]:
            raise Unreadable("has a name that leads out of the archive")
        if info.flag_bits & 1:
            raise Unreadable("is encrypted")
        if info.file_size > _LARGEST:
            raise Unreadable(f"unpacks to {info.file_size / 2**30:.1f} GiB (a zip bomb?)")
        return info


def _hidden(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in parts)


def _walk(top: Path) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise WrongUse(f"{error.filename}: may not be read ({(error.strerror or 'error').lower()})") from error

    seen = set()
    for folder, folders, files in os.walk(top, onerror=refuse, followlinks=True):
        status = os.stat(folder)
        # A link may lead back to where we came from.
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        for file in files:
            if not file.startswith("."):
                yield (Path(folder) / file).relative_to(top).as_posix()


def source_of(path: Path) -> Source:
    """What lies at a path: a folder, a zip, or one file.

    Raises:
        WrongUse: nothing does, or it may not be read.
    """
    try:
        if path.is_dir():
            return Folder(path)
        if not path.exists():
            raise WrongUse(f"{path}: no such file or folder")
    except PermissionError as error:
        raise WrongUse(f"{path}: may not be read (permission denied)") from error
    return Archive(path) if path.suffix.lower() == ".zip" else File(path)

r"""The command `mcp-server-claude` on a simulated Windows, for what can be proved of it elsewhere.

    python simulated_windows.py ARGUMENT…     the command with these arguments
    python simulated_windows.py -c PROGRAM    a program that may import the package

Modules of the package see Python's modules as Windows has them: `sys.platform`, `os` without POSIX, `ntpath`, paths of
`C:\` (the root of this file system), no `fcntl`, `pwd`, `resource` or `termios`, the signals and the event loop of
Windows, `\r\n` and code page 1252 where nothing else is asked for, and no database of time zones. The file system
ignores case and neither replaces nor deletes a file that this process has open. A descriptor of `os.open` without
`O_BINARY` translates the ends of lines. Python itself and other people's packages stay those of this system; what they
open may be named by a path of `C:\`.

What Windows itself does is not simulated: consoles, access control lists, sockets, and SQLite's locks.
"""

from __future__ import annotations

import asyncio
import builtins
import errno
import functools
import importlib.machinery
import io
import ntpath
import os
import pathlib
import re
import select
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
import types
import zoneinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import platformdirs.windows
import typer.main

if sys.platform != "win32":  # the tests are collected there too
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PACKAGE = "mcp_server_claude"
CODE_PAGE = "cp1252"
INVALID_NAME, NOT_A_SOCKET = 123, 10038
"""Error numbers of Windows."""
O_BINARY = 1 << 40
"""A bit that no flag of this system has."""
SIGBREAK = 21
PROFILE_VARIABLES = ("APPDATA", "LOCALAPPDATA", "SYSTEMROOT", "USERPROFILE")
SOCKET_ERRORS = frozenset((errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ECONNREFUSED, errno.ECONNRESET))
"""Errors with numbers of their own on Windows, which its C library does not know."""
MISSING_MODULES = frozenset(
    ("fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty", "uvloop")
)
_POSIX_OS_NAMES = """
    O_ASYNC O_CLOEXEC O_DIRECT O_DIRECTORY O_DSYNC O_LARGEFILE O_NDELAY O_NOATIME O_NOCTTY O_NOFOLLOW O_NONBLOCK O_PATH
    O_RSYNC O_SYNC O_TMPFILE WCONTINUED WEXITED WNOHANG WUNTRACED chown chroot confstr ctermid fchdir fchmod fchown
    fdatasync fork forkpty fpathconf fstatvfs getegid geteuid getgid getgrouplist getgroups getloadavg getpgid getpgrp
    getpriority getresgid getresuid getsid getuid getxattr initgroups killpg lchown listxattr lockf major makedev
    memfd_create minor mkfifo mknod nice openpty pathconf pipe2 posix_fadvise posix_fallocate posix_spawn pread preadv
    pwrite pwritev readv register_at_fork sched_getaffinity sched_setaffinity sched_yield sendfile setegid seteuid
    setgid setgroups setpgid setpriority setregid setresgid setresuid setreuid setsid setuid setxattr statvfs sync
    sysconf tcgetpgrp tcsetpgrp ttyname uname wait wait3 wait4 waitid writev
"""
_WINDOWS_SIGNAL_NAMES = """
    Handlers SIGABRT SIGFPE SIGILL SIGINT SIGSEGV SIGTERM SIG_DFL SIG_IGN Signals default_int_handler getsignal
    raise_signal set_wakeup_fd signal strsignal
"""
POSIX_OS_NAMES = frozenset(_POSIX_OS_NAMES.split())
WINDOWS_SIGNAL_NAMES = frozenset(_WINDOWS_SIGNAL_NAMES.split())
POSIX_TIME_NAMES = frozenset(name for name in dir(time) if name.startswith(("CLOCK_", "clock_", "pthread_", "tzset")))
POSIX_SOCKET_NAMES = frozenset(
    ("AF_UNIX", "CMSG_LEN", "CMSG_SPACE", "MSG_DONTWAIT", "MSG_NOSIGNAL", "SCM_RIGHTS", "SO_REUSEPORT", "sethostname")
)
_REAL_OPEN = io.open
_REAL_STAT = os.stat
_REAL_POPEN = subprocess.Popen.__init__


# --------------------------------------------------------------------- paths


def windows_path(path: str | os.PathLike[str]) -> str:
    r"""An absolute path of this system as one below `C:\`."""
    text = os.fspath(path)
    return "C:" + text.replace("/", "\\") if text.startswith("/") else text


def _real_path(path: Any) -> Any:
    r"""The path of this system for one of Windows, whose case need not be that of the files; all else as it is."""
    text = cast("Any", os.fspath(path) if hasattr(path, "__fspath__") else path)
    if not isinstance(text, str) or not ("\\" in text or re.match(r"[A-Za-z]:", text) or text.lower() == "nul"):
        return path
    if text.lower() == "nul":
        return "/dev/null"
    found = re.sub(r"^[Cc]:", "", text.removeprefix("\\\\?\\")).replace("\\", "/")
    if set(found) & set(':*?"<>|'):
        error = OSError(errno.EINVAL, "The filename, directory name, or volume label syntax is incorrect", text)
        cast("Any", error).winerror = INVALID_NAME
        raise error
    return found if _is_present(found) else _with_case_of_files(found)


def _is_present(path: str) -> bool:
    try:
        _REAL_STAT(path, follow_symlinks=False)
    except OSError:
        return False
    return True


def _with_case_of_files(path: str) -> str:
    parts = path.split("/")
    for index, part in enumerate(parts):
        parent = "/".join(parts[:index]) or ("/" if path.startswith("/") else ".")
        if not part or _is_present("/".join(parts[: index + 1])):
            continue
        try:
            names = _LIST(parent)
        except OSError:
            break
        parts[index] = next((name for name in names if name.lower() == part.lower()), part)
    return "/".join(parts)


_LIST = os.listdir


def _understanding_windows_paths(function: Any) -> Any:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return function(*map(_real_path, arguments), **{name: _real_path(value) for name, value in named.items()})

    return call


def _refusing_open_files(function: Any) -> Any:
    """Windows does not rename, replace or delete a file that is open without FILE_SHARE_DELETE, as Python opens it."""

    @functools.wraps(function)
    def call(*paths: Any, **named: Any) -> Any:
        if not any(value is not None for value in named.values()):
            for path in paths:
                if not isinstance(path, int) and _is_open(path):
                    raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))
        return function(*paths, **named)

    return call


def _is_open(path: Any) -> bool:
    try:
        status = _REAL_STAT(path, follow_symlinks=False)
    except OSError:
        return False
    for descriptor in _LIST("/proc/self/fd"):
        try:
            if stat.S_ISREG(status.st_mode) and os.path.samestat(status, os.fstat(int(descriptor))):
                return True
        except OSError:
            continue
    return False


class WindowsPath(pathlib.Path, pathlib.PureWindowsPath):  # pyright: ignore[reportGeneralTypeIssues]
    """`pathlib.Path` of Windows."""

    __slots__ = ()

    def __new__(cls, *arguments: Any, **_: Any) -> Any:
        if sys.version_info < (3, 12):
            return cast("Any", cls)._from_parts(arguments)
        return object.__new__(cls)

    @classmethod
    def cwd(cls) -> Any:
        return cls(windows_path(Path.cwd()))

    @classmethod
    def home(cls) -> Any:
        return cls(os.environ["USERPROFILE"])

    def absolute(self) -> Any:
        return type(self)(_absolute_path(str(self)))

    def resolve(self, strict: bool = False) -> Any:  # noqa: FBT001, FBT002 - its own signature
        return type(self)(_windows_realpath(str(self), strict=strict))

    def expanduser(self) -> Any:
        return type(self)(ntpath.expanduser(str(self)))

    def open(self, *arguments: Any, **named: Any) -> Any:
        return windows_open(str(self), *arguments, **named)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(cls)


def _absolute_path(path: Any) -> str:
    return ntpath.normpath(ntpath.join(windows_path(Path.cwd()), str(path)))


def _windows_realpath(path: Any, *, strict: bool = False) -> str:
    return windows_path(os.path.realpath(_real_path(_absolute_path(path)), strict=strict))


# --------------------------------------------------------------------- files


def windows_open(
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    **more: Any,
) -> Any:
    """`open` with the encoding and the ends of lines of Windows."""
    if "b" in mode:
        return _REAL_OPEN(_real_path(file), mode, buffering, **more)
    if encoding in (None, "locale"):
        encoding = CODE_PAGE
    if newline is None and mode.strip("t+") in {"w", "a", "x"}:
        newline = "\r\n"
    return _REAL_OPEN(_real_path(file), mode, buffering, encoding, errors, newline, **more)


class TextDescriptors:
    r"""Descriptors that were opened without O_BINARY: `\n` is written as `\r\n`, and read back; Ctrl-Z ends a file."""

    def __init__(self) -> None:
        self._descriptors: set[int] = set()

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None:
            raise NotImplementedError("dir_fd unavailable on this platform")
        if Path(_real_path(path)).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", path)
        descriptor = os.open(path, flags & ~O_BINARY, mode)
        self._descriptors.discard(descriptor)
        if not flags & O_BINARY:
            self._descriptors.add(descriptor)
        return descriptor

    def dup(self, descriptor: int) -> int:
        copy = os.dup(descriptor)
        self._descriptors.discard(copy)
        if descriptor in self._descriptors:
            self._descriptors.add(copy)
        return copy

    def close(self, descriptor: int) -> None:
        self._descriptors.discard(descriptor)
        os.close(descriptor)

    def read(self, descriptor: int, size: int) -> bytes:
        data = os.read(descriptor, size)
        return data.replace(b"\r\n", b"\n").partition(b"\x1a")[0] if descriptor in self._descriptors else data

    def write(self, descriptor: int, data: Any) -> int:
        if descriptor not in self._descriptors:
            return os.write(descriptor, data)
        translated = bytes(data).replace(b"\n", b"\r\n")
        while translated:
            translated = translated[os.write(descriptor, translated) :]
        return len(data)

    def fdopen(self, descriptor: int, *arguments: Any, **named: Any) -> Any:
        self._descriptors.discard(descriptor)
        return windows_open(descriptor, *arguments, **named)


def lock_byte(descriptor: int, mode: int, size: int) -> None:
    """`msvcrt.locking`: a lock of one handle against all others."""
    assert size > 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_UN if mode == 0 else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


# --------------------------------------------------------------------- Python's modules, as the package sees them


class ModuleView(types.ModuleType):
    """A module with some attributes replaced and some missing; everything else is the module's own."""

    def __init__(self, module: types.ModuleType, missing: frozenset[str] = frozenset(), **replaced: Any) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(replaced)
        self.__dict__["_module"], self.__dict__["_missing"] = module, missing

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__["_missing"]:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} on Windows")
        return getattr(self.__dict__["_module"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_module"], name, value)


def _unsupported(*_: Any, **__: Any) -> Any:
    raise NotImplementedError


def _select_sockets(readers: Any, writers: Any, others: Any, timeout_s: float | None = None) -> Any:
    for each in (*readers, *writers, *others):
        if not stat.S_ISSOCK(os.fstat(each if isinstance(each, int) else each.fileno()).st_mode):
            raise OSError(NOT_A_SOCKET, "An operation was attempted on something that is not a socket")
    return select.select(readers, writers, others, timeout_s)


def _scan_directory(path: Any = ".") -> Any:
    if isinstance(path, int):
        raise TypeError("scandir: path should be string, bytes, os.PathLike or None, not int")
    return os.scandir(path)


def _error_text(number: int) -> str:
    return "Unknown error" if number in SOCKET_ERRORS else os.strerror(number)


def _user_data_path(name: str) -> Any:
    return WindowsPath(platformdirs.windows.Windows(name).user_data_dir)


def _os_view() -> ModuleView:
    descriptors = TextDescriptors()
    path = ModuleView(
        ntpath,
        abspath=_absolute_path,
        realpath=_windows_realpath,
        exists=os.path.exists,
        isfile=os.path.isfile,
        isdir=os.path.isdir,
        islink=os.path.islink,
        lexists=os.path.lexists,
    )
    return ModuleView(
        os,
        POSIX_OS_NAMES,
        name="nt",
        sep="\\",
        altsep="/",
        pathsep=";",
        linesep="\r\n",
        devnull="nul",
        path=path,
        O_BINARY=O_BINARY,
        supports_dir_fd=set[Any](),
        supports_fd=set[Any](),
        strerror=_error_text,
        getcwd=lambda: windows_path(Path.cwd()),
        scandir=_scan_directory,
        open=descriptors.open,
        dup=descriptors.dup,
        close=descriptors.close,
        read=descriptors.read,
        write=descriptors.write,
        fdopen=descriptors.fdopen,
    )


def _module_views() -> Mapping[str, types.ModuleType]:
    os_view = _os_view()
    signals = frozenset(dir(signal)) - WINDOWS_SIGNAL_NAMES
    missing_select = frozenset(("poll", "epoll", "kqueue", "devpoll"))
    msvcrt = types.ModuleType("msvcrt")
    msvcrt.__dict__.update(LK_UNLCK=0, LK_LOCK=1, LK_NBLCK=2, locking=lock_byte)
    return {
        "os": os_view,
        "os.path": os_view.path,
        "sys": ModuleView(sys, platform="win32", executable=windows_path(sys.executable)),
        "pathlib": ModuleView(pathlib, Path=WindowsPath, PurePath=pathlib.PureWindowsPath, WindowsPath=WindowsPath),
        "platformdirs": ModuleView(platformdirs, user_data_path=_user_data_path, user_config_path=_user_data_path),
        "signal": ModuleView(signal, signals, SIGBREAK=SIGBREAK, CTRL_C_EVENT=0, CTRL_BREAK_EVENT=1),
        "select": ModuleView(select, missing_select, select=_select_sockets),
        "socket": ModuleView(socket, POSIX_SOCKET_NAMES),
        "time": ModuleView(time, POSIX_TIME_NAMES),
        "subprocess": ModuleView(
            subprocess, CREATE_NO_WINDOW=0x08000000, CREATE_NEW_PROCESS_GROUP=0x200, DETACHED_PROCESS=8
        ),
        "msvcrt": msvcrt,
    }


def _importer() -> Callable[..., Any]:
    views, real_import = _module_views(), builtins.__import__

    def import_on_windows(name: str, g: Any = None, lo: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if level == 0 and name.partition(".")[0] in MISSING_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if level == 0 and name in views:
            return views[name if fromlist else name.partition(".")[0]]
        return real_import(name, g, lo, fromlist, level)

    return import_on_windows


class WindowsLoader(importlib.machinery.SourceFileLoader):
    """Executes a module of the package with the builtins of Windows."""

    builtins_of_package: Mapping[str, Any] = {}

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__["__builtins__"] = dict(self.builtins_of_package)
        module.__file__ = windows_path(self.path)
        super().exec_module(module)


class PackageFinder:
    """Finds the modules of the package, for `sys.meta_path`."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, _target: object = None) -> Any:
        if name.partition(".")[0] != PACKAGE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.origin is not None:
            spec.loader = WindowsLoader(name, spec.origin)
        return spec


# --------------------------------------------------------------------- the process


def install() -> None:
    """Make this process one of Windows; before the package is imported, and for good."""
    for name in ("open", "stat", "lstat", "mkdir", "makedirs", "rmdir", "symlink", "readlink", "chmod", "utime"):
        setattr(os, name, _understanding_windows_paths(getattr(os, name)))
    for name in ("scandir", "listdir", "access", "chdir", "statvfs", "truncate", "link"):
        setattr(os, name, _understanding_windows_paths(getattr(os, name)))
    for name in ("unlink", "remove", "rename", "replace"):
        setattr(os, name, _understanding_windows_paths(_refusing_open_files(getattr(os, name))))
    io.open = builtins.open = _understanding_windows_paths(_REAL_OPEN)
    sqlite3.connect = _connect
    subprocess.Popen.__init__ = _start_process
    tempfile.mkstemp, tempfile.mkdtemp = _make_temporary_file(tempfile.mkstemp), _make_temporary_file(tempfile.mkdtemp)
    zoneinfo.reset_tzpath(())
    sys.modules["uvloop"] = cast("types.ModuleType", None)
    windows_directories = cast("Any", platformdirs.windows)
    windows_directories._resolve_win_folder = windows_directories.get_win_folder_from_env_vars
    cast("Any", typer.main).Path = WindowsPath
    loop_class = cast("Any", asyncio.SelectorEventLoop)
    loop_class.add_signal_handler = loop_class.remove_signal_handler = _unsupported
    loop_class.create_unix_server = loop_class.create_unix_connection = _unsupported
    for name in ("add_reader", "add_writer"):
        setattr(loop_class, name, _unsupported_in_package(getattr(loop_class, name)))
    WindowsLoader.builtins_of_package = vars(builtins) | {"__import__": _importer(), "open": windows_open}
    sys.meta_path.insert(0, cast("Any", PackageFinder))
    for stream in (sys.stdout, sys.stderr):
        cast("io.TextIOWrapper", stream).reconfigure(encoding=CODE_PAGE, newline="\r\n")
    cast("io.TextIOWrapper", sys.stdin).reconfigure(encoding=CODE_PAGE)


def _unsupported_in_package(method: Any) -> Any:
    def call(*arguments: Any) -> Any:
        caller = cast("Any", sys)._getframe(1)
        if caller.f_globals["__name__"].partition(".")[0] == PACKAGE:
            raise NotImplementedError
        return method(*arguments)

    return call


_REAL_CONNECT = sqlite3.connect


def _connect(database: Any, *arguments: Any, **named: Any) -> Any:
    is_uri = isinstance(database, str) and database.startswith("file:///C:/")
    real = database.replace("file:///C:/", "file:///") if is_uri else _real_path(database)
    return _REAL_CONNECT(real, *arguments, **named)


def _make_temporary_file(function: Any) -> Any:
    def call(suffix: Any = None, prefix: Any = None, dir: Any = None, *more: Any) -> Any:  # noqa: A002 - its signature
        made = function(suffix, prefix, _real_path(dir) if dir is not None else None, *more)
        if isinstance(made, str):
            return windows_path(made)
        descriptor, path = cast("tuple[int, str]", made)
        return descriptor, windows_path(path)

    return call


def _start_process(self: Any, args: Any, *more: Any, **options: Any) -> None:
    """Start a process; one of this interpreter with the package is on Windows too."""
    if options.pop("creationflags", 0) is None or options.get("preexec_fn") or options.get("pass_fds"):
        raise ValueError("preexec_fn and pass_fds are not supported on Windows platforms")
    command: list[Any] = [*cast("list[Any]", args)] if isinstance(args, (list, tuple)) else [args]
    if command[:3] == [windows_path(sys.executable), "-m", PACKAGE]:
        command = [sys.executable, __file__, *command[3:]]
        if options.get("env") is not None:  # the SDK's `get_default_environment` keeps these there
            options["env"] = {name: os.environ[name] for name in PROFILE_VARIABLES} | options["env"]
    options["cwd"] = _real_path(options.get("cwd"))
    _REAL_POPEN(self, [_real_path(each) for each in command], *more, **options)


def environment(home: Path, **fields: object) -> dict[str, str]:
    """The environment of a process on Windows: its directories below `home`, and these settings."""
    profile = windows_path(home)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "SYSTEMROOT": r"C:\Windows",
        "USERPROFILE": profile,
        "APPDATA": rf"{profile}\AppData\Roaming",
        "LOCALAPPDATA": rf"{profile}\AppData\Local",
        "PYTHONWARNINGS": "error::EncodingWarning",
    } | {
        f"MCP_CLAUDE_{name.upper()}": windows_path(value) if isinstance(value, Path) else str(value)
        for name, value in fields.items()
    }


def command(*arguments: str) -> list[str]:
    """The command line of `mcp-server-claude` on a simulated Windows."""
    return [sys.executable, __file__, *arguments]


def main() -> None:
    install()
    if sys.argv[1:2] == ["-c"]:
        program = compile(sys.argv[2], "<program>", "exec")
        exec(program, {"__name__": PACKAGE, "__builtins__": dict(WindowsLoader.builtins_of_package)})  # noqa: S102 - a program of a test
        return
    sys.argv[0] = PACKAGE
    __import__(f"{PACKAGE}.__main__", fromlist=["main"]).main()


if __name__ == "__main__":
    main()

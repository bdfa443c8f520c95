"""The wheel: its bytes, what is in it, and that pip installs it and it says what it lacks.

On machines with a GPU the device is hidden: the messages are those of a machine without one.
"""

from __future__ import annotations

import base64
import csv
import ensurepip
import hashlib
import importlib.util
import os
import re
import struct
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import library_needs
import marlin_moe
import pytest

WHEEL = Path(os.environ["MARLIN_MOE_WHEEL"]).absolute()

CALL = """
import marlin_moe

print(marlin_moe.__file__)
print(marlin_moe.library_path())
try:
    marlin_moe.silu_and_mul(None)
except marlin_moe.MarlinMoeError as error:
    print(type(error).__name__, error)
else:
    print("no error")
"""


def dependencies() -> list[str]:
    """Returns the folders that tvm-ffi and what it needs are in."""
    specs = [importlib.util.find_spec(name) for name in ("tvm_ffi", "typing_extensions")]
    return [str(Path(spec.origin or "").parent.parent) for spec in specs[:1] if spec] + [
        str(Path(spec.origin or "").parent) for spec in specs[1:] if spec
    ]


def run_python(folder: Path, code: str, **variables: str) -> list[str]:
    """Runs a program that finds the package in a folder only, and what the package needs where this
    test has it; returns the lines it prints."""
    environment = {"PATH": os.environ.get("PATH", ""), "CUDA_VISIBLE_DEVICES": "", **variables}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**environment, "PYTHONPATH": os.pathsep.join([str(folder), *dependencies()])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def pip() -> list[str]:
    """Returns how pip is started: the interpreter's own, or that of ensurepip."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    [bundled] = Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")
    return [sys.executable, str(bundled / "pip")]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip installed the wheel in, without any network."""
    folder = tmp_path_factory.mktemp("installed")
    command = [*pip(), "--isolated", "install", "--no-deps", "--no-index"]
    command += ["--disable-pip-version-check", "--no-compile", "--target", str(folder), str(WHEEL)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_the_name_says_what_it_runs_on() -> None:
    version = re.escape(marlin_moe.__version__)
    platform = r"manylinux_2_34_(x86_64|aarch64)"
    assert re.fullmatch(rf"marlin_moe-{version}-py3-none-{platform}\.whl", WHEEL.name)


def test_the_library_needs_no_more_than_the_name_says() -> None:
    with zipfile.ZipFile(WHEEL) as wheel:
        library = wheel.read("marlin_moe/libmarlin_moe_ffi.so")
        [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/NEEDS")]
        needs = wheel.read(name).decode().split()
    assert {"libtvm_ffi.so", "libcudart.so.13", "libc.so.6"} <= set(needs)
    # In whatever table a version stands, its text does.
    said = {text.decode() for text in re.findall(rb"\0(GLIBC_2[.\d]*|GLIBCXX_3[.\d]*)\0", library)}
    assert said
    assert said <= set(needs)
    assert max(int(text.split(".")[1]) for text in said if text.startswith("GLIBC_")) <= 34


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--glibc=2.34", "--cuda=13"], ""),
        (
            ["--glibc=2.34", "--cuda=12"],
            "needs libcudart.so.13; the wheel says CUDA 12: build with",
        ),
        (
            ["--glibc=2.28", "--cuda=13"],
            "needs GLIBC_2.32; machines with glibc 2.28 have GLIBC_2.28",
        ),
    ],
)
def test_a_library_that_needs_more_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str], complaint: str
) -> None:
    """An ELF file of three sections, made by hand: what needs what, and the names."""
    names = b"\0libcudart.so.13\0libc.so.6\0GLIBC_2.32\0GLIBC_PRIVATE\0GLIBCXX_3.4.9\0"
    runtime, libc, *versions = (
        names.index(text)
        for text in (b"libcudart", b"libc.so", b"GLIBC_2.32", b"GLIBC_PRIVATE", b"GLIBCXX")
    )
    dynamic = struct.pack("<QQQQQQ", 1, runtime, 1, libc, 0, 0)
    needed = struct.pack("<HHIII", 1, 3, libc, 16, 0)
    for i, version in enumerate(versions):
        needed += struct.pack("<IHHII", 0, 0, 2 + i, version, 16 if i < 2 else 0)
    parts = [(names, 3, 0, 0), (dynamic, 6, 0, 0), (needed, 0x6FFFFFFE, 0, 1)]
    body, sections = b"", b""
    for part, kind, link, info in parts:
        sections += struct.pack(
            "<IIQQQQIIQQ", 0, kind, 0, 0, 64 + len(body), len(part), link, info, 8, 0
        )
        body += part
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, 64 + len(body), 0, 64, 56, 0, 64, 3, 0)
    file = tmp_path / "library.so"
    file.write_bytes(header + body + sections)
    report = tmp_path / "NEEDS"
    code = library_needs.main([str(file), str(report), *options])
    assert code == (1 if complaint else 0)
    assert complaint in capfd.readouterr().err
    expected = ["libcudart.so.13", "libc.so.6", "GLIBCXX_3.4.9", "GLIBC_2.32", "GLIBC_PRIVATE"]
    assert report.read_text().split() == expected


def test_the_version_is_the_modules() -> None:
    text = Path(os.environ["MODULE_FILE"]).read_text(encoding="utf-8")
    module = re.search(r'^module\((?:.|\n)*?^    version = "(.+)",$', text, re.MULTILINE)
    assert module is not None
    assert module[1] == marlin_moe.__version__


def test_the_package_and_the_library_are_in_it() -> None:
    with zipfile.ZipFile(WHEEL) as wheel:
        names = wheel.namelist()
        assert wheel.testzip() is None
        assert wheel.read("marlin_moe/libmarlin_moe_ffi.so")[:4] == b"\x7fELF"
    folder = Path(marlin_moe.__file__).parent
    package = {f"marlin_moe/{file.relative_to(folder)}" for file in folder.rglob("*.py")}
    assert len(package) > 8
    assert {name for name in names if name.startswith("marlin_moe/")} == {
        *package,
        "marlin_moe/libmarlin_moe_ffi.so",
        "marlin_moe/py.typed",
    }
    assert len(names) == len(set(names))


def test_nothing_in_it_depends_on_when_and_where_it_was_built() -> None:
    with zipfile.ZipFile(WHEEL) as wheel:
        for entry in wheel.infolist():
            assert entry.date_time == (1980, 1, 1, 0, 0, 0), entry.filename
            assert entry.extra == b"" or entry.file_size == 0, entry.filename
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert names == sorted(names)


def test_record_has_every_file() -> None:
    with zipfile.ZipFile(WHEEL) as wheel:
        [record] = [name for name in wheel.namelist() if name.endswith(".dist-info/RECORD")]
        rows = list(csv.reader(wheel.read(record).decode().splitlines()))
        assert sorted(row[0] for row in rows) == sorted(wheel.namelist())
        for name, digest, size in rows:
            if name == record:
                assert (digest, size) == ("", "")
                continue
            content = wheel.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            assert (digest, int(size)) == (f"sha256={expected.decode()}", len(content)), name


def test_metadata() -> None:
    with zipfile.ZipFile(WHEEL) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata["Name"] == "marlin_moe"
    assert metadata["Version"] == marlin_moe.__version__
    assert metadata["Requires-Python"] == ">=3.10"
    binding, runtime = metadata.get_all("Requires-Dist", [])
    assert binding == "apache-tvm-ffi>=0.1.15.post2,<0.2"
    assert re.fullmatch(r"nvidia-cuda-runtime==13\.\*; extra == .cuda13.", runtime)
    assert "Environment :: GPU :: NVIDIA CUDA :: 13" in metadata.get_all("Classifier", [])
    assert "# marlin_moe" in metadata.get_payload()


def test_what_pip_installs_loads_and_answers(installed: Path) -> None:
    package, library, error = run_python(installed, CALL)
    assert package == str(installed / "marlin_moe" / "__init__.py")
    assert library == str(installed / "marlin_moe" / "libmarlin_moe_ffi.so")
    if error.startswith("LibraryError"):  # no CUDA runtime
        assert re.search(r"needs libcudart\.so\.\d+, .*nvidia-cuda-runtime", error), error
    else:
        assert error.startswith("InvalidArgumentError x = None is not allowed; allowed: "), error


def test_the_cuda_runtime_is_found_in_nvidias_wheels(installed: Path, tmp_path: Path) -> None:
    """A library whose runtime no loader finds takes that of the package nvidia-cuda-runtime."""
    fake = Path(os.environ["NEEDS_RUNTIME"]).absolute()
    code = f"""
import sys
from pathlib import Path
from marlin_moe import _library, LibraryError
try:
    _library._load(Path({str(fake)!r}))
except LibraryError as error:
    print(error)
else:
    print("loaded")
"""
    [message] = run_python(installed, code, CUDA_PATH=str(tmp_path))
    assert "needs libcudart.so.99, the CUDA 99 runtime" in message
    assert f"{tmp_path}/lib64" in message
    runtime = Path(os.environ["FAKE_RUNTIME"]).absolute()
    lib = tmp_path / "packages" / "nvidia" / "cu99" / "lib"
    lib.mkdir(parents=True)
    (lib / "libcudart.so.99").write_bytes(runtime.read_bytes())
    code = f"import sys; sys.path.append({str(tmp_path / 'packages')!r})" + code
    assert run_python(installed, code, CUDA_PATH=str(tmp_path)) == ["loaded"]

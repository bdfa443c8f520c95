"""CUDA architectures: parses what the user asks for and finds the kernel families that serve it.

tests/testdata/arch_strings.bzl holds what this parser and the one of private/archs.bzl agree on.
"""

from marlin_gen.errors import GeneratorError, spelled
from marlin_gen.tables import Tables

_PTX = "+PTX"


def _spellings(tables: Tables) -> dict[str, str]:
    """Every accepted spelling, without +PTX, and its canonical form; in canonical order."""
    spellings = {}
    for arch in tables.archs:
        for suffix in ("", *arch.suffixes):
            canonical = arch.capability + suffix
            number = canonical.replace(".", "")
            for spelling in (canonical, number, "sm_" + number):
                spellings[spelling] = canonical
    return spellings


def parse_archs(text: str, tables: Tables) -> list[str]:
    """Parses architectures separated by commas, semicolons or white space.

    Args:
      text: for example "sm_80, 9.0a 12.0+PTX"; order and repetition do not matter.
      tables: the project's tables.

    Returns:
      Canonical names such as "8.0", "9.0a" and "12.0+PTX", ascending, each once.

    Raises:
      GeneratorError: a name is unknown or malformed, or there is none.
    """
    spellings = _spellings(tables)
    with_ptx: dict[str, bool] = {}
    unknown = []
    for word in text.replace(",", " ").replace(";", " ").split():
        canonical = spellings.get(word.removesuffix(_PTX))
        if canonical is None:
            unknown.append(spelled(word))
        else:
            with_ptx[canonical] = with_ptx.get(canonical, False) or word.endswith(_PTX)
    if unknown or not with_ptx:
        problem = f"unknown: {', '.join(unknown)}" if unknown else "none is named"
        known = ", ".join(dict.fromkeys(spellings.values()))
        raise GeneratorError(
            f"architectures {spelled(text)}: {problem}; known: {known}; "
            "write 8.0, 80 or sm_80, and 8.0+PTX to embed PTX as well; "
            "commas, semicolons or spaces between"
        )
    return [
        name + _PTX if with_ptx[name] else name
        for name in dict.fromkeys(spellings.values())
        if name in with_ptx
    ]


def families_for(archs: list[str], tables: Tables) -> tuple[str, ...]:
    """Names of the families that run on any of the architectures, in the order of the table."""
    capabilities = {arch.removesuffix(_PTX).rstrip("af") for arch in archs}
    return tuple(
        family.name for family in tables.families if capabilities.intersection(family.capabilities)
    )

"""What to generate: built from a command line or read from the JSON that the Bazel rule writes.

A spec names kernel families, never architectures, so that requests which need the same files are
the same spec.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marlin_gen.archs import families_for, parse_archs
from marlin_gen.errors import GeneratorError, spelled
from marlin_gen.json_files import read_json
from marlin_gen.schemes import Scheme, parse_custom_scheme, parse_scheme, table_schemes
from marlin_gen.tables import Family, Tables, parse_tables

SELECTORS = ("switch", "chain")
DEFAULT_SELECTOR = "switch"
DEFAULT_TYPE_NAMESPACE = "vllm"
DEFAULT_KERNEL_NAMESPACE = "marlin_moe_wna16"

_STATEMENT = re.compile(r"([^\x00-\x1f]*[;}])?")
_NAMESPACE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(::[A-Za-z_][A-Za-z0-9_]*)*")
_RESERVED = re.compile(r"__|^_[A-Z]")
_FIELDS = (
    "families",
    "kernel_namespace",
    "scheme_headers",
    "schemes",
    "selector",
    "selector_fallback",
    "tables",
    "type_namespace",
)


@dataclass(frozen=True, slots=True)
class Spec:
    """Families and schemes to combine, and how to write the result."""

    families: tuple[Family, ...]
    schemes: tuple[Scheme, ...]
    selector: str
    type_namespace: str
    kernel_namespace: str
    scheme_headers: bool
    """Whether kernel files include the headers of SCHEME_HEADERS, as this module's kernels need."""

    selector_fallback: str = ""
    """C++ statement for a key without a kernel; empty: `kernel` stays as it is."""

    def __post_init__(self) -> None:
        if self.selector not in SELECTORS:
            raise GeneratorError(
                f"selector = {spelled(self.selector)} is not allowed; "
                f"allowed: {', '.join(SELECTORS)}"
            )
        if not _STATEMENT.fullmatch(self.selector_fallback):
            raise GeneratorError(
                f"selector_fallback = {spelled(self.selector_fallback)} is not allowed; "
                'allowed: a C++ statement in one line, such as "return nullptr;"'
            )
        extra = [family.name for family in self.families if family.extra]
        if extra and not self.scheme_headers:
            raise GeneratorError(
                f"extra families {', '.join(extra)} are not allowed for kernels of another tree, "
                "which have no such template; allowed: none"
            )


def _checked(spec: Spec, tables: Tables) -> Spec:
    """The spec, if its namespaces consist of identifiers that C++ leaves to programs."""
    for field in ("type_namespace", "kernel_namespace"):
        namespace = getattr(spec, field)
        if not _NAMESPACE.fullmatch(namespace) or any(
            part in tables.cxx_keywords or _RESERVED.search(part) for part in namespace.split("::")
        ):
            raise GeneratorError(
                f"{field} = {spelled(namespace)} is not allowed; allowed: a C++ namespace such "
                "as vllm or outer::inner, without keywords and reserved names"
            )
    return spec


def spec_for_archs(
    archs: str,
    tables: Tables,
    *,
    schemes: Sequence[str] | None = None,
    extra_schemes: Sequence[object] = (),
    selector: str = DEFAULT_SELECTOR,
    type_namespace: str = DEFAULT_TYPE_NAMESPACE,
    kernel_namespace: str = DEFAULT_KERNEL_NAMESPACE,
    scheme_headers: bool = True,
    selector_fallback: str = "",
    extra_families: Sequence[str] = (),
) -> Spec:
    """The spec for architectures such as "8.0,sm_89" and names of table schemes.

    By default these are the documented ones. Custom schemes, with the fields that quant_scheme()
    takes, come behind those of the table, whether they are named or not.

    Raises:
      GeneratorError: an architecture, a scheme or an extra family is not known, or a custom scheme
        is not allowed.
    """
    for name in extra_families:
        if name not in tables.extra_families:
            raise GeneratorError(
                f'extra families: "{name}" is not allowed; '
                f"allowed: {', '.join(tables.extra_families)}"
            )
    left_out = set(tables.extra_families) - set(extra_families)
    families = set(families_for(parse_archs(archs, tables), tables)) - left_out
    known = table_schemes(tables)
    custom = []
    for raw in extra_schemes:
        scheme = parse_custom_scheme(raw, tables, taken=known)
        known[scheme.name] = scheme
        custom.append(scheme.name)
    unknown = [spelled(name) for name in schemes or () if name not in known]
    if unknown or (schemes is not None and not schemes and not custom):
        problem = f"unknown: {', '.join(unknown)}" if unknown else "none is named"
        raise GeneratorError(f"quant schemes: {problem}; known: {', '.join(known)}")
    if schemes is None:
        schemes = [row["name"] for row in tables.schemes]
    chosen = [scheme for name, scheme in known.items() if name in {*schemes, *custom}]
    spec = Spec(
        families=tuple(family for family in tables.families if family.name in families),
        schemes=tuple(chosen),
        selector=selector,
        type_namespace=type_namespace,
        kernel_namespace=kernel_namespace,
        scheme_headers=scheme_headers,
        selector_fallback=selector_fallback,
    )
    return _checked(spec, tables)


def read_spec(path: Path) -> tuple[Spec, Tables]:
    """Reads and checks a spec file, and the tables in it.

    Raises:
      GeneratorError: the file is no JSON, or a field is missing, unknown or not allowed.
    """
    raw = read_json(path, "spec")
    if not isinstance(raw, dict) or tuple(sorted(raw)) != _FIELDS:
        given = spelled(sorted(raw) if isinstance(raw, dict) else raw)
        raise GeneratorError(
            f"spec {path.name} must be an object of {', '.join(_FIELDS)}; given: {given}"
        )
    for field in ("families", "schemes"):
        if not isinstance(raw[field], list) or not raw[field]:
            raise GeneratorError(f"spec {path.name}: {field} must be a list, not empty")
    for field in ("selector", "selector_fallback", "type_namespace", "kernel_namespace"):
        if not isinstance(raw[field], str):
            raise GeneratorError(f"spec {path.name}: {field} must be a string")
    if not isinstance(raw["scheme_headers"], bool):
        raise GeneratorError(f"spec {path.name}: scheme_headers must be true or false")
    try:
        tables = parse_tables(raw["tables"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise GeneratorError(
            f"spec {path.name}: tables are not those of this generator: {error!r}; "
            "build spec and generator from one revision"
        ) from error
    spec = Spec(
        families=_families(raw["families"], tables),
        schemes=_schemes(raw["schemes"], tables),
        selector=raw["selector"],
        type_namespace=raw["type_namespace"],
        kernel_namespace=raw["kernel_namespace"],
        scheme_headers=raw["scheme_headers"],
        selector_fallback=raw["selector_fallback"],
    )
    return _checked(spec, tables), tables


def _families(names: list[Any], tables: Tables) -> tuple[Family, ...]:
    known = [family.name for family in tables.families]
    if names != [name for name in known if name in names]:
        raise GeneratorError(
            f"spec: families = {spelled(names)} is not allowed; "
            f"allowed: some of {', '.join(known)}, in this order, each once"
        )
    return tuple(family for family in tables.families if family.name in names)


def _schemes(raw: list[Any], tables: Tables) -> tuple[Scheme, ...]:
    """The spec's schemes; one that bears the name of a table scheme must be that scheme."""
    known = table_schemes(tables)
    schemes: dict[str, Scheme] = {}
    for item in raw:
        scheme = parse_scheme(item, tables, taken=schemes)
        if known.get(scheme.name, scheme) != scheme:
            parse_scheme(item, tables, taken=known)
        schemes[scheme.name] = scheme
    return tuple(schemes.values())

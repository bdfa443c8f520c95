"""Quantisation schemes: the constructor of custom ones, their checks, and the choice by name.

tools/marlin_gen/marlin_gen/schemes.py has the same checks, for schemes that come without Bazel.

A scheme is a dict with the fields that quant_schemes.bzl describes. The table's schemes and custom
ones go through the same checks; errors are returned, so that the target that uses a scheme fails.
"""

load(":families.bzl", "SCALAR_TYPES")
load(
    ":quant_schemes.bzl",
    "FURTHER_QUANT_SCHEMES",
    "QUANT_SCHEMES",
    "SCHEME_COMBINATIONS",
    "SCHEME_LIMITS",
    "TILE_SETS",
)

visibility("//...")

_TABLE_SCHEMES = QUANT_SCHEMES + FURTHER_QUANT_SCHEMES

# All thread_configs that a scheme may have, in the table's order.
_THREAD_CONFIGS = {tile[:3]: None for tiles in TILE_SETS.values() for tile in tiles}.keys()

_LETTERS = "abcdefghijklmnopqrstuvwxyz"

def quant_scheme(
        name,
        a_type,
        b_type,
        thread_configs,
        thread_m_blocks,
        group_blocks,
        c_type = None,
        s_type = None):
    """Describes a quantisation scheme that the table of `marlin_moe_kernels` does not have.

    A kernel is instantiated for every combination of the lists. The target that uses the scheme
    checks it: a wrong field fails that target's analysis with the field, its value and the values
    allowed.

    Args:
      name: unique name: a lower-case letter, then lower-case letters, digits and underscores.
      a_type: list of activation types, for example `["kFloat16", "kBFloat16"]`.
      b_type: weight type, for example `"kU4B8"`.
      thread_configs: list of `(thread_k, thread_n, threads)`: extent in K and N of the tile that a
        thread block works on, and its number of threads.
      thread_m_blocks: list of the tile's extents in M, in units of 16 rows; 0.5 is 8 rows.
      group_blocks: list of the numbers of 16-row blocks in K that share a scale; -1: one scale per
        column, 0: act-order.
      c_type: list of output types, each combined with each activation type. Default: the activation
        type itself. 16-bit activations may have an output of the other 16-bit type, with scales of
        the output's type, which are applied to float sums: slower than an output of their own type.
      s_type: type of the weight scales. Default: the output type.

    Returns:
      A value for `extra_quant_schemes`.
    """
    return json.encode({
        "name": name,
        "a_type": a_type,
        "b_type": b_type,
        "c_type": c_type or [],
        "s_type": s_type or "",
        "tiles": _tiles(thread_configs, thread_m_blocks),
        "group_blocks": group_blocks,
    })

def _tiles(thread_configs, thread_m_blocks):
    """Returns the product of both. Keeps other values for check_scheme() to refuse."""
    if type(thread_configs) != type([]):
        return thread_configs
    return [
        (list(config) if type(config) in [type([]), type(())] else [config]) + [thread_m_blocks]
        for config in thread_configs
    ]

def _types_of_role(role):
    return sorted([scalar["name"] for scalar in SCALAR_TYPES if role in scalar["roles"]])

def bits_of(type_name):
    """Returns how many bits a scalar type has."""
    return [scalar["bits"] for scalar in SCALAR_TYPES if scalar["name"] == type_name][0]

def _in_order(values, order):
    """Returns the values in a given order, each once."""
    return [value for value in order if value in values]

def _listed(values):
    """Spells a list of allowed values."""
    return ", ".join([
        "({}, {}, {})".format(*value) if type(value) == type(()) else str(value) if value != "" else "\"\""
        for value in values
    ])

def _spelled(value):
    """Spells a given value."""
    if type(value) == type(""):
        return "\"{}\"".format(value)
    if type(value) == type(()):
        return "({})".format(", ".join([str(item) for item in value]))
    return str(value)

def _refusal(scheme, field, value, allowed, context = ""):
    return "quant scheme {}: {} = {} is not allowed{}; allowed: {}".format(
        _spelled(scheme["name"]),
        field,
        _spelled(value),
        context and " with " + context,
        allowed,
    )

def _check_list(scheme, field, items, allowed, may_be_empty = False):
    """Refuses a value that is not a list, an empty list, and the first item that is not allowed."""
    if type(items) != type([]) or (not items and not may_be_empty):
        return _refusal(scheme, field, items, "one or more of " + _listed(allowed))
    for item in items:
        if item not in allowed:
            return _refusal(scheme, field, item, _listed(allowed))
    return ""

def _check_value(scheme, field, allowed):
    return "" if scheme[field] in allowed else _refusal(scheme, field, scheme[field], _listed(allowed))

def _check_name(scheme, taken):
    name = scheme["name"]
    well_formed = type(name) == type("") and name != "" and name[0] in _LETTERS
    if not well_formed or any([name[i] not in _LETTERS + "0123456789_" for i in range(len(name))]):
        return _refusal(
            scheme,
            "name",
            name,
            "a lower-case letter, then lower-case letters, digits and underscores",
        )
    if name in taken:
        return _refusal(scheme, "name", name, "a name that no other scheme has")
    return ""

def _check_tiles(scheme):
    tiles = scheme["tiles"]
    if type(tiles) == type(""):
        allowed = sorted(TILE_SETS)
        return "" if tiles in allowed else _refusal(scheme, "tiles", tiles, _listed(allowed))
    configs = tiles
    if type(tiles) == type([]):
        configs = [tuple(tile[:-1]) for tile in tiles]
    error = _check_list(scheme, "thread_configs", configs, _THREAD_CONFIGS)
    for tile in [] if error else tiles:
        error = error or _check_list(
            scheme,
            "thread_m_blocks",
            tile[-1],
            SCHEME_LIMITS["thread_m_blocks"],
        )
    return error

def _check_fields(scheme, taken):
    """Checks every field by itself; the first error counts."""
    return (
        _check_name(scheme, taken) or
        _check_list(scheme, "a_type", scheme["a_type"], _types_of_role("a")) or
        _check_value(scheme, "b_type", _types_of_role("b")) or
        _check_list(scheme, "c_type", scheme["c_type"], _types_of_role("c"), may_be_empty = True) or
        _check_value(scheme, "s_type", [""] + _types_of_role("s")) or
        _check_tiles(scheme) or
        _check_list(scheme, "group_blocks", scheme["group_blocks"], SCHEME_LIMITS["group_blocks"])
    )

def tiles_of(scheme):
    """Returns a scheme's tiles, looked up if they are named.

    Args:
      scheme: the scheme, a dict.

    Returns:
      A list of (thread_k, thread_n, threads, thread_m_blocks).
    """
    tiles = scheme["tiles"]
    return TILE_SETS[tiles] if type(tiles) == type("") else tiles

def _check_activation(scheme, a_type):
    """Checks what an activation type demands of c_type, tiles and b_type."""
    with_a = "a_type = " + _spelled(a_type)
    if bits_of(a_type) != 16:
        if not scheme["c_type"]:
            allowed = "one or more of " + _listed(_types_of_role("c"))
            return _refusal(scheme, "c_type", [], allowed, with_a)
        allowed = SCHEME_LIMITS["thread_m_blocks_a8"]
        for tile in tiles_of(scheme):
            for blocks in tile[-1]:
                if blocks not in allowed:
                    return _refusal(scheme, "thread_m_blocks", blocks, _listed(allowed), with_a)
    with_b = "b_type = " + _spelled(scheme["b_type"])
    allowed = {}
    for combination in SCHEME_COMBINATIONS:
        if combination["b_type"] == scheme["b_type"]:
            allowed.update({name: None for name in combination["a_types"]})
    if a_type not in allowed:
        return _refusal(scheme, "a_type", a_type, _listed(sorted(allowed)), with_b)
    return ""

def _check_combination(scheme, a_type, c_type):
    """Checks the scale type and the group sizes of one combination of types."""
    s_type = scheme["s_type"] or c_type
    types = "b_type = {}, a_type = {}".format(_spelled(scheme["b_type"]), _spelled(a_type))

    # An output of the other 16-bit type goes with scales of its own type, and not with act-order.
    mixed = bits_of(a_type) == 16 and c_type != a_type
    allowed_scales = {}
    allowed_groups = []
    for combination in SCHEME_COMBINATIONS:
        of_types = combination["b_type"] == scheme["b_type"] and a_type in combination["a_types"]
        if of_types and not (mixed and combination["s_type"]):
            allowed_scales[combination["s_type"]] = None
            allowed_scales[combination["s_type"] or c_type] = None
            if (combination["s_type"] or c_type) == s_type:
                allowed_groups.extend([group for group in combination["group_blocks"] if group or not mixed])
    if not allowed_scales:
        return _refusal(scheme, "c_type", c_type, a_type, types)
    if s_type not in allowed_scales:
        context = "{}, c_type = {}".format(types, _spelled(c_type))
        allowed = _listed(sorted(allowed_scales))
        return _refusal(scheme, "s_type", scheme["s_type"], allowed, context)
    for group in scheme["group_blocks"]:
        if group not in allowed_groups:
            context = "{}, s_type = {}".format(types, _spelled(s_type))
            allowed = _listed(_in_order(allowed_groups, SCHEME_LIMITS["group_blocks"]))
            return _refusal(scheme, "group_blocks", group, allowed, context)
    return ""

def check_scheme(scheme, taken):
    """Checks a scheme against the limits and combinations of the table.

    Args:
      scheme: the scheme, a dict with the fields of the table's schemes.
      taken: names that other schemes have.

    Returns:
      The empty string, or an error that names scheme, field, value and the values allowed.
    """
    error = _check_fields(scheme, taken)
    if error:
        return error
    for a_type in scheme["a_type"]:
        error = error or _check_activation(scheme, a_type)
        for c_type in [] if error else scheme["c_type"] or [a_type]:
            error = error or _check_combination(scheme, a_type, c_type)
    return error

def _normalised(scheme):
    """Puts a checked scheme's lists into the order of the tables, so that equal sets compare equal."""
    type_order = [scalar["name"] for scalar in SCALAR_TYPES]
    tiles = []
    for config in _THREAD_CONFIGS:
        m_blocks = []
        for tile in tiles_of(scheme):
            m_blocks.extend(tile[-1] if tuple(tile[:-1]) == config else [])
        if m_blocks:
            tiles.append(list(config) + [_in_order(m_blocks, SCHEME_LIMITS["thread_m_blocks"])])
    return {
        "name": scheme["name"],
        "a_type": _in_order(scheme["a_type"], type_order),
        "b_type": scheme["b_type"],
        "c_type": _in_order(scheme["c_type"], type_order),
        "s_type": scheme["s_type"],
        "tiles": tiles,
        "group_blocks": _in_order(scheme["group_blocks"], SCHEME_LIMITS["group_blocks"]),
    }

def _parse_extra_schemes(extra_schemes):
    """Decodes and checks what quant_scheme() returned. Returns (schemes, error)."""
    taken = [scheme["name"] for scheme in _TABLE_SCHEMES]
    schemes = []
    for encoded in extra_schemes:
        scheme = json.decode(encoded, default = None)
        if type(scheme) != type({}) or sorted(scheme) != sorted(QUANT_SCHEMES[0]):
            return [], "extra_quant_schemes: \"{}\" is not a value that quant_scheme() returned".format(encoded)
        error = check_scheme(scheme, taken)
        if error:
            return [], error
        taken.append(scheme["name"])
        schemes.append(_normalised(scheme))
    return schemes, ""

def select_schemes(names, extra_schemes):
    """Chooses schemes of the table by name and adds custom ones.

    Args:
      names: list of names of the table's schemes.
      extra_schemes: list of what quant_scheme() returned.

    Returns:
      A struct of `schemes`, a list of dicts in table order, custom ones last, and `error`, empty or
      the reason why there are none.
    """
    known = [scheme["name"] for scheme in _TABLE_SCHEMES]
    for name in names:
        if name not in known:
            return struct(schemes = [], error = "quant_schemes: \"{}\" is not in the table; known schemes: {}; describe others with quant_scheme() in extra_quant_schemes".format(
                name,
                ", ".join(known),
            ))
    extra, error = _parse_extra_schemes(extra_schemes)
    if error:
        return struct(schemes = [], error = error)
    schemes = [scheme for scheme in _TABLE_SCHEMES if scheme["name"] in names] + extra
    if not schemes:
        return struct(schemes = [], error = "quant_schemes: no scheme is given; known schemes: " + ", ".join(known))
    return struct(schemes = schemes, error = "")

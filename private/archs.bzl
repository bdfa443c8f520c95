"""CUDA architectures: parse a request, find the kernel families it needs and what each is compiled for.

A request is text such as `sm_80, 9.0a 12.0+PTX`. Everything is derived from the tables in
families.bzl. The functions here are pure; errors are returned, so that the caller decides which
target fails.
"""

load(":families.bzl", "ARCHS", "FAMILIES")

_PTX_SUFFIX = "+PTX"

_HINT = "known architectures: {known}; write 8.0, 80 or sm_80, and 8.0+PTX to embed PTX as well"

def _known_architectures():
    names = []
    for arch in ARCHS:
        names.append(arch["capability"])
        names.extend([arch["capability"] + suffix for suffix in arch["suffixes"]])
    return ", ".join(names)

def _failure(message):
    return struct(archs = [], error = message + "; " + _HINT.format(known = _known_architectures()))

def _tokens(values):
    """Splits at commas and white space."""
    tokens = []
    for value in values:
        for separator in [",", "\t", "\r", "\n"]:
            value = value.replace(separator, " ")
        tokens.extend([token for token in value.split(" ") if token])
    return tokens

def _digits(text):
    """Returns how many characters at the start of the text are ASCII digits."""
    for i in range(len(text)):
        if text[i] not in "0123456789":
            return i
    return len(text)

def _split_arch(token):
    """Returns (capability, suffix) of a spelling without +PTX, or None if it is malformed."""
    text = token[len("sm_"):] if token.startswith("sm_") else token
    count = _digits(text)
    if count == 0:
        return None
    rest = text[count:]
    if rest.startswith(".") and text == token:
        minor_count = _digits(rest[1:])
        if minor_count != 1:
            return None
        capability, suffix = text[:count] + rest[:2], rest[2:]
    elif count >= 2:
        capability, suffix = text[:count - 1] + "." + text[count - 1:count], rest
    else:
        return None
    return (capability, suffix) if suffix in ["", "a", "f"] else None

def _parse_token(token):
    """Returns (capability, suffix, ptx, error) of one spelling; the error is empty or about the token."""
    ptx = token.endswith(_PTX_SUFFIX)
    spelled = _split_arch(token[:-len(_PTX_SUFFIX)] if ptx else token)
    if not spelled:
        return "", "", False, "\"{}\" is not the name of a CUDA architecture".format(token)
    capability, suffix = spelled
    for arch in ARCHS:
        if arch["capability"] == capability:
            if suffix and suffix not in arch["suffixes"]:
                return "", "", False, "\"{}\": {} has no variant {}".format(token, capability, suffix)
            return capability, suffix, ptx, ""
    return "", "", False, "\"{}\" is not a known CUDA architecture".format(token)

def _arch(capability, suffix, ptx):
    number = capability.replace(".", "") + suffix
    return struct(
        capability = capability,
        suffix = suffix,
        ptx = ptx,
        number = number,
        name = capability + suffix + (_PTX_SUFFIX if ptx else ""),
    )

def parse_cuda_archs(values):
    """Parses, checks and normalises a request for CUDA architectures.

    Args:
      values: list of strings, each with any number of architectures separated by commas or spaces:
        `8.0`, `80` or `sm_80`; `a` or `f` behind the number where the architecture has that variant;
        `+PTX` behind any of them. Order and repetition do not matter.

    Returns:
      A struct of
        archs: list of structs, ascending and without repetition, with the fields `capability`
          ("9.0"), `suffix` ("", "a" or "f"), `ptx` (whether PTX is asked for), `number` ("90a") and
          `name` ("9.0a+PTX");
        error: empty, or the reason why there are no archs: what was given and what is known.
    """
    given = " (given: \"{}\")".format(", ".join(values))
    requested = {}
    for token in _tokens(values):
        capability, suffix, ptx, error = _parse_token(token)
        if error:
            return _failure("cuda_archs: " + error + given)
        key = capability + suffix
        requested[key] = requested.get(key, False) or ptx
    if not requested:
        return _failure("cuda_archs: no CUDA architecture is given" + given)
    archs = []
    for arch in ARCHS:
        for suffix in [""] + arch["suffixes"]:
            key = arch["capability"] + suffix
            if key in requested:
                archs.append(_arch(arch["capability"], suffix, requested[key]))
    return struct(archs = archs, error = "")

def all_archs():
    """Returns every known architecture with every suffix, without PTX, ascending."""
    return [
        _arch(arch["capability"], suffix, False)
        for arch in ARCHS
        for suffix in [""] + arch["suffixes"]
    ]

def families_needed(archs):
    """Returns the names of the kernel families that can run on any of the archs, in table order.

    Args:
      archs: the list that parse_cuda_archs() returns.

    Returns:
      A list of names out of FAMILIES.
    """
    return [
        family["name"]
        for family in FAMILIES
        if any([arch.capability in family["capabilities"] for arch in archs])
    ]

def _major(arch):
    return int(arch.capability.split(".")[0])

def _minor(arch):
    return int(arch.capability.split(".")[1])

def _serves(cubin, arch):
    """Tells whether a cubin built for one arch is a better choice for another than a cubin of its own.

    Cubins run on later minor versions of their major version, those with the suffix `a` only on
    the very architecture. An `f` cubin is preferred to a plain one for the same capability.
    """
    if arch.suffix or cubin.suffix == "a" or _major(cubin) != _major(arch):
        return False
    if _minor(cubin) == _minor(arch):
        return cubin.suffix == "f"
    return _minor(cubin) < _minor(arch)

def _family(name):
    for family in FAMILIES:
        if family["name"] == name:
            return family
    fail("unknown kernel family {}".format(name))

def family_specs(name, archs, exact):
    """Returns what the files of a kernel family are compiled for.

    Args:
      name: the family's name in FAMILIES.
      archs: the list that parse_cuda_archs() returns.
      exact: True for a cubin per architecture asked for; False for the fewest cubins that serve all
        of them.

    Returns:
      A list of arch specs of rules_cuda, one gencode each (`compute_80:sm_80`): cubins ascending,
      then PTX ascending. Empty if the family runs on none of the archs.
    """
    return arch_specs(
        [arch for arch in archs if arch.capability in _family(name)["capabilities"]],
        exact,
    )

def arch_specs(archs, exact):
    """Returns the arch specs of rules_cuda for archs, whatever family they are for.

    Args:
      archs: a list such as parse_cuda_archs() returns.
      exact: as for family_specs().

    Returns:
      A list of arch specs of rules_cuda: cubins ascending, then PTX ascending.
    """
    cubins = [
        arch
        for arch in archs
        if exact or not any([_serves(other, arch) for other in archs])
    ]
    return (
        ["compute_{0}:sm_{0}".format(arch.number) for arch in cubins] +
        ["compute_{0}:compute_{0}".format(arch.number) for arch in archs if arch.ptx]
    )

def all_family_specs(name):
    """Returns every spec that family_specs() may return for a family, in its order.

    Args:
      name: the family's name in FAMILIES.

    Returns:
      A list of arch specs of rules_cuda.
    """
    archs = [arch for arch in all_archs() if arch.capability in _family(name)["capabilities"]]
    return (
        ["compute_{0}:sm_{0}".format(arch.number) for arch in archs] +
        ["compute_{0}:compute_{0}".format(arch.number) for arch in archs]
    )

def unsupported_specs(specs, supported_numbers):
    """Returns those specs that the CUDA rules do not know the architecture of.

    Args:
      specs: a list of arch specs as family_specs() returns it.
      supported_numbers: the architecture numbers that the CUDA rules accept ("80", "90a").

    Returns:
      The architecture numbers of these specs that are missing, each once.
    """
    missing = {}
    for spec in specs:
        number = spec.split(":")[0][len("compute_"):]
        if number not in supported_numbers:
            missing[number] = None
    return list(missing)

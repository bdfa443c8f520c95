"""CUDA architectures: parse a request, find the kernel families it needs and what each is compiled for.

A request is text such as `sm_80, 9.0a 12.0+PTX`. Everything is derived from the tables in
families.bzl. The functions here are pure; errors are returned, so that the caller decides which
target fails.
"""

load(":families.bzl", "ARCHS", "FAMILIES", "TEGRA_CAPABILITIES")

visibility("//...")

# Stands for sources that are compiled for all of a request, whatever family they serve.
ANY_FAMILY = "any"

_PTX_SUFFIX = "+PTX"

def _arch(capability, suffix, ptx):
    number = capability.replace(".", "") + suffix
    return struct(
        capability = capability,
        suffix = suffix,
        ptx = ptx,
        number = number,
        name = capability + suffix + (_PTX_SUFFIX if ptx else ""),
    )

def all_archs():
    """Returns every known architecture with every suffix, without PTX, ascending."""
    return [
        _arch(arch["capability"], suffix, False)
        for arch in ARCHS
        for suffix in [""] + arch["suffixes"]
    ]

def _spellings():
    """Returns a dict from every accepted spelling, without +PTX, to the architecture's name."""
    return {
        spelling: arch.name
        for arch in all_archs()
        for spelling in [arch.name, arch.number, "sm_" + arch.number]
    }

def _words(values):
    """Splits at commas, semicolons and white space."""
    words = []
    for value in values:
        for separator in [",", ";", "\t", "\r", "\n"]:
            value = value.replace(separator, " ")
        words.extend([word for word in value.split(" ") if word])
    return words

def _failure(values, problem):
    return struct(archs = [], error = (
        "cuda_archs \"{}\": {}; known: {}; " +
        "write 8.0, 80 or sm_80, and 8.0+PTX to embed PTX as well; commas, semicolons or spaces between"
    ).format(",".join(values), problem, ", ".join([arch.name for arch in all_archs()])))

def parse_cuda_archs(values):
    """Parses, checks and normalises a request for CUDA architectures.

    Args:
      values: list of strings, each with any number of architectures separated by commas, semicolons
        or spaces: `8.0`, `80` or `sm_80`; `a` or `f` behind the number where the architecture has that variant;
        `+PTX` behind any of them. Order and repetition do not matter.

    Returns:
      A struct of
        archs: list of structs, ascending and without repetition, with the fields `capability`
          ("9.0"), `suffix` ("", "a" or "f"), `ptx` (whether PTX is asked for), `number` ("90a") and
          `name` ("9.0a+PTX");
        error: empty, or the reason why there are no archs: what was given and what is known.
    """
    spellings = _spellings()
    requested = {}
    unknown = []
    for word in _words(values):
        ptx = word.endswith(_PTX_SUFFIX)
        name = spellings.get(word[:-len(_PTX_SUFFIX)] if ptx else word)
        if name:
            requested[name] = requested.get(name, False) or ptx
        else:
            unknown.append("\"{}\"".format(word))
    if unknown:
        return _failure(values, "unknown: " + ", ".join(unknown))
    if not requested:
        return _failure(values, "none is given")
    return struct(error = "", archs = [
        _arch(arch.capability, arch.suffix, requested[arch.name])
        for arch in all_archs()
        if arch.name in requested
    ])

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

def extra_families():
    """Returns the names of the families that a build may leave out, in table order."""
    return [family["name"] for family in FAMILIES if family["extra"]]

def check_extra_families(names):
    """Checks names of extra families.

    Args:
      names: list of strings.

    Returns:
      The empty string, or what is wrong with the first name that is not known.
    """
    known = extra_families()
    for name in names:
        if name not in known:
            return "extra_families: \"{}\" is not allowed; allowed: {}, or none".format(
                name,
                ", ".join(known),
            )
    return ""

def _major(arch):
    return int(arch.capability.split(".")[0])

def _minor(arch):
    return int(arch.capability.split(".")[1])

def _serves(cubin, arch):
    """Tells whether a cubin for one arch takes the place of another arch's own cubin.

    A cubin runs on later minor versions of its major version. A cubin with the suffix `a` runs on its
    own architecture alone. Tegra parts and other devices share no cubins. For the same capability, an
    `f` cubin is preferred to a plain one.
    """
    if arch.suffix or cubin.suffix == "a" or _major(cubin) != _major(arch):
        return False
    if _minor(cubin) == _minor(arch):
        return cubin.suffix == "f"
    if cubin.capability in TEGRA_CAPABILITIES or arch.capability in TEGRA_CAPABILITIES:
        return False
    return _minor(cubin) < _minor(arch)

def _family(name):
    if name == ANY_FAMILY:
        return {"capabilities": [arch["capability"] for arch in ARCHS], "suffix": ""}
    for family in FAMILIES:
        if family["name"] == name:
            return family
    fail("unknown kernel family {}".format(name))

def family_specs(name, archs, exact):
    """Returns what the files of a kernel family are compiled for.

    Args:
      name: the family's name in FAMILIES, or ANY_FAMILY.
      archs: the list that parse_cuda_archs() returns.
      exact: True for a cubin per architecture asked for; False for the fewest cubins that serve all
        of them.

    Returns:
      A list of arch specs of rules_cuda, one gencode each (`compute_80:sm_80`): cubins ascending,
      then PTX ascending. Empty if the family runs on none of the archs.
    """
    compiled_for = _archs_of(_family(name), archs)
    cubins = [
        arch
        for arch in compiled_for
        if exact or not any([_serves(other, arch) for other in compiled_for])
    ]
    return (
        ["compute_{0}:sm_{0}".format(arch.number) for arch in cubins] +
        ["compute_{0}:compute_{0}".format(arch.number) for arch in compiled_for if arch.ptx]
    )

def _archs_of(family, archs):
    """Returns which of the archs a family is compiled for: its own variant of each, if it has one."""
    served = [arch for arch in archs if arch.capability in family["capabilities"]]
    if not family["suffix"]:
        return served
    capabilities = {arch.capability: None for arch in served}
    return [_arch(capability, family["suffix"], False) for capability in capabilities]

def all_family_specs(name):
    """Returns every spec that family_specs() may return for a family, in its order.

    Args:
      name: the family's name in FAMILIES, or ANY_FAMILY.

    Returns:
      A list of arch specs of rules_cuda.
    """
    family = _family(name)
    archs = _archs_of(family, all_archs())
    cubins = ["compute_{0}:sm_{0}".format(arch.number) for arch in archs]
    ptx = ["compute_{0}:compute_{0}".format(arch.number) for arch in archs]
    return cubins if family["suffix"] else cubins + ptx

def spec_condition(name, spec):
    """Returns a name for the condition on which family_specs() has a spec.

    Equal names are equal conditions, whatever the family. A name holds what decides the condition:

    - PTX: the request alone.
    - A cubin: also the family's other capabilities of the same major version, because a cubin for one
      of them may take its place.
    - A cubin of a family with a suffix: the family, because more than one spelling asks for it.

    Args:
      name: the family's name in FAMILIES, or ANY_FAMILY.
      spec: one of all_family_specs().

    Returns:
      A string that can be part of a target's name, such as `sm_89_of_8.9`.
    """
    family = _family(name)
    code = spec.split(":")[1]
    if code.startswith("compute_"):
        return code
    if family["suffix"]:
        return "{}_of_{}".format(code, name)
    (arch,) = [arch for arch in all_archs() if "sm_" + arch.number == code]
    same_major = [
        capability
        for capability in family["capabilities"]
        if capability.split(".")[0] == arch.capability.split(".")[0]
    ]
    return "{}_of_{}".format(code, "_".join(same_major))

def unsupported_specs(specs, supported_numbers):
    """Returns the architectures of some specs that the CUDA rules do not know.

    Args:
      specs: a list of arch specs as family_specs() returns it.
      supported_numbers: the architecture numbers that the CUDA rules accept ("80", "90a").

    Returns:
      The missing architecture numbers, each once.
    """
    missing = {}
    for spec in specs:
        number = spec.split(":")[0][len("compute_"):]
        if number not in supported_numbers:
            missing[number] = None
    return list(missing)

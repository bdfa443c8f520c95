"""Tests of private/archs.bzl: what a request means, and what a family is compiled for."""

load("@bazel_skylib//lib:unittest.bzl", "asserts", "unittest")
load("//private:archs.bzl", "ANY_FAMILY", "all_archs", "all_family_specs", "families_needed", "family_specs", "parse_cuda_archs", "spec_condition")
load("//private:families.bzl", "FAMILIES")
load("//tests/testdata:arch_strings.bzl", "ARCH_STRINGS")

# (request, family, covering specs, exact specs)
_SPECS = [
    ("8.0", "sm80", ["compute_80:sm_80"], ["compute_80:sm_80"]),
    ("8.6", "sm80", ["compute_86:sm_86"], ["compute_86:sm_86"]),
    ("8.0,8.6", "sm80", ["compute_80:sm_80"], ["compute_80:sm_80", "compute_86:sm_86"]),
    ("8.0,8.9", "sm89", ["compute_89:sm_89"], ["compute_89:sm_89"]),
    ("9.0", "sm89", [], []),
    ("7.5,8.0", "sm75", ["compute_75:sm_75"], ["compute_75:sm_75"]),
    ("7.5,8.0", "sm80", ["compute_80:sm_80"], ["compute_80:sm_80"]),
    ("7.5", "sm80", [], []),
    ("9.0a,8.0", "sm80", ["compute_80:sm_80", "compute_90a:sm_90a"], ["compute_80:sm_80", "compute_90a:sm_90a"]),
    ("9.0,9.0a", "sm80", ["compute_90:sm_90", "compute_90a:sm_90a"], ["compute_90:sm_90", "compute_90a:sm_90a"]),
    ("9.0,10.0,10.3,11.0", "sm80", ["compute_90:sm_90", "compute_100:sm_100", "compute_110:sm_110"], ["compute_90:sm_90", "compute_100:sm_100", "compute_103:sm_103", "compute_110:sm_110"]),
    ("8.0,8.7", "sm80", ["compute_80:sm_80", "compute_87:sm_87"], ["compute_80:sm_80", "compute_87:sm_87"]),
    ("8.7,8.9", "sm80", ["compute_87:sm_87", "compute_89:sm_89"], ["compute_87:sm_87", "compute_89:sm_89"]),
    ("8.6,8.7,8.8,8.9", "sm80", ["compute_86:sm_86", "compute_87:sm_87", "compute_88:sm_88"], ["compute_86:sm_86", "compute_87:sm_87", "compute_88:sm_88", "compute_89:sm_89"]),
    ("11.0f,11.0", "sm80", ["compute_110f:sm_110f"], ["compute_110:sm_110", "compute_110f:sm_110f"]),
    ("12.0,12.1", "sm89", ["compute_120:sm_120"], ["compute_120:sm_120", "compute_121:sm_121"]),
    ("12.1", "sm89", ["compute_121:sm_121"], ["compute_121:sm_121"]),
    ("12.0a,12.1", "sm89", ["compute_120a:sm_120a", "compute_121:sm_121"], ["compute_120a:sm_120a", "compute_121:sm_121"]),
    ("12.0f,12.1", "sm80", ["compute_120f:sm_120f"], ["compute_120f:sm_120f", "compute_121:sm_121"]),
    ("12.0,12.1f", "sm80", ["compute_120:sm_120", "compute_121f:sm_121f"], ["compute_120:sm_120", "compute_121f:sm_121f"]),
    ("8.0+PTX", "sm80", ["compute_80:sm_80", "compute_80:compute_80"], ["compute_80:sm_80", "compute_80:compute_80"]),
    ("8.6+PTX,8.0", "sm80", ["compute_80:sm_80", "compute_86:compute_86"], ["compute_80:sm_80", "compute_86:sm_86", "compute_86:compute_86"]),
    ("9.0", "sm90", ["compute_90a:sm_90a"], ["compute_90a:sm_90a"]),
    ("9.0a", "sm90", ["compute_90a:sm_90a"], ["compute_90a:sm_90a"]),
    ("9.0+PTX,9.0a+PTX,8.0", "sm90", ["compute_90a:sm_90a"], ["compute_90a:sm_90a"]),
    ("8.9,10.0a,12.0", "sm90", [], []),
    ("8.9+PTX,9.0+PTX", "sm89", ["compute_89:sm_89", "compute_89:compute_89"], ["compute_89:sm_89", "compute_89:compute_89"]),
]

# (request, families)
_FAMILIES = [
    ("7.5", ["sm75"]),
    ("8.0", ["sm80"]),
    ("8.6", ["sm80"]),
    ("8.9", ["sm80", "sm89"]),
    ("9.0", ["sm80", "sm90"]),
    ("9.0a+PTX", ["sm80", "sm90"]),
    ("10.0a", ["sm80"]),
    ("11.0f+PTX", ["sm80"]),
    ("12.1f", ["sm80", "sm89"]),
    ("12.0,7.5", ["sm75", "sm80", "sm89"]),
]

def _every_spelling_means_what_it_says_impl(ctx):
    env = unittest.begin(ctx)
    for case in ARCH_STRINGS:
        parsed = parse_cuda_archs([case["input"]])
        asserts.equals(env, case["archs"] or [], [arch.name for arch in parsed.archs], case["input"])
        asserts.equals(env, case["archs"] == None, parsed.error != "", case["input"])
    asserts.true(env, ARCH_STRINGS)
    return unittest.end(env)

every_spelling_means_what_it_says_test = unittest.make(_every_spelling_means_what_it_says_impl)

def _values_of_a_list_add_up_impl(ctx):
    env = unittest.begin(ctx)
    parsed = parse_cuda_archs(["sm_90", "8.0,sm_90+PTX"])
    asserts.equals(env, ["8.0", "9.0+PTX"], [arch.name for arch in parsed.archs])
    asserts.false(env, parse_cuda_archs([]).error == "")
    return unittest.end(env)

values_of_a_list_add_up_test = unittest.make(_values_of_a_list_add_up_impl)

def _error_says_what_was_given_and_what_is_known_impl(ctx):
    env = unittest.begin(ctx)
    error = parse_cuda_archs(["8.0,banana,9.9"]).error
    asserts.true(env, error.startswith("cuda_archs \"8.0,banana,9.9\": unknown: \"banana\", \"9.9\"; known: 7.5, "), error)
    for arch in all_archs():
        asserts.true(env, " {},".format(arch.name) in error or " {};".format(arch.name) in error, arch.name)
    asserts.true(env, parse_cuda_archs([" , "]).error.startswith("cuda_archs \" , \": none is given; known: 7.5, "))
    return unittest.end(env)

error_says_what_was_given_and_what_is_known_test = unittest.make(_error_says_what_was_given_and_what_is_known_impl)

def _archs_need_the_families_that_run_on_them_impl(ctx):
    env = unittest.begin(ctx)
    for request, families in _FAMILIES:
        asserts.equals(env, families, families_needed(parse_cuda_archs([request]).archs), request)
    return unittest.end(env)

archs_need_the_families_that_run_on_them_test = unittest.make(_archs_need_the_families_that_run_on_them_impl)

def _a_family_is_compiled_for_what_can_use_it_impl(ctx):
    env = unittest.begin(ctx)
    for request, family, covering, exact in _SPECS:
        archs = parse_cuda_archs([request]).archs
        asserts.equals(env, covering, family_specs(family, archs, False), request)
        asserts.equals(env, exact, family_specs(family, archs, True), request)
    return unittest.end(env)

a_family_is_compiled_for_what_can_use_it_test = unittest.make(_a_family_is_compiled_for_what_can_use_it_impl)

def _runs_on(number, capability):
    """Tells, by NVIDIA's compatibility rules, whether the cubin of sm_<number> runs on a capability."""
    major, minor = capability.split(".")
    exact_number = major + minor
    if number.endswith("a"):
        return number[:-1] == exact_number
    digits = number[:-1] if number.endswith("f") else number
    if digits in ["87", "88", "110"] or exact_number in ["87", "88", "110"]:  # Tegra
        return digits == exact_number
    return digits[:-1] == major and int(digits[-1:]) <= int(minor)

def _every_pair_of_archs_is_served_impl(ctx):
    env = unittest.begin(ctx)
    for family in FAMILIES:
        known_specs = all_family_specs(family["name"])
        for first in all_archs():
            for second in all_archs():
                archs = parse_cuda_archs([first.name, second.name]).archs
                covering = family_specs(family["name"], archs, False)
                exact = family_specs(family["name"], archs, True)
                used = [arch for arch in archs if arch.capability in family["capabilities"]]
                own_variants = [arch.capability for arch in used] if family["suffix"] else used
                numbers = [spec.split(":sm_")[1] for spec in covering]
                where = "{} for {}, {}".format(family["name"], first.name, second.name)
                asserts.equals(env, [], [spec for spec in covering + exact if spec not in known_specs], where)
                asserts.equals(env, [], [spec for spec in covering if spec not in exact], where)
                asserts.equals(env, len({variant: None for variant in own_variants}), len(exact), where)
                for arch in used:
                    asserts.true(env, any([_runs_on(number, arch.capability) for number in numbers]), where)
    return unittest.end(env)

every_pair_of_archs_is_served_test = unittest.make(_every_pair_of_archs_is_served_impl)

def _equal_conditions_are_met_alike_impl(ctx):
    env = unittest.begin(ctx)
    conditions = {
        family: {spec: spec_condition(family, spec) for spec in all_family_specs(family)}
        for family in [family["name"] for family in FAMILIES] + [ANY_FAMILY]
    }
    for first in all_archs():
        for second in all_archs():
            archs = parse_cuda_archs([first.name + "+PTX", second.name]).archs
            for exact in [False, True]:
                met = {}
                for family, by_spec in conditions.items():
                    specs = family_specs(family, archs, exact)
                    for spec, condition in by_spec.items():
                        expected = met.setdefault(condition, (spec, spec in specs))
                        where = "{} of {} for {}, {}".format(condition, family, first.name, second.name)
                        asserts.equals(env, expected, (spec, spec in specs), where)
    return unittest.end(env)

equal_conditions_are_met_alike_test = unittest.make(_equal_conditions_are_met_alike_impl)

def archs_tests(name):
    """Declares the tests of private/archs.bzl.

    Args:
      name: name of the test suite.
    """
    unittest.suite(
        name,
        every_spelling_means_what_it_says_test,
        values_of_a_list_add_up_test,
        error_says_what_was_given_and_what_is_known_test,
        archs_need_the_families_that_run_on_them_test,
        a_family_is_compiled_for_what_can_use_it_test,
        every_pair_of_archs_is_served_test,
        equal_conditions_are_met_alike_test,
    )

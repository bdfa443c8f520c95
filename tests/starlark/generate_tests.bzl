"""Tests of private/generate.bzl: which files are declared, and in which groups they are compiled."""

load("@bazel_skylib//lib:unittest.bzl", "asserts", "unittest")
load("//private:families.bzl", "FAMILIES")
load("//private:generate.bzl", "kernel_files", "source_groups")
load("//private:quant_scheme.bzl", "check_scheme")
load("//private:quant_schemes.bzl", "QUANT_SCHEMES", "SCHEME_COMBINATIONS")
load("//tests/testdata:kernel_files.bzl", "KERNEL_FILES")

_TABLE_NAMES = [scheme["name"] for scheme in QUANT_SCHEMES]

def _family(name):
    return [family for family in FAMILIES if family["name"] == name][0]

def _declared_files_are_those_that_python_writes_impl(ctx):
    env = unittest.begin(ctx)
    for case in KERNEL_FILES:
        names = _TABLE_NAMES if case["schemes"] == None else case["schemes"]
        schemes = [scheme for scheme in QUANT_SCHEMES if scheme["name"] in names]
        asserts.equals(env, names, [scheme["name"] for scheme in schemes])
        for scheme in case["custom"]:
            asserts.equals(env, "", check_scheme(scheme, names))
        files = kernel_files(_family(case["family"]), schemes + case["custom"])
        asserts.equals(env, sorted(case["files"]), [file.name for file in files], case["about"])
        asserts.equals(env, case["files"], {file.name: file.header for file in files}, case["about"])
    asserts.true(env, KERNEL_FILES)
    return unittest.end(env)

declared_files_are_those_that_python_writes_test = unittest.make(_declared_files_are_those_that_python_writes_impl)

def _scheme(combination, a_type):
    return {
        "name": "my_scheme",
        "a_type": [a_type],
        "b_type": combination["b_type"],
        "c_type": [] if a_type in ["kFloat16", "kBFloat16"] else ["kFloat16", "kBFloat16"],
        "s_type": combination["s_type"],
        "tiles": [[128, 128, 256, [1]]],
        "group_blocks": combination["group_blocks"],
    }

def _every_allowed_file_is_in_a_group_impl(ctx):
    env = unittest.begin(ctx)
    found = {}
    for family in FAMILIES:
        groups = [group.header for group in source_groups(family, True)]
        for combination in SCHEME_COMBINATIONS:
            for a_type in combination["a_types"]:
                for file in kernel_files(family, [_scheme(combination, a_type)]):
                    asserts.true(env, file.header in groups, file.name)
                    found[family["name"], file.header] = None
        asserts.equals(env, groups, [header for header in groups if (family["name"], header) in found])
    return unittest.end(env)

every_allowed_file_is_in_a_group_test = unittest.make(_every_allowed_file_is_in_a_group_impl)

def _groups_are_named_after_family_and_header_impl(ctx):
    env = unittest.begin(ctx)
    names = [group.name for group in source_groups(_family("sm80"), True)]
    asserts.equals(env, [
        "sm80.int4_weights",
        "sm80.int8_weights",
        "sm80.fp8_weights",
        "sm80.fp4_weights",
        "sm80.int8_activations",
    ], names)
    asserts.equals(env, ["sm89.fp8_activations"], [group.name for group in source_groups(_family("sm89"), True)])
    asserts.equals(env, [
        "sm90.int4_weights",
        "sm90.int8_weights",
        "sm90.fp8_weights",
        "sm90.fp4_weights",
        "sm90.int8_activations",
        "sm90.fp8_activations",
    ], [group.name for group in source_groups(_family("sm90"), True)])
    asserts.equals(env, [], source_groups(_family("sm90"), False))
    asserts.equals(env, [struct(name = "sm80", header = None)], source_groups(_family("sm80"), False))
    return unittest.end(env)

groups_are_named_after_family_and_header_test = unittest.make(_groups_are_named_after_family_and_header_impl)

def generate_tests(name):
    """Declares the tests of private/generate.bzl.

    Args:
      name: name of the test suite.
    """
    unittest.suite(
        name,
        declared_files_are_those_that_python_writes_test,
        every_allowed_file_is_in_a_group_test,
        groups_are_named_after_family_and_header_test,
    )

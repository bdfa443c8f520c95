"""Tests of private/quant_scheme.bzl: checks of schemes, and their choice by name."""

load("@bazel_skylib//lib:unittest.bzl", "asserts", "unittest")
load("//private:quant_scheme.bzl", "check_scheme", "quant_scheme", "select_schemes")
load("//private:quant_schemes.bzl", "FURTHER_QUANT_SCHEMES", "QUANT_SCHEMES")
load("//tests/testdata:scheme_errors.bzl", "SCHEME_ERRORS")

_TABLE = QUANT_SCHEMES + FURTHER_QUANT_SCHEMES
_TABLE_NAMES = [scheme["name"] for scheme in _TABLE]

def _scheme(**fields):
    """Returns quant_scheme() of a valid scheme with some fields replaced."""
    return quant_scheme(**(dict(
        name = "my_int4",
        a_type = ["kBFloat16", "kFloat16"],
        b_type = "kU4",
        thread_configs = [(64, 128, 128), (128, 128, 256)],
        thread_m_blocks = [2, 0.5],
        group_blocks = [4, -1],
    ) | fields))

def _checks_give_the_shared_messages_impl(ctx):
    env = unittest.begin(ctx)
    for fields, said in SCHEME_ERRORS["cases"]:
        scheme = SCHEME_ERRORS["valid"] | fields
        error = said and "quant scheme \"{}\": {}".format(scheme["name"], said)
        asserts.equals(env, error, check_scheme(scheme, _TABLE_NAMES), str(fields))
    asserts.true(env, [said for _, said in SCHEME_ERRORS["cases"] if said])
    asserts.true(env, [said for _, said in SCHEME_ERRORS["cases"] if not said])
    return unittest.end(env)

checks_give_the_shared_messages_test = unittest.make(_checks_give_the_shared_messages_impl)

def _schemes_of_the_table_pass_the_checks_impl(ctx):
    env = unittest.begin(ctx)
    for scheme in _TABLE:
        taken = [name for name in _TABLE_NAMES if name != scheme["name"]]
        asserts.equals(env, "", check_scheme(scheme, taken))
    asserts.equals(env, len(_TABLE), len({name: None for name in _TABLE_NAMES}))
    return unittest.end(env)

schemes_of_the_table_pass_the_checks_test = unittest.make(_schemes_of_the_table_pass_the_checks_impl)

def _fields_of_wrong_type_are_refused_impl(ctx):
    env = unittest.begin(ctx)
    configs = "(128, 128, 256), (64, 256, 256), (64, 128, 128), (128, 64, 128)"
    for scheme, problem in [
        (_scheme(name = 4), "quant scheme 4: name = 4 is not allowed; allowed: a lower-case letter"),
        (_scheme(a_type = "kFloat16"), "a_type = \"kFloat16\" is not allowed; allowed: one or more of kBFloat16"),
        (_scheme(b_type = ["kU4"]), "b_type = [\"kU4\"] is not allowed; allowed: kFE2M1f"),
        (_scheme(c_type = "kFloat16"), "c_type = \"kFloat16\" is not allowed; allowed: one or more of kBFloat16"),
        (_scheme(thread_configs = 128), "thread_configs = 128 is not allowed; allowed: one or more of " + configs),
        (_scheme(thread_configs = [128]), "thread_configs = (128) is not allowed; allowed: " + configs),
        (_scheme(thread_configs = []), "thread_configs = [] is not allowed; allowed: one or more of " + configs),
        (_scheme(thread_m_blocks = 1), "thread_m_blocks = 1 is not allowed; allowed: one or more of 0.5, 1, 2, 3, 4"),
        (_scheme(group_blocks = ["4"]), "group_blocks = \"4\" is not allowed; allowed: -1, 0, 1, 2, 4, 8"),
    ]:
        chosen = select_schemes([], [scheme])
        asserts.true(env, problem in chosen.error, chosen.error)
        asserts.equals(env, [], chosen.schemes)
    asserts.true(env, "quant_scheme() returned" in select_schemes([], ["gptq_int4"]).error)
    return unittest.end(env)

fields_of_wrong_type_are_refused_test = unittest.make(_fields_of_wrong_type_are_refused_impl)

def _equal_custom_schemes_are_spelled_alike_impl(ctx):
    env = unittest.begin(ctx)
    expected = [{
        "name": "my_int4",
        "a_type": ["kFloat16", "kBFloat16"],
        "b_type": "kU4",
        "c_type": [],
        "s_type": "",
        "tiles": [[128, 128, 256, [0.5, 2]], [64, 128, 128, [0.5, 2]]],
        "group_blocks": [-1, 4],
    }]
    for scheme in [
        _scheme(),
        _scheme(a_type = ["kFloat16", "kBFloat16", "kFloat16"], group_blocks = [-1, 4, 4]),
        _scheme(thread_configs = [(128, 128, 256), (64, 128, 128)], thread_m_blocks = [0.5, 2.0]),
    ]:
        chosen = select_schemes([], [scheme])
        asserts.equals(env, "", chosen.error)
        asserts.equals(env, json.encode(expected), json.encode(chosen.schemes))
    return unittest.end(env)

equal_custom_schemes_are_spelled_alike_test = unittest.make(_equal_custom_schemes_are_spelled_alike_impl)

def _schemes_are_chosen_in_table_order_impl(ctx):
    env = unittest.begin(ctx)
    chosen = select_schemes(["fp8_afp8", "mxfp4", "gptq_int4", "mxfp4"], [_scheme()])
    asserts.equals(env, ["gptq_int4", "mxfp4", "fp8_afp8", "my_int4"], [scheme["name"] for scheme in chosen.schemes])
    known = "known schemes: " + ", ".join(_TABLE_NAMES)
    error = select_schemes(["gptq_int4", "int3"], []).error
    asserts.true(env, error.startswith("quant_schemes: \"int3\" is not in the table; " + known), error)
    asserts.equals(env, "quant_schemes: no scheme is given; " + known, select_schemes([], []).error)
    asserts.true(env, "a name that no other scheme has" in select_schemes([], [_scheme(), _scheme()]).error)
    return unittest.end(env)

schemes_are_chosen_in_table_order_test = unittest.make(_schemes_are_chosen_in_table_order_impl)

def schemes_tests(name):
    """Declares the tests of private/quant_scheme.bzl.

    Args:
      name: name of the test suite.
    """
    unittest.suite(
        name,
        checks_give_the_shared_messages_test,
        schemes_of_the_table_pass_the_checks_test,
        fields_of_wrong_type_are_refused_test,
        equal_custom_schemes_are_spelled_alike_test,
        schemes_are_chosen_in_table_order_test,
    )

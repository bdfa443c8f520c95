"""What a target that needs CUDA adds to its target_compatible_with."""

def requires_cuda():
    """Constraints that hold if CUDA is enabled and a toolkit was found.

    Returns:
        A value for the attribute target_compatible_with.
    """
    return select({
        Label("//cuda:is_enabled"): [],
        "//conditions:default": [Label("//cuda:rules_are_enabled")],
    }) + select({
        Label("//cuda:is_valid_toolchain_found"): [],
        "//conditions:default": [Label("//cuda:valid_toolchain_is_configured")],
    })

"""The extension from which `bazel mod tidy` takes buildozer. Here it is empty."""

def _nothing_impl(repository_ctx):
    repository_ctx.file("BUILD.bazel")

_nothing = repository_rule(implementation = _nothing_impl)

buildozer_binary = module_extension(
    doc = "Makes an empty repository.",
    implementation = lambda module_ctx: _nothing(name = "buildozer_binary"),
)

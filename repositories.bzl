"""The repositories that WORKSPACE needs, for Bazel 7 without Bzlmod; MODULE.bazel is the truth."""

load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")
load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")

# buildifier: disable=attr-applicable_licenses
# The archives that the Bazel Central Registry names for the versions in MODULE.bazel.
_ARCHIVES = {
    "bazel_features": {
        "integrity": "sha256-WrGpDQn9dFVeDfIoCa1Ylifd/yY8/4JTWBWqgMo+NWI=",
        "strip_prefix": "bazel_features-1.39.0",
        "url": "https://github.com/bazel-contrib/bazel_features/releases/download/v1.39.0/bazel_features-v1.39.0.tar.gz",
    },
    "bazel_skylib": {
        "integrity": "sha256-bnjw5X3iaAH29WT6fEpI3Is2hz5BYlepK7sJN+6shEY=",
        "url": "https://github.com/bazelbuild/bazel-skylib/releases/download/1.8.2/bazel-skylib-1.8.2.tar.gz",
    },
    "package_metadata": {
        "integrity": "sha256-Dok2fxy22TpaGv6ktVsR6mso9j9lO0cVQVNnfKfUr+o=",
        "strip_prefix": "supply-chain-0.0.3/metadata",
        "url": "https://github.com/bazel-contrib/supply-chain/releases/download/v0.0.3/supply-chain-v0.0.3.tar.gz",
    },
    "platforms": {
        "integrity": "sha256-M4TrHDB2JwT7445EAgThFBVAhsj8iowuPihEECjAGag=",
        "url": "https://github.com/bazelbuild/platforms/releases/download/1.0.0/platforms-1.0.0.tar.gz",
    },
    "rules_cc": {
        "integrity": "sha256-ov394qubIXa9ajOvyhRFgDkCPtsd0uc+aCOBCAnfQCc=",
        "strip_prefix": "rules_cc-0.2.14",
        "url": "https://github.com/bazelbuild/rules_cc/releases/download/0.2.14/rules_cc-0.2.14.tar.gz",
    },
    "rules_cuda": {
        "integrity": "sha256-5nfEC4j3eENYf1tRZn7NQCzH6BP8+HmZaprAw2ng3yQ=",
        "strip_prefix": "rules_cuda-v0.3.0",
        "url": "https://github.com/bazel-contrib/rules_cuda/releases/download/v0.3.0/rules_cuda-v0.3.0.tar.gz",
    },
    "rules_python": {
        "integrity": "sha256-9gnzQdbpCQuYGz9FMk0FqBn9elpWQ0+EnHYZcc4sR9o=",
        "strip_prefix": "rules_python-1.7.0",
        "url": "https://github.com/bazel-contrib/rules_python/releases/download/1.7.0/rules_python-1.7.0.tar.gz",
    },
}

def marlin_moe_kernels_dependencies():
    """Declares the rulesets that this repository loads, unless the workspace already has them."""
    for name, archive in _ARCHIVES.items():
        maybe(http_archive, name = name, **archive)

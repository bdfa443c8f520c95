"""The rules license and license_kind."""

load("//rules:package_metadata.bzl", "PackageAttributeInfo")

_LicenseKindInfo = provider(
    doc = "A license that many packages are under.",
    fields = {"identifier": "String: SPDX identifier."},
)

license_kind = rule(
    doc = "A license that many packages are under.",
    implementation = lambda ctx: [_LicenseKindInfo(identifier = ctx.attr.identifier)],
    attrs = {"identifier": attr.string(doc = "SPDX identifier.", mandatory = True)},
)

def _license_impl(ctx):
    out = ctx.actions.declare_file(ctx.label.name + ".package-attribute.json")
    ctx.actions.write(out, json.encode({
        "kind": {"identifier": ctx.attr.kind[_LicenseKindInfo].identifier},
        "label": str(ctx.label),
        "text": ctx.file.text.path,
    }))
    return [
        DefaultInfo(files = depset([out])),
        PackageAttributeInfo(attributes = out, kind = "build.bazel.attribute.license"),
    ]

_license = rule(
    doc = "The license of a package.",
    implementation = _license_impl,
    attrs = {
        "kind": attr.label(doc = "A license_kind.", mandatory = True, providers = [_LicenseKindInfo]),
        "text": attr.label(allow_single_file = True, doc = "File with its text.", mandatory = True),
    },
)

def license(*, name, kind, text, visibility = None):
    """Says what license a package is under.

    Args:
        name: of the target
        kind: target of license_kind()
        text: file with the text of the license
        visibility: of the target
    """
    _license(
        name = name,
        applicable_licenses = [],
        kind = kind,
        text = text,
        visibility = visibility,
    )
